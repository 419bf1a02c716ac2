//! What an answer says, read in the plainest way: what its decoder is held against, by the tests and by
//! the fuzzer. The fuzzer takes this file as it stands, so it names nothing of the crate.

use serde_json::{Map, Value, json};
use uuid::Uuid;

const STATUSES: [&str; 4] = ["applied", "duplicate", "rejected", "retry"];

/// The batch that an answer names, and what it says of records, in order. None when it is no answer to a
/// batch, or nested too deep for a plain reader.
pub(super) fn said(body: &[u8]) -> Option<(Uuid, Vec<Value>)> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let results = answer.get("results")?.as_array()?;
    Some((uuid(answer.get("batch_id")?)?, results.iter().filter_map(result).collect()))
}

fn result(value: &Value) -> Option<Value> {
    let status = value.get("status")?.as_str().filter(|status| STATUSES.contains(status))?;
    let mut said = json!({"id": uuid(value.get("id")?)?, "status": status});
    for field in ["code", "message"] {
        if let Some(text) = value.get(field).filter(|text| text.is_string()) {
            said[field] = text.clone();
        }
    }
    Some(said)
}

fn uuid(value: &Value) -> Option<Uuid> {
    Uuid::parse_str(value.as_str()?).ok()
}

/// Panics unless what was read of batch `id` is what its answer says: each result stands there, in this
/// order. What is written twice in one object may be left out, never taken.
pub(super) fn assert_said(body: &[u8], id: Uuid, read: &Value) {
    let Some((named, said)) = said(body) else {
        // Too deep or too large for a plain reader; the text must name the batch all the same.
        assert!(serde_json::from_slice::<Value>(body).is_err(), "this names no batch");
        return;
    };
    assert_eq!(named, id);
    let mut said = said.iter();
    for result in read.as_array().into_iter().flatten() {
        assert!(said.any(|one| one == result), "{result} was not said");
    }
}
