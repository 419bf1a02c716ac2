//! Checks records while file and line are still known.
//!
//! The daemon checks them again, and knows more limits. Payloads are checked but never rewritten: the server gets exactly
//! the bytes that the application wrote.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::items::{ITEM_BYTES_MAX, InputError, Item};
use crate::api::json_problem::describe_field_error;
use crate::api::submission::{MAX_KEY_BYTES, MAX_TYPE_BYTES, check_nesting};
use crate::cli::failure::CommandFailure;
use crate::exit;
use crate::model::{PRIORITY_MAX, RecordId};
use crate::protocol::wire::find_name_fault;

/// For type, key and white space around the payload.
const NON_PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// How the input is parsed, and which records are allowed.
pub(super) struct InputRules<'a> {
    pub(super) format: ItemFormat<'a>,
    /// If the daemon reports it.
    pub(super) max_payload: Option<u64>,
}

/// What one item of the input is.
pub(super) enum ItemFormat<'a> {
    /// A record.
    Record,
    /// A bare payload.
    Payload { record_type: &'a str, key_field: Option<&'a str> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputRecord<'a> {
    #[serde(default)]
    id: Option<RecordId>,
    #[serde(rename = "type")]
    record_type: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    priority: Option<i64>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct OutputRecord<'a> {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    payload: &'a RawValue,
}

/// A record that is ready to be sent.
#[derive(Debug)]
pub(super) struct PreparedRecord {
    pub(super) id: RecordId,
    /// Only this run can have sent a generated id before.
    pub(super) has_generated_id: bool,
    pub(super) json: Vec<u8>,
}

impl<'a> InputRules<'a> {
    pub(super) fn new(
        record_type: Option<&'a str>,
        key_field: Option<&'a str>,
    ) -> Result<Self, CommandFailure> {
        let format = match record_type {
            None => ItemFormat::Record,
            Some(name) if name.is_empty() || name.len() > MAX_TYPE_BYTES => {
                let message = format!(
                    "--type must have 1 to {MAX_TYPE_BYTES} bytes. Nothing was stored. Use a type of that length."
                );
                return Err(CommandFailure::new(exit::USAGE, message));
            }
            Some(name) if find_name_fault(name, None).is_some() => {
                let message = "--type must not contain control characters. Nothing was stored. Use a type without them.";
                return Err(CommandFailure::new(exit::USAGE, message));
            }
            Some(record_type) => ItemFormat::Payload { record_type, key_field },
        };
        Ok(Self { format, max_payload: None })
    }

    pub(super) fn with_max_payload(self, max_payload: Option<u64>) -> Self {
        Self { max_payload, ..self }
    }

    /// The maximum length of a record's text. The other fields have limits of their own, far below the allowance.
    pub(super) fn max_item_bytes(&self) -> u64 {
        self.max_payload.map_or(ITEM_BYTES_MAX, |most| most.saturating_add(NON_PAYLOAD_BYTES_MAX))
    }

    pub(super) fn check_item(&self, item: &Item<'_>) -> Result<(), InputError> {
        self.parse_item(item).map(drop)
    }

    /// Prepares a record for sending, and generates an id if it has none.
    pub(super) fn prepare_record(&self, item: &Item<'_>) -> Result<PreparedRecord, InputError> {
        let input = self.parse_item(item)?;
        let id = input.id.unwrap_or_default();
        let output = OutputRecord {
            id,
            record_type: &input.record_type,
            key: input.key.as_deref(),
            priority: input.priority,
            payload: input.payload,
        };
        Ok(PreparedRecord {
            id,
            has_generated_id: input.id.is_none(),
            json: serde_json::to_vec(&output).map_err(|error| json_error(item, &error))?,
        })
    }

    fn parse_item<'i>(&self, item: &Item<'i>) -> Result<InputRecord<'i>, InputError> {
        let input = match self.format {
            ItemFormat::Record => parse_record(item)?,
            ItemFormat::Payload { record_type, key_field } => parse_payload(item, record_type, key_field)?,
        };
        check_nesting(input.payload.get()).map_err(|what| InputError::new(item.line, what))?;
        let bytes = input.payload.get().len() as u64;
        match self.max_payload.filter(|most| bytes > *most) {
            Some(most) => Err(InputError::new(
                item.line,
                format!("the payload has {bytes} bytes, more than queue.max_record_bytes ({most})"),
            )),
            None => Ok(input),
        }
    }
}

