//! All values of a configuration, one by one, for people and programs that ask what is in effect.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use toml::{Table, Value};

use super::Config;
use super::expectation::shipped_keys;

/// Shown instead of a value that may be a secret.
pub const MASK: &str = "***";

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

    /// As TOML, for people and for the state directory. What may be a secret is masked, unless `find_file` knows it as the
    /// name of a file, and returns its whole path.
    pub fn to_masked_toml(&self, find_file: impl Fn(&Path) -> Option<PathBuf>) -> String {
        let mut sections = Table::try_from(self).unwrap_or_default();
        for (section, keys) in &mut sections {
            for (key, value) in keys.as_table_mut().into_iter().flatten() {
                let name = format!("{section}.{key}");
                if let Value::String(text) = value
                    && may_be_secret(&name, text)
                {
                    let found = find_file(Path::new(text.as_str()));
                    *text = found.map_or_else(|| MASK.to_owned(), |path| path.display().to_string());
                }
            }
        }
        toml::to_string(&sections).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
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
fn may_be_secret(name: &str, text: &str) -> bool {
    name.ends_with("_file") && !text.starts_with('/')
}

fn show(name: &str, value: &Value) -> Json {
    match value {
        Value::String(text) if may_be_secret(name, text) => json!(MASK),
        Value::String(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(switch) => json!(switch),
        Value::Array(parts) => parts.iter().map(|part| show(name, part)).collect(),
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

    #[test]
    fn a_token_in_clear_is_masked_and_the_name_of_a_file_is_not() {
        let mut config = Config::default();
        config.server.token_file = Some("s3cret".into());
        config.server.ca_file = Some("ca.pem".into());
        config.web.token_file = Some("/etc/fieldsync/code".into());
        let find_file = |path: &Path| (path == Path::new("ca.pem")).then(|| PathBuf::from("/srv/ca.pem"));
        let text = config.to_masked_toml(find_file);
        assert!(!text.contains("s3cret") && text.contains("token_file = \"***\""), "{text}");
        assert!(text.contains("\"/srv/ca.pem\"") && text.contains("\"/etc/fieldsync/code\""), "{text}");
    }
}
