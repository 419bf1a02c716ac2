//! How long a batch takes, learned from the batches that the server processed.
//!
//! The model is `a + Σ bₜ·nₜ`: a start-up cost, and a cost for each record of a type. The noise is a factor on it.
//! `regression` learns the parameters and follows drift; most drift is common to all of them (the server's load).
//! `spread` learns the noise, and `load_factors` by what factor a batch takes longer while others are under way.
//!
//! Two rules bound growth independently of the model. A batch is at most twice as large as the largest one that
//! succeeded recently. A time-out halves the size at once (multiplicative decrease: Chiu and Jain, 1989).

mod load_factors;
mod regression;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::millis;
use load_factors::LoadFactors;
use regression::Regression;
use spread::Spread;

/// From this number of measured batches on, only measurements decide the size.
const MEASURED_BATCHES_MIN: u64 = 3;
/// Types with a cost of their own; all others share one.
const TYPES_MAX: usize = 12;
/// The index of a parameter in the model.
const START_UP_INDEX: usize = 0;
const OTHER_TYPES_INDEX: usize = 1;
const FIRST_TYPE_INDEX: usize = 2;
/// The assumption before anything was measured, as shares of the time limit: the customer's 30 records in 35 s of 60 s.
const INITIAL_START_UP_SHARE: f64 = 1.0 / 30.0;
const INITIAL_RECORD_SHARE: f64 = 1.0 / 51.0;
/// How much the parameters drift from one batch to the next: all together, and each separately.
const COMMON_DRIFT: f64 = 0.03;
const OWN_DRIFT: f64 = 0.005;
/// Expected durations are at least this.
const EXPECTED_SECONDS_MIN: f64 = 1e-6;
/// How many batches bound the growth, and by what factor.
const RECENT_BATCHES_MAX: usize = 20;
const GROWTH_FACTOR: usize = 2;
/// A successful batch of at least this share of the ceiling raises it.
const CEILING_TEST_SHARE: f64 = 0.75;
/// The factor by which each batch reduces the weight of earlier ones in the plain average.
const AVERAGE_DECAY: f64 = 0.7;
/// The factor by which each batch reduces the record counts of the types.
const TYPE_COUNT_DECAY: f64 = 0.98;

/// How long a batch took, and beside how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// From the end of the body to the response.
    pub elapsed: Duration,
    /// By how much the true duration may be shorter or longer.
    pub inexact: Duration,
    /// How many batches were under way on average over its flight, itself included.
    pub under_way: f64,
}

impl Measured {
    /// The exact time of a batch that was under way alone.
    pub fn alone(elapsed: Duration) -> Self {
        Self { elapsed, inexact: Duration::ZERO, under_way: 1.0 }
    }
}

/// What a batch holds, as far as its duration depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    types: Vec<(String, u32)>,
    bytes: u64,
}

impl Load {
    /// Adds a record.
    pub fn add_record(&mut self, record_type: &str, bytes: u64) {
        self.bytes += bytes;
        match self.types.iter_mut().find(|(known, _)| known == record_type) {
            Some((_, count)) => *count += 1,
            None => self.types.push((record_type.to_owned(), 1)),
        }
    }

    /// Removes the record that was added last.
    pub fn remove_record(&mut self, record_type: &str, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        for (_, count) in self.types.iter_mut().filter(|(known, _)| known == record_type) {
            *count = count.saturating_sub(1);
        }
        self.types.retain(|(_, count)| *count > 0);
    }

    /// How many records.
    pub fn records(&self) -> usize {
        self.types.iter().map(|(_, count)| *count as usize).sum()
    }

    /// Sum of the payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of each type.
    pub fn types(&self) -> &[(String, u32)] {
        &self.types
    }
}

/// The expected duration of a batch, in seconds. The upper bound covers the noise and the uncertainty of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// On average.
    pub mean: f64,
    /// One in 100 takes longer.
    pub upper: f64,
}

impl Forecast {
    /// The mean in whole milliseconds.
    pub fn mean_ms(&self) -> u64 {
        whole_ms(self.mean)
    }

    /// The upper bound in whole milliseconds.
    pub fn upper_ms(&self) -> u64 {
        whole_ms(self.upper)
    }

    /// The forecast of a batch that takes longer by this factor.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { mean: self.mean * factor, upper: self.upper * factor }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct MeasuredBatch {
    records: usize,
    seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KnownType {
    name: String,
    /// Records seen; older ones count less.
    seen: f64,
}

/// The learned model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// The time limit that the initial assumptions are shares of, in seconds.
    scale: f64,
    costs: Regression,
    types: Vec<KnownType>,
    spread: Spread,
    #[serde(default)]
    factors: LoadFactors,
    answers: u64,
    recent: VecDeque<MeasuredBatch>,
    /// Half of the size that timed out; successful batches raise it again.
    ceiling: Option<usize>,
    /// The plain average, for people.
    average: Option<(f64, f64)>,
}

