//! What an answer of the server means: the tables of the protocol (§2 and §3) as two pure functions.
//!
//! Rules that hold whatever the status: only an answer that is the protocol's JSON and names this
//! very batch settles anything; whoever else answers (a portal, a proxy) is at most believed that
//! the request did not succeed. Where it is in doubt whether the server has the batch, it is
//! ambiguous, never "not sent".

use std::time::Duration;

use super::breaker::Effect;
use crate::model::{BatchId, LastError};
use crate::protocol::wire::{BATCH_ID_REUSED, BatchAnswer, ErrorDetail, RecordResult, UNKNOWN_BATCH};

/// What the transport saw of one request.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A whole answer came.
    Answer(Answer),
    /// None came.
    Failure(Failure),
}

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, from now.
    pub retry_after: Option<Duration>,
    /// What its body is.
    pub body: Body,
}

/// What the body of an answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The results of a batch.
    Batch(BatchAnswer),
    /// `{"state": "processing"}` for this batch.
    Processing(BatchId),
    /// A refusal in the protocol's shape.
    Error(ErrorDetail),
    /// Some other JSON.
    OtherJson,
    /// HTML, text, anything.
    NotJson,
    /// It is encoded in a way that cannot be undone; why, for people.
    Undecodable(String),
    /// Nothing.
    Empty,
}

impl Answer {
    /// Whether it is one of the protocol: its JSON, for this batch or as an error. What others advise is
    /// believed for a short time, or not at all.
    pub fn is_protocol(&self, id: BatchId) -> bool {
        match &self.body {
            Body::Batch(batch) => batch.batch_id == id,
            Body::Processing(batch) => *batch == id,
            Body::Error(_) => true,
            Body::OtherJson | Body::NotJson | Body::Undecodable(_) | Body::Empty => false,
        }
    }
}

impl Seen {
    /// Whether it is an answer of the protocol to what was asked of batch `id`.
    pub fn is_protocol(&self, id: BatchId) -> bool {
        matches!(self, Self::Answer(answer) if answer.is_protocol(id))
    }

    /// Changes every text of somebody else's that is in it.
    pub fn each_text(&mut self, mut change: impl FnMut(&mut String)) {
        match self {
            Self::Answer(Answer { body: Body::Batch(batch), .. }) => {
                let results = batch.results.iter_mut();
                results.flat_map(|result| [&mut result.code, &mut result.message]).flatten().for_each(change);
            }
            Self::Answer(Answer { body: Body::Error(detail), .. }) => {
                [&mut detail.code, &mut detail.message].into_iter().for_each(change);
            }
            Self::Answer(_) => {}
            Self::Failure(failure) => change(&mut failure.message),
        }
    }
}

/// Why no answer came.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How far the request came.
    pub reached: Reached,
    /// For people: what failed.
    pub message: String,
}

/// How far a request without an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not whole, and that is certain: the server cannot have the batch.
    Nothing,
    /// The link took it too slowly, and it was given up before all of it was out.
    SentInPart,
    /// The connection was lost after that.
    Sent,
    /// As `Sent`, and the time limit passed.
    SentAndTimedOut,
}

/// What an answer to a batch means.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Each record has its own result.
    Answered(Vec<RecordResult>),
    /// The server may have applied all of it.
    Ambiguous(Doubt),
    /// The server cannot have it: nothing was sent, or surely not all of it.
    Unreachable,
    /// The body is too large.
    TooLarge,
    /// Later, please.
    Throttled {
        /// As it was asked for.
        retry_after: Option<Duration>,
        /// The answer is one of the protocol: the server itself asks.
        is_protocol: bool,
    },
    /// The same batch is being processed from an earlier send.
    StillProcessing {
        /// As the server asks.
        retry_after: Option<Duration>,
    },
    /// The batch id is known with another body.
    BatchIdReused,
    /// The request is refused: some record in it is at fault.
    Refused(ErrorDetail),
    /// The encoding of the body is not taken.
    EncodingRefused,
    /// The credential is not accepted.
    Unauthorized,
    /// There is no batch endpoint at this address.
    Misplaced,
    /// Somebody else answered.
    Interfered,
}

/// Why it is in doubt whether the server has a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It took too long: size or a record may be at fault.
    TimedOut,
    /// The server failed on it: a record may be at fault.
    ServerFailed,
    /// The connection was lost: the link is at fault.
    Lost,
    /// The link was too slow for the body: its size may be at fault, but no record.
    TooSlow,
}

