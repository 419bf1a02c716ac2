//! What was learned of the server and the link, and how the server is treated: kept on disk, so that a
//! restart need not learn again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::KeptBreaker;
use super::isolation::Glitches;
use super::service_time::ServiceTime;
use super::sizing::Hints;
use super::throughput::{LEAST_LIMIT, Throughput};
use super::time_limit::TimeLimit;

/// A batch that comes within this share of the byte limit shows that it holds, and raises it by the step.
const ACCEPTED_NEAR: u64 = 4;
const ACCEPTED_STEP: u64 = 16;

/// Under which it is kept in the store.
pub const NOTE: &str = "learned";

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Whose server it was; empty when that was not kept.
    pub endpoint: String,
    /// What a batch will take.
    pub service: Arc<ServiceTime>,
    /// How fast bodies go out.
    pub throughput: Throughput,
    /// How long the gateway waits.
    pub time_limit: TimeLimit,
    /// How often batches fail without a reason in them.
    pub glitches: Glitches,
    /// What the server asked for.
    pub hints: Hints,
    /// Payload bytes that a body may have, where the server refused larger ones.
    pub accepted_bytes: Option<u64>,
    /// The server has answered look-ups.
    pub looks_up: bool,
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

    /// The server refused a body of `bytes` as too large.
    pub fn refused_bytes(&mut self, bytes: u64) {
        let half = (bytes / 2).max(LEAST_LIMIT);
        self.accepted_bytes = Some(self.accepted_bytes.map_or(half, |old| old.min(half)));
    }

    /// A body of `bytes` was accepted. What was too large once may fit another day; but each try costs
    /// a body that is sent in vain.
    pub fn accepted(&mut self, bytes: u64, most: u64) {
        if let Some(limit) = self.accepted_bytes.filter(|limit| bytes > limit - limit / ACCEPTED_NEAR) {
            let raised = limit + limit / ACCEPTED_STEP;
            self.accepted_bytes = Some(raised).filter(|raised| *raised < most);
        }
    }
}
