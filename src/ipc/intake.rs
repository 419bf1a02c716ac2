//! What applications hand over, checked: one object, an array, or NDJSON. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::model::{DEFAULT_PRIORITY, MAX_PRIORITY, NewRecord, RecordId};

/// Longest type, in bytes: it is kept with every record and in every measurement.
const MAX_TYPE_BYTES: usize = 128;
/// Longest key, in bytes: it is a key of the store, too.
const MAX_KEY_BYTES: usize = 512;

/// A record that cannot be taken. Nothing of its request is.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{unit} {position}: {reason}")]
pub(super) struct InvalidRecord {
    /// `record` or `line`.
    unit: &'static str,
    /// From 1.
    pub(super) position: u64,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submitted<'a> {
    id: Option<Uuid>,
    #[serde(rename = "type")]
    record_type: String,
    key: Option<String>,
    priority: Option<u8>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A JSON object, or an array of them.
pub(super) fn json(body: &[u8]) -> Result<Vec<NewRecord>, InvalidRecord> {
    let invalid = |position, reason| InvalidRecord { unit: "record", position, reason };
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let items: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|error| invalid(1, error.to_string()))?;
        return items
            .into_iter()
            .zip(1..)
            .map(|(item, position)| record(item.get().as_bytes()).map_err(|reason| invalid(position, reason)))
            .collect();
    }
    record(body).map(|record| vec![record]).map_err(|reason| invalid(1, reason))
}

/// One JSON object a line; empty lines are passed over.
pub(super) fn ndjson(body: &[u8]) -> Result<Vec<NewRecord>, InvalidRecord> {
    body.split(|byte| *byte == b'\n')
        .zip(1..)
        .filter(|(line, _)| !line.iter().all(u8::is_ascii_whitespace))
        .map(|(line, position)| {
            record(line).map_err(|reason| InvalidRecord { unit: "line", position, reason })
        })
        .collect()
}

fn record(json: &[u8]) -> Result<NewRecord, String> {
    let submitted: Submitted<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Submitted { id, record_type, key, priority, payload } = submitted;
    if record_type.is_empty() || record_type.len() > MAX_TYPE_BYTES {
        return Err(format!("`type` must have 1 to {MAX_TYPE_BYTES} bytes"));
    }
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
        return Err(format!("`key` must have 1 to {MAX_KEY_BYTES} bytes; leave it out when there is none"));
    }
    let priority = priority.unwrap_or(DEFAULT_PRIORITY);
    if priority > MAX_PRIORITY {
        return Err(format!("`priority` must lie between 0 and {MAX_PRIORITY}"));
    }
    if !payload.get().starts_with('{') {
        return Err("`payload` must be a JSON object".into());
    }
    let id = id.map_or_else(RecordId::new, RecordId);
    Ok(NewRecord { id, record_type, key, priority, payload: payload.get().into() })
}

/// A JSON object, byte for byte, without white space around it.
pub(super) fn object(body: &[u8]) -> Result<Box<str>, String> {
    let payload: &RawValue = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if payload.get().starts_with('{') {
        Ok(payload.get().into())
    } else {
        Err("the payload must be a JSON object".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn payloads_pass_byte_for_byte() {
        let odd = r#"{ "a" : 1.50,  "a":"é\u0041", "n": 12345678901234567890123 }"#;
        let body = format!(r#"[{{"type":"T","payload":{odd}}}]"#);
        assert_eq!(&*json(body.as_bytes()).unwrap()[0].payload, odd);
        assert_eq!(
            &*ndjson(format!("{{\"payload\":{odd},\"type\":\"T\"}}\n").as_bytes()).unwrap()[0].payload,
            odd
        );
    }

    #[test]
    fn defaults_are_filled_in() {
        let records = json(br#"{"type":"T","payload":{}}"#).unwrap();
        assert_eq!((records[0].priority, records[0].key.as_deref()), (5, None));
        assert_eq!(records[0].id.0.get_version_num(), 7);
    }

    #[test]
    fn mistakes_are_refused_with_their_position() {
        const GOOD: &str = r#"{"type":"T","payload":{}}"#;
        for (bad, part) in [
            (r#"{"payload":{}}"#, "type"),
            (r#"{"type":"T"}"#, "payload"),
            (r#"{"type":"","payload":{}}"#, "type"),
            (r#"{"type":"T","payload":[]}"#, "object"),
            (r#"{"type":"T","payload":"x"}"#, "object"),
            (r#"{"type":"T","payload":null}"#, "object"),
            (r#"{"type":"T","payload":{},"priority":10}"#, "priority"),
            (r#"{"type":"T","payload":{},"priority":-1}"#, "-1"),
            (r#"{"type":"T","payload":{},"id":"x"}"#, "UUID"),
            (r#"{"type":"T","payload":{},"key":""}"#, "key"),
            (r#"{"type":"T","payload":{},"Type":"T"}"#, "unknown field"),
            (r#"{"type":"T","payload":{"#, "EOF"),
            ("7", "expected struct"),
        ] {
            let error = json(format!("[{GOOD},{bad}]").as_bytes()).err();
            if let Some(error) = error.filter(|_| !bad.ends_with("{\"payload\":{")) {
                assert!(error.position == 2 || bad.ends_with(":{"), "{bad}: {error}");
            }
            let error = ndjson(format!("{GOOD}\n\n{bad}\n").as_bytes()).unwrap_err();
            assert_eq!(error.position, 3, "{bad}");
            assert!(error.to_string().contains(part), "{bad}: {error}");
        }
        assert!(json(b"").is_err() && json(b"[1").is_err());
        assert_eq!(json(b" [] ").unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = (json(&body).is_ok(), ndjson(&body).is_ok(), object(&body).is_ok());
        }
    }
}
