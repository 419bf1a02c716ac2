//! Parses and checks the records that applications submit: one object, an array, or NDJSON. Pure.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;
use utoipa::ToSchema;
use uuid::Uuid;

use super::json_problem::describe_json_error;
use crate::model::{DEFAULT_PRIORITY, NewRecord, PRIORITY_MAX, RecordId};
use crate::protocol::wire::find_name_fault;

/// Some editors put it at the beginning of a text. It has no meaning in UTF-8, and is skipped.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Maximum bytes of a type. It is stored with each record and each measurement.
pub const MAX_TYPE_BYTES: usize = 128;
/// Maximum bytes of a key. It is part of keys in the store.
pub const MAX_KEY_BYTES: usize = 512;

/// An id as an example, in messages and in the description of the API.
pub const EXAMPLE_ID: &str = "0195b3f2-6c1e-7d4a-9a51-2f8e5c0b7d13";

/// Maximum depth of objects and arrays in a payload. Many recursive JSON parsers fail at a few hundred.
const MAX_NESTING_LEVELS: usize = 128;
/// Maximum number of records in a request. The limit on a request's bytes does not bound the cost of each record.
pub const MAX_RECORDS_AT_ONCE: usize = 50_000;

/// Why a whole request is refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SubmissionError {
    /// One of its records is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidRecord),
    /// It has more records than [`MAX_RECORDS_AT_ONCE`].
    #[error("the request has more than {MAX_RECORDS_AT_ONCE} records")]
    TooMany,
}

/// A record that is not valid. Its whole request is refused.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{unit} {position}: {reason}")]
pub struct InvalidRecord {
    /// `record` or `line`.
    unit: &'static str,
    /// The position in the request, from 1.
    pub position: u64,
    reason: String,
}

/// A record as an application submits it. Its fields are parsed one by one, so that a mistake can be named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRecord)]
pub struct Submitted<'a> {
    /// Identifies the record permanently. Any UUID; version 7 is best. Without one, the daemon creates it.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = "uuid")]
    id: Option<&'a RawValue>,
    /// The kind of the record, in at most 128 bytes without control characters.
    #[serde(rename = "type", borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    record_type: &'a RawValue,
    /// Records with the same key are sent in the order of their arrival. At most 512 bytes without control characters.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 512)]
    key: Option<&'a RawValue>,
    /// Records with a higher priority are sent first.
    #[serde(borrow)]
    #[schema(value_type = Option<u8>, maximum = 9, default = 5)]
    priority: Option<&'a RawValue>,
    /// Any JSON object with at most 128 levels. It is sent byte for byte.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    payload: &'a RawValue,
}

/// The body of `POST /v1/records` as JSON.
///
/// The body is parsed record by record, so that an error has a position; this type documents the shape.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Submission<'a> {
    /// A single record.
    One(#[serde(borrow)] Submitted<'a>),
    /// An array of records.
    Several(#[serde(borrow)] Vec<Submitted<'a>>),
}

/// The records of a request, split but not yet parsed.
#[derive(Debug)]
pub struct SplitRecords<'a> {
    unit: &'static str,
    /// Each with its position.
    pieces: Vec<(u64, &'a [u8])>,
}

impl SplitRecords<'_> {
    /// The number of records.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Parses the records one by one. All records of a large request take a long time.
    pub fn records(&self) -> impl Iterator<Item = Result<NewRecord, InvalidRecord>> {
        let Self { unit, pieces } = self;
        pieces.iter().map(|(position, piece)| {
            parse_record(piece).map_err(|reason| InvalidRecord { unit, position: *position, reason })
        })
    }
}

/// A JSON object, or an array of them.
pub fn split_json(body: &[u8]) -> Result<SplitRecords<'_>, SubmissionError> {
    let unit = "record";
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return Ok(SplitRecords { unit, pieces: vec![(1, body)] });
    }
    let mut items = Vec::new();
    let read = split_array(body, &mut items);
    if items.len() > MAX_RECORDS_AT_ONCE {
        return Err(SubmissionError::TooMany);
    }
    if let Err(error) = read {
        let position = items.len() as u64 + 1;
        return Err(InvalidRecord { unit, position, reason: describe_json_error(&error) }.into());
    }
    Ok(SplitRecords { unit, pieces: (1..).zip(items.iter().map(|item| item.get().as_bytes())).collect() })
}