impl Verdict {
    /// The class of the answer, for the manifest, the journal and telemetry.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Ambiguous(Doubt::TimedOut) => "timeout",
            Self::Ambiguous(Doubt::ServerFailed) => "server_error",
            Self::Ambiguous(Doubt::Lost) => "connection_lost",
            Self::Ambiguous(Doubt::TooSlow) => "link_too_slow",
            Self::Unreachable => "unreachable",
            Self::TooLarge => "too_large",
            Self::Throttled { .. } => "throttled",
            Self::StillProcessing { .. } => "processing",
            Self::BatchIdReused => "batch_id_reused",
            Self::Refused(_) => "refused",
            Self::EncodingRefused => "encoding_refused",
            Self::Unauthorized => "unauthorized",
            Self::Misplaced => "misconfigured",
            Self::Interfered => "interfered",
        }
    }

    /// Whether the sender was sent away, whatever it sent: perhaps everyone is, perhaps it is about one record.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unauthorized | Self::Misplaced | Self::Interfered)
    }

    /// What it says to the breaker.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Answered(_) => Effect::Success,
            Self::Ambiguous(_) => Effect::Failure,
            _ => Effect::Neutral,
        }
    }
}

/// What the answer to batch `id` means. `compressed`: whether its body was encoded.
pub fn judge(id: BatchId, compressed: bool, seen: &Seen) -> Verdict {
    let answer = match seen {
        Seen::Failure(failure) => {
            return match failure.reached {
                Reached::Nothing => Verdict::Unreachable,
                Reached::SentInPart => Verdict::Ambiguous(Doubt::TooSlow),
                Reached::Sent => Verdict::Ambiguous(Doubt::Lost),
                Reached::SentAndTimedOut => Verdict::Ambiguous(Doubt::TimedOut),
            };
        }
        Seen::Answer(answer) => answer,
    };
    let retry_after = answer.retry_after;
    let refused = |detail: &ErrorDetail| Verdict::Refused(detail.clone());
    match (answer.status, &answer.body) {
        (200 | 207, Body::Batch(batch)) if batch.batch_id == id => Verdict::Answered(batch.results.clone()),
        // It may be the server's own answer, by which all is applied.
        (200..=299, Body::Undecodable(_)) => Verdict::Ambiguous(Doubt::Lost),
        (504 | 408, _) => Verdict::Ambiguous(Doubt::TimedOut),
        (503 | 429, _) => Verdict::Throttled { retry_after, is_protocol: answer.is_protocol(id) },
        (511, _) => Verdict::Interfered,
        (500..=599, _) if answer.status != 501 => Verdict::Ambiguous(Doubt::ServerFailed),
        (413, _) => Verdict::TooLarge,
        (409, _) => Verdict::StillProcessing { retry_after },
        (415, _) if compressed => Verdict::EncodingRefused,
        (415 | 404 | 405 | 410 | 501, _) => Verdict::Misplaced,
        (401 | 403, _) => Verdict::Unauthorized,
        (422, Body::Error(detail)) if detail.code == BATCH_ID_REUSED => Verdict::BatchIdReused,
        (400..=499, Body::Error(detail)) => refused(detail),
        (400..=499, Body::OtherJson | Body::Empty | Body::Undecodable(_)) => refused(&ErrorDetail {
            code: format!("HTTP_{}", answer.status),
            message: "the server refused the request without saying why".into(),
            position: None,
        }),
        _ => Verdict::Interfered,
    }
}

/// What the answer to a look-up means.
#[derive(Clone, Debug, PartialEq)]
pub enum LookUp {
    /// The batch was completed with these results.
    Completed(Vec<RecordResult>),
    /// Ask again.
    Processing {
        /// As the server asks.
        retry_after: Option<Duration>,
    },
    /// The server never got it whole.
    Unknown,
    /// This server has no look-up.
    Unsupported,
    /// The server, or the gateway in front of it, failed on the look-up: nothing is known.
    Failed,
    /// The server asks us to come back later, with a batch, too, in all likelihood.
    Throttled,
    /// The look-up did not get to the server, or was not let in: nothing is known, not even of the server.
    Hindered,
}

impl LookUp {
    /// For the journal.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Processing { .. } => "processing",
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Throttled => "throttled",
            Self::Hindered => "hindered",
        }
    }

    /// What it says to the breaker.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Completed(_) | Self::Processing { .. } | Self::Unknown | Self::Unsupported => {
                Effect::Success
            }
            Self::Failed => Effect::Failure,
            Self::Throttled | Self::Hindered => Effect::Neutral,
        }
    }
}

/// What the answer to the look-up of batch `id` means.
pub fn judge_look_up(id: BatchId, seen: &Seen) -> LookUp {
    let answer = match seen {
        Seen::Answer(answer) => answer,
        Seen::Failure(failure) if failure.reached == Reached::SentAndTimedOut => return LookUp::Failed,
        Seen::Failure(_) => return LookUp::Hindered,
    };
    match (answer.status, &answer.body) {
        (200 | 207, Body::Batch(batch)) if batch.batch_id == id => LookUp::Completed(batch.results.clone()),
        (202, Body::Processing(batch)) if *batch == id => {
            LookUp::Processing { retry_after: answer.retry_after }
        }
        (404, Body::Error(detail)) if detail.code == UNKNOWN_BATCH => LookUp::Unknown,
        // These speak of the moment or of somebody in between, not of what the server has.
        (200..=399 | 401 | 403 | 511, _) => LookUp::Hindered,
        (429 | 503, _) => LookUp::Throttled,
        (501, _) => LookUp::Unsupported,
        (408 | 500..=599, _) => LookUp::Failed,
        _ => LookUp::Unsupported,
    }
}