impl ServiceTime {
    /// The server processed a batch; the time limit is `limit`.
    pub fn record_response(&mut self, load: &Load, measured: Measured, limit: Duration) {
        self.learn(load, measured, limit);
        let (records, seconds) = self.average.unwrap_or_default();
        self.average = Some((
            records * AVERAGE_DECAY + to_float(load.records()),
            seconds * AVERAGE_DECAY + measured.elapsed.as_secs_f64(),
        ));
    }

    /// A fresh batch of `records` succeeded in `elapsed`: the next one may be larger.
    pub fn record_fit(&mut self, records: usize, elapsed: Duration) {
        self.recent.truncate(RECENT_BATCHES_MAX - 1);
        self.recent.push_front(MeasuredBatch { records, seconds: elapsed.as_secs_f64() });
        if let Some(ceiling) = self.ceiling
            && to_float(records) >= CEILING_TEST_SHARE * to_float(ceiling)
        {
            self.ceiling = Some(ceiling * GROWTH_FACTOR);
        }
    }

    /// A batch without a response turned out to be processed at about that time.
    pub fn record_completion(&mut self, load: &Load, measured: Measured, limit: Duration) {
        self.learn(load, measured, limit);
    }

    /// A fresh batch of `records` timed out.
    pub fn record_timeout(&mut self, records: usize) {
        let half = (records / 2).max(1);
        self.ceiling = Some(self.ceiling.map_or(half, |ceiling| ceiling.min(half)));
    }

    /// Whether anything was measured.
    pub fn has_measurements(&self) -> bool {
        self.answers > 0
    }

    /// Whether there are enough measurements to decide the size without the configured sizes.
    pub fn has_enough_measurements(&self) -> bool {
        self.answers >= MEASURED_BATCHES_MIN
    }

    /// The expected duration of a batch.
    pub fn forecast(&self, load: &Load) -> Forecast {
        self.forecast_features(&self.features(load))
    }

    /// The factor by which a batch takes longer while so many are under way, itself included.
    pub fn load_factor(&self, under_way: f64) -> f64 {
        self.factors.factor(under_way).ln.exp()
    }

    /// The part of a batch's time that does not depend on its records, in seconds.
    pub fn start_up(&self) -> f64 {
        self.costs.parameter(START_UP_INDEX)
    }

    /// How many records the next batch may have by the bounds of growth.
    pub fn largest_next(&self) -> Option<usize> {
        let largest = self.recent.iter().map(|batch| batch.records).max();
        largest.map(|largest| largest * GROWTH_FACTOR).into_iter().chain(self.ceiling).min()
    }

    /// The duration of the slowest recent batch.
    pub fn longest_recent(&self) -> Duration {
        let longest = self.recent.iter().map(|batch| batch.seconds).fold(0.0, f64::max);
        Duration::try_from_secs_f64(longest).unwrap_or_default()
    }

    /// The average time per record over the last measured batches.
    pub fn per_record(&self) -> Option<Duration> {
        let (records, seconds) = self.average?;
        Duration::try_from_secs_f64(seconds / records).ok()
    }

    /// The expected duration of a batch of `records` of the usual mix of types.
    pub fn forecast_usual(&self, records: u64) -> Forecast {
        self.forecast_features(&self.usual_features(records))
    }

    /// The estimated time for `records` more, with `size` records in each batch.
    pub fn estimate_remaining(&self, records: u64, size: usize) -> Option<Duration> {
        let batches = records.div_ceil(size.max(1) as u64);
        let mut features = self.usual_features(records);
        if let Some(first) = features.get_mut(START_UP_INDEX) {
            *first = exact_float(batches);
        }
        let seconds = self.costs.expected(&features);
        Duration::try_from_secs_f64(seconds).ok().filter(|_| self.has_measurements())
    }

    fn forecast_features(&self, features: &[f64]) -> Forecast {
        let mean = self.costs.expected(features);
        let variance = self.costs.variance(features);
        let as_sum = mean * self.spread.factor(0.0) + self.spread.deviations() * variance.sqrt();
        // A factor is meaningless if the expected duration is nearly zero.
        let as_factor = if mean > 0.0 {
            mean * self.spread.factor(relative_variance(variance.sqrt(), mean))
        } else {
            as_sum
        };
        Forecast { mean, upper: as_sum.min(as_factor) }
    }

