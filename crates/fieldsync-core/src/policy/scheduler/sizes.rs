//! How large a batch may be, how long it may take, and how long its response is awaited.

use std::sync::Arc;
use std::time::Duration;

use super::query_timing::processing_limit;
use super::server_health::queries_enabled;
use super::{Scheduler, View};
use crate::config::Config;
use crate::model::{BatchId, SizeRule, Stage};
use crate::policy::breaker::Mode;
use crate::policy::service_time::Forecast;
use crate::policy::sizing::{self, BatchLimit, Demand};

/// The deadline for the response to a suspected batch is this many times its expected maximum …
const DEADLINE_FACTOR: f64 = 2.0;
/// … but at least this share of the time limit.
const DEADLINE_LIMIT_SHARE_MIN: f64 = 1.0 / 6.0;

/// How large the next fresh batch is, if its records are like those before, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualSize {
    /// Records.
    pub records: usize,
    /// Which rule decides.
    pub rule: SizeRule,
    /// What it is expected to take, once anything was measured.
    pub expected: Option<Forecast>,
}

impl Scheduler {
    /// What a fresh batch may hold now, and why.
    pub fn batch_limit(&self, view: &View<'_>) -> BatchLimit {
        self.batch_limit_at(view, self.load_factor(view))
    }

    /// What a fresh batch may hold that takes longer by a factor.
    pub(super) fn batch_limit_at(&self, view: &View<'_>, load_factor: f64) -> BatchLimit {
        let config = &view.config.batch;
        let demand = Demand {
            waiting_records: view.backlog.pending + view.backlog.failed,
            waiting_bytes: view.backlog.bytes,
            micro: view.breaker.mode != Mode::Normal || self.server.is_in_question(),
            service: config.learn.then(|| Arc::clone(&self.learned.service)),
            load_factor,
            time_budget: self.time_budget(view.config),
            time_limit: self.time_limit(view.config),
            learned_bytes: self.learned.bytes.limit(),
            hints: self.hints,
        };
        sizing::choose_limit(config, &demand)
    }

    /// The estimated size of the next fresh batch before it is claimed, and its rule.
    pub fn usual_size(&self, view: &View<'_>) -> UsualSize {
        let (limit, record_bytes) = (self.batch_limit(view), usual_record_bytes(view));
        let records = limit.usual_records(record_bytes);
        let rule = if records < limit.records { SizeRule::Learned } else { limit.rule };
        let expected =
            limit.time.map(|time| time.service.forecast_usual(records as u64).scaled(time.load_factor));
        UsualSize { records, rule, expected }
    }

    /// The estimated time until all records are sent.
    pub fn estimate_remaining(&self, view: &View<'_>) -> Option<Duration> {
        let records = view.backlog.to_go();
        let size = self.batch_limit(view).usual_records(usual_record_bytes(view));
        let serial = self.learned.service.estimate_remaining(records, size)?;
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let in_flight = self.in_flight(view).limit as f64;
        Some(serial.mul_f64(self.load_factor(view) / in_flight))
    }

    /// How long the server can be processing a batch.
    pub(super) fn processing_limit(&self, config: &Config) -> Duration {
        let max = self.in_flight_max(config);
        let factor = self.learned.in_flight.load_factor(&self.learned.service, max);
        processing_limit(self.time_limit(config), factor)
    }

    /// The measured time per record.
    pub fn time_per_record(&self) -> Option<Duration> {
        self.learned.service.per_record()
    }

    /// The learned time of a batch that does not depend on its records.
    pub fn start_up_time(&self) -> Option<Duration> {
        let service = &self.learned.service;
        Duration::try_from_secs_f64(service.start_up()).ok().filter(|_| service.has_enough_measurements())
    }

    /// The time limit in front of the server.
    pub fn time_limit(&self, config: &Config) -> Duration {
        self.learned.time_limit(config.server.request_timeout.0)
    }

    /// The time that a batch may take: the limit less the margin, or the server's own wish.
    pub fn time_budget(&self, config: &Config) -> Duration {
        let ours = self.time_limit(config).mul_f64(1.0 - config.batch.safety_margin);
        self.hints.time_budget.map_or(ours, |theirs| ours.min(theirs))
    }

    /// How long to wait for the response after the body was sent, if less than the time limit.
    ///
    /// The server promises that a batch that has begun continues when we hang up, and that its outcome can be queried.
    /// So during the search for a faulty record, a batch that takes far longer than it should is not waited for: others
    /// are sent meanwhile.
    pub fn response_deadline(&self, config: &Config, id: BatchId) -> Option<Duration> {
        let tracked = self.open.get(id)?;
        let is_searching = tracked.batch.stage != Stage::Fresh || self.search.is_active();
        let can_query = self.server.answers_queries() && queries_enabled(config);
        if !is_searching || !can_query || !self.learned.service.has_enough_measurements() {
            return None;
        }
        self.deadline_for(config, tracked.expected?.upper)
    }

    /// For a batch of which one in 100 takes longer than `most` seconds.
    pub(super) fn deadline_for(&self, config: &Config, most: f64) -> Option<Duration> {
        let limit = self.time_limit(config);
        let deadline = Duration::try_from_secs_f64(DEADLINE_FACTOR * most).ok()?;
        Some(deadline.max(limit.mul_f64(DEADLINE_LIMIT_SHARE_MIN))).filter(|deadline| *deadline < limit)
    }
}

/// Payload bytes of a waiting record, on average.
pub(super) fn usual_record_bytes(view: &View<'_>) -> u64 {
    let backlog = view.backlog;
    backlog.bytes.checked_div(backlog.to_go() + backlog.quarantined).unwrap_or(0)
}
