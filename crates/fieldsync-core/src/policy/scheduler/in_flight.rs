//! How many batches may be under way, and whether one more may be sent now.

use std::time::Duration;

use super::sizes::usual_record_bytes;
use super::tracked_batch::TrackedBatch;
use super::{Scheduler, View};
use crate::config::Config;
use crate::model::{BatchId, InFlightRule};
use crate::policy::breaker::Mode;
use crate::policy::in_flight::{InFlight, InFlightWindow, Prospects};

impl Scheduler {
    /// How many batches are under way, how many may be, and why not more.
    pub fn in_flight(&self, view: &View<'_>) -> InFlight {
        let max = self.in_flight_max(view.config);
        let rule = if self.is_restricted(view) {
            InFlightRule::Breaker
        } else {
            self.with_prospects(view, |prospects| self.learned.in_flight.rule(prospects))
        };
        let is_hint = rule == InFlightRule::Configured && max < view.config.batch.max_in_flight;
        InFlight {
            under_way: self.uploads(),
            limit: self.in_flight_limit(view),
            max,
            rule: if is_hint { InFlightRule::ServerHint } else { rule },
        }
    }

    /// Batches and canaries whose response is awaited.
    pub(super) fn uploads(&self) -> usize {
        self.open.in_flight().count() + usize::from(self.under_way.has_canary())
    }

    /// Whether one more batch may be sent. A batch whose outcome is unknown may still occupy the server, so it counts
    /// beside others.
    pub(super) fn has_free_slot(&self, view: &View<'_>) -> bool {
        let uploads = self.uploads();
        uploads == 0 || uploads + self.open.count_unclear() < self.in_flight_limit(view)
    }

    /// Whether an outcome query may be sent. It has a slot that no upload takes, unless requests go one after the other.
    pub(super) fn has_query_slot(&self, config: &Config) -> bool {
        !self.under_way.has_query() && (self.is_parallel(config) || self.uploads() == 0)
    }

    /// Whether requests may be under way beside each other at all.
    pub(super) fn is_parallel(&self, config: &Config) -> bool {
        self.in_flight_max(config) > 1
    }

    /// By what factor a batch takes longer beside the others that may be under way.
    pub(super) fn load_factor(&self, view: &View<'_>) -> f64 {
        if self.is_restricted(view) {
            return 1.0;
        }
        let max = self.in_flight_max(view.config);
        self.learned.in_flight.load_factor(&self.learned.service, max)
    }

    /// How many batches were under way on average since a batch was sent, itself included.
    pub(super) fn average_under_way(&self, now: Duration, tracked: &TrackedBatch) -> f64 {
        self.under_way.average(now, tracked.sent_at, tracked.flight_seconds_before)
    }

    /// Counts again how many batches are under way.
    pub(super) fn count_under_way(&mut self, now: Duration) {
        let batches = self.uploads() + self.open.count_unclear();
        self.under_way.set_batches(now, batches);
    }

    /// A batch that was measured, or that timed out, may change how many may be under way.
    pub(super) fn update_window(
        &mut self,
        view: &View<'_>,
        update: impl FnOnce(&mut InFlightWindow, &Prospects<'_>, &mut fastrand::Rng),
    ) {
        // What a trial would be like depends on the present number.
        let (mut window, mut rng) = (self.learned.in_flight.clone(), self.rng.fork());
        if self.is_restricted(view) {
            window.drop_trial();
        }
        self.with_prospects(view, |prospects| update(&mut window, prospects, &mut rng));
        self.learned.in_flight = window;
    }

    /// The server responded 429. Returns whether that may be about the number of batches under way.
    pub(super) fn narrow_window(&mut self, view: &View<'_>, id: BatchId) -> bool {
        let Some(sent_at) = self.open.get(id).map(|tracked| tracked.sent_at) else { return false };
        let is_before = |other: &&TrackedBatch| {
            (other.is_in_flight() || other.is_unclear()) && other.batch.id != id && other.sent_at < sent_at
        };
        let before = self.open.iter().filter(is_before).count();
        if before > 0 {
            self.learned.in_flight.record_throttling(view.now, sent_at, before);
            self.throttlings += 1;
        }
        before > 0
    }

    fn in_flight_limit(&self, view: &View<'_>) -> usize {
        let max = self.in_flight_max(view.config);
        if self.is_restricted(view) { 1 } else { self.learned.in_flight.limit(max) }
    }

    pub(super) fn in_flight_max(&self, config: &Config) -> usize {
        let configured = config.batch.max_in_flight;
        self.hints.max_in_flight.map_or(configured, |hint| hint.min(configured)).max(1)
    }

    /// Whether the server fails or denies requests, so that one batch at a time is enough to find out more.
    fn is_restricted(&self, view: &View<'_>) -> bool {
        view.breaker.mode != Mode::Normal || self.server.is_in_question()
    }

    fn with_prospects<T>(&self, view: &View<'_>, decide: impl FnOnce(&Prospects<'_>) -> T) -> T {
        let record_bytes = usual_record_bytes(view);
        let is_suspected = self.open.iter().any(TrackedBatch::is_suspected);
        let is_grown = self.batch_limit(view).is_grown(record_bytes, &view.config.batch);
        let batch_size = |factor| self.batch_limit_at(view, factor).usual_records(record_bytes);
        decide(&Prospects {
            max: self.in_flight_max(view.config),
            is_settled: !self.is_restricted(view) && !is_suspected && is_grown,
            waiting_records: view.backlog.to_go(),
            time_budget: self.time_budget(view.config).as_secs_f64(),
            service: &self.learned.service,
            batch_size: &batch_size,
        })
    }
}