    fn learn(&mut self, load: &Load, measured: Measured, limit: Duration) {
        let Measured { elapsed, inexact, under_way } = measured;
        if load.records() == 0 || elapsed.is_zero() {
            return;
        }
        if self.answers == 0 {
            self.reset_model(limit);
        }
        self.answers += 1;
        self.count_types(load);
        let features = self.features(load);
        self.costs.drift(COMMON_DRIFT, OWN_DRIFT);
        let factor = self.factors.factor(under_way);
        let seen = elapsed.as_secs_f64() / factor.ln.exp();
        let expected = self.costs.expected(&features).max(EXPECTED_SECONDS_MIN);
        let deviation = (seen / expected).ln();
        let blur = relative_variance(inexact.as_secs_f64(), elapsed.as_secs_f64()) + factor.variance;
        let unsure = relative_variance(self.costs.variance(&features).sqrt(), expected) + blur;
        let factor_share = factor.variance / (unsure + self.spread.noise());
        // The noise is a factor on the true duration. The measured and the expected duration are estimates of it.
        let noise = (self.spread.noise() + blur) * expected * seen;
        if self.spread.observe(deviation, unsure) {
            // More than noise: the whole server may have become slower or faster by this factor.
            self.costs.drift(deviation.abs(), OWN_DRIFT);
        }
        self.costs.learn(&features, seen, noise);
        self.factors.learn(under_way, deviation, factor_share);
    }

    fn reset_model(&mut self, limit: Duration) {
        let scale = limit.as_secs_f64();
        self.scale = scale;
        self.costs = Regression::default();
        self.costs.add(scale * INITIAL_START_UP_SHARE, scale * INITIAL_START_UP_SHARE);
        self.costs.add(scale * INITIAL_RECORD_SHARE, scale * INITIAL_RECORD_SHARE);
        self.types.clear();
    }

    /// Counts the records by type. A new type gets a cost of its own, which starts at the usual cost.
    fn count_types(&mut self, load: &Load) {
        for known in &mut self.types {
            known.seen *= TYPE_COUNT_DECAY;
        }
        for (name, count) in load.types() {
            if !self.types.iter().any(|known| known.name == *name) && self.types.len() < TYPES_MAX {
                let cost = self.usual_cost();
                let unsure = cost.max(self.scale * INITIAL_RECORD_SHARE);
                self.costs.add(cost, unsure);
                self.types.push(KnownType { name: name.clone(), seen: 0.0 });
            }
            if let Some(known) = self.types.iter_mut().find(|known| known.name == *name) {
                known.seen += f64::from(*count);
            }
        }
    }

    /// The cost of a record of the usual mix, in seconds.
    pub fn usual_cost(&self) -> f64 {
        let seen: f64 = self.types.iter().map(|known| known.seen).sum();
        if seen <= 0.0 {
            return self.costs.parameter(OTHER_TYPES_INDEX);
        }
        let costs = self.types.iter().zip(FIRST_TYPE_INDEX..);
        costs.map(|(known, index)| known.seen / seen * self.costs.parameter(index)).sum()
    }

    fn features(&self, load: &Load) -> Vec<f64> {
        let mut features = self.empty_features();
        for (name, count) in &load.types {
            let index = self.types.iter().position(|known| known.name == *name);
            if let Some(feature) =
                features.get_mut(index.map_or(OTHER_TYPES_INDEX, |index| FIRST_TYPE_INDEX + index))
            {
                *feature += f64::from(*count);
            }
        }
        features
    }

    fn usual_features(&self, records: u64) -> Vec<f64> {
        let mut features = self.empty_features();
        let seen: f64 = self.types.iter().map(|known| known.seen).sum();
        for (known, feature) in self.types.iter().zip(features.iter_mut().skip(FIRST_TYPE_INDEX)) {
            *feature = if seen > 0.0 { known.seen / seen * exact_float(records) } else { 0.0 };
        }
        features
    }

    fn empty_features(&self) -> Vec<f64> {
        let mut features = vec![0.0; FIRST_TYPE_INDEX + self.types.len()];
        features[START_UP_INDEX] = 1.0;
        features
    }
}

fn whole_ms(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(u64::MAX, millis)
}

fn relative_variance(deviation: f64, size: f64) -> f64 {
    if size > 0.0 { (deviation / size).powi(2) } else { 0.0 }
}

fn to_float(count: usize) -> f64 {
    exact_float(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes far below 2^52, or an estimate")]
fn exact_float(count: u64) -> f64 {
    count as f64
}
