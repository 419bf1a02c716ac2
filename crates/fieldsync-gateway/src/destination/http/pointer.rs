//! JSON Pointers (RFC 6901): where something is in a response, and which part of a payload is at fault.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

/// Where something is in a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct JsonPointer(String);

impl TryFrom<String> for JsonPointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a JSON Pointer: it must be empty or begin with /"))
        }
    }
}

impl JsonPointer {
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0)
    }

    /// A text, or a number or boolean as text.
    pub(crate) fn find_text(&self, value: &Value) -> Option<String> {
        match self.find(value)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Its last part, as a word for people.
    pub(crate) fn last_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// The first of several pointers that leads to a text.
pub(crate) fn find_first_text(pointers: &[JsonPointer], value: &Value) -> Option<String> {
    pointers.iter().find_map(|pointer| pointer.find_text(value)).filter(|text| !text.is_empty())
}

/// The pointer with these names.
pub(crate) fn format_pointer<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().fold(String::new(), |mut text, name| {
        // Writing to a text cannot fail.
        write!(text, "/{}", name.replace('~', "~0").replace('/', "~1")).ok();
        text
    })
}
