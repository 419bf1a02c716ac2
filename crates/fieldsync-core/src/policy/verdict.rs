//! What the response to a batch means: the table of the protocol (§2) as one pure function.
//!
//! Three rules hold for every status. Only a response that is the protocol's JSON and names this batch can settle
//! it. A response of anything else (a portal, a proxy) shows at most that the request did not succeed. If the
//! server may have the batch, the verdict is ambiguous, never "not sent".

use std::time::Duration;

use super::breaker::Effect;
use crate::api::BatchOutcome;
use crate::model::{BatchId, LastError, Network};
use crate::protocol::exchange::{
    Delivery, RequestResult, Response, ResponseBody, ServerHints, truncate_text,
};
use crate::protocol::wire::{BATCH_ID_REUSED, ErrorDetail, RecordResult};

/// What the response to a batch means.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The server processed the batch; each record has a result of its own.
    Completed(Vec<RecordResult>),
    /// The server may have applied all of it.
    Ambiguous(Ambiguity),
    /// The server cannot have the batch: the request was not sent completely.
    Unreachable,
    /// The body is too large.
    TooLarge,
    /// The server asks to come back later.
    Throttled {
        /// The wait that was asked for.
        retry_after: Option<Duration>,
        /// The response follows the protocol: the server itself asks.
        is_protocol: bool,
    },
    /// The server is still processing the batch from an earlier send.
    StillProcessing {
        /// The wait that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The server knows the batch id with another body.
    BatchIdReused,
    /// The request is refused: one of its records is at fault.
    Refused(ErrorDetail),
    /// The server does not accept the content encoding.
    EncodingRefused,
    /// The server does not accept the credential.
    Unauthorized,
    /// The address is not that of a batch endpoint.
    EndpointNotFound,
    /// Something other than the server responded.
    Intercepted,
}

/// Why the server may or may not have a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// It took too long: the size or a record may be the reason.
    TimedOut,
    /// The server failed on it: a record may be the reason.
    ServerError,
    /// The connection was lost: the link is the reason.
    ConnectionLost,
    /// The link was too slow for the body: the size may be the reason, but no record.
    LinkTooSlow,
}

impl Verdict {
    /// The class of the response, as the local API names it.
    pub fn outcome(&self) -> BatchOutcome {
        match self {
            Self::Completed(_) => BatchOutcome::Answered,
            Self::Ambiguous(Ambiguity::TimedOut) => BatchOutcome::Timeout,
            Self::Ambiguous(Ambiguity::ServerError) => BatchOutcome::ServerError,
            Self::Ambiguous(Ambiguity::ConnectionLost) => BatchOutcome::ConnectionLost,
            Self::Ambiguous(Ambiguity::LinkTooSlow) => BatchOutcome::LinkTooSlow,
            Self::Unreachable => BatchOutcome::Unreachable,
            Self::TooLarge => BatchOutcome::TooLarge,
            Self::Throttled { .. } => BatchOutcome::Throttled,
            Self::StillProcessing { .. } => BatchOutcome::Processing,
            Self::BatchIdReused => BatchOutcome::BatchIdReused,
            Self::Refused(_) => BatchOutcome::Refused,
            Self::EncodingRefused => BatchOutcome::EncodingRefused,
            Self::Unauthorized => BatchOutcome::Unauthorized,
            Self::EndpointNotFound => BatchOutcome::Misconfigured,
            Self::Intercepted => BatchOutcome::Interfered,
        }
    }

    /// The name of the class, for the manifest and the journal.
    pub fn class(&self) -> &'static str {
        self.outcome().into()
    }

    /// Whether the response rejects the sender, not the batch: the reason may be the sender, or one of the records.
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. } | Self::Unauthorized | Self::EndpointNotFound | Self::Intercepted
        )
    }

    /// What it means for the breaker.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Completed(_) => Effect::Success,
            Self::Ambiguous(_) => Effect::Failure,
            _ => Effect::Neutral,
        }
    }
}

/// The result of sending a batch.
#[derive(Clone, Debug)]
pub struct UploadResult {
    /// What the response means.
    pub verdict: Verdict,
    /// The entry for the manifest, for records without a result.
    pub error: LastError,
    /// The time until the response, or until the request was aborted.
    pub elapsed: Duration,
    /// The response repeats that to an earlier request: its duration is not a measurement of the batch.
    pub is_replayed: bool,
    /// The hints of the server, in a response of the protocol.
    pub hints: Option<ServerHints>,
    /// The network during the request.
    pub network: Network,
}

