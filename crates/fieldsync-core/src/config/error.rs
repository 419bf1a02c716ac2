//! Why a configuration is refused, with the place of each mistake.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::mistake::names_its_key;
use super::source::ConfigSource;

/// Why the configuration cannot be used. The message names file, line, key and reason.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// At least one mistake.
    #[error("{}", JoinedMistakes(.0))]
    Mistakes(Vec<ConfigMistake>),
}

/// A mistake in a file or variable, without the content of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMistake {
    /// Where it is.
    pub source: ConfigSource,
    /// The column in that line, from 1, if it is known.
    pub column: Option<usize>,
    /// `section.key`, if it is known.
    pub key: Option<String>,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            ConfigSource::Default => f.write_str("configuration: ")?,
            ConfigSource::File { path, line } => {
                write!(f, "{}: ", path.display())?;
                if let Some(line) = line {
                    write!(f, "line {line}")?;
                    if let Some(column) = self.column {
                        write!(f, ", column {column}")?;
                    }
                    f.write_str(": ")?;
                }
            }
            ConfigSource::Variable(_) => write!(f, "{}: ", self.source)?,
        }
        if let Some(key) = self.key.as_ref().filter(|_| !names_its_key(&self.reason)) {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl ConfigMistake {
    /// A file that cannot be read.
    pub fn in_file(path: &Path, error: &io::Error) -> Self {
        let source = ConfigSource::File { path: path.into(), line: None };
        Self { source, column: None, key: None, reason: format!("cannot be read: {error}") }
    }
}

struct JoinedMistakes<'a>(&'a [ConfigMistake]);

impl fmt::Display for JoinedMistakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// Each mistake with its place. A file that cannot be read is one mistake.
    pub fn mistakes(&self) -> Vec<ConfigMistake> {
        match self {
            Self::Read { path, source } => vec![ConfigMistake::in_file(path, source)],
            Self::Mistakes(mistakes) => mistakes.clone(),
        }
    }
}
