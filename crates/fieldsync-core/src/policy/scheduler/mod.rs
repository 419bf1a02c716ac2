//! What the planner does next, and how a batch continues: its whole decision cycle, without effects.
//!
//! The driver asks [`Scheduler::next_action`], carries out the [`Action`], and reports its result;
//! [`Scheduler::on_response`] and [`Scheduler::on_outcome_reply`] say how the batch is to be settled on disk. One
//! action is under way at a time. The scheduler holds the open batches only, never the queue.
//!
//! | part | what it knows |
//! |---|---|
//! | `tracked_batches`, `tracked_batch`, `denials` | each open batch: its last result, and its next step |
//! | `server_health` | whether the server supports outcome queries, and whether its health is in doubt |
//! | `waits` | why nothing is sent, and until when |
//! | `fault_search` | what failed lately, and the parts of batches that were cut |
//!
//! The parts do not know the scheduler, which puts them together:
//!
//! | file | what it decides |
//! |---|---|
//! | `next_action` | what is done next |
//! | `sizes` | how large a batch may be, and how long it may take |
//! | `responses` | how a batch continues after a response, or without one |
//! | `outcome_replies` | how a batch continues after an outcome query |
//! | `denied_batch` | how a batch continues after a denial of it alone or of all batches |
//! | `bisection` | how a batch is cut, and when a record counts as failed |

mod bisection;
mod denials;
mod denied_batch;
mod fault_search;
mod next_action;
mod outcome_replies;
mod query_timing;
mod responses;
mod server_health;
mod sizes;
#[cfg(test)]
mod tests;
mod tracked_batch;
mod tracked_batches;
mod view;
mod waits;

use std::time::Duration;

use super::learned::Learned;
use super::service_time::{Forecast, Load};
use crate::config::Config;
use crate::model::{BatchId, OpenBatch};
use crate::protocol::exchange::ServerHints;
use denials::OtherTraffic;
use fault_search::FaultSearch;
use server_health::ServerHealth;
pub use sizes::UsualSize;
use tracked_batch::{NextStep, TrackedBatch};
use tracked_batches::TrackedBatches;
pub(in crate::policy) use view::HELD_CODE;
pub use view::{Action, ClaimOrder, Disposition, Outcome, View};
use waits::Waits;

/// The open batches, and what was learned from all others.
#[derive(Debug)]
pub struct Scheduler {
    open: TrackedBatches,
    learned: Learned,
    /// What the server's last response asks for.
    hints: ServerHints,
    /// Batches that were sent for the first time in this run.
    sent_in_run: u32,
    server: ServerHealth,
    waits: Waits,
    search: FaultSearch,
    rng: fastrand::Rng,
}

impl Scheduler {
    /// Continues with the batches that the previous run of the daemon left open, and with what it learned.
    pub fn new(open: Vec<OpenBatch>, learned: Learned, rng: fastrand::Rng) -> Self {
        let mut scheduler = Self {
            open: TrackedBatches::default(),
            learned,
            hints: ServerHints::default(),
            sent_in_run: 0,
            server: ServerHealth::default(),
            waits: Waits::default(),
            search: FaultSearch::default(),
            rng,
        };
        scheduler.track_batches(Duration::ZERO, open);
        scheduler
    }

    /// The store opened batches: the parts of one that was cut, or one under its new id.
    pub fn track_batches(&mut self, now: Duration, batches: Vec<OpenBatch>) {
        for batch in batches {
            let mut tracked = TrackedBatch::opened(now, batch);
            self.search.batch_opened(now, &mut tracked);
            self.open.insert(tracked);
        }
    }

    /// A batch is about to be sent.
    pub fn start_send(&mut self, now: Duration, batch: &OpenBatch, load: Load) {
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let service = &self.learned.service;
        let expected = service.has_measurements().then(|| service.forecast(&load));
        let unsent = OpenBatch { attempt: batch.attempt.saturating_sub(1), ..batch.clone() };
        let tracked = self.open.get_or_insert(batch.id, || TrackedBatch::new(unsent, NextStep::InFlight));
        tracked.start_send(batch, load, expected);
        self.server.batch_sending(now, batch.id);
        self.open.note_traffic(Some(batch.id), OtherTraffic::Sent);
    }

