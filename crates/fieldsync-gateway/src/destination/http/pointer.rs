//! JSON Pointers (RFC 6901): where something is in a response, and which part of a payload is at fault.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json_borrow::Value;

/// Where something is in a JSON value: the names on the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct JsonPointer(Vec<String>);

impl TryFrom<String> for JsonPointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let names = text
            .strip_prefix('/')
            .ok_or_else(|| format!("`{text}` is not a JSON Pointer: it must be empty or begin with /"))?;
        Ok(Self(names.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl JsonPointer {
    pub(crate) fn find<'a>(&self, value: &'a Value<'a>) -> Option<&'a Value<'a>> {
        self.0.iter().try_fold(value, |value, name| match value {
            Value::Array(values) => values.get(name.parse::<usize>().ok()?),
            Value::Object(members) => members.get(name),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Str(_) => None,
        })
    }

    /// A text, or a number or boolean as text.
    pub(crate) fn find_text<'a>(&self, value: &'a Value<'a>) -> Option<Cow<'a, str>> {
        match self.find(value)? {
            Value::Str(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Its last part, as a word for people.
    pub(crate) fn last_name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

/// The first of several pointers that leads to a text.
pub(crate) fn find_first_text<'a>(pointers: &[JsonPointer], value: &'a Value<'a>) -> Option<Cow<'a, str>> {
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
