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

impl ConfigState {
    /// The text of the alert.
    pub(super) fn refusal_alert(&self) -> Option<String> {
        self.refusal.as_ref().map(|refusal| {
            format!(
                "the configuration is refused, and the last good one is in use: {}. Correct it, then: systemctl reload \
                 fieldsync",
                refusal.message
            )
        })
    }
}