/// The entry for the manifest: what went wrong with a batch.
pub fn last_error(verdict: &Verdict, seen: &Seen, at: u64) -> LastError {
    let (http_status, code, message) = match seen {
        Seen::Failure(failure) => (None, None, failure.message.clone()),
        Seen::Answer(answer) => {
            let (code, message) = match (verdict, &answer.body) {
                (Verdict::Refused(detail), _) | (_, Body::Error(detail)) => {
                    (Some(detail.code.clone()), detail.message.clone())
                }
                (_, Body::Undecodable(why)) => {
                    (None, format!("the answer (HTTP {}) cannot be read: {why}", answer.status))
                }
                _ => (None, format!("the answer was HTTP {}", answer.status)),
            };
            (Some(answer.status), code, message)
        }
    };
    let code = code.map(shortened);
    LastError { class: verdict.class().to_owned(), http_status, code, message: shortened(message), at }
}

/// Texts of the server end up in the manifest, once for each record of a batch.
const MAX_MESSAGE_CHARS: usize = 200;

/// A text of the server, cut to what the manifest keeps. In a raw store, control characters could be taken for a row.
pub fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARS) {
        text.truncate(end);
    }
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: Body) -> Seen {
        Seen::Answer(Answer { status, retry_after: Some(Duration::from_secs(7)), body })
    }

    fn batch(id: BatchId) -> Body {
        Body::Batch(BatchAnswer { batch_id: id, replayed: false, results: Vec::new() })
    }

    fn error(code: &str) -> Body {
        Body::Error(ErrorDetail { code: code.into(), message: "m".into(), position: None })
    }

    fn undecodable() -> Body {
        Body::Undecodable("it is encoded as \"br\"".into())
    }

    fn failure(reached: Reached) -> Seen {
        Seen::Failure(Failure { reached, message: "m".into() })
    }

    #[test]
    fn every_row_of_the_table_of_answers() {
        let (id, other) = (BatchId::new(), BatchId::new());
        let after = Some(Duration::from_secs(7));
        let timed_out = Verdict::Ambiguous(Doubt::TimedOut);
        let server_failed = Verdict::Ambiguous(Doubt::ServerFailed);
        let refused = |code: &str| {
            let Body::Error(detail) = error(code) else { unreachable!() };
            Verdict::Refused(detail)
        };
        let unexplained = judge(id, false, &answer(400, Body::Empty));
        let rows = vec![
            // 200, 207: by each record's own result
            (answer(200, batch(id)), Verdict::Answered(Vec::new())),
            (answer(207, batch(id)), Verdict::Answered(Vec::new())),
            // not the server's, whatever the status
            (answer(200, batch(other)), Verdict::Interfered),
            (answer(200, Body::NotJson), Verdict::Interfered),
            (answer(200, Body::OtherJson), Verdict::Interfered),
            (answer(200, Body::Empty), Verdict::Interfered),
            (answer(204, Body::Empty), Verdict::Interfered),
            (answer(400, Body::NotJson), Verdict::Interfered),
            (answer(422, Body::NotJson), Verdict::Interfered),
            (answer(418, Body::NotJson), Verdict::Interfered),
            // ambiguous
            (answer(504, Body::NotJson), timed_out.clone()),
            (answer(504, error("TIMEOUT")), timed_out.clone()),
            (answer(408, Body::Empty), timed_out.clone()),
            (answer(502, Body::NotJson), server_failed.clone()),
            (answer(500, error("OOPS")), server_failed.clone()),
            (answer(500, Body::Empty), server_failed.clone()),
            (answer(500, Body::NotJson), server_failed.clone()),
            (answer(505, Body::Empty), server_failed.clone()),
            (answer(599, Body::Empty), server_failed),
            (answer(200, undecodable()), Verdict::Ambiguous(Doubt::Lost)),
            (answer(207, undecodable()), Verdict::Ambiguous(Doubt::Lost)),
            (failure(Reached::SentAndTimedOut), timed_out),
            (failure(Reached::SentInPart), Verdict::Ambiguous(Doubt::TooSlow)),
            (failure(Reached::Sent), Verdict::Ambiguous(Doubt::Lost)),
            // unreachable
            (failure(Reached::Nothing), Verdict::Unreachable),
            // too large
            (answer(413, Body::NotJson), Verdict::TooLarge),
            // throttled
            (answer(429, Body::Empty), Verdict::Throttled { retry_after: after, is_protocol: false }),
            (answer(503, Body::NotJson), Verdict::Throttled { retry_after: after, is_protocol: false }),
            (answer(503, error("BUSY")), Verdict::Throttled { retry_after: after, is_protocol: true }),
            // still being processed
            (answer(409, error("PROCESSING")), Verdict::StillProcessing { retry_after: after }),
            // batch id reused
            (answer(422, error(BATCH_ID_REUSED)), Verdict::BatchIdReused),
            // the request is refused
            (answer(400, error("BAD")), refused("BAD")),
            (answer(422, error("INVALID")), refused("INVALID")),
            (answer(418, error("TEAPOT")), refused("TEAPOT")),
            (answer(400, undecodable()), unexplained),
            // not let in
            (answer(401, Body::Empty), Verdict::Unauthorized),
            (answer(403, Body::NotJson), Verdict::Unauthorized),
            // wrong place
            (answer(404, Body::NotJson), Verdict::Misplaced),
            (answer(405, Body::Empty), Verdict::Misplaced),
            (answer(410, error("GONE")), Verdict::Misplaced),
            (answer(501, Body::Empty), Verdict::Misplaced),
            // interfered
            (answer(301, Body::NotJson), Verdict::Interfered),
            (answer(302, Body::Empty), Verdict::Interfered),
            (answer(307, Body::NotJson), Verdict::Interfered),
            (answer(511, Body::NotJson), Verdict::Interfered),
        ];
        for (seen, expected) in rows {
            assert_eq!(judge(id, false, &seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_refused_encoding_is_another_thing_when_there_was_none() {
        let (id, seen) = (BatchId::new(), answer(415, Body::Empty));
        assert_eq!(judge(id, true, &seen), Verdict::EncodingRefused);
        assert_eq!(judge(id, false, &seen), Verdict::Misplaced);
    }

    #[test]
    fn a_refusal_without_a_code_gets_one_from_its_status() {
        let Verdict::Refused(detail) = judge(BatchId::new(), false, &answer(422, Body::Empty)) else {
            panic!("refused");
        };
        assert_eq!(detail.code, "HTTP_422");
    }

    #[test]
    fn only_batch_failures_count_against_the_server() {
        let id = BatchId::new();
        for (seen, effect) in [
            (answer(200, batch(id)), Effect::Success),
            (answer(504, Body::NotJson), Effect::Failure),
            (failure(Reached::Sent), Effect::Failure),
            (failure(Reached::Nothing), Effect::Neutral),
            (answer(429, Body::Empty), Effect::Neutral),
            (answer(401, Body::Empty), Effect::Neutral),
            (answer(200, Body::NotJson), Effect::Neutral),
            (answer(422, error("INVALID")), Effect::Neutral),
        ] {
            assert_eq!(judge(id, false, &seen).effect(), effect, "{seen:?}");
        }
    }

    #[test]
    fn every_row_of_the_table_of_look_ups() {
        let (id, other) = (BatchId::new(), BatchId::new());
        let after = Some(Duration::from_secs(7));
        for (seen, expected) in [
            (answer(200, batch(id)), LookUp::Completed(Vec::new())),
            (answer(200, batch(other)), LookUp::Hindered),
            (answer(202, Body::Processing(id)), LookUp::Processing { retry_after: after }),
            (answer(202, Body::Processing(other)), LookUp::Hindered),
            (answer(404, error(UNKNOWN_BATCH)), LookUp::Unknown),
            (answer(404, Body::NotJson), LookUp::Unsupported),
            (answer(405, Body::Empty), LookUp::Unsupported),
            (answer(501, Body::Empty), LookUp::Unsupported),
            (answer(200, Body::NotJson), LookUp::Hindered),
            (answer(200, undecodable()), LookUp::Hindered),
            (answer(302, Body::Empty), LookUp::Hindered),
            (answer(504, Body::NotJson), LookUp::Failed),
            (answer(500, error("OOPS")), LookUp::Failed),
            (answer(408, Body::Empty), LookUp::Failed),
            (answer(429, Body::Empty), LookUp::Throttled),
            (answer(503, Body::NotJson), LookUp::Throttled),
            (failure(Reached::Nothing), LookUp::Hindered),
            (failure(Reached::SentAndTimedOut), LookUp::Failed),
        ] {
            assert_eq!(judge_look_up(id, &seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn texts_of_the_server_are_cut_between_characters() {
        assert_eq!(shortened("ä".repeat(500)).chars().count(), MAX_MESSAGE_CHARS);
        assert_eq!(shortened("short".into()), "short");
        assert_eq!(shortened("fsr1\0\n".into()), "fsr1\u{fffd}\u{fffd}");
    }
}