/// Returns what the response to batch `id` means. `compressed`: whether the body of the request was encoded.
pub fn classify_response(id: BatchId, compressed: bool, result: &RequestResult) -> Verdict {
    let Response { status, retry_after, body } = match result {
        RequestResult::Failure(failure) => return classify_failure(failure.delivery),
        RequestResult::Response(response) => response,
    };
    let (status, retry_after) = (*status, *retry_after);
    let refused = |detail: &ErrorDetail| Verdict::Refused(detail.clone());
    match (status, body) {
        (200 | 207, ResponseBody::Batch(batch)) if batch.batch_id == id => {
            Verdict::Completed(batch.results.clone())
        }
        // It may be the server's own response: all records may be applied.
        (200..=299, ResponseBody::Undecodable(_)) => Verdict::Ambiguous(Ambiguity::ConnectionLost),
        (504 | 408, _) => Verdict::Ambiguous(Ambiguity::TimedOut),
        (503 | 429, _) => Verdict::Throttled { retry_after, is_protocol: result.is_protocol(id) },
        (511, _) => Verdict::Intercepted,
        (500..=599, _) if status != 501 => Verdict::Ambiguous(Ambiguity::ServerError),
        (413, _) => Verdict::TooLarge,
        (409, _) => Verdict::StillProcessing { retry_after },
        (415, _) if compressed => Verdict::EncodingRefused,
        (415 | 404 | 405 | 410 | 501, _) => Verdict::EndpointNotFound,
        (401 | 403, _) => Verdict::Unauthorized,
        (422, ResponseBody::Error(detail)) if detail.code == BATCH_ID_REUSED => Verdict::BatchIdReused,
        (400..=499, ResponseBody::Error(detail)) => refused(detail),
        (400..=499, ResponseBody::OtherJson | ResponseBody::Empty | ResponseBody::Undecodable(_)) => {
            refused(&ErrorDetail {
                code: format!("HTTP_{status}"),
                message: "the server refused the request without saying why".into(),
                position: None,
            })
        }
        _ => Verdict::Intercepted,
    }
}

fn classify_failure(delivery: Delivery) -> Verdict {
    match delivery {
        Delivery::NotSent => Verdict::Unreachable,
        Delivery::Partial => Verdict::Ambiguous(Ambiguity::LinkTooSlow),
        Delivery::Sent => Verdict::Ambiguous(Ambiguity::ConnectionLost),
        Delivery::TimedOut => Verdict::Ambiguous(Ambiguity::TimedOut),
    }
}

