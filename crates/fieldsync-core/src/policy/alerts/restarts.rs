//! The starts of the daemon within a day, and which of them followed a run that did not end in order. Saved in the
//! store as a note.

use serde::{Deserialize, Serialize};

/// The name of the note in the store.
pub const NOTE_NAME: &str = "starts";
/// A start counts for a day.
pub(super) const WINDOW_MS: u64 = 24 * 3600 * 1000;
/// An alert needs this many times as many starts if they followed runs that ended in order.
pub(super) const ORDERLY_STARTS_FACTOR: u64 = 3;
/// The largest threshold needs no more.
const STARTS_MAX: usize = 301;

/// The recent starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartLog {
    /// The oldest first.
    starts: Vec<Start>,
    /// The run that saved this has ended in order.
    has_stopped: bool,
    /// The boot of the system in which it ran.
    boot: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    /// In steady milliseconds.
    at: u64,
    /// The run before it did not end in order.
    is_unexpected: bool,
}

impl RestartLog {
    /// Continues from the note of the previous run; none at the first start. `now` is steady milliseconds, `boot` the id
    /// of this boot. A run that ended with the power is no crash: vehicles cut it several times a day.
    pub fn record_start(
        note: Option<&[u8]>,
        now: u64,
        boot: Option<String>,
    ) -> Result<Self, serde_json::Error> {
        let before: Option<Self> = note.map(serde_json::from_slice).transpose()?;
        let is_first = before.is_none();
        let Self { mut starts, has_stopped, boot: boot_before } = before.unwrap_or_default();
        let is_same_boot = boot_before.is_none() || boot == boot_before;
        starts.retain(|start| start.at.saturating_add(WINDOW_MS) > now);
        if !is_first {
            starts.push(Start { at: now, is_unexpected: !has_stopped && is_same_boot });
        }
        let excess = starts.len().saturating_sub(STARTS_MAX);
        starts.drain(..excess);
        Ok(Self { starts, has_stopped: false, boot })
    }

    /// The note of a run that ends in order.
    pub fn record_stop(&mut self) {
        self.has_stopped = true;
    }

    /// Encodes it as a note.
    pub fn to_note(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Restarts within a day, and how many of them were unexpected.
    pub(super) fn counts(&self, now: u64) -> (u64, u64) {
        self.recent(now)
            .fold((0, 0), |(all, unexpected), start| (all + 1, unexpected + u64::from(start.is_unexpected)))
    }

    /// When the oldest of them no longer counts, in steady milliseconds.
    pub(super) fn next_expiry(&self, now: u64) -> Option<u64> {
        self.recent(now).map(|start| start.at + WINDOW_MS).next()
    }

    fn recent(&self, now: u64) -> impl Iterator<Item = &Start> {
        self.starts.iter().filter(move |start| start.at.saturating_add(WINDOW_MS) > now)
    }
}
