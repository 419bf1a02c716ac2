//! What responses tell devices about the speed of the gateway: upper limits that it surely bears.
//!
//! A fast gateway sets limits that no device reaches, so that hints never slow devices down. Before enough was measured,
//! there are none.

use std::time::Duration;

use super::{LoadLimits, TIME_LIMIT_SHARE, to_float};
use crate::policy::service_time::ServiceTime;

/// Batches before the first hint.
const BATCHES_MIN: u64 = 10;
/// Smaller batches say little about the cost of a record: their start-up cost dominates.
const RECORDS_FOR_RATE_MIN: usize = 10;
/// The factor by which each batch reduces the weight of earlier ones.
const BATCH_DECAY: f64 = 0.95;
/// Durations that devices plan with on their own. No time budget is smaller.
const PLANNED_SHARE: f64 = 0.75;
/// As many deviations from the expected duration are left between the time budget and the time limit.
const DEVIATIONS_LEFT: f64 = 2.0;
/// This share of the planned time is for records, also if the start-up cost leaves less: fewer records in a batch would
/// not make it faster then.
const RECORDS_TIME_SHARE_MIN: f64 = 0.5;
/// No hint asks for fewer records. Devices that need smaller batches find out on their own.
const RECORDS_HINT_MIN: f64 = 10.0;
/// The factor by which each batch reduces the largest size that ended in time.
const FIT_DECAY: f64 = 0.99;
/// The factor by which a batch that did not end in time reduces it.
const MISS_FACTOR: f64 = 0.5;
/// The largest number of records in a hint: more than any device sends at a time, and no more than are accepted.
const RECORDS_HINT_MAX: f64 = 10_000.0;
/// The number of batches in flight is limited for each device if this share of all places is taken.
const BUSY_SHARE: f64 = 0.25;

/// The hints. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadHints {
    pub(crate) records_max: Option<usize>,
    pub(crate) time_budget: Option<Duration>,
    pub(crate) in_flight_max: Option<usize>,
}

/// Averages over recent batches.
#[derive(Debug, Default)]
pub(super) struct HintEstimator {
    batches: u64,
    /// Batches that are large enough.
    large_batches: u64,
    /// Records of the largest recent batch that ended in time.
    largest_fit: f64,
    records: f64,
    /// Bytes on their way for each record; zero before the first batch.
    record_bytes: f64,
    /// Mean deviation from the expected duration, in seconds.
    deviation: f64,
    in_flight: f64,
}

impl HintEstimator {
    /// A batch was processed, and `expected` seconds were expected.
    pub(super) fn observe_batch(
        &mut self,
        records: usize,
        duration: Duration,
        expected: Option<f64>,
        limits: &LoadLimits,
    ) {
        let seconds = duration.as_secs_f64();
        if self.batches == 0 {
            self.records = to_float(records);
        }
        self.batches += 1;
        if let Some(expected) = expected {
            self.deviation = blend(self.deviation, (seconds - expected).abs());
        }
        self.records = blend(self.records, to_float(records));
        if records >= RECORDS_FOR_RATE_MIN {
            self.large_batches += 1;
        }
        self.largest_fit = if seconds <= limits.time_limit.as_secs_f64() * TIME_LIMIT_SHARE {
            (self.largest_fit * FIT_DECAY).max(to_float(records))
        } else {
            self.largest_fit.min(to_float(records) * MISS_FACTOR)
        };
    }

    pub(super) fn observe_load(&mut self, in_flight: usize) {
        self.in_flight = blend(self.in_flight, to_float(in_flight));
    }

    pub(super) fn observe_upload(&mut self, body_bytes: usize, records: usize) {
        let bytes = to_float(body_bytes) / to_float(records.max(1));
        self.record_bytes = if self.record_bytes > 0.0 { blend(self.record_bytes, bytes) } else { bytes };
    }

    /// Records of a batch with such a body, or of a usual one; `None` before the first one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number")]
    pub(super) fn expected_records(&self, body_bytes: Option<usize>) -> Option<u64> {
        let records = match body_bytes {
            Some(bytes) if self.record_bytes > 0.0 => to_float(bytes) / self.record_bytes,
            _ => self.records,
        };
        (self.batches > 0).then(|| records.round().clamp(1.0, RECORDS_HINT_MAX) as u64)
    }

    pub(super) fn estimate(&self, limits: &LoadLimits, service: &ServiceTime, devices: usize) -> LoadHints {
        let limit = limits.time_limit.as_secs_f64();
        let is_busy = self.in_flight >= to_float(limits.in_flight_max) * BUSY_SHARE;
        LoadHints {
            records_max: (self.large_batches >= BATCHES_MIN)
                .then(|| self.records_within(limit * PLANNED_SHARE, service)),
            time_budget: (self.batches >= BATCHES_MIN).then(|| {
                let left = limit * TIME_LIMIT_SHARE - DEVIATIONS_LEFT * self.deviation;
                Duration::from_secs_f64(left.max(limit * PLANNED_SHARE))
            }),
            in_flight_max: is_busy.then(|| (limits.in_flight_max / devices.max(1)).max(1)),
        }
    }

    /// As many records as take so long at the usual load. The model learns from batches of any size, so that the number
    /// grows again when the gateway becomes faster, however small the batches are.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two limits")]
    fn records_within(&self, seconds: f64, service: &ServiceTime) -> usize {
        let factor = service.load_factor(self.in_flight);
        let for_records = (seconds - service.start_up() * factor).max(seconds * RECORDS_TIME_SHARE_MIN);
        let records = for_records / (service.usual_cost() * factor).max(f64::EPSILON);
        records.max(self.largest_fit).clamp(RECORDS_HINT_MIN, RECORDS_HINT_MAX) as usize
    }
}

fn blend(average: f64, value: f64) -> f64 {
    average * BATCH_DECAY + value * (1.0 - BATCH_DECAY)
}