    /// The forecast of a batch when it was sent; none before the first measurement.
    pub fn expected_duration(&self, id: BatchId) -> Option<Forecast> {
        self.open.get(id)?.expected
    }

    /// Forgets a batch that the store no longer has, because all of its records were removed from it.
    pub fn forget_batch(&mut self, id: BatchId) {
        self.close_batch(id, false);
    }

    /// Adopts the configured server. Measurements of another server are dropped. Returns whether it is
    /// another.
    pub fn switch_server(&mut self, config: &Config) -> bool {
        let endpoint = format!("{}{}", config.server.url, config.server.path);
        if self.learned.endpoint == endpoint {
            return false;
        }
        let is_another = !self.learned.endpoint.is_empty();
        let learned = if is_another { Learned::default() } else { std::mem::take(&mut self.learned) };
        self.learned = Learned { endpoint, ..learned };
        if is_another {
            (self.server, self.hints) = (ServerHealth::default(), ServerHints::default());
            self.search.server_switched();
        }
        is_another
    }

    /// A new run begins: sequence numbers start again, and the server may support outcome queries by now.
    pub fn start_run(&mut self) {
        self.sent_in_run = 0;
        self.server.run_started();
        self.waits.end_deferral_override();
    }

    /// A person asked to try now, or the configuration changed: all waits end.
    pub fn retry_now(&mut self, now: Duration) {
        self.link_restored(now);
        self.waits.end_wait();
        for tracked in self.open.iter_mut() {
            tracked.denials.forget();
            tracked.send_at(now);
        }
    }

    /// A person asked to try now: the records that wait are sent even where sending is deferred.
    pub fn override_deferral(&mut self, view: &View<'_>) {
        self.waits.override_deferral(view);
    }

    /// Sending is not deferred any more.
    pub fn end_deferral_override(&mut self) {
        self.waits.end_deferral_override();
    }

    /// The credential or a certificate was replaced: a stop ends, and denials are forgotten.
    pub fn credentials_renewed(&mut self, now: Duration) {
        self.waits.credentials_renewed();
        for tracked in self.open.iter_mut().filter(|tracked| tracked.denials.is_denied()) {
            tracked.denials.forget();
            tracked.send_by(now);
        }
    }

    /// The link returned, or uses another route: back-offs end, and unknown outcomes are queried.
    pub fn link_restored(&mut self, now: Duration) {
        self.waits.link_restored();
        for tracked in self.open.iter_mut() {
            tracked.query_at(now);
        }
    }

    /// Whether no batch may have two records with the same key. A server that does not hold keys could reject the first
    /// one and apply the second one.
    pub fn sends_one_per_key(&self) -> bool {
        !self.learned.holds_keys
    }

    /// The driver has a record for [`Action::SendCanary`].
    pub fn canary_confirmed(&mut self) {
        self.server.canary_confirmed();
    }

    /// What was learned, as it is stored.
    pub fn learned_state(&self, view: &View<'_>) -> Learned {
        Learned { breaker: view.breaker.to_saved(view.now, view.steady_ms), ..self.learned.clone() }
    }

    /// A batch failed: no pending failure of another batch can count any more.
    fn record_failure(&mut self, id: BatchId) {
        let parent = self.open.get(id).and_then(|tracked| tracked.batch.parent);
        self.search.batch_failed(id, parent);
        self.open.batch_failed(id);
    }

    /// A batch is no longer open under its id.
    fn close_batch(&mut self, id: BatchId, got_through: bool) -> Option<TrackedBatch> {
        let tracked = self.open.remove(id)?;
        self.search.batch_closed(&tracked, got_through, &mut self.learned.glitches);
        Some(tracked)
    }
}