/// One JSON object on each line. Empty lines are skipped.
pub fn split_ndjson(body: &[u8]) -> Result<SplitRecords<'_>, SubmissionError> {
    let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    let pieces: Vec<_> = lines.take(MAX_RECORDS_AT_ONCE + 1).collect();
    if pieces.len() > MAX_RECORDS_AT_ONCE {
        return Err(SubmissionError::TooMany);
    }
    Ok(SplitRecords { unit: "line", pieces })
}

/// The elements of an array up to the first error, and at most one more than allowed.
fn split_array<'a>(body: &'a [u8], items: &mut Vec<&'a RawValue>) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.deserialize_seq(Items(items))?;
    reader.end()
}

struct Items<'v, 'a>(&'v mut Vec<&'a RawValue>);

impl<'a> Visitor<'a> for Items<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            self.0.push(element);
            if self.0.len() > MAX_RECORDS_AT_ONCE {
                return Err(serde::de::Error::custom("there are too many"));
            }
        }
        Ok(())
    }
}

fn parse_record(json: &[u8]) -> Result<NewRecord, String> {
    let submitted: Submitted<'_> = parse_named(json)?;
    let Submitted { id, record_type, key, priority, payload } = submitted;
    let id = id.map(parse_id).transpose()?.unwrap_or_else(RecordId::new);
    let record_type = parse_text("type", record_type)?;
    let key = key.map(|key| parse_text("key", key)).transpose()?;
    if record_type.is_empty() || record_type.len() > MAX_TYPE_BYTES {
        return Err(format!("`type` must have 1 to {MAX_TYPE_BYTES} bytes"));
    }
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
        return Err(format!("`key` must have 1 to {MAX_KEY_BYTES} bytes; omit it if there is none"));
    }
    let priority = priority.map_or(Ok(DEFAULT_PRIORITY), parse_priority)?;
    if let Some(fault) = find_name_fault(&record_type, key.as_deref()) {
        return Err(fault.into());
    }
    if !payload.get().starts_with('{') {
        return Err("`payload` must be a JSON object".into());
    }
    check_nesting(payload.get())?;
    Ok(NewRecord { id, record_type, key, priority, payload: payload.get().into() })
}

fn parse_id(value: &RawValue) -> Result<RecordId, String> {
    let id = parse_text("id", value).ok().and_then(|text| Uuid::parse_str(&text).ok());
    id.map(RecordId).ok_or_else(|| format!("`id` must be a UUID, such as {EXAMPLE_ID}"))
}

fn parse_text(name: &str, value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| format!("`{name}` must be a text in quotes"))
}

fn parse_priority(value: &RawValue) -> Result<u8, String> {
    let priority = serde_json::from_str(value.get()).ok().filter(|priority| *priority <= PRIORITY_MAX);
    priority.ok_or_else(|| format!("`priority` must be a whole number between 0 and {PRIORITY_MAX}"))
}

/// Parses a JSON object. The parser alone would also accept an array, field by field.
pub fn parse_named<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err("it must be a JSON object".into());
    }
    serde_json::from_slice(json).map_err(|error| describe_json_error(&error))
}

/// A JSON object, byte for byte, without surrounding white space.
pub fn parse_object(body: &[u8]) -> Result<Box<str>, String> {
    let payload: &RawValue = serde_json::from_slice(body).map_err(|error| describe_json_error(&error))?;
    if !payload.get().starts_with('{') {
        return Err("the payload must be a JSON object".into());
    }
    check_nesting(payload.get())?;
    Ok(payload.get().into())
}

