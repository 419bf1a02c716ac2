//! Takes an answer apart. It is hostile input: it may come from a portal, a proxy, or a server gone mad.
//!
//! A pure function of status, header fields and body, which are bounded by whoever read them. What is
//! not the protocol's is told apart here; what it all means is decided in [`crate::policy::verdict`].

use std::time::Duration;

use serde_json::value::RawValue;

use super::encoding::Encoding;
use super::wire::{self, BatchAnswer, ErrorBody, Processing};
use crate::policy::sizing::Hints;
use crate::policy::verdict::{Answer, Body};

/// An answer, and what its header fields tell of the server.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// What it says about the request.
    pub answer: Answer,
    /// What the server asks for.
    pub hints: Hints,
    /// The encodings that the server says it takes, when it says so.
    pub accepts: Option<Vec<Encoding>>,
}

/// Takes an answer apart; `field` gives a header field by its name in lower case, `wall_ms` is the time
/// that a `Retry-After` with a date counts from.
pub fn decode<'h>(
    status: u16,
    field: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    wall_ms: u64,
) -> Decoded {
    Decoded {
        hints: hints(&field),
        accepts: field("accept-encoding").map(Encoding::accepted),
        answer: Answer {
            status,
            retry_after: field("retry-after").and_then(|value| retry_after(value.trim(), wall_ms)),
            body: classify(status, body),
        },
    }
}

fn classify(status: u16, body: &[u8]) -> Body {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Body::Empty;
    }
    if status < 300 {
        if let Ok(answer) = serde_json::from_slice::<BatchAnswer>(body) {
            return Body::Batch(answer);
        }
        if let Ok(Processing { batch_id, .. }) = serde_json::from_slice(body) {
            return Body::Processing(batch_id);
        }
    } else if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
        return Body::Error(error);
    }
    if serde_json::from_slice::<&RawValue>(body).is_ok() { Body::OtherJson } else { Body::NotJson }
}

fn hints<'h>(field: &impl Fn(&'static str) -> Option<&'h str>) -> Hints {
    let number = |name| field(name)?.trim().parse::<u64>().ok().filter(|number| *number > 0);
    Hints {
        max_records: number(wire::MAX_RECORDS).and_then(|number| usize::try_from(number).ok()),
        max_bytes: number(wire::MAX_BYTES),
        time_budget: number(wire::TIME_BUDGET_MS).map(Duration::from_millis),
    }
}

/// Seconds, or an HTTP date.
fn retry_after(value: &str, wall_ms: u64) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_1970.saturating_sub(Duration::from_millis(wall_ms)))
}
