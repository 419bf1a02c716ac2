//! What a batch will take, learned from those that were answered.
//!
//! The server's wait is `a + Σ bₜ·nₜ`: a start-up cost and a cost for each record of a type, with noise that
//! is a factor. The parameters are learned by `regression`, which follows drift, most of it common to all of
//! them (the server's load); the noise is in `spread`.
//!
//! Growth is bounded besides: no batch is more than twice as large as the largest of those that got through
//! of late; and a time-out halves the size at once (multiplicative decrease: Chiu and Jain, 1989), whatever
//! the model thinks.

mod regression;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::millis;
use regression::Regression;
use spread::Spread;

/// Answered batches until what was measured decides alone.
const ENOUGH_ANSWERS: u64 = 3;
/// Types whose cost is told apart; the others share one.
const MAX_TYPES: usize = 12;
/// Where a parameter stands.
const START_UP: usize = 0;
const OTHER_TYPES: usize = 1;
const FIRST_TYPE: usize = 2;
/// What is thought before anything was measured, as shares of the time limit: the customer's 30
/// records in 35 s of 60 s.
const FIRST_START_UP: f64 = 1.0 / 30.0;
const FIRST_RECORD: f64 = 1.0 / 51.0;
/// How much the parameters move from one batch to the next, together and each for itself.
const COMMON_DRIFT: f64 = 0.03;
const OWN_DRIFT: f64 = 0.005;
/// Batches that are remembered for the bound of growth, and the bound.
const RECENT: usize = 20;
const GROWTH_RECORDS: usize = 2;
/// A batch of this share of the ceiling shows that it holds.
const NEAR_CEILING: f64 = 0.75;
/// What one more batch leaves of the weight of those before in the plain average.
const MEMORY: f64 = 0.7;
/// What is counted of the records of a type is forgotten by this share a batch.
const USE_MEMORY: f64 = 0.98;

/// What a batch holds, as far as its duration depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    types: Vec<(String, u32)>,
    bytes: u64,
}

impl Load {
    /// One more record.
    pub fn add(&mut self, record_type: &str, bytes: u64) {
        self.bytes += bytes;
        match self.types.iter_mut().find(|(known, _)| known == record_type) {
            Some((_, count)) => *count += 1,
            None => self.types.push((record_type.to_owned(), 1)),
        }
    }

    /// Takes back the record that was added last.
    pub fn take_back(&mut self, record_type: &str, bytes: u64) {
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

/// What is expected of a batch, in seconds. The noise is a factor; what is not known of the model adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// On average.
    pub mean: f64,
    /// One in 100 takes longer.
    pub most: f64,
}

impl Forecast {
    /// The mean in whole milliseconds.
    pub fn mean_ms(&self) -> u64 {
        whole_ms(self.mean)
    }

