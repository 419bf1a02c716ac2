//! A response that has a result for each record.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::HoldReason;
use crate::model::RecordId;
use crate::protocol::wire::RecordStatus;

/// Characters that are kept of a code, a message or a field.
const CODE_CHARS_MAX: usize = 100;
const MESSAGE_CHARS_MAX: usize = 500;
const FIELD_CHARS_MAX: usize = 300;

/// The result of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForwardResult {
    pub(super) status: RecordStatus,
    pub(super) reason: HoldReason,
    pub(super) retry_after: Option<Duration>,
}

/// The results by record; the first one of a record counts.
pub(super) type ForwardResults = HashMap<RecordId, ForwardResult>;

/// The results in a body. `None` if it is something else: the response is then about the records as a whole.
///
/// The body of another API may have an array of this name, too. So at least one of its elements must be a result, or
/// it must be empty.
pub(super) fn parse_results(body: &[u8]) -> Option<ForwardResults> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let elements = body.get("results")?.as_array()?;
    let mut results = ForwardResults::new();
    for element in elements {
        if let Some((id, result)) = parse_result(element) {
            results.entry(id).or_insert(result);
        }
    }
    (elements.is_empty() || !results.is_empty()).then_some(results)
}

fn parse_result(element: &Value) -> Option<(RecordId, ForwardResult)> {
    let id = element.get("id")?.as_str()?.parse().ok()?;
    let status = match element.get("status")?.as_str()? {
        "applied" => RecordStatus::Applied,
        "duplicate" => RecordStatus::Duplicate,
        "rejected" => RecordStatus::Rejected,
        "retry" => RecordStatus::Retry,
        _ => return None,
    };
    let reason = HoldReason {
        code: text_of(element, "code", CODE_CHARS_MAX),
        message: text_of(element, "message", MESSAGE_CHARS_MAX),
        field: text_of(element, "field", FIELD_CHARS_MAX),
    };
    let retry_after = element.get("retry_after_s").and_then(Value::as_u64).map(Duration::from_secs);
    Some((id, ForwardResult { status, reason, retry_after }))
}

/// Why a whole body was refused: what its response says as `{"error": {"code", "message"}}`, and its status.
pub(super) fn parse_refusal(status: u16, body: &[u8]) -> HoldReason {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = body.get("error").unwrap_or(&body);
    HoldReason {
        code: text_of(error, "code", CODE_CHARS_MAX).or_else(|| Some(format!("HTTP_{status}"))),
        message: text_of(error, "message", MESSAGE_CHARS_MAX),
        field: text_of(error, "field", FIELD_CHARS_MAX),
    }
}

/// Whether a body that begins so may be an object, which may have results.
pub(super) fn may_be_object(start: &[u8]) -> bool {
    matches!(start.trim_ascii_start().first(), None | Some(b'{'))
}

/// Whether a body that begins so is an object that seems to have results.
pub(super) fn names_results(start: &[u8]) -> bool {
    const NAME: &[u8] = b"\"results\"";
    may_be_object(start) && start.windows(NAME.len()).any(|part| part == NAME)
}

fn text_of(value: &Value, name: &str, chars_max: usize) -> Option<String> {
    // A database does not store NUL in text.
    let is_kept = |character: &char| *character != '\0';
    value.get(name)?.as_str().map(|text| text.chars().filter(is_kept).take(chars_max).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9a51f2b4-6c1d-4f0e-8a77-0d5f5f0c1a2b";

    /// What is said of [`ID`]; an error if there are no results.
    fn status_in(text: &str) -> Result<Option<RecordStatus>, ()> {
        let id = ID.parse().unwrap();
        let results = parse_results(text.as_bytes()).ok_or(())?;
        Ok(results.get(&id).map(|result| result.status))
    }

    #[test]
    fn only_results_of_the_protocol_are_results() {
        let with = |result: &str| format!("{{\"results\": [{result}], \"more\": 1}}");
        let result = |status: &str| with(&format!("{{\"id\": \"{ID}\", \"status\": \"{status}\"}}"));
        assert_eq!(status_in(&result("applied")), Ok(Some(RecordStatus::Applied)));
        assert_eq!(status_in(&result("retry")), Ok(Some(RecordStatus::Retry)));
        // Without a result, a record was not taken.
        assert_eq!(status_in(&with("")), Ok(None));
        for other in [
            "",
            "[]",
            "ok",
            "{\"results\": 7}",
            "{\"ok\": true}",
            &with("{\"id\": 17, \"ok\": true}"),
            &with("null"),
            &result("done"),
        ] {
            assert_eq!(status_in(other), Err(()), "{other}");
        }
    }

    #[test]
    fn the_first_result_of_a_record_counts_and_texts_have_a_limited_length() {
        let long = "ü".repeat(1000);
        let text = format!(
            "{{\"results\": [{{\"id\": \"{ID}\", \"status\": \"rejected\", \"code\": \"NO\", \"message\": \"{long}\", \
             \"field\": \"/a\", \"retry_after_s\": 5}}, {{\"id\": \"{ID}\", \"status\": \"applied\"}}, 7]}}"
        );
        let results = parse_results(text.as_bytes()).unwrap();
        let result = &results[&ID.parse().unwrap()];
        assert_eq!(result.status, RecordStatus::Rejected);
        assert_eq!(result.reason.code.as_deref(), Some("NO"));
        assert_eq!(result.reason.field.as_deref(), Some("/a"));
        assert_eq!(result.reason.message.as_ref().map(|text| text.chars().count()), Some(MESSAGE_CHARS_MAX));
        assert_eq!(result.retry_after, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_without_words_has_the_code_of_its_status() {
        let refusal = parse_refusal(422, b"<html>");
        assert_eq!((refusal.code.as_deref(), refusal.message), (Some("HTTP_422"), None));
        let refusal = parse_refusal(400, br#"{"error": {"code": "BAD", "message": "no"}}"#);
        assert_eq!((refusal.code.as_deref(), refusal.message.as_deref()), (Some("BAD"), Some("no")));
    }
}
