//! The measurements of each day (UTC) that answer the customer's four questions. No I/O, no clock.
//!
//! The number of days and of types in a day is bounded; a histogram keeps two significant digits.

mod failures;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use self::failures::FailureTally;
use crate::api::{
    BatchOutcome, BatchReport, DayReport, Outcomes, PerRecord, PeriodReport, SizeBucket, TelemetryReport,
    TypeReport,
};
use crate::clock::{millis, rfc3339};
use crate::model::Network;

/// Days that are kept.
const DAYS_MAX: usize = 90;
/// Types with an entry of their own in a day; the rest share one.
const DAILY_TYPES_MAX: usize = 50;
const OTHER_TYPES_NAME: &str = "(other types)";
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Upper bounds of the buckets by batch size, and their names.
const SIZE_BUCKETS: [(usize, &str); 7] =
    [(1, "1"), (5, "2–5"), (10, "6–10"), (25, "11–25"), (50, "26–50"), (100, "51–100"), (usize::MAX, ">100")];

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measurements {
    days: BTreeMap<String, Day>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Day {
    durations: Durations,
    sizes: [Tally; SIZE_BUCKETS.len()],
    types: BTreeMap<String, TypeTally>,
    failures: BTreeMap<String, FailureTally>,
    quarantined: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Tally {
    batches: u64,
    succeeded: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct TypeTally {
    records: u64,
    ms: f64,
    failures: u64,
    quarantined: u64,
}

/// Durations per record: their sum and their distribution.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StoredDurations", into = "StoredDurations")]
struct Durations {
    records: u64,
    ms: f64,
    histogram: Histogram<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredDurations {
    records: u64,
    ms: f64,
    counts: Vec<(u64, u64)>,
}

impl Default for Durations {
    fn default() -> Self {
        // Two significant digits are valid, so the fallback is never used.
        let histogram = Histogram::new(2).or_else(|_| Histogram::new(1));
        Self {
            records: 0,
            ms: 0.0,
            histogram: histogram.unwrap_or_else(|_| unreachable!("1 digit is valid")),
        }
    }
}

impl From<StoredDurations> for Durations {
    fn from(stored: StoredDurations) -> Self {
        let mut durations = Self { records: stored.records, ms: stored.ms, ..Self::default() };
        for (value, count) in stored.counts {
            durations.add_records(value, count);
        }
        durations
    }
}

impl From<Durations> for StoredDurations {
    fn from(durations: Durations) -> Self {
        let counts = durations
            .histogram
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        Self { records: durations.records, ms: durations.ms, counts }
    }
}

impl Durations {
    fn record_batch(&mut self, records: u64, elapsed_ms: u64) {
        self.records += records;
        self.ms += to_float(elapsed_ms);
        self.add_records(elapsed_ms / records.max(1), records);
    }

    /// The histogram grows to the largest value, so values are clipped to a day.
    fn add_records(&mut self, each_ms: u64, records: u64) {
        if let Err(error) = self.histogram.record_n(each_ms.min(DAY_MS), records) {
            tracing::debug!(%error, "a duration was not measured");
        }
    }

    fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.ms += other.ms;
        for step in other.histogram.iter_recorded() {
            self.add_records(step.value_iterated_to(), step.count_at_value());
        }
    }

    fn to_report(&self) -> PerRecord {
        PerRecord {
            records: self.records,
            mean_ms: mean_of(self.ms, self.records).unwrap_or_default(),
            p50_ms: self.histogram.value_at_quantile(0.5),
            p95_ms: self.histogram.value_at_quantile(0.95),
        }
    }
}

impl Measurements {
    /// A send of a batch came to an end.
    pub fn batch_ended(&mut self, report: &BatchReport, types: &[(String, u64)], network: &Network) {
        let answered = report.outcome == BatchOutcome::Answered;
        let day = self.day_at(report.at);
        let bucket = SIZE_BUCKETS
            .iter()
            .position(|(most, _)| report.records <= *most)
            .unwrap_or(SIZE_BUCKETS.len() - 1);
        if let Some(tally) = day.sizes.get_mut(bucket) {
            tally.batches += 1;
            tally.succeeded += u64::from(answered);
        }
        if answered {
            day.durations.record_batch(report.records as u64, report.duration_ms);
        } else {
            day.failures.entry(report.outcome.to_string()).or_default().add_failure(network);
        }
        for (name, count) in types {
            let tally = day.type_tally(name);
            if answered {
                tally.records += count;
                tally.ms += to_float(report.duration_ms * count) / to_float(report.records.max(1) as u64);
            } else {
                tally.failures += 1;
            }
        }
    }

    /// A record was quarantined.
    pub fn record_quarantined(&mut self, record_type: &str, at: u64) {
        let day = self.day_at(at);
        day.quarantined += 1;
        day.type_tally(record_type).quarantined += 1;
    }

    fn day_at(&mut self, at: u64) -> &mut Day {
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
        self.days.entry(day_of(at)).or_default()
    }

    /// The answers to the four questions over the last `window`.
    pub fn report(&self, now: u64, window: Duration) -> TelemetryReport {
        let from = now.saturating_sub(millis(window).saturating_sub(DAY_MS)) / DAY_MS * DAY_MS;
        let since = day_of(from);
        let mut total = Day::default();
        let mut days = Vec::new();
        for (name, day) in self.days.range(since..) {
            total.merge(day);
            days.push(day.report(name));
        }
        days.reverse();
        let mut by_type: Vec<TypeReport> =
            total.types.iter().map(|(name, tally)| tally.report(name)).collect();
        by_type.sort_by(|one, other| other.ms_per_record.total_cmp(&one.ms_per_record));
        TelemetryReport {
            window_s: window.as_secs(),
            from,
            to: now,
            per_record: total.durations.to_report(),
            by_batch_size: SIZE_BUCKETS
                .iter()
                .zip(total.sizes)
                .map(|((_, name), tally)| tally.report(name))
                .collect(),
            by_type,
            failures: total.failures.iter().map(|(class, tally)| tally.to_report(class)).collect(),
            days,
            ..TelemetryReport::default()
        }
    }
}

impl Day {
    fn type_tally(&mut self, name: &str) -> &mut TypeTally {
        let known = self.types.contains_key(name) || self.types.len() < DAILY_TYPES_MAX;
        self.types.entry(if known { name } else { OTHER_TYPES_NAME }.to_owned()).or_default()
    }

    fn merge(&mut self, other: &Self) {
        self.durations.merge(&other.durations);
        for (mine, theirs) in self.sizes.iter_mut().zip(other.sizes) {
            mine.batches += theirs.batches;
            mine.succeeded += theirs.succeeded;
        }
        for (name, theirs) in &other.types {
            let mine = self.types.entry(name.clone()).or_default();
            mine.records += theirs.records;
            mine.ms += theirs.ms;
            mine.failures += theirs.failures;
            mine.quarantined += theirs.quarantined;
        }
        for (class, theirs) in &other.failures {
            self.failures.entry(class.clone()).or_default().merge_tally(theirs);
        }
        self.quarantined += other.quarantined;
    }

    fn report(&self, name: &str) -> DayReport {
        DayReport {
            day: name.to_owned(),
            period: PeriodReport {
                per_record: self.durations.to_report(),
                outcomes: self.sizes.iter().fold(Tally::default(), |sum, tally| sum.plus(*tally)).outcomes(),
                quarantined: self.quarantined,
            },
        }
    }
}

impl Tally {
    fn report(self, size: &str) -> SizeBucket {
        SizeBucket {
            size: size.to_owned(),
            outcomes: self.outcomes(),
            mean_ms: None,
            expected_ms: None,
            expected: 0,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { batches: self.batches + other.batches, succeeded: self.succeeded + other.succeeded }
    }

    fn outcomes(self) -> Outcomes {
        Outcomes {
            batches: self.batches,
            succeeded: self.succeeded,
            success_rate: mean_of(to_float(self.succeeded), self.batches),
            ..Outcomes::default()
        }
    }
}

impl TypeTally {
    fn report(self, name: &str) -> TypeReport {
        TypeReport {
            record_type: name.to_owned(),
            records: self.records,
            ms_per_record: mean_of(self.ms, self.records).unwrap_or_default(),
            failures: self.failures,
            quarantined: self.quarantined,
            ..TypeReport::default()
        }
    }
}

fn day_of(at: u64) -> String {
    rfc3339(at).chars().take(10).collect()
}

#[expect(clippy::cast_precision_loss, reason = "statistics need no more than 52 bits")]
fn to_float(number: u64) -> f64 {
    number as f64
}

fn mean_of(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / to_float(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchId, Sequence};

    const NOON: u64 = 1_772_366_400_000; // 2026-03-01T12:00:00Z

    fn sample_batch(records: usize, outcome: BatchOutcome, duration_ms: u64, at: u64) -> BatchReport {
        BatchReport {
            id: BatchId::new(),
            parent: None,
            sequence: Sequence { index: 1, total: 1 },
            records,
            bytes: 1000,
            attempt: 1,
            outcome: outcome.into(),
            http_status: None,
            duration_ms,
            synced: 0,
            rule: crate::model::SizeRule::Standard.into(),
            expected_ms: None,
            at_most_ms: None,
            time_limit_ms: 60_000,
            in_flight: 1,
            in_flight_rule: crate::model::InFlightRule::Configured.into(),
            note: String::new(),
            at,
        }
    }

    fn sample_measurements() -> Measurements {
        let mut measurements = Measurements::default();
        let types = |visits, deals| vec![("Visits".to_owned(), visits), ("Deals".to_owned(), deals)];
        let network = Network {
            connect: Some(Duration::from_millis(30)),
            sent: Some(Duration::from_millis(30)),
            body_bytes: 5000,
            exchange: Some(Duration::from_secs(1)),
            round_trip: Some(Duration::from_millis(12)),
            interface: Some(crate::model::InterfaceKind::Wifi),
            signal_dbm: Some(-61),
        };
        measurements.batch_ended(
            &sample_batch(50, BatchOutcome::Answered, 5000, NOON - DAY_MS),
            &types(50, 0),
            &network,
        );
        measurements.batch_ended(
            &sample_batch(10, BatchOutcome::Answered, 4000, NOON),
            &types(5, 5),
            &network,
        );
        measurements.batch_ended(
            &sample_batch(50, BatchOutcome::Timeout, 60_000, NOON),
            &types(25, 25),
            &network,
        );
        measurements.record_quarantined("Deals", NOON);
        measurements
    }

    #[test]
    fn the_four_questions_are_answered() {
        let report = sample_measurements().report(NOON, Duration::from_hours(168));
        assert_eq!(report.per_record.records, 60);
        assert!((report.per_record.mean_ms - 150.0).abs() < 1e-9);
        assert_eq!(report.per_record.p50_ms, 100);
        assert!((396..=404).contains(&report.per_record.p95_ms), "{:?}", report.per_record);
        let of_50 = report.by_batch_size.iter().find(|bucket| bucket.size == "26–50").unwrap();
        assert_eq!(
            (of_50.outcomes.batches, of_50.outcomes.succeeded, of_50.outcomes.success_rate),
            (2, 1, Some(0.5))
        );
        let slowest = report.by_type.first().unwrap();
        assert_eq!((slowest.record_type.as_str(), slowest.failures, slowest.quarantined), ("Deals", 1, 1));
        assert!((slowest.ms_per_record - 400.0).abs() < 1e-9);
        let failure = report.failures.first().unwrap();
        assert_eq!((failure.class.as_str(), failure.count), ("timeout", 1));
        assert_eq!((failure.connect_ms, failure.bytes_per_s), (Some(30.0), Some(5000.0)));
        assert_eq!(failure.round_trip_ms, Some(12.0));
        assert_eq!(failure.interface.as_deref(), Some("wifi"));
        assert_eq!(failure.signal_dbm, Some(-61.0));
        assert_eq!(
            report.days.iter().map(|day| day.day.as_str()).collect::<Vec<_>>(),
            ["2026-03-01", "2026-02-28"]
        );
    }

    #[test]
    fn the_window_leaves_older_days_out() {
        let report = sample_measurements().report(NOON, Duration::from_hours(24));
        assert_eq!(report.per_record.records, 10);
    }

    #[test]
    fn measurements_come_back_from_disk() {
        let measurements = sample_measurements();
        let json = serde_json::to_vec(&measurements).unwrap();
        let back: Measurements = serde_json::from_slice(&json).unwrap();
        let week = Duration::from_hours(168);
        assert_eq!(back.report(NOON, week), measurements.report(NOON, week));
    }

    #[test]
    fn days_and_types_are_bounded() {
        let mut measurements = Measurements::default();
        for n in 0..300 {
            measurements.record_quarantined(&format!("type {n}"), NOON);
            measurements.record_quarantined("one", NOON + n * DAY_MS);
        }
        assert!(measurements.days.len() <= DAYS_MAX + 1);
        assert!(measurements.days.values().all(|day| day.types.len() <= DAILY_TYPES_MAX + 1));
    }
}