fn parse_record<'i>(item: &Item<'i>) -> Result<InputRecord<'i>, InputError> {
    // The parser would also accept an array with the fields in order.
    if item.text.first() != Some(&b'{') {
        return Err(InputError::new(item.line, "a record must be a JSON object, in braces"));
    }
    let input: InputRecord<'_> =
        serde_json::from_slice(item.text).map_err(|error| json_error(item, &error))?;
    let wrong = |what: &str| Err(InputError::new(item.line, what));
    if input.record_type.is_empty() {
        return wrong("`type` is empty");
    }
    if input.record_type.len() > MAX_TYPE_BYTES {
        return wrong(&format!("`type` is longer than {MAX_TYPE_BYTES} bytes"));
    }
    if let Some(what) = input.key.as_deref().and_then(key_error) {
        return wrong(&what);
    }
    if let Some(fault) = find_name_fault(&input.record_type, input.key.as_deref()) {
        return wrong(fault);
    }
    if !is_object(input.payload) {
        return wrong("`payload` must be a JSON object");
    }
    match input.priority {
        Some(priority) if !(0..=i64::from(PRIORITY_MAX)).contains(&priority) => {
            wrong(&format!("`priority` must be 0 to {PRIORITY_MAX}, not {priority}"))
        }
        _ => Ok(input),
    }
}

fn parse_payload<'i>(
    item: &Item<'i>,
    record_type: &str,
    key_field: Option<&str>,
) -> Result<InputRecord<'i>, InputError> {
    let payload: &RawValue = serde_json::from_slice(item.text).map_err(|error| json_error(item, &error))?;
    if !is_object(payload) {
        return Err(InputError::new(item.line, "with --type, every line must be a payload: a JSON object"));
    }
    let key = match key_field {
        Some(field) => extract_key(payload, field).map_err(|what| InputError::new(item.line, what))?,
        None => None,
    };
    if let Some(what) = key.as_deref().and_then(key_error) {
        return Err(InputError::new(item.line, what));
    }
    if let Some(fault) = find_name_fault(record_type, key.as_deref()) {
        return Err(InputError::new(item.line, fault));
    }
    Ok(InputRecord { id: None, record_type: record_type.to_owned(), key, priority: None, payload })
}

/// Why this is not a valid key.
fn key_error(key: &str) -> Option<String> {
    match key.len() {
        0 => Some("`key` is empty; leave it out if the record has no key".to_owned()),
        1..=MAX_KEY_BYTES => None,
        _ => Some(format!("`key` is longer than {MAX_KEY_BYTES} bytes")),
    }
}

/// The value of a field as a key. `null` means no key. A missing field is an error, because it is probably misspelt, and
/// the records would silently lose their order.
fn extract_key(payload: &RawValue, field: &str) -> Result<Option<String>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(payload.get());
    let value = deserializer
        .deserialize_map(FieldFinder(field))
        .map_err(|error| describe_parser_error(&error))?
        .ok_or_else(|| format!("the payload has no field `{field}`, which --key-field names"))?;
    match value.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => serde_json::from_str(value.get()).map_err(|error| describe_parser_error(&error)),
        Some(b'-' | b'0'..=b'9') => Ok(Some(value.get().to_owned())),
        _ => Err(format!("`{field}` is neither a text nor a number, and cannot be a key")),
    }
}

struct FieldFinder<'f>(&'f str);

impl<'de> Visitor<'de> for FieldFinder<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Converts the parser's position within the record to the line of the file.
fn json_error(item: &Item<'_>, error: &serde_json::Error) -> InputError {
    let what = describe_parser_error(error);
    let line = item.line + (error.line() as u64).saturating_sub(1);
    let hint = if error.is_eof() && item.text.first() == Some(&b'{') {
        "; write each record on one line, or all of them in an array in brackets"
    } else {
        ""
    };
    InputError::new(line, format!("{what} (column {}){hint}", error.column()))
}

