//! What keeps the device from sending: a cause, and what to do about it.

use super::places::locate_keys;
use crate::api::SyncReason;
use crate::config::ConfigSources;

/// What ends by itself.
pub(super) const BY_ITSELF: &str = "nothing, it is tried again by itself; to try now: fieldsync sync";

/// What keeps the device from sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For programs.
    pub reason: SyncReason,
    /// What is wrong, without an end: the number of records follows.
    pub headline: String,
    /// Why, in whole sentences; empty if the headline says all.
    pub detail: String,
    /// What a person can do.
    pub remedy: Option<String>,
    /// The headline says for how long; the cause is in the details.
    pub is_timed: bool,
}

impl Obstacle {
    pub(super) fn new(
        reason: SyncReason,
        headline: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            headline: headline.into(),
            detail: detail.into(),
            remedy: Some(remedy.into()).filter(|remedy| !remedy.is_empty()),
            is_timed: false,
        }
    }

    /// Says where the keys of the configuration are set that the remedy names.
    pub(super) fn with_places(self, sources: &ConfigSources) -> Self {
        Self { remedy: self.remedy.map(|remedy| locate_keys(&remedy, sources)), ..self }
    }

    /// Why, without the time of the next attempt.
    pub(in crate::policy) fn cause(&self) -> String {
        if self.is_timed { self.detail.clone() } else { self.text() }
    }

    /// As whole sentences, without the number of records.
    pub(in crate::policy) fn text(&self) -> String {
        let Self { headline, detail, .. } = self;
        if detail.is_empty() { format!("{headline}.") } else { format!("{headline}. {detail}") }
    }
}
