//! How many batches may be under way at once.
//!
//! The number begins at one and grows by trials. A trial doubles it, with batches so small that they would fit the time
//! limit even if the server gained nothing, and measures by how much they take longer than the model expects. If at
//! least a third of the ideal gain in throughput is left, the number stays doubled; otherwise it is tried again later,
//! after twice as many responses each time. A larger number is earned again and again: after 50 responses it is halved,
//! and tried once more. A 504 does not change it: the size of the batches answers that. Beyond a number that led to a
//! 429, a trial adds one batch.
//!
//! It is related to TCP's slow start (RFC 5681), TCP Vegas (Brakmo and Peterson, 1995), Netflix's gradient limiter and
//! Vector's adaptive concurrency, and differs from them: it is judged by the gain in throughput, not by durations that
//! stay the same or requests that get lost, and the size of the batches is chosen along with it.

#[cfg(test)]
mod tests;
mod throttle;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::service_time::ServiceTime;
use crate::model::InFlightRule;
use throttle::Throttle;
pub use trial::MeasuredBatch;
use trial::{Refusals, Trial, TrialResult};

/// A number is halved and tried again after so many responses.
const RESPONSES_PER_TERM: u32 = 50;
/// A batch of at least so many records is worth its start-up cost …
const WORTHWHILE_RECORDS_MIN: f64 = 7.0;
/// … and so is one whose records take this share of its time.
const WORTHWHILE_SHARE_MIN: f64 = 0.85;
/// A trial needs so many batches for each slot among the records that wait.
const WAITING_BATCHES_PER_SLOT: u64 = 2;

/// How many batches are under way, how many may be, and why not more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Batches that were sent, and of which no response or outcome is known.
    pub under_way: usize,
    /// How many may be under way.
    pub limit: usize,
    /// How many might be at most: the configuration, and what the server asks for.
    pub max: usize,
    /// Why no more.
    pub rule: InFlightRule,
}

/// What a trial depends on, besides what was learned.
pub struct Prospects<'p> {
    /// The most by configuration and the server's wish.
    pub max: usize,
    /// The server works, no record is suspected, and the size of a batch depends on its duration or its maximum alone.
    pub is_settled: bool,
    /// Records that wait.
    pub waiting_records: u64,
    /// What a batch may take on average, in seconds.
    pub time_budget: f64,
    /// What was learned of durations.
    pub service: &'p Arc<ServiceTime>,
    /// How many records a batch has if it takes longer by a factor.
    pub batch_size: &'p dyn Fn(f64) -> usize,
}

/// The number of batches that may be under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InFlightWindow {
    size: usize,
    refusals: Refusals,
    throttle: Throttle,
    /// Responses to batches that were sent since the number was set.
    #[serde(skip)]
    responses: u32,
    #[serde(skip)]
    set_at: Duration,
    #[serde(skip)]
    trial: Option<Trial>,
}

impl Default for InFlightWindow {
    fn default() -> Self {
        Self {
            size: 1,
            refusals: Refusals::default(),
            throttle: Throttle::default(),
            responses: 0,
            set_at: Duration::ZERO,
            trial: None,
        }
    }
}

impl InFlightWindow {
    /// How many batches may be under way while the server works.
    pub fn limit(&self, max: usize) -> usize {
        self.trial.as_ref().map_or(self.size, Trial::size).min(max).max(1)
    }

    /// By what factor a batch is expected to take longer than alone.
    pub fn load_factor(&self, service: &ServiceTime, max: usize) -> f64 {
        match &self.trial {
            Some(trial) => trial.load_factor(),
            None => service.load_factor(to_float(self.limit(max))),
        }
    }

    /// Why no more may be under way.
    pub fn rule(&self, prospects: &Prospects<'_>) -> InFlightRule {
        let next = self.next_size(prospects.max);
        if self.trial.is_some() {
            InFlightRule::Trial
        } else if self.size >= prospects.max {
            InFlightRule::Configured
        } else if next <= self.size {
            InFlightRule::Throttled
        } else if !prospects.service.has_enough_measurements() {
            InFlightRule::FirstMeasurements
        } else if self.refusals.is_refused(next) || !self.is_worthwhile(next, prospects) {
            InFlightRule::Measured
        } else {
            InFlightRule::NotNeeded
        }
    }

