//! Durations per record: their sum and their distribution, in a histogram whose buckets are 3 % wide.
//!
//! Only buckets in use take up memory. A dense histogram would take more than 6 KB for each type.

use histogram::{Config, Histogram, Quantile, SparseHistogram};
use serde::{Deserialize, Serialize};

use super::numbers::{add_to, to_float};
use crate::api::PerRecord;

/// Buckets are at most 1/32 of their value wide; durations up to 30 hours.
const BUCKETS: Config = match Config::new(5, 30) {
    Ok(config) => config,
    Err(_) => unreachable!(),
};
/// The histogram counts tenths of a millisecond.
const MICROS_PER_UNIT: u64 = 100;
const UNITS_PER_MS: u64 = 10;
const LARGEST_UNITS: u64 = (1 << 30) - 1;
/// Durations before they are added to the buckets.
const RECENT_MAX: usize = 32;

/// Durations per record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "SavedDurations", into = "SavedDurations")]
pub(super) struct Durations {
    records: u64,
    micros: u64,
    buckets: SparseHistogram,
    /// Durations of one record and how many records, not in the buckets yet.
    recent: Vec<(u64, u64)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SavedDurations {
    records: u64,
    micros: u64,
    buckets: Vec<u32>,
    counts: Vec<u64>,
}

impl Default for Durations {
    fn default() -> Self {
        Self { records: 0, micros: 0, buckets: SparseHistogram::with_config(&BUCKETS), recent: Vec::new() }
    }
}

impl From<SavedDurations> for Durations {
    /// Buckets that do not fit are left out: another version wrote them.
    fn from(saved: SavedDurations) -> Self {
        let SavedDurations { records, micros, buckets, counts } = saved;
        let buckets = SparseHistogram::from_parts(BUCKETS, buckets, counts)
            .unwrap_or_else(|_| SparseHistogram::with_config(&BUCKETS));
        Self { records, micros, buckets, recent: Vec::new() }
    }
}

impl From<Durations> for SavedDurations {
    fn from(mut durations: Durations) -> Self {
        durations.fold_recent();
        let (_, buckets, counts) = durations.buckets.into_parts();
        Self { records: durations.records, micros: durations.micros, buckets, counts }
    }
}

impl Durations {
    /// Adds `records` of a batch whose records took `micros` each.
    pub(super) fn add_records(&mut self, records: u64, micros: u64) {
        add_to(&mut self.records, records);
        add_to(&mut self.micros, micros.saturating_mul(records));
        let units = (micros.saturating_add(MICROS_PER_UNIT / 2) / MICROS_PER_UNIT).min(LARGEST_UNITS);
        self.recent.push((units, records));
        if self.recent.len() >= RECENT_MAX {
            self.fold_recent();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add_to(&mut self.records, other.records);
        add_to(&mut self.micros, other.micros);
        self.merge_buckets(&other.buckets);
        self.recent.extend(&other.recent);
        if self.recent.len() >= RECENT_MAX {
            self.fold_recent();
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn micros(&self) -> u64 {
        self.micros
    }

    /// The time that all records took.
    pub(super) fn total_ms(&self) -> f64 {
        super::numbers::to_millis(self.micros)
    }

    pub(super) fn mean_ms(&self) -> f64 {
        if self.records == 0 { 0.0 } else { self.total_ms() / to_float(self.records) }
    }

    pub(super) fn to_report(&self) -> PerRecord {
        let mut folded = self.clone();
        folded.fold_recent();
        let quantile_ms =
            |quantile| folded.quantile_units(quantile).saturating_add(UNITS_PER_MS / 2) / UNITS_PER_MS;
        PerRecord {
            records: self.records,
            mean_ms: self.mean_ms(),
            p50_ms: quantile_ms(0.5),
            p95_ms: quantile_ms(0.95),
        }
    }

    /// The middle of the bucket that contains the quantile.
    fn quantile_units(&self, quantile: f64) -> u64 {
        let found = self.buckets.quantile(quantile).ok().flatten();
        let bucket = found.as_ref().zip(Quantile::new(quantile).ok()).and_then(|(found, at)| found.get(&at));
        bucket.map_or(0, |bucket| bucket.start().midpoint(bucket.end()))
    }

    fn fold_recent(&mut self) {
        if self.recent.is_empty() {
            return;
        }
        let mut dense = Histogram::with_config(&BUCKETS);
        for (units, records) in self.recent.drain(..) {
            if let Err(error) = dense.add(units, records) {
                tracing::debug!(%error, "a duration was not measured");
            }
        }
        self.merge_buckets(&SparseHistogram::from(&dense));
    }

    fn merge_buckets(&mut self, other: &SparseHistogram) {
        match self.buckets.checked_add(other) {
            Ok(mut sum) => {
                sum.shrink_to_fit();
                self.buckets = sum;
            }
            Err(error) => tracing::debug!(%error, "durations were not added up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut durations = Durations::default();
        for ms in 1..=1000 {
            durations.add_records(1, ms * 1000);
        }
        let report = durations.to_report();
        assert_eq!(report.records, 1000);
        assert!((report.mean_ms - 500.5).abs() < 1e-9);
        assert!((490..=510).contains(&report.p50_ms), "{report:?}");
        assert!((931..=969).contains(&report.p95_ms), "{report:?}");
    }

    #[test]
    fn a_duration_of_several_days_counts_as_the_longest() {
        let mut durations = Durations::default();
        durations.add_records(1, u64::MAX);
        assert!(durations.to_report().p50_ms > 100_000_000);
    }

    #[test]
    fn buckets_of_another_version_are_left_out() {
        let saved = r#"{"records":3,"micros":6000,"buckets":[4000000],"counts":[3]}"#;
        let durations: Durations = serde_json::from_str(saved).unwrap();
        assert_eq!(durations.to_report(), PerRecord { records: 3, mean_ms: 2.0, p50_ms: 0, p95_ms: 0 });
    }

    proptest! {
        #[test]
        fn merging_equals_adding(values in prop::collection::vec((1..500_u64, 0..10_000_000_u64), 0..200), cut in 0..200_usize) {
            let (mut all, mut first, mut second) = (Durations::default(), Durations::default(), Durations::default());
            for (index, (records, micros)) in values.into_iter().enumerate() {
                all.add_records(records, micros);
                if index < cut { &mut first } else { &mut second }.add_records(records, micros);
            }
            first.merge(&second);
            prop_assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&all).unwrap());
        }
    }
}
