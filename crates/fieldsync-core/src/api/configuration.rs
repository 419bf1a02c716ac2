//! The configuration that is in effect, and the one that was refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::{as_rfc3339, as_rfc3339_option};
use crate::config::{Config, ConfigError, ConfigSource, ConfigSources, VARIABLE_SOURCE_PREFIX};

/// `GET /v1/configuration`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Configuration {
    /// All keys, in the order of the manual page.
    pub values: Vec<ConfigurationValue>,
    /// Why a changed configuration is not in effect; null if the daemon uses the present one.
    #[schema(required = true)]
    pub refused: Option<ConfigurationRefusal>,
    /// When the daemon read its files last, also if it refused them.
    #[serde(default, with = "as_rfc3339_option")]
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub read_at: Option<u64>,
}

/// A key that is in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationValue {
    /// `section.key`
    pub key: String,
    /// A text, a number or a boolean; null for a key without a default that is not set. What may be a secret is `***`.
    #[schema(required = true, value_type = Value)]
    pub value: serde_json::Value,
    /// `default`, `FILE:LINE`, or `environment variable NAME`.
    pub source: String,
}

/// A configuration that the daemon refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationRefusal {
    /// All mistakes in one sentence.
    pub message: String,
    /// When it was refused.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: u64,
    /// Each mistake.
    pub mistakes: Vec<ConfigurationMistake>,
}

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationMistake {
    /// The file.
    #[schema(required = true)]
    pub file: Option<String>,
    /// The line in that file.
    #[schema(required = true)]
    pub line: Option<usize>,
    /// The environment variable.
    #[schema(required = true)]
    pub variable: Option<String>,
    /// `section.key`, if it is known.
    #[schema(required = true)]
    pub key: Option<String>,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl Configuration {
    /// All keys with their values and sources.
    pub fn new(config: &Config, sources: &ConfigSources, refused: Option<ConfigurationRefusal>) -> Self {
        let with_source = |(key, value): (String, serde_json::Value)| {
            let source = sources.of(&key).to_string();
            ConfigurationValue { key, value, source }
        };
        Self { values: config.values().into_iter().map(with_source).collect(), refused, read_at: None }
    }

    /// Adds when the daemon read its files last.
    #[must_use]
    pub fn with_read_at(mut self, read_at: u64) -> Self {
        self.read_at = Some(read_at);
        self
    }

    /// The configuration with these values. `None` if they do not fit this version.
    pub fn to_config(&self) -> Option<Config> {
        Config::from_values(self.values.iter().map(|value| (value.key.as_str(), &value.value)))
    }

    /// The environment variables that set keys.
    pub fn variables(&self) -> Vec<&str> {
        let sources = self.values.iter().map(|value| value.source.as_str());
        sources.filter_map(|source| source.strip_prefix(VARIABLE_SOURCE_PREFIX)).collect()
    }
}

impl ConfigurationRefusal {
    /// The mistakes of this error.
    pub fn new(error: &ConfigError, at: u64) -> Self {
        let mistakes = error.mistakes().into_iter().map(|mistake| {
            let (file, line, variable) = match mistake.source {
                ConfigSource::Default => (None, None, None),
                ConfigSource::File { path, line } => (Some(path.display().to_string()), line, None),
                ConfigSource::Variable(name) => (None, None, Some(name)),
            };
            ConfigurationMistake { file, line, variable, key: mistake.key, reason: mistake.reason }
        });
        Self { message: error.to_string(), at, mistakes: mistakes.collect() }
    }
}
