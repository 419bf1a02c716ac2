//! What the planner does next, and how a batch continues: its whole decision cycle, without effects.
//!
//! The driver asks [`Scheduler::next_action`], carries out the [`Action`], and reports its result;
//! [`Scheduler::on_response`] and [`Scheduler::on_outcome_reply`] say how the batch is to be settled on disk. The driver
//! asks again after each action that it started, until the answer is to rest: the scheduler knows how many batches are
//! under way, and how many may be. It holds the open batches only, never the queue.
//!
//! | part | what it knows |
//! |---|---|
//! | `tracked_batches`, `tracked_batch`, `denials` | each open batch: its last result, and its next step |
//! | `server_health` | whether the server supports outcome queries, and whether its health is in doubt |
//! | `waits` | why nothing is sent, and until when |
//! | `parallel_requests` | which other requests are under way, and how many batches beside each other |
//! | `fault_search` | what failed lately, and the parts of batches that were cut |
//!
//! The parts do not know the scheduler, which puts them together:
//!
//! | file | what it decides |
//! |---|---|
//! | `next_action` | what is done next |
//! | `in_flight` | how many batches may be under way, and whether one more may be sent now |
//! | `sizes` | how large a batch may be, and how long it may take |
//! | `responses` | how a batch continues after a response, or without one |
//! | `outcome_replies` | how a batch continues after an outcome query |
//! | `denied_batch` | how a batch continues after a denial of it alone or of all batches |
//! | `bisection` | how a batch is cut, and when a record counts as failed |

mod bisection;
mod denials;
mod denied_batch;
mod fault_search;
mod in_flight;
mod next_action;
mod outcome_replies;
mod parallel_requests;
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
use parallel_requests::ParallelRequests;
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
    under_way: ParallelRequests,
    last_timeout_at: Option<Duration>,
    /// How often the server responded 429 because of the number of batches.
    throttlings: usize,
    /// How many records were ever enqueued when a batch was last sent.
    enqueued_at_last_send: u64,
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
            under_way: ParallelRequests::default(),
            last_timeout_at: None,
            throttlings: 0,
            enqueued_at_last_send: 0,
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
    pub fn start_send(&mut self, view: &View<'_>, batch: &OpenBatch, load: Load) {
        let now = view.now;
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let service = &self.learned.service;
        let factor = self.load_factor(view);
        let expected = service.has_measurements().then(|| service.forecast(&load).scaled(factor));
        self.enqueued_at_last_send = enqueued_total(view);
        let unsent = OpenBatch { attempt: batch.attempt.saturating_sub(1), ..batch.clone() };
        let tracked = self.open.get_or_insert(batch.id, || TrackedBatch::new(unsent, NextStep::InFlight));
        tracked.start_send(now, batch, load, expected);
        tracked.flight_seconds_before = self.under_way.flight_seconds(now);
        self.search.batch_sending(now, batch);
        self.count_under_way(now);
        self.server.batch_sending(now, batch.id);
        self.open.note_traffic(Some(batch.id), OtherTraffic::Sent);
    }

    /// The forecast of a batch when it was sent; none before the first measurement.
    pub fn expected_duration(&self, id: BatchId) -> Option<Forecast> {
        self.open.get(id)?.expected
    }

    /// Forgets a batch that the store no longer has, because all of its records were removed from it.
    pub fn forget_batch(&mut self, id: BatchId) {
        self.search.log.forget_send(id);
        self.close_batch(id, false);
    }

    /// A canary is about to be sent under this id.
    pub fn start_canary(&mut self, now: Duration, id: BatchId) {
        self.under_way.start_canary(now);
        self.search.log.start_send(now, id, None);
        self.count_under_way(now);
    }

    /// The canary was not sent after all.
    pub fn canary_deferred(&mut self, now: Duration, id: BatchId) {
        self.under_way.end_canary();
        self.search.log.forget_send(id);
        self.end_send(now, id);
    }

    /// An outcome is about to be queried.
    pub fn start_query(&mut self, now: Duration) {
        self.under_way.start_query(now);
    }

    /// Changes whenever a wait begins, or fewer batches may be under way: what was chosen to be sent before is not sent.
    pub fn restraints(&self) -> (u64, usize) {
        (self.waits.begun, self.throttlings)
    }

    /// Whether a batch is to be sent over another connection than those that are open: its record failed alone.
    pub fn needs_new_connection(&self, id: BatchId) -> bool {
        self.open.get(id).is_some_and(|tracked| tracked.batch.records == 1 && tracked.has_failed())
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
            for tracked in self.open.iter_mut().filter(|tracked| tracked.is_in_flight()) {
                tracked.is_at_former_server = true;
            }
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

    /// A batch failed.
    fn record_failure(&mut self, now: Duration, id: BatchId) {
        let parent = self.open.get(id).and_then(|tracked| tracked.batch.parent);
        self.search.batch_failed(now, id, parent);
    }

    /// A batch is under way no longer. What became of it may show whether failures of others count.
    fn end_send(&mut self, now: Duration, id: BatchId) {
        self.search.log.end_inconclusively(now, id);
        self.count_under_way(now);
        self.review_evidence(now);
    }

    fn review_evidence(&mut self, now: Duration) {
        for tracked in self.open.iter_mut() {
            tracked.review_evidence(now, &self.search.log);
        }
        let undecided = self.open.iter().filter_map(TrackedBatch::undecided_since).min();
        self.search.log.note_undecided(undecided);
    }

    /// A batch is no longer open under its id.
    fn close_batch(&mut self, id: BatchId, got_through: bool) -> Option<TrackedBatch> {
        let tracked = self.open.remove(id)?;
        self.search.batch_closed(&tracked, got_through, &mut self.learned.glitches);
        Some(tracked)
    }
}

/// How many records were ever enqueued, but for those that were discarded.
fn enqueued_total(view: &View<'_>) -> u64 {
    view.backlog.settled_total + view.backlog.to_go()
}