    /// The other in whole milliseconds.
    pub fn most_ms(&self) -> u64 {
        whole_ms(self.most)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Answered {
    records: usize,
    seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KnownType {
    name: String,
    /// Records seen, the older ones less.
    seen: f64,
}

/// The learned model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// The time limit that the first thoughts were made for, in seconds.
    scale: f64,
    costs: Regression,
    types: Vec<KnownType>,
    spread: Spread,
    answers: u64,
    recent: VecDeque<Answered>,
    /// Half of what timed out, until it is given back.
    ceiling: Option<usize>,
    /// The plain average, for people.
    average: Option<(f64, f64)>,
}

impl ServiceTime {
    /// A batch was answered after `took`; the time limit is `limit`.
    pub fn answered(&mut self, load: &Load, took: Duration, limit: Duration) {
        self.learn(load, took, Duration::ZERO, limit);
        let (records, seconds) = self.average.unwrap_or_default();
        self.average =
            Some((records * MEMORY + float(load.records()), seconds * MEMORY + took.as_secs_f64()));
    }

    /// A fresh batch of `records` got through in `took`: the next may be larger.
    pub fn fitted(&mut self, records: usize, took: Duration) {
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(Answered { records, seconds: took.as_secs_f64() });
        if let Some(ceiling) = self.ceiling
            && float(records) >= NEAR_CEILING * float(ceiling)
        {
            self.ceiling = Some(ceiling * GROWTH_RECORDS);
        }
    }

    /// A batch that got no answer turned out to be done between these two times after it was sent.
    pub fn found_done(&mut self, load: &Load, after: Duration, before: Duration, limit: Duration) {
        let half = before.saturating_sub(after) / 2;
        self.learn(load, after + half, half, limit);
    }

    /// A fresh batch of `records` did not make it in time.
    pub fn timed_out(&mut self, records: usize) {
        let half = (records / 2).max(1);
        self.ceiling = Some(self.ceiling.map_or(half, |ceiling| ceiling.min(half)));
    }

    /// Whether anything was measured.
    pub fn is_known(&self) -> bool {
        self.answers > 0
    }

    /// Whether what was measured decides alone.
    pub fn is_enough(&self) -> bool {
        self.answers >= ENOUGH_ANSWERS
    }

    /// What is expected of a batch.
    pub fn forecast(&self, load: &Load) -> Forecast {
        self.at(&self.features(load))
    }

    /// The share of a batch's time that every batch costs, whatever it holds, in seconds.
    pub fn start_up(&self) -> f64 {
        self.costs.parameter(START_UP)
    }

    /// How many records the next batch may have: a bound of growth.
    pub fn largest_next(&self) -> Option<usize> {
        let largest = self.recent.iter().map(|batch| batch.records).max();
        largest.map(|largest| largest * GROWTH_RECORDS).into_iter().chain(self.ceiling).min()
    }

    /// The longest of the batches that were answered of late.
    pub fn longest(&self) -> Duration {
        let longest = self.recent.iter().map(|batch| batch.seconds).fold(0.0, f64::max);
        Duration::try_from_secs_f64(longest).unwrap_or_default()
    }

    /// The time per record, on average over the last answered batches.
    pub fn per_record(&self) -> Option<Duration> {
        let (records, seconds) = self.average?;
        Duration::try_from_secs_f64(seconds / records).ok()
    }

    /// What a batch of `records` of the usual mix is expected to take.
    pub fn usual(&self, records: u64) -> Forecast {
        self.at(&self.usual_features(records))
    }

    /// The estimated time for `records` more, `size` a batch.
    pub fn estimate(&self, records: u64, size: usize) -> Option<Duration> {
        let batches = records.div_ceil(size.max(1) as u64);
        let mut features = self.usual_features(records);
        if let Some(first) = features.get_mut(START_UP) {
            *first = precise(batches);
        }
        let seconds = self.costs.expected(&features);
        Duration::try_from_secs_f64(seconds).ok().filter(|_| self.is_known())
    }

    fn at(&self, features: &[f64]) -> Forecast {
        let mean = self.costs.expected(features);
        let variance = self.costs.variance(features);
        let as_sum = mean * self.spread.factor(0.0) + self.spread.deviations() * variance.sqrt();
        // A factor means nothing where next to nothing is expected.
        let as_factor = if mean > 0.0 { mean * self.spread.factor(relative(variance, mean)) } else { as_sum };
        Forecast { mean, most: as_sum.min(as_factor) }
    }

    /// `inexact`: how far the true duration may be from `took`, either way.
    fn learn(&mut self, load: &Load, took: Duration, inexact: Duration, limit: Duration) {
        if load.records() == 0 || took.is_zero() {
            return;
        }
        if self.answers == 0 {
            self.begin(limit);
        }
        self.answers += 1;
        self.meet(load);
        let features = self.features(load);
        self.costs.drift(COMMON_DRIFT, OWN_DRIFT);
        let (seen, expected) = (took.as_secs_f64(), self.costs.expected(&features).max(1e-6));
        let deviation = (seen / expected).ln();
        let blur = relative(inexact.as_secs_f64().powi(2), seen);
        let unsure = relative(self.costs.variance(&features), expected) + blur;
        // A factor on the true duration, of which the two are the guesses.
        let noise = (self.spread.noise() + blur) * expected * seen;
        if self.spread.observe(deviation, unsure) {
            // No noise any more: the whole server may have become that much slower or faster.
            self.costs.drift(deviation.abs(), OWN_DRIFT);
        }
        self.costs.learn(&features, seen, noise);
    }

    fn begin(&mut self, limit: Duration) {
        let scale = limit.as_secs_f64();
        self.scale = scale;
        self.costs = Regression::default();
        self.costs.add(scale * FIRST_START_UP, scale * FIRST_START_UP);
        self.costs.add(scale * FIRST_RECORD, scale * FIRST_RECORD);
        self.types.clear();
    }

    /// Gives a new type a cost of its own, which is first thought to be the usual one.
    fn meet(&mut self, load: &Load) {
        for known in &mut self.types {
            known.seen *= USE_MEMORY;
        }
        for (name, count) in load.types() {
            if !self.types.iter().any(|known| known.name == *name) && self.types.len() < MAX_TYPES {
                let cost = self.usual_cost();
                let unsure = cost.max(self.scale * FIRST_RECORD);
                self.costs.add(cost, unsure);
                self.types.push(KnownType { name: name.clone(), seen: 0.0 });
            }
            if let Some(known) = self.types.iter_mut().find(|known| known.name == *name) {
                known.seen += f64::from(*count);
            }
        }
    }

    fn usual_cost(&self) -> f64 {
        let seen: f64 = self.types.iter().map(|known| known.seen).sum();
        if seen <= 0.0 {
            return self.costs.parameter(OTHER_TYPES);
        }
        let costs = self.types.iter().zip(FIRST_TYPE..);
        costs.map(|(known, index)| known.seen / seen * self.costs.parameter(index)).sum()
    }

    fn features(&self, load: &Load) -> Vec<f64> {
        let mut features = self.blank();
        for (name, count) in &load.types {
            let index = self.types.iter().position(|known| known.name == *name);
            if let Some(feature) = features.get_mut(index.map_or(OTHER_TYPES, |index| FIRST_TYPE + index)) {
                *feature += f64::from(*count);
            }
        }
        features
    }

    fn usual_features(&self, records: u64) -> Vec<f64> {
        let mut features = self.blank();
        let seen: f64 = self.types.iter().map(|known| known.seen).sum();
        for (known, feature) in self.types.iter().zip(features.iter_mut().skip(FIRST_TYPE)) {
            *feature = if seen > 0.0 { known.seen / seen * precise(records) } else { 0.0 };
        }
        features
    }

    fn blank(&self) -> Vec<f64> {
        let mut features = vec![0.0; FIRST_TYPE + self.types.len()];
        features[START_UP] = 1.0;
        features
    }
}

fn whole_ms(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(u64::MAX, millis)
}

fn relative(variance: f64, size: f64) -> f64 {
    if size > 0.0 { variance / (size * size) } else { 0.0 }
}

fn float(count: usize) -> f64 {
    precise(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes far below 2^52, or an estimate")]
fn precise(count: u64) -> f64 {
    count as f64
}
