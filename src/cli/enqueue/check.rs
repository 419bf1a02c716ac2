//! What a record must be, checked where file and line are still known.
//!
//! The daemon checks again, and has the last word on limits that only it knows. Payloads are looked
//! at and never rewritten: the bytes that an application wrote are the bytes that the server gets.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::items::{Item, MAX_ITEM, Mistake};
use crate::api::submission::{MAX_KEY_BYTES, MAX_TYPE_BYTES, check_nesting};
use crate::cli::failure::Failure;
use crate::exit;
use crate::model::{MAX_PRIORITY, RecordId};
use crate::protocol::wire::find_name_fault;

/// For type, key and white space around a payload.
const AROUND_PAYLOAD: u64 = 64 << 10;

/// How input lines are read, and what is taken.
pub(super) struct Rules<'a> {
    pub(super) form: Form<'a>,
    /// As far as it is known.
    pub(super) max_payload: Option<u64>,
}

/// What a line is.
pub(super) enum Form<'a> {
    /// As records.
    Record,
    /// As bare payloads of one type.
    Payload { record_type: &'a str, key_field: Option<&'a str> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
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
struct Output<'a> {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    payload: &'a RawValue,
}

/// A record as it is sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: RecordId,
    /// The id was made here, so that only this run can have sent it before.
    pub(super) made_here: bool,
    pub(super) json: Vec<u8>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(record_type: Option<&'a str>, key_field: Option<&'a str>) -> Result<Self, Failure> {
        let form = match record_type {
            None => Form::Record,
            Some(name) if name.is_empty() || name.len() > MAX_TYPE_BYTES => {
                let message = format!(
                    "--type must have 1 to {MAX_TYPE_BYTES} bytes. Nothing was stored. Name a type that has."
                );
                return Err(Failure::new(exit::USAGE, message));
            }
            Some(name) if find_name_fault(name, None).is_some() => {
                let message = "--type must not contain control characters. Nothing was stored. Name a type without them.";
                return Err(Failure::new(exit::USAGE, message));
            }
            Some(record_type) => Form::Payload { record_type, key_field },
        };
        Ok(Self { form, max_payload: None })
    }

    pub(super) fn up_to(self, max_payload: Option<u64>) -> Self {
        Self { max_payload, ..self }
    }

    /// How long the text of a record may be. What is not payload has limits of its own, well below the allowance.
    pub(super) fn max_item(&self) -> u64 {
        self.max_payload.map_or(MAX_ITEM, |most| most.saturating_add(AROUND_PAYLOAD))
    }

    pub(super) fn check(&self, item: &Item<'_>) -> Result<(), Mistake> {
        self.read(item).map(drop)
    }

    /// Gives the record an id when it has none.
    pub(super) fn record(&self, item: &Item<'_>) -> Result<Ready, Mistake> {
        let input = self.read(item)?;
        let id = input.id.unwrap_or_default();
        let output = Output {
            id,
            record_type: &input.record_type,
            key: input.key.as_deref(),
            priority: input.priority,
            payload: input.payload,
        };
        Ok(Ready {
            id,
            made_here: input.id.is_none(),
            json: serde_json::to_vec(&output).map_err(|error| mistake(item, &error))?,
        })
    }

    fn read<'i>(&self, item: &Item<'i>) -> Result<Input<'i>, Mistake> {
        let input = match self.form {
            Form::Record => record(item)?,
            Form::Payload { record_type, key_field } => payload(item, record_type, key_field)?,
        };
        check_nesting(input.payload.get()).map_err(|what| Mistake::new(item.line, what))?;
        let bytes = input.payload.get().len() as u64;
        match self.max_payload.filter(|most| bytes > *most) {
            Some(most) => Err(Mistake::new(
                item.line,
                format!("the payload has {bytes} bytes, more than queue.max_record_bytes ({most})"),
            )),
            None => Ok(input),
        }
    }
}

