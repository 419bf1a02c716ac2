//! What a response of the receiver means.

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use std::time::Duration;

use super::results::{ForwardResults, may_be_object, names_results, parse_refusal, parse_results};
use crate::ledger::HoldReason;
use crate::metrics::ForwardOutcomeLabel;
use crate::protocol::wire::HOLDS_KEYS;
use crate::retry_after::parse_retry_after;

/// The shortest body with results: `{"results":[]}`.
const RESULTS_BYTES_MIN: usize = 14;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PostOutcome {
    /// The target has the records.
    Accepted,
    /// The target has the records of which it says so.
    Results { results: ForwardResults, holds_keys: bool },
    /// The target will never accept these records unchanged.
    Rejected { status: u16, reason: HoldReason },
    /// The URL or the token is wrong; nothing is said about the records.
    EndpointUnavailable(u16),
    /// The target wants no more requests (410).
    Gone,
    /// The target may accept the records later.
    RetryLater { status: u16, after: Option<Duration> },
    /// No response came: the target may have the records or not.
    Failed(String),
}

impl PostOutcome {
    /// For the metrics.
    pub(super) fn label(&self) -> ForwardOutcomeLabel {
        match self {
            Self::Accepted | Self::Results { .. } => ForwardOutcomeLabel::Accepted,
            Self::Rejected { .. } => ForwardOutcomeLabel::Rejected,
            Self::EndpointUnavailable(_) => ForwardOutcomeLabel::EndpointUnavailable,
            Self::Gone => ForwardOutcomeLabel::Gone,
            Self::RetryLater { .. } => ForwardOutcomeLabel::RetryLater,
            Self::Failed(_) => ForwardOutcomeLabel::Failed,
        }
    }
}

/// How the receiver answers, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiverStyle {
    Unknown,
    /// A 2xx is for all records.
    Whole,
    /// It has a result for each record.
    ByRecord {
        holds_keys: bool,
    },
}

impl ReceiverStyle {
    /// A receiver may refuse a record and take the next one of its key in the same body, against their order. It
    /// cannot if it takes bodies only as a whole.
    pub(super) fn may_repeat_keys(self) -> bool {
        matches!(self, Self::Whole | Self::ByRecord { holds_keys: true })
    }

    fn has_results(self) -> bool {
        matches!(self, Self::ByRecord { .. })
    }

    pub(super) fn after(self, outcome: &PostOutcome) -> Self {
        match (outcome, self) {
            (PostOutcome::Results { holds_keys, .. }, _) => Self::ByRecord { holds_keys: *holds_keys },
            (PostOutcome::Accepted, Self::Unknown) => Self::Whole,
            _ => self,
        }
    }
}

/// A response, as far as it was read.
#[derive(Debug)]
pub(super) struct ReceivedResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) end: BodyEnd,
}

/// How much of a body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    Whole,
    /// It is longer than results are.
    TooLong,
    /// The rest did not come, or not in time.
    Cut,
}

impl ReceivedResponse {
    pub(super) fn outcome(&self, style: ReceiverStyle) -> PostOutcome {
        let status = self.status.as_u16();
        match status {
            200..300 => self.results().unwrap_or_else(|| {
                let may_have_results = match self.end {
                    BodyEnd::Whole => false,
                    BodyEnd::TooLong => style.has_results() || names_results(&self.body),
                    BodyEnd::Cut => style.has_results() || self.may_be_cut_results(),
                };
                if may_have_results {
                    PostOutcome::Failed("the results in the response were cut off".into())
                } else {
                    PostOutcome::Accepted
                }
            }),
            408 | 425 | 429 => self.retry_later(),
            410 => PostOutcome::Gone,
            401 | 403..=405 | 407 => PostOutcome::EndpointUnavailable(status),
            400..500 => self.results().unwrap_or_else(|| PostOutcome::Rejected {
                status,
                reason: parse_refusal(status, &self.body),
            }),
            _ => self.retry_later(),
        }
    }

