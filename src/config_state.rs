//! Where the configuration comes from, and why a later one is not in effect.

use std::path::PathBuf;

use crate::api::ConfigurationRefusal;
use crate::config::ConfigSources;

/// What is known of the configuration besides its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// The file or directory that people edit.
    pub path: PathBuf,
    /// Where the values come from.
    pub sources: ConfigSources,
    /// Why a later configuration is not in effect.
    pub refusal: Option<ConfigurationRefusal>,
    /// When the files were read last.
    pub read_at: u64,
}
