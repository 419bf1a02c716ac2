//! All values of a configuration, one by one, for people and programs that ask what is in effect.

use serde_json::{Value as Json, json};
use toml::{Table, Value};

use super::Config;
use super::expectation::shipped_keys;

/// Shown instead of a value that may be a secret.
const MASK: &str = "***";

impl Config {
    /// Each key `section.key` with its value, in the order of the shipped file; null for a key that is not set.
    pub fn values(&self) -> Vec<(String, Json)> {
        let sections = Table::try_from(self).unwrap_or_default();
        let value_of = |section: &str, key: &str| sections.get(section)?.get(key);
        shipped_keys()
            .map(|(section, key)| {
                let name = format!("{section}.{key}");
                let value = value_of(section, key).map_or(Json::Null, |value| show(&name, value));
                (name, value)
            })
            .collect()
    }

    /// The configuration with these values, as [`Self::values`] lists them; masked ones are left out. `None` if they do not fit this version.
    pub fn from_values<'a>(values: impl IntoIterator<Item = (&'a str, &'a Json)>) -> Option<Self> {
        let mut sections = Table::new();
        for (name, value) in values {
            if value.is_null() || value == MASK {
                continue;
            }
            let (section, key) = name.split_once('.')?;
            let keys = sections.entry(section).or_insert_with(|| Value::Table(Table::new()));
            keys.as_table_mut()?.insert(key.to_owned(), Value::try_from(value).ok()?);
        }
        Value::Table(sections).try_into().ok()
    }
}

/// A key that ends with `file` names a file with a secret, and may wrongly have the secret itself.
fn show(name: &str, value: &Value) -> Json {
    match value {
        Value::String(text) if name.ends_with("_file") && !text.starts_with('/') => json!(MASK),
        Value::String(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(switch) => json!(switch),
        other => json!(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_listed_and_the_values_make_the_same_configuration() {
        let mut config = Config::default();
        config.server.ca_file = Some("/etc/ca.pem".into());
        let values = config.values();
        let defaults = Table::try_from(Config::default()).unwrap();
        let keys: usize = defaults.values().map(|keys| keys.as_table().unwrap().len()).sum();
        assert!(values.len() > keys);
        let named = values.iter().map(|(name, value)| (name.as_str(), value));
        assert_eq!(Config::from_values(named), Some(config.clone()));
        config.server.token_file = Some("s3cret".into());
        assert!(config.values().contains(&("server.token_file".to_owned(), json!(MASK))));
    }
}