    /// The server processed a batch.
    pub fn record_response(
        &mut self,
        now: Duration,
        batch: &MeasuredBatch,
        prospects: &Prospects<'_>,
        rng: &mut fastrand::Rng,
    ) {
        self.throttle.count_response();
        self.refusals.count_response();
        self.trial = self.trial.take().filter(|trial| trial.size() <= prospects.max);
        if let Some(trial) = &mut self.trial {
            let result = trial.record_response(now, batch);
            return self.end_trial(now, result, prospects, rng);
        }
        if batch.sent_at < self.set_at {
            return;
        }
        self.responses += 1;
        let enough = u32::try_from(self.size).unwrap_or(u32::MAX);
        let half = self.size.div_ceil(2);
        if self.size > 1 && self.responses >= enough && !self.is_worthwhile(self.size, prospects) {
            self.refusals.refuse(self.size, rng);
            self.set_size(now, half);
        } else if self.size > 1 && self.responses >= RESPONSES_PER_TERM {
            // It is earned again, if that can be tried now.
            let size = std::mem::replace(&mut self.size, half);
            self.consider_trial(now, prospects);
            if self.trial.is_none() {
                self.size = size;
            } else {
                (self.set_at, self.responses) = (now, 0);
            }
        } else if self.responses >= enough.max(2) {
            self.consider_trial(now, prospects);
        }
    }

    /// A batch got a 504: it took at least that long.
    pub fn record_timeout(
        &mut self,
        now: Duration,
        batch: &MeasuredBatch,
        prospects: &Prospects<'_>,
        rng: &mut fastrand::Rng,
    ) {
        if let Some(trial) = &mut self.trial {
            let result = trial.record_timeout(batch);
            self.end_trial(now, result, prospects, rng);
        }
    }

    /// The server fails or denies requests: one batch at a time shows nothing about more.
    pub fn drop_trial(&mut self) {
        self.trial = None;
    }

    /// The server responded 429 to a batch that was sent while `before` others were under way.
    pub fn record_throttling(&mut self, now: Duration, sent_at: Duration, before: usize) {
        let Some(allowed) = self.throttle.record_throttling(now, sent_at, before) else { return };
        if self.size > allowed {
            self.set_size(now, allowed);
        }
        let size = self.size;
        self.trial =
            self.trial.take().map(|trial| trial.at_most(allowed)).filter(|trial| trial.size() > size);
    }

    fn end_trial(
        &mut self,
        now: Duration,
        result: TrialResult,
        prospects: &Prospects<'_>,
        rng: &mut fastrand::Rng,
    ) {
        let Some(trial) = &self.trial else { return };
        let size = trial.size();
        match result {
            TrialResult::Running => {}
            TrialResult::Worthwhile => {
                self.refusals.forget(size);
                self.set_size(now, size);
                self.consider_trial(now, prospects);
            }
            TrialResult::Useless => {
                self.refusals.refuse(size, rng);
                self.trial = None;
            }
        }
    }

    fn set_size(&mut self, now: Duration, size: usize) {
        (self.size, self.set_at, self.responses, self.trial) = (size.max(1), now, 0, None);
    }

    /// The number that is tried next.
    fn next_size(&self, max: usize) -> usize {
        (2 * self.size.max(1)).min(max).min(self.throttle.most_to_try(self.size))
    }

    fn consider_trial(&mut self, now: Duration, prospects: &Prospects<'_>) {
        let next = self.next_size(prospects.max);
        let service = prospects.service;
        let may_try = prospects.is_settled && service.has_enough_measurements();
        if next <= self.size || !may_try || self.refusals.is_refused(next) {
            return;
        }
        let own_factor = service.load_factor(to_float(self.size));
        let trial_factor = own_factor * to_float(next) / to_float(self.size);
        let wanted = WAITING_BATCHES_PER_SLOT * (next as u64) * ((prospects.batch_size)(trial_factor) as u64);
        if prospects.waiting_records >= wanted && self.is_worthwhile(next, prospects) {
            self.trial = Some(Trial::open(now, self.size, next, own_factor, Arc::clone(service)));
        }
    }

    /// Whether batches would be large enough if so many were under way and the last doubling gained nothing.
    fn is_worthwhile(&self, size: usize, prospects: &Prospects<'_>) -> bool {
        let below = if size > self.size { self.size } else { size.div_ceil(2) };
        let service = prospects.service;
        let factor = service.load_factor(to_float(below)) * to_float(size) / to_float(below);
        let (start_up, cost) = (service.start_up(), service.usual_cost());
        if cost <= 0.0 {
            return true;
        }
        let records = (prospects.time_budget / factor - start_up) / cost;
        records >= WORTHWHILE_RECORDS_MIN
            || (records > 0.0 && cost * records >= WORTHWHILE_SHARE_MIN * (start_up + cost * records))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn to_float(count: usize) -> f64 {
    count as f64
}
