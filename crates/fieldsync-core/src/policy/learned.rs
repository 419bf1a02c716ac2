//! What was learned of the server and the link, and how the server is treated: kept on disk, so that a
//! restart need not learn again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::KeptBreaker;
use super::byte_limits::ByteLimits;
use super::isolation::Glitches;
use super::service_time::ServiceTime;
use super::time_limit::TimeLimit;

/// Under which it is kept in the store.
pub const NOTE: &str = "learned";

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Whose server it was; empty when that was not kept.
    pub endpoint: String,
    /// What a batch will take. Under a name of its own for each shape: one of another shape is learned anew.
    #[serde(rename = "service_time")]
    pub service: Arc<ServiceTime>,
    /// How large a body may be.
    pub bytes: ByteLimits,
    /// How long the gateway waits.
    pub time_limit: TimeLimit,
    /// How often batches fail without a reason in them.
    pub glitches: Glitches,
    /// How the server was treated.
    pub breaker: KeptBreaker,
}

impl Learned {
    /// Reads what was kept. What does not read was written by another version, and is to be learned anew.
    pub fn from_note(note: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(note)
    }

    /// As it is kept.
    pub fn to_note(&self) -> Vec<u8> {
        // Numbers that are none (which JSON cannot hold) do not occur; were there one, nothing is kept.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What a batch will take, to learn more of it.
    pub fn service_mut(&mut self) -> &mut ServiceTime {
        Arc::make_mut(&mut self.service)
    }

    /// The time limit in front of the server.
    pub fn time_limit(&self, configured: Duration) -> Duration {
        self.time_limit.get(configured)
    }
}
