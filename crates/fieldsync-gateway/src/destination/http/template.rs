//! Placeholders in the texts of a mapping: `{module}`, `{id}` and so on.

use serde_json::{Map, Value};

/// A placeholder that stands alone, and is replaced by the array of features that a record triggers.
pub(crate) const TRIGGER: &str = "{trigger}";

/// The value of a placeholder.
type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces each `{name}` by its value, or returns the name that has none.
pub(crate) fn fill_text(text: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) = after.split_once('}').ok_or_else(|| after.to_owned())?;
        filled.push_str(&lookup(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Replaces the placeholders in all texts of a value.
pub(crate) fn fill_value(value: &Value, lookup: &Lookup<'_>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(text, lookup)?),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| fill_value(value, lookup)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => Value::Object(fill_members(members, lookup)?),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// As [`fill_value`], for the members of an object.
pub(crate) fn fill_members(
    members: &Map<String, Value>,
    lookup: &Lookup<'_>,
) -> Result<Map<String, Value>, String> {
    members.iter().map(|(name, value)| Ok((name.clone(), fill_value(value, lookup)?))).collect()
}

/// The texts that a pattern with placeholders has in `text`, in their order. `None` if it does not match.
pub(crate) fn match_pattern<'a>(pattern: &'a str, text: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let (first, mut pattern) = pattern.split_once('{').unwrap_or((pattern, ""));
    let mut rest = text.strip_prefix(first)?;
    let mut found = Vec::new();
    while !pattern.is_empty() {
        let (name, after) = pattern.split_once('}')?;
        let (literal, next) = after.split_once('{').unwrap_or((after, ""));
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal)? };
        found.push((name, &rest[..end]));
        rest = &rest[end + literal.len()..];
        pattern = next;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "module").then(|| "Accounts".to_owned())
    }

    #[test]
    fn placeholders_are_replaced_in_all_texts_and_unknown_ones_are_named() {
        assert_eq!(fill_text("/crm/{module}/upsert", &lookup).unwrap(), "/crm/Accounts/upsert");
        let value = json!({ "type": "{module}", "n": 1, "all": ["{module}s"] });
        let filled = json!({ "type": "Accounts", "n": 1, "all": ["Accountss"] });
        assert_eq!(fill_value(&value, &lookup).unwrap(), filled);
        assert_eq!(fill_text("{modul}", &lookup).unwrap_err(), "modul");
        assert_eq!(fill_text("{module", &lookup).unwrap_err(), "module");
    }

    #[test]
    fn a_pattern_finds_the_texts_of_its_placeholders() {
        let pattern = "duplicate value found: {field} duplicates value on record with id: {id}";
        let message = "duplicate value found: Email__c duplicates value on record with id: a01";
        assert_eq!(match_pattern(pattern, message).unwrap(), [("field", "Email__c"), ("id", "a01")]);
        assert_eq!(match_pattern(pattern, "duplicate value found"), None);
        assert_eq!(match_pattern("as it is", "as it is, and more").unwrap(), []);
    }
}
