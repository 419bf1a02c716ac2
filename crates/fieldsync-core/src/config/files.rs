//! The files of the configuration as they were read.

use super::error::ConfigMistake;
use super::source::ConfigFile;

/// The files that the configuration is read from, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFiles {
    /// Those with a text.
    pub files: Vec<ConfigFile>,
    /// Those without one: not regular files, too large, or not text.
    pub unusable: Vec<ConfigMistake>,
}

impl From<Vec<ConfigFile>> for ConfigFiles {
    fn from(files: Vec<ConfigFile>) -> Self {
        Self { files, unusable: Vec::new() }
    }
}