fn record<'i>(item: &Item<'i>) -> Result<Input<'i>, Mistake> {
    // The parser would take an array for a record, field by field.
    if item.text.first() != Some(&b'{') {
        return Err(Mistake::new(item.line, "a record is a JSON object, in braces"));
    }
    let input: Input<'_> = serde_json::from_slice(item.text).map_err(|error| mistake(item, &error))?;
    let wrong = |what: &str| Err(Mistake::new(item.line, what));
    if input.record_type.is_empty() {
        return wrong("`type` is empty");
    }
    if input.record_type.len() > MAX_TYPE_BYTES {
        return wrong(&format!("`type` is longer than {MAX_TYPE_BYTES} bytes"));
    }
    if let Some(what) = input.key.as_deref().and_then(wrong_key) {
        return wrong(&what);
    }
    if let Some(fault) = find_name_fault(&input.record_type, input.key.as_deref()) {
        return wrong(fault);
    }
    if !is_object(input.payload) {
        return wrong("`payload` must be a JSON object");
    }
    match input.priority {
        Some(priority) if !(0..=i64::from(MAX_PRIORITY)).contains(&priority) => {
            wrong(&format!("`priority` must be 0 to {MAX_PRIORITY}, not {priority}"))
        }
        _ => Ok(input),
    }
}

fn payload<'i>(item: &Item<'i>, record_type: &str, key_field: Option<&str>) -> Result<Input<'i>, Mistake> {
    let payload: &RawValue = serde_json::from_slice(item.text).map_err(|error| mistake(item, &error))?;
    if !is_object(payload) {
        return Err(Mistake::new(
            item.line,
            "with --type, every line is a payload, and that is a JSON object",
        ));
    }
    let key = match key_field {
        Some(field) => key_of(payload, field).map_err(|what| Mistake::new(item.line, what))?,
        None => None,
    };
    if let Some(what) = key.as_deref().and_then(wrong_key) {
        return Err(Mistake::new(item.line, what));
    }
    if let Some(fault) = find_name_fault(record_type, key.as_deref()) {
        return Err(Mistake::new(item.line, fault));
    }
    Ok(Input { id: None, record_type: record_type.to_owned(), key, priority: None, payload })
}

/// Why this cannot be a key.
fn wrong_key(key: &str) -> Option<String> {
    match key.len() {
        0 => Some("`key` is empty; leave it out when there is none".to_owned()),
        1..=MAX_KEY_BYTES => None,
        _ => Some(format!("`key` is longer than {MAX_KEY_BYTES} bytes")),
    }
}

/// The value of one field as a key. `null` orders nothing; a field that is not there is more likely
/// misspelt, and records would lose their order without a word.
fn key_of(payload: &RawValue, field: &str) -> Result<Option<String>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(payload.get());
    let value = deserializer
        .deserialize_map(Find(field))
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("the payload has no field `{field}`, which --key-field names"))?;
    match value.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => serde_json::from_str(value.get()).map_err(|error| error.to_string()),
        Some(b'-' | b'0'..=b'9') => Ok(Some(value.get().to_owned())),
        _ => Err(format!("`{field}` is neither text nor a number, and cannot be a key")),
    }
}

struct Find<'f>(&'f str);

impl<'de> Visitor<'de> for Find<'_> {
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