/// In words of our own: those of the parser change with its version, and few users know its terms.
fn describe_parser_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Data if text.starts_with("UUID parsing failed") => "`id` must be a UUID".to_owned(),
        Category::Data => {
            describe_field_error(&text).unwrap_or_else(|| "a value has the wrong type".to_owned())
        }
        Category::Eof => "the JSON ends too early".to_owned(),
        Category::Syntax | Category::Io if text.starts_with("control character") => {
            "a text contains a control character, which JSON writes as \\u and four digits".to_owned()
        }
        Category::Syntax | Category::Io if text.starts_with("recursion limit") => {
            "the JSON is nested too deeply".to_owned()
        }
        Category::Syntax | Category::Io => "it is not valid JSON".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item_of(text: &str) -> Item<'_> {
        Item { line: 5000, element: None, text: text.as_bytes() }
    }

    fn error_of(rules: &InputRules<'_>, text: &str) -> String {
        let mistake = rules.check_item(&item_of(text)).unwrap_err();
        format!("{}: {}", mistake.line, mistake.reason)
    }

    const RECORD_RULES: InputRules<'_> = InputRules { format: ItemFormat::Record, max_payload: Some(2000) };
    const VISIT_RULES: InputRules<'_> = InputRules {
        format: ItemFormat::Payload { record_type: "Visits", key_field: Some("account") },
        max_payload: None,
    };

    #[test]
    fn payloads_pass_byte_for_byte() {
        let payload = r#"{"n": 1.10, "big": 123456789012345678901234567890,  "s": "\u00e9"}"#;
        let id = RecordId::new();
        let line = format!(r#"{{"payload":{payload},"id":"{id}","type":"T","priority":9,"key":null}}"#);
        let ready = RECORD_RULES.prepare_record(&item_of(&line)).unwrap();
        let sent = format!(r#"{{"id":"{id}","type":"T","priority":9,"payload":{payload}}}"#);
        assert_eq!(String::from_utf8(ready.json).unwrap(), sent);
        assert_eq!((ready.id, ready.has_generated_id), (id, false));
    }

    #[test]
    fn a_record_without_id_gets_one() {
        let ready = RECORD_RULES.prepare_record(&item_of(r#"{"type":"T","payload":{}}"#)).unwrap();
        assert!(ready.has_generated_id);
        assert_eq!(ready.id.0.get_version_num(), 7);
        let sent = String::from_utf8(ready.json).unwrap();
        assert_eq!(sent, format!(r#"{{"id":"{}","type":"T","payload":{{}}}}"#, ready.id));
    }

    #[test]
    fn bare_payloads_get_type_and_key() {
        let key = |text: &str| VISIT_RULES.parse_item(&item_of(text)).unwrap().key;
        assert_eq!(key(r#"{"account": "A\"b", "x": {"account": 1}}"#).as_deref(), Some("A\"b"));
        assert_eq!(key(r#"{"account": 17.50}"#).as_deref(), Some("17.50"));
        assert_eq!(key(r#"{"account": null}"#), None);
        let input = VISIT_RULES.parse_item(&item_of(r#"{"account":"A"}"#)).unwrap();
        assert_eq!((input.record_type.as_str(), input.payload.get()), ("Visits", r#"{"account":"A"}"#));
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        let cases = [
            (r#"{"type":"","payload":{}}"#, "5000: `type` is empty"),
            (
                r#"{"type":"T","payload":{},"key":""}"#,
                "5000: `key` is empty; leave it out if the record has no key",
            ),
            (r#"{"type":"T"}"#, "5000: `payload` is missing (column 12)"),
            (r#"{"type":"T","payload":[]}"#, "5000: `payload` must be a JSON object"),
            (r#"{"type":"T","payload":{},"priority":10}"#, "5000: `priority` must be 0 to 9, not 10"),
            (
                &format!(r#"{{"type":"T","payload":{{"a":"{}"}}}}"#, "x".repeat(1993)),
                "5000: the payload has 2001 bytes, more than queue.max_record_bytes (2000)",
            ),
            ("{\"type\":\"T\",\n\"payload\":{]}", "5001: it is not valid JSON (column 12)"),
        ];
        for (text, expected) in cases {
            assert_eq!(error_of(&RECORD_RULES, text), expected);
        }
        for (text, part) in [
            (
                r#"{"type":"T","payload":{},"tpye":1}"#,
                "`tpye` is not known here; known are id, type, key, priority, payload",
            ),
            (r#"{"type":"T","payload":{},"type":"U"}"#, "`type` is given twice"),
            (r#"{"type":"T","payload":{},"id":"12"}"#, "`id` must be a UUID"),
            (r#"{"type":"T","payload":{},"priority":"high"}"#, "a value has the wrong type"),
            (r#"{"type":"T","payload":{"#, "write each record on one line"),
            ("{\"type\":\"T\",\"payload\":{\"a\":\"\u{1}\"}}", "control character"),
            ("[]", "a record must be a JSON object"),
            (r#"[null,"T",null,null,{}]"#, "a record must be a JSON object"),
        ] {
            let complaint = error_of(&RECORD_RULES, text);
            assert!(complaint.contains(part), "{complaint}");
        }
        for field in ["type", "key"] {
            let line = format!(r#"{{"type":"T","{field}":"{}","payload":{{}}}}"#, "x".repeat(600));
            let line = if field == "type" { line.replacen(r#""type":"T","#, "", 1) } else { line };
            assert!(error_of(&RECORD_RULES, &line).contains("is longer than"));
        }
        let latin = Item { line: 3, element: None, text: b"{\"type\":\"T\",\"payload\":{\"a\":\"\xe9\"}}" };
        assert_eq!(RECORD_RULES.check_item(&latin).unwrap_err().line, 3);
    }

    #[test]
    fn invalid_keys_are_refused() {
        assert!(error_of(&VISIT_RULES, r#"{"acount":"A"}"#).contains("no field `account`"));
        assert!(error_of(&VISIT_RULES, r#"{"account":["A"]}"#).contains("neither a text nor a number"));
        assert!(error_of(&VISIT_RULES, "17").contains(": a JSON object"));
        assert!(InputRules::new(Some(""), None).is_err());
        assert!(InputRules::new(Some(" "), None).is_ok(), "as the daemon sees it");
    }
}
