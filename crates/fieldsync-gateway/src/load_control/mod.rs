//! Keeps the time of batches below the time limit of the devices: decides which batches are refused while the gateway
//! is busy, when their devices return, and what the responses tell devices about the speed of the gateway.
//!
//! Pure: time and randomness are arguments. The durations are learned with the model that devices use
//! ([`ServiceTime`]): a start-up cost, a cost for each record, and a factor for batches under way at the same time.

mod completion_rate;
mod retry_turns;
mod server_hints;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::DeviceId;
use crate::policy::service_time::{Load, Measured, ServiceTime};
use completion_rate::CompletionRate;
use retry_turns::RetryTurns;
use server_hints::HintEstimator;
pub(crate) use server_hints::LoadHints;

/// A batch is refused if it is expected to take more than this share of the devices' time limit. The rest is for its way
/// through the network. Devices size their batches for three quarters of their limit, which must not be refused.
const TIME_LIMIT_SHARE: f64 = 0.9;
/// With fewer batches in flight, none is refused for its duration: otherwise a slow gateway would never measure that it
/// became faster.
const IN_FLIGHT_FOR_FORECAST_MIN: usize = 4;
/// While devices wait for their turn, this share of the places is for new ones; the rest is for those that return.
const NEW_SHARE_PERCENT: usize = 75;
/// Places beyond the limit for batches that have a response already: a read of the ledger answers them.
const KNOWN_PLACES_DIVISOR: usize = 4;
/// Completed batches for each second, before anything was measured.
const RATE_UNMEASURED: f64 = 500.0;

/// What bounds the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadLimits {
    /// How long devices, and proxies in front, wait for the response to a batch.
    pub(crate) time_limit: Duration,
    /// Batches that are processed at the same time.
    pub(crate) in_flight_max: usize,
}

impl LoadLimits {
    /// Batches in flight, together with those that need no processing.
    pub(crate) fn places(&self) -> usize {
        self.in_flight_max.saturating_add(self.in_flight_max.div_ceil(KNOWN_PLACES_DIVISOR))
    }
}

/// What is known of a batch before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchHead {
    pub(crate) device: DeviceId,
    /// As on its way, so mostly compressed.
    pub(crate) body_bytes: Option<usize>,
}

/// A batch whose processing ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedBatch {
    pub(crate) records: usize,
    pub(crate) duration: Duration,
    /// Batches in flight on average meanwhile, itself included.
    pub(crate) in_flight: f64,
    /// Whether it was processed, and not answered from memory or given up.
    pub(crate) was_processed: bool,
}

/// Whether a batch is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accepted,
    /// Its device should return after this time.
    Refused {
        wait: Duration,
    },
}

/// What was measured, and which devices were asked to return.
#[derive(Debug)]
pub(crate) struct LoadControl {
    limits: LoadLimits,
    service: ServiceTime,
    rate: CompletionRate,
    turns: RetryTurns,
    hints: HintEstimator,
}

impl LoadControl {
    pub(crate) fn new(limits: LoadLimits) -> Self {
        Self {
            limits,
            service: ServiceTime::default(),
            rate: CompletionRate::default(),
            turns: RetryTurns::default(),
            hints: HintEstimator::default(),
        }
    }

    /// Decides about a batch while `in_flight` others are being processed.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        batch: BatchHead,
        in_flight: usize,
        rng: &mut fastrand::Rng,
    ) -> Admission {
        let device = batch.device;
        let has_turn = self.turns.is_due(now, device);
        let limit = match self.limits.in_flight_max {
            all if has_turn || self.turns.is_empty(now) => all,
            all => (all * NEW_SHARE_PERCENT).div_ceil(100),
        };
        let has_place = in_flight < limit;
        if has_place && (has_turn || !self.is_load_too_high(batch.body_bytes, in_flight)) {
            self.turns.forget(device);
            return Admission::Accepted;
        }
        // A rate that was measured with all places taken says nothing about fewer, slower batches.
        let measured = if has_place { None } else { self.rate.per_second() };
        let rate = measured.unwrap_or_else(|| self.expected_rate(in_flight));
        Admission::Refused { wait: self.turns.give_turn(now, device, rate, rng) }
    }

    /// Decides about a batch that has a response already.
    pub(crate) fn admit_known(&mut self, device: DeviceId, in_flight: usize) -> bool {
        let is_admitted = in_flight < self.limits.places();
        if is_admitted {
            self.turns.forget(device);
        }
        is_admitted
    }

    /// Learns from a batch whose processing ended, while `in_flight` were being processed.
    pub(crate) fn record_end(&mut self, now: Duration, batch: EndedBatch, in_flight: usize) {
        self.rate.record_completion(now, in_flight.saturating_mul(2) >= self.limits.in_flight_max);
        self.hints.observe_load(in_flight);
        if !batch.was_processed {
            return;
        }
        let mut load = Load::default();
        for _ in 0..batch.records {
            load.add_record("", 0);
        }
        let expected = self
            .service
            .has_enough_measurements()
            .then(|| self.service.forecast(&load).mean * self.service.load_factor(batch.in_flight));
        self.hints.observe_batch(batch.records, batch.duration, expected, &self.limits);
        let measured =
            Measured { elapsed: batch.duration, inexact: Duration::ZERO, under_way: batch.in_flight };
        self.service.record_response(&load, measured, self.limits.time_limit);
    }

    /// What responses say now. `devices` have batches in flight.
    pub(crate) fn hints(&self, devices: usize) -> LoadHints {
        self.hints.estimate(&self.limits, &self.service, devices)
    }

    /// Learns how large the body of a batch is on its way.
    pub(crate) fn record_upload(&mut self, body_bytes: usize, records: usize) {
        self.hints.observe_upload(body_bytes, records);
    }

    /// Whether one more batch beside `in_flight` others would not end in time because of these. A batch that is too slow
    /// on its own would be too slow later, too.
    fn is_load_too_high(&self, body_bytes: Option<usize>, in_flight: usize) -> bool {
        if in_flight < IN_FLIGHT_FOR_FORECAST_MIN {
            return false;
        }
        let Some(alone) = self.expected_seconds_alone(self.hints.expected_records(body_bytes)) else {
            return false;
        };
        let limit = self.limits.time_limit.as_secs_f64() * TIME_LIMIT_SHARE;
        alone <= limit && alone * self.service.load_factor(to_float(in_flight + 1)) > limit
    }

    /// How long a batch takes without others.
    fn expected_seconds_alone(&self, records: Option<u64>) -> Option<f64> {
        let records = records.filter(|_| self.service.has_enough_measurements())?;
        Some(self.service.forecast_usual(records).mean)
    }

    /// How many usual batches should end in a second with so many in flight.
    fn expected_rate(&self, in_flight: usize) -> f64 {
        match self.expected_seconds_alone(self.hints.expected_records(None)) {
            // By Little's law.
            Some(seconds) if seconds > 0.0 => {
                to_float(in_flight.max(1)) / (seconds * self.service.load_factor(to_float(in_flight)))
            }
            _ => RATE_UNMEASURED,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn to_float(count: usize) -> f64 {
    count as f64
}
