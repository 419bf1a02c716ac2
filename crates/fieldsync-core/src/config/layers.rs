//! Merges the layers of the configuration. Each layer is checked alone, so that an error names the place of the mistake.

use std::ffi::OsString;
use std::path::Path;

use toml::de::DeTable;
use toml::{Table, Value, de};

use super::Config;
use super::error::{ConfigError, ConfigMistake};
use super::expectation::{describe_expectation, describe_large_number, with_example};
use super::files::ConfigFiles;
use super::invalid_value::InvalidValue;
use super::mistake::{
    TomlMistake, describe_syntax, describe_unknown, describe_value, may_show_value_of, position_at,
};
use super::source::{ConfigFile, ConfigSource, ConfigSources, LoadedConfig};
use super::texts::trim_texts;

const VARIABLE_PREFIX: &str = "FIELDSYNC_";

/// Merges the layers: the defaults, the files in their order, and the variables with the prefix `FIELDSYNC_`.
pub fn parse_layers(
    read: &ConfigFiles,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<LoadedConfig, ConfigError> {
    let ConfigFiles { files, unusable } = read;
    let mut layers = Layers { mistakes: unusable.clone(), ..Layers::default() };
    for file in files {
        layers.add_file(file);
    }
    for (name, value) in variables {
        layers.add_variable(&name.to_string_lossy(), value);
    }
    layers.finish(files.last().map(|file| file.path.as_path()))
}

#[derive(Default)]
struct Layers {
    values: Table,
    sources: ConfigSources,
    mistakes: Vec<ConfigMistake>,
}

impl Layers {
    fn add_file(&mut self, file: &ConfigFile) {
        let (path, text) = (&file.path, file.text.as_str());
        let mut values = match parse_alone(text) {
            Ok(values) => values,
            Err(mistake) => return self.mistakes.push(in_file(path, mistake)),
        };
        trim_texts(&mut values);
        for (section, keys) in values {
            let Value::Table(keys) = keys else { continue };
            for (key, value) in keys {
                let line = line_of(text, &section, &key);
                self.set(&section, key, value, ConfigSource::File { path: path.clone(), line });
            }
        }
    }

    /// Variables such as `FIELDSYNC_SOCKET`, which have no section, are not keys.
    fn add_variable(&mut self, name: &str, value: OsString) {
        let Some((section, key)) = name.strip_prefix(VARIABLE_PREFIX).and_then(|key| key.split_once("__"))
        else {
            return;
        };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let source = ConfigSource::Variable(name.to_owned());
        let parsed = match value.into_string() {
            Ok(value) => parse_variable(&section, &key, value.trim()),
            Err(_) => Err("its value is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(value) => self.set(&section, key, value, source),
            Err(reason) => self.mistakes.push(ConfigMistake { source, column: None, key: None, reason }),
        }
    }

    fn set(&mut self, section: &str, key: String, value: Value, source: ConfigSource) {
        self.sources.set(format!("{section}.{key}"), source);
        let keys = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(keys) = keys {
            keys.insert(key, value);
        }
    }

    fn finish(self, last_file: Option<&Path>) -> Result<LoadedConfig, ConfigError> {
        let Self { values, sources, mut mistakes } = self;
        if !mistakes.is_empty() {
            return Err(ConfigError::Mistakes(mistakes));
        }
        let merged: Result<Config, de::Error> = Value::Table(values).try_into();
        let mut config = merged.map_err(|error| {
            let TomlMistake { key, reason, .. } = describe_value("", &error, may_show_value_of);
            ConfigError::Mistakes(vec![ConfigMistake {
                source: ConfigSource::Default,
                column: None,
                key,
                reason,
            }])
        })?;
        mistakes.extend(config.validate().into_iter().map(|invalid| locate(invalid, &sources, last_file)));
        if !mistakes.is_empty() {
            return Err(ConfigError::Mistakes(mistakes));
        }
        config.server.normalize_addresses();
        config.telemetry.normalize_address();
        Ok(LoadedConfig { config, sources })
    }
}

/// Parses a file alone as `Config`, for a mistake with line and column.
fn parse_alone(text: &str) -> Result<Table, TomlMistake> {
    let values: Table = toml::from_str(text).map_err(|error| match find_large_number(text, &error) {
        Some(key) => TomlMistake { reason: describe_large_number(&key), ..locate_key(text, &error, key) },
        None => describe_syntax(text, &error),
    })?;
    if let Some(section) = repeated_section(&values) {
        let position = section_position(text, &section);
        let reason = format!("must be a single section: write [{section}], and its keys below it");
        return Err(TomlMistake { position, key: Some(section), reason });
    }
    match toml::from_str::<Config>(text) {
        Ok(_) => Ok(values),
        Err(error) => {
            let mistake = describe_value(text, &error, may_show_value_of);
            let plain = mistake.key.as_deref().and_then(|key| describe_expectation(key, error.message()));
            Err(TomlMistake { reason: plain.unwrap_or(mistake.reason), ..mistake })
        }
    }
}

/// The key whose number is larger than any number in TOML.
fn find_large_number(text: &str, error: &de::Error) -> Option<String> {
    let is_number = error.message().starts_with("invalid type: integer");
    is_number.then(|| describe_value(text, error, may_show_value_of).key).flatten()
}

fn locate_key(text: &str, error: &de::Error, key: String) -> TomlMistake {
    TomlMistake { key: Some(key), ..describe_syntax(text, error) }
}

/// A section that is written as `[[section]]`.
fn repeated_section(values: &Table) -> Option<String> {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let repeated = values.iter().find(|(name, value)| value.is_array() && defaults.contains_key(*name));
    repeated.map(|(name, _)| name.clone())
}

fn section_position(text: &str, section: &str) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let (name, _) = document.get_ref().get_key_value(section)?;
    position_at(text, name.span().start)
}

fn in_file(path: &Path, mistake: TomlMistake) -> ConfigMistake {
    let (line, column) = mistake.position.unzip();
    let source = ConfigSource::File { path: path.into(), line };
    ConfigMistake { source, column, key: mistake.key, reason: mistake.reason }
}

fn line_of(text: &str, section: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (_, keys) = document.get_ref().get_key_value(section)?;
    let (key, _) = keys.get_ref().as_table()?.get_key_value(key)?;
    position_at(text, key.span().start).map(|(line, _)| line)
}

/// A value that does not fit another one may be a default: the place is then that of the other.
fn locate(invalid: InvalidValue, sources: &ConfigSources, last_file: Option<&Path>) -> ConfigMistake {
    let InvalidValue { key, reason } = invalid;
    let source = match sources.of(&key) {
        ConfigSource::Default => match (sources.mentioned_in(&reason), last_file) {
            (Some(other), _) => other.clone(),
            (None, Some(path)) => ConfigSource::File { path: path.into(), line: None },
            (None, None) => ConfigSource::Default,
        },
        own => own.clone(),
    };
    ConfigMistake { source, column: None, key: Some(key), reason }
}

fn parse_variable(section: &str, key: &str, text: &str) -> Result<Value, String> {
    let value = parse_as_default_type(section, key, text)?;
    let keys = Table::from_iter([(key.to_owned(), value.clone())]);
    let alone = Table::from_iter([(section.to_owned(), Value::Table(keys))]);
    Value::Table(alone).try_into::<Config>().map_err(|error| {
        let (name, message) = (format!("{section}.{key}"), error.message());
        let is_section = message.starts_with(&format!("unknown field `{section}`"));
        if let Some(unknown) = describe_unknown(message, Some(&name), is_section) {
            return unknown;
        }
        describe_expectation(&name, message)
            .map_or_else(|| message.to_owned(), |reason| format!("{name} {reason}"))
    })?;
    Ok(value)
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
    let key = format!("{section}.{key}");
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if parsed.is_none() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{key} {}", describe_large_number(&key)));
    }
    parsed.ok_or_else(|| with_example(&key, &format!("`{text}` has the wrong type for {key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<LoadedConfig, String> {
        let files: Vec<ConfigFile> =
            files.iter().map(|(path, text)| ConfigFile { path: path.into(), text: (*text).into() }).collect();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        parse_layers(&files.into(), variables).map_err(|error| error.to_string())
    }

    fn from_text(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        load(&[("config.toml", text)], variables).map(|loaded| loaded.config)
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
            (
                "[server]\nurll = 'x'",
                &[][..],
                &["line 2, column 1: unknown key urll in [server]; did you mean url?"][..],
            ),
            (
                "[server]\nrequest_timout = '1s'",
                &[],
                &["unknown key request_timout in [server]; did you mean request_timeout?"],
            ),
            ("[server]\nzzz = 1", &[], &["unknown key zzz in [server]; known here: url, path, "]),
            ("[log]\nzzz = 1", &[], &["unknown key zzz in [log]; known here: target, level"]),
            ("[sever]\nurl = 'x'", &[], &["line 1", "unknown section [sever]; did you mean [server]?"]),
            ("server.urll = 'x'", &[], &["unknown key urll in [server]; did you mean url?"]),
            ("", &[("FIELDSYNC_SEVER__URL", "x")], &["unknown section [sever]; did you mean [server]?"]),
            (
                "[batch]\nmicro_batch = 'ten'",
                &[],
                &[
                    "config.toml: line 2, column 15: batch.micro_batch: must be a whole number, for example 10",
                ],
            ),
            (
                "[batch]\nmicro_batch = 60",
                &[],
                &["config.toml: line 2: batch.micro_batch: must", "batch.standard_batch"],
            ),
            (
                "[retry]\ninitial_backoff = '20m'",
                &[],
                &["config.toml: line 2: retry.max_backoff: must not be shorter than retry.initial_backoff"],
            ),
            ("[server]\nrequest_timeout = '0s'", &[], &["server.request_timeout"]),
            ("[queue]\nkeep_synced = '367days'", &[], &["line 2", "367days", "longer than a year"]),
            ("[server]\nca_file = ' '", &[], &["server.ca_file", "must not be empty"]),
            ("[server]\nca_file = \"a\\u0001b\"", &[], &["server.ca_file", "control characters"]),
            ("[log]\nlevel = 'infoo'", &[], &["log.level", "`infoo`"]),
            ("[server]\nrequest_timeout = 'soon'", &[], &["soon", "duration"]),
            ("[server]\nurl = 'ftp://x'", &[], &["server.url", "http://"]),
            ("[server]\nurl = 'http://u:p@x'", &[], &["server.url", "token_file"]),
            ("[queue]\nmax_bytes = '1 parsec'", &[], &["1 parsec"]),
            (
                "[queue]\nmax_records = -5",
                &[],
                &["config.toml: line 2, column 15: queue.max_records: must be a whole number of at least 1"],
            ),
            (
                "[queue]\nmax_records = 5000000000000000000000",
                &[],
                &["line 2", "queue.max_records: must be a whole number of at least 1, for example 5000000"],
            ),
            (
                "# fleet\n[[server]]\nurl = 'http://x'",
                &[],
                &["config.toml: line 2, column 3: server: must be a single section: write [server]"],
            ),
            (
                "",
                &[("FIELDSYNC_QUEUE__MAX_RECORDS", "-5")],
                &["FIELDSYNC_QUEUE__MAX_RECORDS", "queue.max_records must be a whole number of at least 1"],
            ),
            (
                "",
                &[("FIELDSYNC_QUEUE__MAX_RECORDS", "5000000000000000000000")],
                &["queue.max_records must be a whole number of at least 1"],
            ),
            ("[ipc]\nsocket_mode = '0999'", &[], &["0999"]),
            (
                "",
                &[("FIELDSYNC_BATCH__MICRO_BATCH", "many")],
                &["FIELDSYNC_BATCH__MICRO_BATCH", "many", "for example 10"],
            ),
            (
                "",
                &[("FIELDSYNC_BATCH__MINI_BATCH", "1")],
                &[
                    "FIELDSYNC_BATCH__MINI_BATCH",
                    "unknown key mini_batch in [batch]; did you mean micro_batch?",
                ],
            ),
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
        let error = parse_layers(&ConfigFiles::default(), std::iter::once(variable)).unwrap_err().to_string();
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

    #[test]
    fn later_files_override_earlier_ones_key_by_key_and_each_value_has_its_source() {
        let files = [
            ("/a.toml", "[server]\nurl = 'http://a'\nproxy = 'none'\n"),
            ("/b.toml", "# set up\nserver.url = 'http://b'\n[batch]\nlearn = false\n"),
        ];
        let loaded = load(&files, &[("FIELDSYNC_BATCH__LEARN", "true")]).unwrap();
        assert_eq!(
            (loaded.config.server.url.as_str(), loaded.config.server.proxy.as_str()),
            ("http://b", "none")
        );
        for (key, source) in [
            ("server.url", "/b.toml:2"),
            ("server.proxy", "/a.toml:3"),
            ("batch.learn", "environment variable FIELDSYNC_BATCH__LEARN"),
            ("batch.micro_batch", "default"),
        ] {
            assert_eq!(loaded.sources.of(key).to_string(), source);
        }
        let wrong =
            load(&[("/a.toml", "[batch]\nlearn = 1"), ("/b.toml", "[queue]\nmax_records = 'many'")], &[]);
        assert_eq!(
            wrong.unwrap_err(),
            "/a.toml: line 2, column 9: batch.learn: must be true or false, for example true; \
             /b.toml: line 2, column 15: queue.max_records: must be a whole number, for example 5000000"
        );
    }
}
