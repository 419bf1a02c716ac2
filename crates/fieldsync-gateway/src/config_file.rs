//! Reads the configuration file, and lays the options of the command line over it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::config_check::find_invalid_values;
use super::gateway_config::GatewayConfig;
use super::options::GatewayOptions;
use crate::config::{describe_syntax, describe_value};

/// Why the configuration cannot be used. The message names file, key and reason.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    #[error("{}: cannot be read: check --config, and that the user of the gateway may read the file", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not TOML, an unknown key or a wrong type.
    #[error("{}: {mistake}", path.display())]
    File { path: PathBuf, mistake: String },
    #[error("{}", JoinedValues(.0))]
    Values(Vec<InvalidValue>),
    #[error("the configuration cannot be shown")]
    Show(#[from] toml::ser::Error),
}

/// A key whose value is not allowed, with the place where it was set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue {
    place: String,
    reason: String,
}

struct JoinedValues<'a>(&'a [InvalidValue]);

impl fmt::Display for JoinedValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, InvalidValue { place, reason }) in self.0.iter().enumerate() {
            write!(f, "{}{place}: {reason}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// A configuration, and where its values come from.
#[derive(Clone, Debug)]
pub(crate) struct LoadedConfig {
    pub(crate) config: GatewayConfig,
    origin: ConfigOrigin,
}

/// Where values come from.
#[derive(Clone, Debug)]
struct ConfigOrigin {
    file: Option<PathBuf>,
    /// What was given on the command line.
    flags: Table,
}

impl LoadedConfig {
    /// Reads the file that the options name, and applies the options.
    pub(crate) fn load(options: &GatewayOptions) -> Result<Self, ConfigFileError> {
        let flags = Table::try_from(&options.flags)?;
        let origin = ConfigOrigin { file: options.config.clone(), flags };
        let mut layers = origin.file.as_deref().map(read_file).transpose()?.unwrap_or_default();
        for (section, flags) in &origin.flags {
            if let (Some(flags), Value::Table(keys)) =
                (flags.as_table(), layers.entry(section).or_insert_with(|| Value::Table(Table::new())))
            {
                keys.extend(flags.clone());
            }
        }
        let config: GatewayConfig =
            Value::Table(layers).try_into().map_err(|error| ConfigFileError::File {
                path: origin.file.clone().unwrap_or_else(|| "command line".into()),
                mistake: describe_value("", &error, may_show_value_of).to_string(),
            })?;
        let invalid = find_invalid_values(&config);
        if invalid.is_empty() {
            return Ok(Self { config, origin });
        }
        let invalid = invalid
            .into_iter()
            .map(|(key, reason)| InvalidValue { place: origin.name_place(key), reason: reason.into() });
        Err(ConfigFileError::Values(invalid.collect()))
    }

    /// The place where a key was set: the file with the key, or the option.
    pub(crate) fn name_place(&self, key: &str) -> String {
        self.origin.name_place(key)
    }
}

impl ConfigOrigin {
    fn name_place(&self, key: &str) -> String {
        match &self.file {
            Some(file) if !self.is_flag(key) => format!("{}: {key}", file.display()),
            _ => name_flag(key),
        }
    }

    fn is_flag(&self, key: &str) -> bool {
        let section_and_name = key.split_once('.');
        section_and_name.is_some_and(|(section, name)| {
            self.flags.get(section).and_then(Value::as_table).is_some_and(|keys| keys.contains_key(name))
        })
    }
}

/// The option that sets a key.
fn name_flag(key: &str) -> String {
    let flag = match key {
        "gateway.tls_cert_file" => "tls-cert".to_owned(),
        "gateway.tls_key_file" => "tls-key".to_owned(),
        "forward.url" => "forward".to_owned(),
        _ => match key.split_once('.') {
            Some(("forward", name)) => format!("forward-{name}"),
            Some((_, name)) => name.to_owned(),
            None => key.to_owned(),
        },
    };
    format!("--{}", flag.replace('_', "-"))
}

fn read_file(path: &Path) -> Result<Table, ConfigFileError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigFileError::Read { path: path.into(), source })?;
    let wrong = |mistake| ConfigFileError::File { path: path.into(), mistake };
    let table = toml::from_str(&text).map_err(|error| wrong(describe_syntax(&text, &error).to_string()))?;
    // Parsed alone, for a message with line and column.
    toml::from_str::<GatewayConfig>(&text)
        .map_err(|error| wrong(describe_value(&text, &error, may_show_value_of).to_string()))?;
    Ok(table)
}

/// Instead of the path of a secret, the file may contain the secret itself, and a URL may contain a password.
fn may_show_value_of(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    !(name.ends_with("_file") || name.ends_with("url") || name.contains("client_id") || name == "store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_named_as_people_write_it() {
        let named = [
            "gateway.listen",
            "gateway.tls_key_file",
            "forward.url",
            "forward.max_records",
            "faults.fail_rate",
        ]
        .map(name_flag);
        assert_eq!(named, ["--listen", "--tls-key", "--forward", "--forward-max-records", "--fail-rate"]);
    }
}
