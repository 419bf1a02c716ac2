//! Decodes responses. A response is hostile input: it may come from a portal, a proxy, or a broken server.
//!
//! A pure function of status, header fields and body, whose sizes the caller has limited. The result takes at
//! most a small multiple of the body's memory, and no nesting exhausts the stack. This module recognizes which
//! responses follow the protocol; [`crate::policy::verdict`] decides what they mean.
//!
//! A response that names a batch is decoded as far as possible. A result that cannot be decoded (a status of a
//! later version, an invalid id) is skipped, and the others count. So no record is settled by a guess, and a
//! newer server is not mistaken for a portal.

#[cfg(test)]
mod reference_decoder;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::encoding::ContentEncoding;
use crate::model::{BatchId, RecordId};
use crate::protocol::exchange::{Response, ResponseBody, ServerHints};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{self, BatchResponse, ErrorDetail, Processing, RecordResult, RecordStatus};

/// Some servers send it before their JSON, and RFC 8259 allows readers to ignore it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A response, and what its header fields say about the server.
#[derive(Clone, Debug)]
pub struct DecodedResponse {
    /// What it says about the request.
    pub response: Response,
    /// What the server asks of the next batches.
    pub hints: ServerHints,
    /// The encodings that the server accepts, if it names them.
    pub accepts: Option<Vec<ContentEncoding>>,
    /// The server's time since 1970, if it sends one.
    pub date: Option<Duration>,
}

/// Decodes a response. `field` returns a header field by its name in lower case. A `Retry-After` with a date
/// counts from the server's own time, or from `wall_ms` if it sends none.
pub fn decode_response<'h>(
    status: u16,
    field: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    wall_ms: u64,
) -> DecodedResponse {
    // The server's two dates fit each other, whatever the clock of the device says.
    let server_date = field("date").and_then(parse_date);
    let now = server_date.unwrap_or(Duration::from_millis(wall_ms));
    DecodedResponse {
        hints: parse_hints(&field),
        accepts: field("accept-encoding").map(ContentEncoding::parse_accepted),
        date: server_date,
        response: Response {
            status,
            retry_after: field("retry-after").and_then(|value| parse_retry_after(value.trim(), now)),
            body: classify_body(status, body),
        },
    }
}

fn classify_body(status: u16, body: &[u8]) -> ResponseBody {
    let Ok(text) = str::from_utf8(body) else { return ResponseBody::NotJson };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return ResponseBody::Empty;
    }
    let known =
        if status < 300 { parse_batch(text).or_else(|| parse_processing(text)) } else { parse_error(text) };
    known.unwrap_or_else(|| {
        if serde_json::from_str::<&RawValue>(text).is_ok() {
            ResponseBody::OtherJson
        } else {
            ResponseBody::NotJson
        }
    })
}

fn parse_batch(text: &str) -> Option<ResponseBody> {
    #[derive(serde::Deserialize)]
    struct BatchFields {
        batch_id: BatchId,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        replayed: Option<bool>,
        #[serde(deserialize_with = "deserialize_results")]
        results: Vec<RecordResult>,
    }
    let BatchFields { batch_id, replayed, results } = parse_object(text)?;
    Some(ResponseBody::Batch(BatchResponse { batch_id, replayed: replayed.unwrap_or(false), results }))
}

fn parse_processing(text: &str) -> Option<ResponseBody> {
    parse_object(text).map(|Processing { batch_id, .. }| ResponseBody::Processing(batch_id))
}

fn parse_error(text: &str) -> Option<ResponseBody> {
    #[derive(serde::Deserialize)]
    struct ErrorFields<'t> {
        #[serde(borrow)]
        error: &'t RawValue,
    }
    #[derive(serde::Deserialize)]
    struct DetailFields {
        code: String,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        message: Option<String>,
    }
    let DetailFields { code, message } = parse_object(parse_object::<ErrorFields<'_>>(text)?.error.get())?;
    Some(ResponseBody::Error(ErrorDetail { code, message: message.unwrap_or_default(), position: None }))
}

/// Decodes results one at a time, so that an invalid one takes no memory.
fn deserialize_results<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RecordResult>, D::Error> {
    struct ResultsVisitor;

    impl<'de> Visitor<'de> for ResultsVisitor {
        type Value = Vec<RecordResult>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("results of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut results = Vec::new();
            while let Some(one) = all.next_element::<&RawValue>()? {
                results.extend(parse_result(one.get()));
            }
            Ok(results)
        }
    }

    deserializer.deserialize_seq(ResultsVisitor)
}

fn parse_result(text: &str) -> Option<RecordResult> {
    #[derive(serde::Deserialize)]
    struct ResultFields {
        id: RecordId,
        #[serde(deserialize_with = "deserialize_status")]
        status: RecordStatus,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        code: Option<String>,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        message: Option<String>,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        receipt: Option<Receipt>,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        field: Option<String>,
        #[serde(default, deserialize_with = "deserialize_lenient")]
        retry_after_s: Option<u64>,
    }
    let ResultFields { id, status, code, message, receipt, field, retry_after_s } = parse_object(text)?;
    Some(RecordResult { id, status, code, message, receipt, field, retry_after_s })
}

/// A JSON object of the protocol. The derived deserializer would accept an array, too.
fn parse_object<'t, T: Deserialize<'t>>(text: &'t str) -> Option<T> {
    text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A status as a string. The derived deserializer would accept an object with that key, too.
fn deserialize_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RecordStatus, D::Error> {
    let word = Cow::<str>::deserialize(deserializer)?;
    RecordStatus::deserialize(word.into_deserializer())
}

/// For fields that settle nothing: a value of the wrong type counts as missing.
fn deserialize_lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(value.get()).ok())
}

fn parse_hints<'h>(field: &impl Fn(&'static str) -> Option<&'h str>) -> ServerHints {
    let number = |name| field(name)?.trim().parse::<u64>().ok().filter(|number| *number > 0);
    ServerHints {
        max_records: number(wire::MAX_RECORDS).and_then(|number| usize::try_from(number).ok()),
        max_bytes: number(wire::MAX_BYTES),
        max_in_flight: number(wire::MAX_IN_FLIGHT).and_then(|number| usize::try_from(number).ok()),
        time_budget: number(wire::TIME_BUDGET_MS).map(Duration::from_millis),
        holds_keys: field(wire::HOLDS_KEYS).is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
    }
}

/// Seconds, or an HTTP date. A number too large for the type means a long time, not a missing value.
pub(super) fn parse_retry_after(value: &str, now: Duration) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(parse_date(value)?.saturating_sub(now))
}

/// An HTTP date, as the time since 1970.
fn parse_date(value: &str) -> Option<Duration> {
    let date: SystemTime = httpdate::parse_http_date(value.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}
