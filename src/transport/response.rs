//! Takes an answer apart. It is hostile input: it may come from a portal, a proxy, or a server gone mad.
//!
//! A pure function of status, header fields and body, which are bounded by whoever read them. What it
//! makes is at most a small multiple of the body, and no nesting exhausts the stack. What is not the
//! protocol's is told apart here; what it all means is decided in [`crate::policy::verdict`].
//!
//! An answer that names a batch is read as far as it can be understood. A result that cannot be (a status
//! of a later version, an id that is none) is no result, and the others hold: nothing is settled by a
//! guess, and a newer server is not taken for a portal.

#[cfg(test)]
mod reference_decoder;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::encoding::Encoding;
use crate::model::{BatchId, RecordId};
use crate::protocol::exchange::{Response, ResponseBody, ServerHints};
use crate::protocol::wire::{self, BatchAnswer, ErrorDetail, Processing, RecordResult, RecordStatus};

/// Some servers write it before their JSON, and RFC 8259 lets readers ignore it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// An answer, and what its header fields tell of the server.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// What it says about the request.
    pub answer: Response,
    /// What the server asks for.
    pub hints: ServerHints,
    /// The encodings that the server says it takes, when it says so.
    pub accepts: Option<Vec<Encoding>>,
    /// What time the server has, since 1970, when it says so.
    pub date: Option<Duration>,
}

/// Takes an answer apart; `field` gives a header field by its name in lower case, `wall_ms` is the time
/// that a `Retry-After` with a date counts from where the server does not say what time it has.
pub fn decode<'h>(
    status: u16,
    field: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    wall_ms: u64,
) -> Decoded {
    // The server's two dates agree with each other, whatever the clock of the device says.
    let said = field("date").and_then(date);
    let date = said.unwrap_or(Duration::from_millis(wall_ms));
    Decoded {
        hints: hints(&field),
        accepts: field("accept-encoding").map(Encoding::accepted),
        date: said,
        answer: Response {
            status,
            retry_after: field("retry-after").and_then(|value| retry_after(value.trim(), date)),
            body: classify(status, body),
        },
    }
}

fn classify(status: u16, body: &[u8]) -> ResponseBody {
    let Ok(text) = str::from_utf8(body) else { return ResponseBody::NotJson };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return ResponseBody::Empty;
    }
    let known = if status < 300 { batch(text).or_else(|| processing(text)) } else { refusal(text) };
    known.unwrap_or_else(|| {
        if serde_json::from_str::<&RawValue>(text).is_ok() {
            ResponseBody::OtherJson
        } else {
            ResponseBody::NotJson
        }
    })
}

fn batch(text: &str) -> Option<ResponseBody> {
    #[derive(serde::Deserialize)]
    struct Read {
        batch_id: BatchId,
        #[serde(default, deserialize_with = "if_readable")]
        replayed: Option<bool>,
        #[serde(deserialize_with = "results")]
        results: Vec<RecordResult>,
    }
    let Read { batch_id, replayed, results } = object(text)?;
    Some(ResponseBody::Batch(BatchAnswer { batch_id, replayed: replayed.unwrap_or(false), results }))
}

fn processing(text: &str) -> Option<ResponseBody> {
    object(text).map(|Processing { batch_id, .. }| ResponseBody::Processing(batch_id))
}

fn refusal(text: &str) -> Option<ResponseBody> {
    #[derive(serde::Deserialize)]
    struct Read<'t> {
        #[serde(borrow)]
        error: &'t RawValue,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        code: String,
        #[serde(default, deserialize_with = "if_readable")]
        message: Option<String>,
    }
    let Detail { code, message } = object(object::<Read<'_>>(text)?.error.get())?;
    Some(ResponseBody::Error(ErrorDetail { code, message: message.unwrap_or_default(), position: None }))
}

/// The results that can be understood, one at a time: what cannot takes no memory.
fn results<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RecordResult>, D::Error> {
    struct Results;

    impl<'de> Visitor<'de> for Results {
        type Value = Vec<RecordResult>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("results of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut results = Vec::new();
            while let Some(one) = all.next_element::<&RawValue>()? {
                results.extend(result(one.get()));
            }
            Ok(results)
        }
    }

    deserializer.deserialize_seq(Results)
}

fn result(text: &str) -> Option<RecordResult> {
    #[derive(serde::Deserialize)]
    struct Read {
        id: RecordId,
        #[serde(deserialize_with = "record_status")]
        status: RecordStatus,
        #[serde(default, deserialize_with = "if_readable")]
        code: Option<String>,
        #[serde(default, deserialize_with = "if_readable")]
        message: Option<String>,
    }
    object(text).map(|Read { id, status, code, message }| RecordResult { id, status, code, message })
}

/// An object of the protocol. What is derived would read an array as one, too.
fn object<'t, T: Deserialize<'t>>(text: &'t str) -> Option<T> {
    text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A word. What is derived would read an object of that name as one, too.
fn record_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RecordStatus, D::Error> {
    let word = Cow::<str>::deserialize(deserializer)?;
    RecordStatus::deserialize(word.into_deserializer())
}

/// For what settles nothing: of the wrong type, it is as good as missing.
fn if_readable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(value.get()).ok())
}

fn hints<'h>(field: &impl Fn(&'static str) -> Option<&'h str>) -> ServerHints {
    let number = |name| field(name)?.trim().parse::<u64>().ok().filter(|number| *number > 0);
    ServerHints {
        max_records: number(wire::MAX_RECORDS).and_then(|number| usize::try_from(number).ok()),
        max_bytes: number(wire::MAX_BYTES),
        time_budget: number(wire::TIME_BUDGET_MS).map(Duration::from_millis),
    }
}

/// Seconds, or an HTTP date. More seconds than can be counted are a long time, and not "nothing was said".
fn retry_after(value: &str, now: Duration) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(date(value)?.saturating_sub(now))
}

/// An HTTP date, as the time since 1970.
fn date(value: &str) -> Option<Duration> {
    let date: SystemTime = httpdate::parse_http_date(value.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}
