//! The receipt of a record: what it became at its destination, in the destination's own words.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The most bytes of a receipt, without white space between its tokens.
pub const RECEIPT_BYTES_MAX: usize = 1024;
/// Levels of objects and arrays in a receipt. It must fit into larger JSON for readers that limit the levels, as
/// `serde_json` does.
const RECEIPT_LEVELS_MAX: usize = 32;

/// A JSON object of at most [`RECEIPT_BYTES_MAX`] bytes, for example
/// `{"module":"Visits","id":"4150868000000123","action":"insert"}`.
///
/// It is kept as text: numbers keep their digits and members their order. It has no white space between tokens, so that
/// it fits on one line. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(Arc<str>);

impl Receipt {
    /// A receipt of this text. None if it is not a JSON object, too long or nested too deeply.
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let is_accepted = value.is_object() && count_levels(&value) <= RECEIPT_LEVELS_MAX;
        let compact = is_accepted.then(|| remove_white_space(text))?;
        (compact.len() <= RECEIPT_BYTES_MAX).then(|| Self(compact.into()))
    }

    /// A receipt with these members, those without a value left out. None if it is too long.
    pub fn from_texts<'a>(members: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Option<Self> {
        let mut text = vec![b'{'];
        for (name, value) in members {
            let Some(value) = value else { continue };
            if text.len() > 1 {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, name).ok()?;
            text.push(b':');
            serde_json::to_writer(&mut text, value).ok()?;
        }
        text.push(b'}');
        let text = str::from_utf8(&text).ok()?;
        (text.len() <= RECEIPT_BYTES_MAX).then(|| Self(text.into()))
    }

    /// The member `id`, by which the destination knows the record. None if there is none, or if it is not a text.
    pub fn destination_id(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct WithId<'a> {
            #[serde(borrow)]
            id: Cow<'a, str>,
        }
        serde_json::from_str::<WithId<'_>>(&self.0).ok().map(|receipt| receipt.id)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name or a value in it contains this text, however the JSON spells it.
    pub fn mentions(&self, text: &str) -> bool {
        let normalized = |json: Value| json.to_string();
        let quoted = normalized(Value::from(text));
        let escaped = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let own = serde_json::from_str(&self.0).map_or_else(|_| self.0.to_string(), normalized);
        own.contains(escaped)
    }
}

fn count_levels(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(count_levels).max(),
        Value::Object(members) => members.values().map(count_levels).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or_default()
}

/// Removes white space between the tokens of valid JSON.
fn remove_white_space(json: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_text => is_escaped = true,
            '"' => in_text = !in_text,
            ' ' | '\t' | '\n' | '\r' => return in_text,
            _ => {}
        }
        true
    };
    json.chars().filter(is_kept).collect()
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "a receipt must be a JSON object of at most {RECEIPT_BYTES_MAX} bytes and {RECEIPT_LEVELS_MAX} levels"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_an_object_of_limited_size_and_keeps_its_digits() {
        let of_length = |length: usize| format!("{{\"id\":\"{}\"}}", "7".repeat(length - 9));
        let nested =
            |levels: usize| format!("{}{{}}{}", "{\"a\":".repeat(levels - 1), "}".repeat(levels - 1));
        let (longest, deepest) = (of_length(RECEIPT_BYTES_MAX), nested(RECEIPT_LEVELS_MAX));
        for text in ["{}", r#"{"id":1.50,"at":[null]," ":"\" \\"}"#, &longest, &deepest] {
            let receipt = Receipt::parse(text).expect(text);
            assert_eq!(serde_json::to_string(&receipt).unwrap(), text);
            assert_eq!(serde_json::from_str::<Receipt>(text).unwrap(), receipt);
        }
        let (too_long, too_deep) = (of_length(RECEIPT_BYTES_MAX + 1), nested(RECEIPT_LEVELS_MAX + 1));
        for text in
            ["", "null", "[]", "7", "\"id\"", "{\"id\":", "{} {}", "{\"\\ud800\":1}", &too_long, &too_deep]
        {
            assert_eq!(Receipt::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_receipt_is_made_of_texts() {
        let receipt =
            Receipt::from_texts([("module", Some("Visits")), ("id", None), ("action", Some("\"x\""))]);
        assert_eq!(receipt, Receipt::parse(r#"{"module":"Visits","action":"\"x\""}"#));
        assert_eq!(receipt.unwrap().destination_id(), None);
        assert_eq!(Receipt::from_texts([]), Receipt::parse("{}"));
        for (text, id) in [(r#"{"a":1,"id":"7\u0037"}"#, Some("77")), (r#"{"id":7}"#, None)] {
            assert_eq!(Receipt::parse(text).unwrap().destination_id().as_deref(), id);
        }
        assert_eq!(Receipt::from_texts([("id", Some("7".repeat(RECEIPT_BYTES_MAX).as_str()))]), None);
    }

    #[test]
    fn a_receipt_fits_on_one_line() {
        let receipt = Receipt::parse(" {\r\n\t\"id\" : 12345678901234567890123 ,\n \"a b\": [ ] } ").unwrap();
        assert_eq!(receipt.as_str(), r#"{"id":12345678901234567890123,"a b":[]}"#);
    }

    #[test]
    fn a_text_is_found_however_it_is_spelled() {
        for spelled in ["open/sesame", "open\\/sesame", "open\\u002fsesame", "xopen/sesamex"] {
            for json in [format!("{{\"a\":[\"{spelled}\"]}}"), format!("{{\"{spelled}\":1}}")] {
                assert!(Receipt::parse(&json).unwrap().mentions("open/sesame"), "{json}");
            }
        }
        assert!(Receipt::parse(r#"{"a":"q\"u\\o"}"#).unwrap().mentions("q\"u\\o"));
        assert!(!Receipt::parse(r#"{"open":"sesame"}"#).unwrap().mentions("open/sesame"));
    }
}