/// Refuses JSON that is nested too deeply. One pass that allocates nothing.
pub fn check_nesting(json: &str) -> Result<(), String> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (position, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' if depth == MAX_NESTING_LEVELS => {
                return Err(format!(
                    "the payload is nested deeper than {MAX_NESTING_LEVELS} levels (at its byte {position})"
                ));
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Split = for<'a> fn(&'a [u8]) -> Result<SplitRecords<'a>, SubmissionError>;

    fn parse_all(split: Split, body: &[u8]) -> Result<Vec<NewRecord>, InvalidRecord> {
        match split(body) {
            Ok(pieces) => pieces.records().collect(),
            Err(SubmissionError::Invalid(invalid)) => Err(invalid),
            Err(SubmissionError::TooMany) => panic!("there are too many"),
        }
    }

    #[test]
    fn a_request_with_too_many_records_is_refused() {
        for (count, fits) in [(MAX_RECORDS_AT_ONCE, true), (MAX_RECORDS_AT_ONCE + 1, false)] {
            let (array, lines) = (format!("[{}]", vec!["{}"; count].join(",")), "{}\n\n".repeat(count));
            assert_eq!(split_json(array.as_bytes()).is_ok_and(|pieces| pieces.count() == count), fits);
            assert_eq!(split_ndjson(lines.as_bytes()).is_ok_and(|pieces| pieces.count() == count), fits);
        }
    }

    #[test]
    fn payloads_pass_byte_for_byte() {
        let odd = r#"{ "a" : 1.50,  "a":"é\u0041", "n": 12345678901234567890123 }"#;
        let body = format!(r#"[{{"type":"T","payload":{odd}}}]"#);
        assert_eq!(&*parse_all(split_json, body.as_bytes()).unwrap()[0].payload, odd);
        let line = format!("{{\"payload\":{odd},\"type\":\"T\"}}\n");
        assert_eq!(&*parse_all(split_ndjson, line.as_bytes()).unwrap()[0].payload, odd);
    }

    #[test]
    fn defaults_are_filled_in() {
        let records = parse_all(split_json, br#"{"type":"T","payload":{}}"#).unwrap();
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
            (
                r#"{"type":"T","payload":{},"priority":-1}"#,
                "`priority` must be a whole number between 0 and 9",
            ),
            (r#"{"type":"T","payload":{},"id":"x"}"#, "`id` must be a UUID, such as 0195b3f2-"),
            (r#"{"type":"T","payload":{},"id":17}"#, "`id` must be a UUID"),
            (r#"{"type":7,"payload":{}}"#, "`type` must be a text in quotes"),
            (r#"{"type":"T","payload":{},"key":{}}"#, "`key` must be a text in quotes"),
            (r#"{"type":"T","payload":{},"key":""}"#, "key"),
            (
                r#"{"type":"T","payload":{},"Type":"T"}"#,
                "`Type` is not known here; known are id, type, key, priority, payload",
            ),
            (r#"{"type":"T","payload":{"#, "ends too early"),
            (r#"[null,"T",null,5,{"a":1}]"#, "must be a JSON object"),
            ("7", "must be a JSON object"),
        ] {
            let error = parse_all(split_json, format!("[{GOOD},{bad}]").as_bytes()).unwrap_err();
            assert_eq!(error.position, 2, "{bad}: {error}");
            let error = parse_all(split_ndjson, format!("{GOOD}\n\n{bad}\n").as_bytes()).unwrap_err();
            assert_eq!(error.position, 3, "{bad}");
            assert!(error.to_string().contains(part), "{bad}: {error}");
        }
        assert!(parse_all(split_json, b"").is_err() && parse_all(split_json, b"[1").is_err());
        assert_eq!(parse_all(split_json, b" [] ").unwrap().len(), 0);
    }

    #[test]
    fn brackets_in_strings_do_not_count_as_nesting() {
        let arrays = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check_nesting(&arrays(MAX_NESTING_LEVELS)), Ok(()));
        let refused = check_nesting(&arrays(MAX_NESTING_LEVELS + 1)).unwrap_err();
        assert!(refused.ends_with("deeper than 128 levels (at its byte 128)"), "{refused}");
        let (side_by_side, quote) = ("[{}],".repeat(1000), r#""\"[[[""#);
        assert_eq!(check_nesting(&format!("[{side_by_side}{{}}]")), Ok(()));
        assert_eq!(check_nesting(&format!("[{}]", vec![quote; 1000].join(","))), Ok(()));
        assert!(check_nesting(&format!("[{quote},{}]", arrays(MAX_NESTING_LEVELS))).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = (parse_all(split_json, &body).is_ok(), parse_all(split_ndjson, &body).is_ok(), parse_object(&body).is_ok());
        }
    }
}