    /// Whether the body may have become results, as far as its beginning and the headers tell.
    fn may_be_cut_results(&self) -> bool {
        let header = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        let is_long = header(CONTENT_LENGTH)
            .and_then(|length| length.parse().ok())
            .is_none_or(|length: usize| length >= RESULTS_BYTES_MIN);
        let is_json = header(CONTENT_TYPE).is_none_or(|content_type| content_type.contains("json"));
        is_long && is_json && may_be_object(&self.body)
    }

    fn retry_later(&self) -> PostOutcome {
        PostOutcome::RetryLater { status: self.status.as_u16(), after: parse_retry_after(&self.headers) }
    }

    fn results(&self) -> Option<PostOutcome> {
        let results = parse_results(&self.body)?;
        let holds_keys =
            self.headers.get(HOLDS_KEYS).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        Some(PostOutcome::Results { results, holds_keys })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn response(status: u16, body: &str) -> ReceivedResponse {
        ReceivedResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
            end: BodyEnd::Whole,
        }
    }

    fn outcome(status: u16) -> PostOutcome {
        response(status, "").outcome(ReceiverStyle::Unknown)
    }

    #[test]
    fn only_2xx_is_accepted_and_only_a_permanent_4xx_is_a_rejection() {
        for accepted in [200, 201, 202, 204] {
            assert_eq!(outcome(accepted), PostOutcome::Accepted);
        }
        for rejected in [400, 409, 413, 422] {
            let reason = HoldReason { code: Some(format!("HTTP_{rejected}")), ..HoldReason::default() };
            assert_eq!(outcome(rejected), PostOutcome::Rejected { status: rejected, reason });
        }
        for unavailable in [401, 403, 404, 405, 407] {
            assert_eq!(outcome(unavailable), PostOutcome::EndpointUnavailable(unavailable));
        }
        for later in [302, 408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(outcome(later), PostOutcome::RetryLater { status: later, after: None });
        }
        assert_eq!(outcome(410), PostOutcome::Gone);
    }

    #[test]
    fn a_cut_response_counts_unless_it_may_have_results() {
        let by_record = ReceiverStyle::ByRecord { holds_keys: false };
        let read = |end, body: &str| ReceivedResponse { end, ..response(200, body) };
        let cut = |body| read(BodyEnd::Cut, body);
        for style in [ReceiverStyle::Unknown, ReceiverStyle::Whole] {
            for body in ["", " {", "{\"results\": ["] {
                assert!(matches!(cut(body).outcome(style), PostOutcome::Failed(_)), "{body}");
            }
            assert_eq!(cut("<html>").outcome(style), PostOutcome::Accepted);
            let too_long = |body| read(BodyEnd::TooLong, body).outcome(style);
            assert_eq!(too_long("{\"records\": ["), PostOutcome::Accepted);
            assert!(matches!(too_long("{\"results\": ["), PostOutcome::Failed(_)));
        }
        for (name, value) in [(CONTENT_LENGTH, "10"), (CONTENT_TYPE, "text/html")] {
            let mut short = cut("");
            short.headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(short.outcome(ReceiverStyle::Unknown), PostOutcome::Accepted);
            assert!(matches!(short.outcome(by_record), PostOutcome::Failed(_)));
        }
        assert!(matches!(cut("").outcome(by_record), PostOutcome::Failed(_)));
        assert_eq!(response(204, "").outcome(by_record), PostOutcome::Accepted);
    }

    #[test]
    fn a_body_repeats_a_key_only_if_the_receiver_keeps_the_order() {
        let results = |holds_keys| PostOutcome::Results { results: ForwardResults::new(), holds_keys };
        let style = ReceiverStyle::Unknown;
        assert!(!style.may_repeat_keys());
        assert!(style.after(&PostOutcome::Accepted).may_repeat_keys());
        assert!(!style.after(&PostOutcome::Gone).may_repeat_keys());
        let by_record = style.after(&PostOutcome::Accepted).after(&results(false));
        assert!(!by_record.may_repeat_keys());
        assert!(!by_record.after(&PostOutcome::Accepted).may_repeat_keys());
        assert!(by_record.after(&results(true)).may_repeat_keys());
    }
}
