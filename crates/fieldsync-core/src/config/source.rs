//! Where the configuration comes from: files with lines, environment variables, defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Config;

/// Before the name of a variable, in the text of a source.
pub const VARIABLE_SOURCE_PREFIX: &str = "environment variable ";

/// The text of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path, for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// No file and no variable sets the key.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "{VARIABLE_SOURCE_PREFIX}{name}"),
        }
    }
}

/// A valid configuration, and where its values come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedConfig {
    /// All layers together.
    pub config: Config,
    /// The keys `section.key` that a file or a variable sets.
    pub sources: ConfigSources,
}

/// Where the values come from that are not defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSources(BTreeMap<String, ConfigSource>);

impl ConfigSources {
    /// The source of `section.key`.
    pub fn of(&self, key: &str) -> &ConfigSource {
        self.0.get(key).unwrap_or(&ConfigSource::Default)
    }

    pub(super) fn set(&mut self, key: String, source: ConfigSource) {
        self.0.insert(key, source);
    }

    /// The variables that set keys, in the order of the keys.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|source| match source {
            ConfigSource::Variable(name) => Some(name.as_str()),
            ConfigSource::Default | ConfigSource::File { .. } => None,
        })
    }

    /// The first of the keys in this text that has a source.
    pub(super) fn mentioned_in(&self, text: &str) -> Option<&ConfigSource> {
        text.split([' ', ',', ':', ';']).find_map(|word| self.0.get(word))
    }
}
