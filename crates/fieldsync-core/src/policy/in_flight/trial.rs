//! A trial of a larger number of batches under way, and how long a number that was of no use is not tried again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::to_float;
use crate::policy::service_time::{Load, ServiceTime};

/// The share of the ideal gain in throughput that a larger number must reach.
const GAIN_SHARE_MIN: f64 = 1.0 / 3.0;
/// Responses until a number that was of no use is tried again: at first, and at most. It doubles each time …
const REFUSED_RESPONSES: u32 = 25;
const REFUSED_RESPONSES_MAX: u32 = 1600;
/// … and is longer by up to this share, so that the clients of a fleet do not try together.
const REFUSED_SPREAD: f64 = 0.3;

/// A batch that the server processed, or that timed out.
#[derive(Clone, Debug)]
pub struct MeasuredBatch {
    /// When it was sent.
    pub sent_at: Duration,
    /// From the end of its body to the response.
    pub elapsed: Duration,
    /// How many were under way on average over its flight, itself included.
    pub under_way: f64,
    /// What it holds.
    pub load: Load,
}

/// How a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialResult {
    Running,
    /// Enough of the ideal gain is reached.
    Worthwhile,
    Useless,
}

/// A trial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    from: usize,
    size: usize,
    opened_at: Duration,
    /// The model and the factor when the trial began: what is learned meanwhile must not explain the result away.
    service: Arc<ServiceTime>,
    own_factor: f64,
    /// Since when enough batches are under way.
    measuring_since: Option<Duration>,
    /// The logarithms of measured by expected durations.
    sum: f64,
    count: usize,
}

impl Trial {
    pub(super) fn open(
        now: Duration,
        from: usize,
        size: usize,
        own_factor: f64,
        service: Arc<ServiceTime>,
    ) -> Self {
        Self { from, size, opened_at: now, service, own_factor, measuring_since: None, sum: 0.0, count: 0 }
    }

    /// The number under way that is tried.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The trial of no more than so many.
    pub(super) fn at_most(mut self, allowed: usize) -> Self {
        self.size = self.size.min(allowed);
        self
    }

    /// By what factor a batch takes longer if the larger number gains nothing, or more than that if an earlier trial
    /// showed that it loses.
    pub(super) fn load_factor(&self) -> f64 {
        let gains_nothing = self.own_factor * to_float(self.size) / to_float(self.from);
        gains_nothing.max(self.service.load_factor(to_float(self.size)))
    }

    pub(super) fn record_response(&mut self, now: Duration, batch: &MeasuredBatch) -> TrialResult {
        match self.measuring_since {
            Some(since) if batch.sent_at >= since => self.record(batch),
            // From the first response on, the others are under way beside each batch.
            None if batch.sent_at >= self.opened_at => {
                self.measuring_since = Some(now);
                TrialResult::Running
            }
            Some(_) | None => TrialResult::Running,
        }
    }

    /// It took at least that long.
    pub(super) fn record_timeout(&mut self, batch: &MeasuredBatch) -> TrialResult {
        if batch.sent_at < self.opened_at { TrialResult::Running } else { self.record(batch) }
    }

    fn record(&mut self, batch: &MeasuredBatch) -> TrialResult {
        // With fewer under way, nothing was tried.
        if batch.under_way < f64::midpoint(to_float(self.from), to_float(self.size)) {
            return TrialResult::Running;
        }
        let expected = self.service.forecast(&batch.load).mean * self.own_factor;
        let ratio = batch.elapsed.as_secs_f64() / expected;
        if ratio > 0.0 && ratio.is_finite() {
            self.sum += ratio.ln();
            self.count += 1;
        }
        if self.count < self.size.max(2) {
            return TrialResult::Running;
        }
        let ideal = (to_float(self.size) / to_float(self.from)).ln();
        if self.sum / to_float(self.count) <= (1.0 - GAIN_SHARE_MIN) * ideal {
            TrialResult::Worthwhile
        } else {
            TrialResult::Useless
        }
    }
}

/// The numbers that were of no use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Refusals(Vec<RefusedSize>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RefusedSize {
    size: usize,
    /// Responses until it may be tried again.
    responses_left: u32,
    /// The wait if it is of no use once more, in responses.
    next_wait: u32,
}

impl Refusals {
    pub(super) fn is_refused(&self, size: usize) -> bool {
        self.0.iter().any(|refused| refused.size == size && refused.responses_left > 0)
    }

    pub(super) fn count_response(&mut self) {
        for refused in &mut self.0 {
            refused.responses_left = refused.responses_left.saturating_sub(1);
        }
    }

    /// It was of no use: it is not tried for a while.
    pub(super) fn refuse(&mut self, size: usize, rng: &mut fastrand::Rng) {
        let before = self.0.iter().position(|refused| refused.size == size).map(|at| self.0.remove(at));
        let wait = before.map_or(REFUSED_RESPONSES, |before| before.next_wait);
        let spread = f64::from(wait) * REFUSED_SPREAD * rng.f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 480, not negative"
        )]
        let responses_left = wait + spread as u32;
        let next_wait = (2 * wait).min(REFUSED_RESPONSES_MAX);
        self.0.push(RefusedSize { size, responses_left, next_wait });
    }

    /// It was of use.
    pub(super) fn forget(&mut self, size: usize) {
        self.0.retain(|refused| refused.size != size);
    }
}
