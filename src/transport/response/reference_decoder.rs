//! The content of a response, decoded in the simplest way: tests and the fuzzer compare the decoder with it.
//! The fuzzer includes this file, so it uses nothing of the crate.

use serde_json::{Map, Value, json};
use uuid::Uuid;

const STATUSES: [&str; 4] = ["applied", "duplicate", "rejected", "retry"];

/// The batch that a response names, and its results, in order. `None` if it is not a response to a batch, or
/// nested too deeply for a simple decoder.
pub(super) fn decode_batch(body: &[u8]) -> Option<(Uuid, Vec<Value>)> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let response: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let results = response.get("results")?.as_array()?;
    Some((parse_uuid(response.get("batch_id")?)?, results.iter().filter_map(decode_result).collect()))
}

fn decode_result(value: &Value) -> Option<Value> {
    let status = value.get("status")?.as_str().filter(|status| STATUSES.contains(status))?;
    let mut result = json!({"id": parse_uuid(value.get("id")?)?, "status": status});
    let is_valid = |name: &str, value: &Value| match name {
        "retry_after_s" => value.is_u64(),
        "receipt" => value.is_object(),
        _ => value.is_string(),
    };
    for field in ["code", "message", "field", "retry_after_s", "receipt"] {
        if let Some(value) = value.get(field).filter(|value| is_valid(field, value)) {
            result[field] = value.clone();
        }
    }
    Some(result)
}

fn parse_uuid(value: &Value) -> Option<Uuid> {
    Uuid::parse_str(value.as_str()?).ok()
}

/// Panics unless the results decoded for batch `id` are in its response, in this order. A field that occurs twice
/// in one object may be skipped, but never used.
pub(super) fn assert_matches(body: &[u8], id: Uuid, decoded: &Value) {
    let Some((named, expected)) = decode_batch(body) else {
        // Too deep or too large for the simple decoder, which fails on it as a whole.
        assert!(serde_json::from_slice::<Value>(body).is_err(), "the response names no batch");
        return;
    };
    assert_eq!(named, id);
    let mut expected = expected.iter();
    for result in decoded.as_array().into_iter().flatten() {
        // A receipt may be skipped: the simple decoder knows no limits.
        let has_receipt = result.get("receipt").is_some();
        let without_receipt = |mut result: Value| {
            result.as_object_mut().filter(|_| !has_receipt).map(|fields| fields.remove("receipt"));
            result
        };
        assert!(
            expected.any(|one| without_receipt(one.clone()) == *result),
            "{result} is not in the response"
        );
    }
}
