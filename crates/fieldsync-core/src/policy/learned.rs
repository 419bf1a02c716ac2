//! What was learned about the server and the link, and the state of the breaker. Saved on disk, so that it survives a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::SavedBreaker;
use super::byte_limits::ByteLimits;
use super::in_flight::InFlightWindow;
use super::isolation::Glitches;
use super::service_time::ServiceTime;
use super::time_limit::TimeLimit;
use crate::model::LastError;

/// The name of the note in the store.
pub const NOTE_NAME: &str = "learned";

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// The server that this was learned from; empty if it was not saved.
    pub endpoint: String,
    /// How long a batch takes. A model of another shape is saved under another name, and then learning starts over.
    #[serde(rename = "service_time")]
    pub service: Arc<ServiceTime>,
    /// How many batches may be under way at once.
    pub in_flight: InFlightWindow,
    /// How large a body may be.
    pub bytes: ByteLimits,
    /// The time limit of the gateway.
    pub time_limit: TimeLimit,
    /// Whether the server showed that it applies no record behind one of its key that it did not apply.
    pub holds_keys: bool,
    /// How often batches fail without a faulty record in them.
    pub glitches: Glitches,
    /// The state of the breaker.
    pub breaker: SavedBreaker,
    /// When the server last took records, and since when it does not.
    pub contact: Contact,
}

/// When the server last took records, in wall milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contact {
    /// The last success.
    pub last_success_at: Option<u64>,
    /// The first failure after it.
    pub outage_since: Option<u64>,
    /// Why the last send of this outage failed.
    pub last_error: Option<LastError>,
}

impl Learned {
    /// Decodes a saved note. One that cannot be decoded comes from another version; then learning starts over.
    pub fn from_note(note: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(note)
    }

    /// Encodes it as a note.
    pub fn to_note(&self) -> Vec<u8> {
        // NaN and infinity do not occur. JSON cannot hold them: if there were one, the note would be empty.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The model of how long a batch takes, to update it.
    pub fn service_mut(&mut self) -> &mut ServiceTime {
        Arc::make_mut(&mut self.service)
    }

    /// The time limit in front of the server.
    pub fn time_limit(&self, configured: Duration) -> Duration {
        self.time_limit.effective(configured)
    }
}
