//! Merges the layers of the configuration. Each layer is checked alone, so that an error names the place of the mistake.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::{Table, Value};

use super::Config;
use super::invalid_value::InvalidValue;
use super::mistake::{describe_syntax, describe_value, may_show_value_of};
use super::texts::trim_texts;

const VARIABLE_PREFIX: &str = "FIELDSYNC_";

/// Why the configuration cannot be used. The message names file, key and reason.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a wrong type.
    #[error("{}: {mistake}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Position and reason, without the content of the line.
        mistake: String,
    },
    /// A variable does not name a key, or its value has the wrong type.
    #[error("environment variable {name}: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// Why.
        reason: String,
    },
    /// Values that are not allowed.
    #[error("{origin}: {}", JoinedValues(invalid))]
    Values {
        /// The file, or `configuration` without a file.
        origin: String,
        /// All of them, each with its key.
        invalid: Vec<InvalidValue>,
    },
}

struct JoinedValues<'a>(&'a [InvalidValue]);

impl fmt::Display for JoinedValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, value) in self.0.iter().enumerate() {
            write!(f, "{}{value}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Merges the layers: the defaults, the text of `file` if given, and the variables with the prefix `FIELDSYNC_`.
pub fn parse_layers(
    file: Option<(&Path, &str)>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let mut layers = Table::new();
    if let Some((path, text)) = file {
        let wrong = |mistake| ConfigError::File { path: path.into(), mistake };
        layers = toml::from_str(text).map_err(|error| wrong(describe_syntax(text, &error)))?;
        // Parsed alone as `Config`, for a message with line and column.
        toml::from_str::<Config>(text)
            .map_err(|error| wrong(describe_value(text, &error, may_show_value_of)))?;
    }
    let file = file.map(|(path, _)| path);
    trim_texts(&mut layers);
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if let Some(key) = name.strip_prefix(VARIABLE_PREFIX) {
            // Other variables, such as FIELDSYNC_SOCKET, have no section.
            if let Some((section, key)) = key.split_once("__") {
                let value = value.into_string().map_err(|_| ConfigError::Variable {
                    name: name.to_string(),
                    reason: "its value is not UTF-8".into(),
                })?;
                set_from_variable(&mut layers, &name, section, key, value.trim())?;
            }
        }
    }
    let mut config: Config = Value::Table(layers).try_into().map_err(|error| ConfigError::File {
        path: file.unwrap_or(Path::new("built-in defaults")).into(),
        mistake: describe_value("", &error, may_show_value_of),
    })?;
    let invalid = config.validate();
    if invalid.is_empty() {
        config.server.normalize_addresses();
        return Ok(config);
    }
    let origin = file.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    Err(ConfigError::Values { origin, invalid })
}

fn set_from_variable(
    layers: &mut Table,
    name: &str,
    section: &str,
    key: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let (section, key) = (section.to_lowercase(), key.to_lowercase());
    let wrong = |reason: String| ConfigError::Variable { name: name.to_owned(), reason };
    let value = parse_as_default_type(&section, &key, value).map_err(&wrong)?;
    let alone =
        Table::from_iter([(section.clone(), Value::Table(Table::from_iter([(key.clone(), value.clone())])))]);
    Value::Table(alone).try_into::<Config>().map_err(|error| wrong(error.message().to_owned()))?;
    let table = layers.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(table) = table {
        table.insert(key, value);
    }
    Ok(())
}

/// Parses a text as the type of the key's default. Keys without a default are texts.
fn parse_as_default_type(section: &str, key: &str, text: &str) -> Result<Value, String> {
    let defaults = Table::try_from(Config::default()).map_err(|error| error.to_string())?;
    let parsed = match defaults.get(section).and_then(|table| table.get(key)) {
        Some(Value::Integer(_)) => text.parse().map(Value::Integer).ok(),
        Some(Value::Float(_)) => text.parse().map(Value::Float).ok(),
        Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).ok(),
        _ => Some(Value::String(text.to_owned())),
    };
    parsed.ok_or_else(|| format!("`{text}` has the wrong type for {section}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        parse_layers(Some((Path::new("config.toml"), text)), variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_contains_every_key_with_its_default() {
        let text = include_str!("../../../../config.toml");
        assert_eq!(from_text(text, &[]).unwrap(), Config::default());
        let defaults = Table::try_from(Config::default()).unwrap();
        for (section, keys) in &defaults {
            assert!(text.contains(&format!("[{section}]")), "config.toml lacks [{section}]");
            for key in keys.as_table().unwrap().keys() {
                assert!(text.contains(&format!("\n{key} = ")), "config.toml lacks {section}.{key}");
            }
        }
    }

    #[test]
    fn a_printed_configuration_can_be_parsed() {
        let config = Config::default();
        assert_eq!(from_text(&config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn mistakes_are_refused_with_key_and_reason() {
        for (text, variables, parts) in [
            ("[server]\nurll = 'x'", &[][..], &["line 2", "urll", "unknown field"][..]),
            ("[batch]\nmicro_batch = 'ten'", &[], &["line 2", "micro_batch"]),
            ("[batch]\nmicro_batch = 60", &[], &["batch.micro_batch", "batch.standard_batch"]),
            ("[server]\nrequest_timeout = '0s'", &[], &["server.request_timeout"]),
            ("[queue]\nkeep_synced = '367days'", &[], &["line 2", "367days", "longer than a year"]),
            ("[server]\nca_file = ' '", &[], &["server.ca_file", "must not be empty"]),
            ("[server]\nca_file = \"a\\u0001b\"", &[], &["server.ca_file", "control characters"]),
            ("[log]\nlevel = 'infoo'", &[], &["log.level", "`infoo`"]),
            ("[server]\nrequest_timeout = 'soon'", &[], &["soon", "duration"]),
            ("[server]\nurl = 'ftp://x'", &[], &["server.url", "http://"]),
            ("[server]\nurl = 'http://u:p@x'", &[], &["server.url", "token_file"]),
            ("[queue]\nmax_bytes = '1 parsec'", &[], &["1 parsec"]),
            ("[ipc]\nsocket_mode = '0999'", &[], &["0999"]),
            ("", &[("FIELDSYNC_BATCH__MICRO_BATCH", "many")], &["FIELDSYNC_BATCH__MICRO_BATCH", "many"]),
            ("", &[("FIELDSYNC_BATCH__MINI_BATCH", "1")], &["FIELDSYNC_BATCH__MINI_BATCH", "mini_batch"]),
        ] {
            let error = from_text(text, variables).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn all_invalid_values_are_reported_at_once() {
        let error = from_text("[batch]\nmicro_batch = 0\nsafety_margin = 1.0", &[]).unwrap_err();
        assert!(error.contains("micro_batch") && error.contains("safety_margin"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let variable = ("FIELDSYNC_QUEUE__STATE_DIR".into(), OsString::from_vec(b"/srv/\xff".to_vec()));
        let error = parse_layers(None, std::iter::once(variable)).unwrap_err().to_string();
        assert!(error.contains("FIELDSYNC_QUEUE__STATE_DIR: its value is not UTF-8"), "{error}");
    }

    #[test]
    fn white_space_around_values_is_removed() {
        let config = from_text(
            "[server]\nurl = ' http://file\t'\n[ipc]\nadmin_group = ' '",
            &[("FIELDSYNC_BATCH__MICRO_BATCH", "5\r"), ("FIELDSYNC_LOG__LEVEL", " warn\r\n")],
        )
        .unwrap();
        assert_eq!((config.server.url.as_str(), config.ipc.admin_group.as_str()), ("http://file", ""));
        assert_eq!((config.batch.micro_batch, config.log.level.as_str()), (5, "warn"));
    }

    #[test]
    fn variables_override_the_file() {
        let config = from_text(
            "[server]\nurl = 'http://file'\n[batch]\nmicro_batch = 5",
            &[("FIELDSYNC_SERVER__URL", "http://variable"), ("FIELDSYNC_BATCH__LEARN", "false")],
        )
        .unwrap();
        assert_eq!(config.server.url, "http://variable");
        assert_eq!(config.batch.micro_batch, 5);
        assert!(!config.batch.learn);
    }
}