/// The error of a batch, for the manifest.
pub fn last_error(verdict: &Verdict, result: &RequestResult, at: u64) -> LastError {
    let (http_status, code, message) = match result {
        RequestResult::Failure(failure) => (None, None, failure.message.clone()),
        RequestResult::Response(Response { status, body, .. }) => {
            let (code, message) = match (verdict, body) {
                (Verdict::Refused(detail), _) | (_, ResponseBody::Error(detail)) => {
                    (Some(detail.code.clone()), detail.message.clone())
                }
                (_, ResponseBody::Undecodable(why)) => {
                    (None, format!("the response (HTTP {status}) cannot be read: {why}"))
                }
                _ => (None, format!("the server responded with HTTP {status}")),
            };
            (Some(*status), code, message)
        }
    };
    let code = code.map(truncate_text);
    LastError {
        class: verdict.class().to_owned(),
        http_status,
        code,
        message: truncate_text(message),
        field: None,
        at,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::exchange::RequestFailure;
    use crate::protocol::wire::BatchResponse;

    pub(in crate::policy) fn answer(status: u16, body: ResponseBody) -> RequestResult {
        RequestResult::Response(Response { status, retry_after: Some(Duration::from_secs(7)), body })
    }

    pub(in crate::policy) fn batch(id: BatchId) -> ResponseBody {
        ResponseBody::Batch(BatchResponse { batch_id: id, replayed: false, results: Vec::new() })
    }

    pub(in crate::policy) fn error(code: &str) -> ResponseBody {
        ResponseBody::Error(ErrorDetail { code: code.into(), message: "m".into(), position: None })
    }

    pub(in crate::policy) fn undecodable() -> ResponseBody {
        ResponseBody::Undecodable("it is encoded as \"br\"".into())
    }

    pub(in crate::policy) fn failure(delivery: Delivery) -> RequestResult {
        RequestResult::Failure(RequestFailure::new(delivery, "m"))
    }

    #[test]
    fn every_row_of_the_table_of_answers() {
        let (id, other) = (BatchId::new(), BatchId::new());
        let after = Some(Duration::from_secs(7));
        let timed_out = Verdict::Ambiguous(Ambiguity::TimedOut);
        let server_failed = Verdict::Ambiguous(Ambiguity::ServerError);
        let refused = |code: &str| {
            let ResponseBody::Error(detail) = error(code) else { unreachable!() };
            Verdict::Refused(detail)
        };
        let unexplained = classify_response(id, false, &answer(400, ResponseBody::Empty));
        let rows = vec![
            // 200, 207: by each record's own result
            (answer(200, batch(id)), Verdict::Completed(Vec::new())),
            (answer(207, batch(id)), Verdict::Completed(Vec::new())),
            // not a response of the server, with any status
            (answer(200, batch(other)), Verdict::Intercepted),
            (answer(200, ResponseBody::NotJson), Verdict::Intercepted),
            (answer(200, ResponseBody::OtherJson), Verdict::Intercepted),
            (answer(200, ResponseBody::Empty), Verdict::Intercepted),
            (answer(204, ResponseBody::Empty), Verdict::Intercepted),
            (answer(400, ResponseBody::NotJson), Verdict::Intercepted),
            (answer(422, ResponseBody::NotJson), Verdict::Intercepted),
            (answer(418, ResponseBody::NotJson), Verdict::Intercepted),
            // ambiguous
            (answer(504, ResponseBody::NotJson), timed_out.clone()),
            (answer(504, error("TIMEOUT")), timed_out.clone()),
            (answer(408, ResponseBody::Empty), timed_out.clone()),
            (answer(502, ResponseBody::NotJson), server_failed.clone()),
            (answer(500, error("OOPS")), server_failed.clone()),
            (answer(500, ResponseBody::Empty), server_failed.clone()),
            (answer(500, ResponseBody::NotJson), server_failed.clone()),
            (answer(505, ResponseBody::Empty), server_failed.clone()),
            (answer(599, ResponseBody::Empty), server_failed),
            (answer(200, undecodable()), Verdict::Ambiguous(Ambiguity::ConnectionLost)),
            (answer(207, undecodable()), Verdict::Ambiguous(Ambiguity::ConnectionLost)),
            (failure(Delivery::TimedOut), timed_out),
            (failure(Delivery::Partial), Verdict::Ambiguous(Ambiguity::LinkTooSlow)),
            (failure(Delivery::Sent), Verdict::Ambiguous(Ambiguity::ConnectionLost)),
            // unreachable
            (failure(Delivery::NotSent), Verdict::Unreachable),
            // too large
            (answer(413, ResponseBody::NotJson), Verdict::TooLarge),
            // throttled
            (answer(429, ResponseBody::Empty), Verdict::Throttled { retry_after: after, is_protocol: false }),
            (
                answer(503, ResponseBody::NotJson),
                Verdict::Throttled { retry_after: after, is_protocol: false },
            ),
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
            // authentication required
            (answer(401, ResponseBody::Empty), Verdict::Unauthorized),
            (answer(403, ResponseBody::NotJson), Verdict::Unauthorized),
            // wrong place
            (answer(404, ResponseBody::NotJson), Verdict::EndpointNotFound),
            (answer(405, ResponseBody::Empty), Verdict::EndpointNotFound),
            (answer(410, error("GONE")), Verdict::EndpointNotFound),
            (answer(501, ResponseBody::Empty), Verdict::EndpointNotFound),
            // intercepted
            (answer(301, ResponseBody::NotJson), Verdict::Intercepted),
            (answer(302, ResponseBody::Empty), Verdict::Intercepted),
            (answer(307, ResponseBody::NotJson), Verdict::Intercepted),
            (answer(511, ResponseBody::NotJson), Verdict::Intercepted),
        ];
        for (seen, expected) in rows {
            assert_eq!(classify_response(id, false, &seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_refused_encoding_is_another_thing_when_there_was_none() {
        let (id, seen) = (BatchId::new(), answer(415, ResponseBody::Empty));
        assert_eq!(classify_response(id, true, &seen), Verdict::EncodingRefused);
        assert_eq!(classify_response(id, false, &seen), Verdict::EndpointNotFound);
    }

    #[test]
    fn a_refusal_without_a_code_gets_one_from_its_status() {
        let Verdict::Refused(detail) =
            classify_response(BatchId::new(), false, &answer(422, ResponseBody::Empty))
        else {
            panic!("refused");
        };
        assert_eq!(detail.code, "HTTP_422");
    }

    #[test]
    fn only_batch_failures_count_against_the_server() {
        let id = BatchId::new();
        for (seen, effect) in [
            (answer(200, batch(id)), Effect::Success),
            (answer(504, ResponseBody::NotJson), Effect::Failure),
            (failure(Delivery::Sent), Effect::Failure),
            (failure(Delivery::NotSent), Effect::Neutral),
            (answer(429, ResponseBody::Empty), Effect::Neutral),
            (answer(401, ResponseBody::Empty), Effect::Neutral),
            (answer(200, ResponseBody::NotJson), Effect::Neutral),
            (answer(422, error("INVALID")), Effect::Neutral),
        ] {
            assert_eq!(classify_response(id, false, &seen).effect(), effect, "{seen:?}");
        }
    }
}