/// The parser counts lines from the beginning of the record; people count from the beginning of the file.
fn mistake(item: &Item<'_>, error: &serde_json::Error) -> Mistake {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    let line = item.line + (error.line() as u64).saturating_sub(1);
    let hint = if error.is_eof() && item.text.first() == Some(&b'{') {
        "; a record stands on one line, or in an array in brackets"
    } else {
        ""
    };
    Mistake::new(line, format!("{what} (column {}){hint}", error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Item<'_> {
        Item { line: 5000, element: None, text: text.as_bytes() }
    }

    fn complaint(rules: &Rules<'_>, text: &str) -> String {
        let mistake = rules.check(&item(text)).unwrap_err();
        format!("{}: {}", mistake.line, mistake.what)
    }

    const RECORDS: Rules<'_> = Rules { form: Form::Record, max_payload: Some(2000) };
    const VISITS: Rules<'_> = Rules {
        form: Form::Payload { record_type: "Visits", key_field: Some("account") },
        max_payload: None,
    };

    #[test]
    fn payloads_pass_byte_for_byte() {
        let payload = r#"{"n": 1.10, "big": 123456789012345678901234567890,  "s": "\u00e9"}"#;
        let id = RecordId::new();
        let line = format!(r#"{{"payload":{payload},"id":"{id}","type":"T","priority":9,"key":null}}"#);
        let ready = RECORDS.record(&item(&line)).unwrap();
        let sent = format!(r#"{{"id":"{id}","type":"T","priority":9,"payload":{payload}}}"#);
        assert_eq!(String::from_utf8(ready.json).unwrap(), sent);
        assert_eq!((ready.id, ready.made_here), (id, false));
    }

    #[test]
    fn a_record_without_id_gets_one() {
        let ready = RECORDS.record(&item(r#"{"type":"T","payload":{}}"#)).unwrap();
        assert!(ready.made_here);
        assert_eq!(ready.id.0.get_version_num(), 7);
        let sent = String::from_utf8(ready.json).unwrap();
        assert_eq!(sent, format!(r#"{{"id":"{}","type":"T","payload":{{}}}}"#, ready.id));
    }

    #[test]
    fn bare_payloads_get_type_and_key() {
        let key = |text: &str| VISITS.read(&item(text)).unwrap().key;
        assert_eq!(key(r#"{"account": "A\"b", "x": {"account": 1}}"#).as_deref(), Some("A\"b"));
        assert_eq!(key(r#"{"account": 17.50}"#).as_deref(), Some("17.50"));
        assert_eq!(key(r#"{"account": null}"#), None);
        let input = VISITS.read(&item(r#"{"account":"A"}"#)).unwrap();
        assert_eq!((input.record_type.as_str(), input.payload.get()), ("Visits", r#"{"account":"A"}"#));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            (r#"{"type":"","payload":{}}"#, "5000: `type` is empty"),
            (
                r#"{"type":"T","payload":{},"key":""}"#,
                "5000: `key` is empty; leave it out when there is none",
            ),
            (r#"{"type":"T"}"#, "5000: missing field `payload` (column 12)"),
            (r#"{"type":"T","payload":[]}"#, "5000: `payload` must be a JSON object"),
            (r#"{"type":"T","payload":{},"priority":10}"#, "5000: `priority` must be 0 to 9, not 10"),
            (
                &format!(r#"{{"type":"T","payload":{{"a":"{}"}}}}"#, "x".repeat(1993)),
                "5000: the payload has 2001 bytes, more than queue.max_record_bytes (2000)",
            ),
            ("{\"type\":\"T\",\n\"payload\":{]}", "5001: key must be a string (column 12)"),
        ];
        for (text, expected) in cases {
            assert_eq!(complaint(&RECORDS, text), expected);
        }
        for (text, part) in [
            (
                r#"{"type":"T","payload":{},"tpye":1}"#,
                "unknown field `tpye`, expected one of `id`, `type`, `key`",
            ),
            (r#"{"type":"T","payload":{},"type":"U"}"#, "duplicate field `type`"),
            (r#"{"type":"T","payload":{},"id":"12"}"#, "UUID parsing failed"),
            (r#"{"type":"T","payload":{"#, "a record stands on one line"),
            ("{\"type\":\"T\",\"payload\":{\"a\":\"\u{1}\"}}", "control character"),
            ("[]", "a record is a JSON object"),
            (r#"[null,"T",null,null,{}]"#, "a record is a JSON object"),
        ] {
            let complaint = complaint(&RECORDS, text);
            assert!(complaint.contains(part), "{complaint}");
        }
        for field in ["type", "key"] {
            let line = format!(r#"{{"type":"T","{field}":"{}","payload":{{}}}}"#, "x".repeat(600));
            let line = if field == "type" { line.replacen(r#""type":"T","#, "", 1) } else { line };
            assert!(complaint(&RECORDS, &line).contains("is longer than"));
        }
        let latin = Item { line: 3, element: None, text: b"{\"type\":\"T\",\"payload\":{\"a\":\"\xe9\"}}" };
        assert_eq!(RECORDS.check(&latin).unwrap_err().line, 3);
    }

    #[test]
    fn keys_that_order_nothing_are_refused() {
        assert!(complaint(&VISITS, r#"{"acount":"A"}"#).contains("no field `account`"));
        assert!(complaint(&VISITS, r#"{"account":["A"]}"#).contains("neither text nor a number"));
        assert!(complaint(&VISITS, "17").contains("is a JSON object"));
        assert!(Rules::new(Some(""), None).is_err());
        assert!(Rules::new(Some(" "), None).is_ok(), "as the daemon sees it");
    }
}
