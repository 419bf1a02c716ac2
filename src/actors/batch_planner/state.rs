//! What the planner announces: phase, progress and the figures behind the next batch.

use std::time::Duration;

use crate::api::BatchInFlight;
use crate::config::Config;
use crate::model::{Backlog, DeniedSet, LastError, Phase, WaitCause};
use crate::policy::in_flight::InFlight;
use crate::policy::progress::Progress;
use crate::policy::scheduler::UsualSize;

/// What the planner announces.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannerState {
    /// What it does.
    pub phase: Phase,
    /// When it continues by itself, in wall milliseconds.
    pub until: Option<u64>,
    /// What it waits for.
    pub wait_cause: Option<WaitCause>,
    /// The batches whose responses are awaited, in the order in which they were sent.
    pub batches: Vec<BatchInFlight>,
    /// How many batches may be under way, and why not more; none before the first decision.
    pub in_flight: Option<InFlight>,
    /// How far the run has come.
    pub progress: Progress,
    /// The estimated size of the next fresh batch, and its rule.
    pub size: Option<UsualSize>,
    /// Measured time per record.
    pub per_record: Option<Duration>,
    /// The learned time of a batch that does not depend on its records; none before enough is measured.
    pub start_up: Option<Duration>,
    /// What a batch may take.
    pub time_budget: Duration,
    /// The time limit in front of the server.
    pub time_limit: Duration,
    /// Estimated time until all is sent.
    pub eta: Option<Duration>,
    /// Batches that are denied while others get through.
    pub denied: Vec<DeniedSet>,
    /// When the server last confirmed a record, wall milliseconds.
    pub last_success_at: Option<u64>,
    /// When the first send of the present outage failed, in wall milliseconds; none after a success.
    pub outage_since: Option<u64>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
}

impl PlannerState {
    /// When the oldest of the batches in flight was sent, in wall milliseconds.
    pub fn oldest_sent_at(&self) -> Option<u64> {
        self.batches.first().map(|batch| batch.sent_at)
    }

    /// Whether a batch is under way or follows at once.
    pub fn is_run_under_way(&self, backlog: &Backlog) -> bool {
        let follows =
            matches!(self.phase, Phase::Idle | Phase::Syncing) && backlog.claimable && backlog.pending > 0;
        !self.batches.is_empty() || follows
    }

    /// Whether the last error is this device's own: no HTTP status came with it. Without a server address nothing was
    /// sent.
    pub fn is_local_error(&self, config: &Config) -> bool {
        !config.server.url.is_empty()
            && self.last_error.as_ref().is_some_and(|error| error.http_status.is_none())
    }
}

impl Default for PlannerState {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            until: None,
            wait_cause: None,
            batches: Vec::new(),
            in_flight: None,
            progress: Progress::default(),
            size: None,
            per_record: None,
            start_up: None,
            time_budget: Duration::ZERO,
            time_limit: Duration::ZERO,
            eta: None,
            denied: Vec::new(),
            last_success_at: None,
            outage_since: None,
            last_error: None,
        }
    }
}
