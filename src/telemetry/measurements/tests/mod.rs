//! The measurements as a whole.

mod bounds;
mod stalls;
mod year;

use std::time::Duration;

use proptest::prelude::*;

use super::{DAY_MS, HOUR_MS, Measurements};
use crate::api::{BatchOutcome, BatchReport, TelemetryReport, TypeReport};
use crate::model::{BatchId, InterfaceKind, Network, Sequence};
use crate::store::NoteChange;

const NOON: u64 = 1_772_366_400_000; // 2026-03-01T12:00:00Z
const WEEK: Duration = Duration::from_hours(168);
const LOCAL_HOUR: usize = 13;

fn batch_at(at: u64, records: usize, outcome: BatchOutcome, duration_ms: u64) -> BatchReport {
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
        expected_ms: Some(duration_ms + 10),
        at_most_ms: None,
        time_limit_ms: 60_000,
        in_flight: 1,
        in_flight_rule: crate::model::InFlightRule::Configured.into(),
        note: String::new(),
        at,
    }
}

fn wifi() -> Network {
    Network {
        connect: Some(Duration::from_millis(30)),
        sent: Some(Duration::from_millis(30)),
        body_bytes: 5000,
        exchange: Some(Duration::from_secs(1)),
        round_trip: Some(Duration::from_millis(12)),
        interface: Some(InterfaceKind::Wifi),
        signal_dbm: Some(-61),
        metered: Some(true),
        link_age: Some(Duration::from_secs(90)),
    }
}

/// The counts of types `A`, `B` and so on.
fn counts_of(counts: &[u64]) -> Vec<(String, u64)> {
    let named = ('A'..).zip(counts).filter(|(_, count)| **count > 0);
    named.map(|(name, count)| (name.to_string(), *count)).collect()
}

/// A batch of these types succeeds.
fn add_success(measurements: &mut Measurements, at: u64, counts: &[u64], duration_ms: u64) {
    let records = usize::try_from(counts.iter().sum::<u64>()).unwrap();
    let report = batch_at(at, records, BatchOutcome::Answered, duration_ms);
    measurements.batch_ended(&report, &counts_of(counts), &wifi(), LOCAL_HOUR);
}

fn add_failure(measurements: &mut Measurements, at: u64, counts: &[u64], outcome: BatchOutcome) {
    let records = usize::try_from(counts.iter().sum::<u64>()).unwrap();
    let report = batch_at(at, records, outcome, 60_000);
    measurements.batch_ended(&report, &counts_of(counts), &wifi(), LOCAL_HOUR);
}

fn sample_measurements() -> Measurements {
    let mut measurements = Measurements::default();
    add_success(&mut measurements, NOON - DAY_MS, &[50], 5000);
    add_success(&mut measurements, NOON, &[5, 5], 4000);
    add_failure(&mut measurements, NOON, &[25, 25], BatchOutcome::Timeout);
    add_failure(&mut measurements, NOON + HOUR_MS, &[1], BatchOutcome::TooLarge);
    add_failure(&mut measurements, NOON + HOUR_MS, &[1], BatchOutcome::ConnectionLost);
    measurements.record_quarantined("B", NOON);
    measurements
}

fn save(measurements: &mut Measurements, disk: &mut std::collections::BTreeMap<String, Vec<u8>>) -> usize {
    let changes = measurements.unsaved_notes();
    measurements.mark_saved();
    let written = changes.iter().filter_map(|change| Some(change.note.as_ref()?.len())).sum();
    for NoteChange { name, note } in changes {
        match note {
            Some(note) => disk.insert(name.into_owned(), note),
            None => disk.remove(&*name),
        };
    }
    written
}

fn of_type<'r>(report: &'r TelemetryReport, name: &str) -> &'r TypeReport {
    report.by_type.iter().find(|report| report.record_type == name).unwrap()
}

#[test]
fn the_four_questions_are_answered() {
    let report = sample_measurements().report(NOON + HOUR_MS, WEEK);
    assert_eq!(report.per_record.records, 60);
    assert!((report.per_record.mean_ms - 150.0).abs() < 1e-9);
    assert!((99..=101).contains(&report.per_record.p50_ms), "{:?}", report.per_record);
    assert!((394..=406).contains(&report.per_record.p95_ms), "{:?}", report.per_record);

    let of_50 = report.by_batch_size.iter().find(|bucket| bucket.size == "26–50").unwrap();
    let outcomes = of_50.outcomes;
    assert_eq!((outcomes.batches, outcomes.succeeded, outcomes.timeouts), (2, 1, 1));
    assert_eq!((outcomes.success_rate, outcomes.records), (Some(0.5), 50));
    assert!((outcomes.records_per_s.unwrap() - 50.0 / 65.0).abs() < 1e-9);
    assert_eq!((of_50.mean_ms, of_50.expected_ms, of_50.expected), (Some(5000.0), Some(5010.0), 1));
    let alone = report.by_in_flight.first().unwrap();
    assert_eq!((alone.in_flight.as_str(), alone.outcomes.batches), ("1", 5));
    assert_eq!((alone.outcomes.refused, alone.outcomes.other_failures), (1, 1));

    let slowest = report.by_type.first().unwrap();
    assert_eq!((slowest.record_type.as_str(), slowest.failures, slowest.quarantined), ("B", 1, 1));
    assert!((slowest.ms_per_record - 400.0).abs() < 1e-9 && !slowest.is_separated, "{slowest:?}");
    assert_eq!((slowest.failed_ms, slowest.delay_ms), (30_000.0, 32_000.0));
    assert!((report.by_type.iter().map(|report| report.delay_share).sum::<f64>() - 1.0).abs() < 1e-9);

    let failure = report.failures.iter().find(|failure| failure.class == "timeout").unwrap();
    assert_eq!((failure.connect_ms, failure.bytes_per_s), (Some(30.0), Some(5000.0)));
    assert_eq!((failure.round_trip_ms, failure.signal_dbm), (Some(12.0), Some(-61.0)));
    assert_eq!((failure.interface.as_deref(), failure.interfaces.len()), (Some("wifi"), 1));
    assert_eq!((failure.metered, failure.link_age_s), (1, Some(90.0)));
    assert_eq!((failure.by_hour[LOCAL_HOUR], failure.by_hour.iter().sum::<u64>()), (1, 1));

    let days: Vec<&str> = report.days.iter().map(|day| day.day.as_str()).collect();
    assert_eq!(days, ["2026-03-01", "2026-02-28"]);
    let hours: Vec<u64> = report.hours.iter().map(|hour| hour.hour).collect();
    assert_eq!(hours, [NOON + HOUR_MS, NOON, NOON - DAY_MS]);
    assert_eq!(report.hours[1].period.quarantined, 1);
}

#[test]
fn mixed_batches_show_what_a_record_of_each_type_costs() {
    let mut measurements = Measurements::default();
    for (a, b) in [(20, 1), (3, 9), (14, 14), (1, 25), (30, 4), (8, 8), (17, 2), (2, 12)] {
        add_success(&mut measurements, NOON, &[a, b], 40 + 2 * a + 10 * b);
    }
    let report = measurements.report(NOON, WEEK);
    for (name, cost) in [("A", 2.0), ("B", 10.0)] {
        let separated = of_type(&report, name);
        assert!(separated.is_separated && (separated.ms_per_record - cost).abs() < 0.01, "{separated:?}");
    }
    assert!((report.batch_overhead_ms.unwrap() - 40.0).abs() < 0.1);
    assert!((of_type(&report, "B").delay_ms - 750.0).abs() < 1.0);
}

#[test]
fn types_that_always_come_together_share_the_time_evenly() {
    let mut measurements = Measurements::default();
    for n in 1..20 {
        add_success(&mut measurements, NOON, &[2 * n, n, n % 5], 40 + 24 * n + 9 * (n % 5));
    }
    let report = measurements.report(NOON, WEEK);
    assert!(!of_type(&report, "A").is_separated && !of_type(&report, "B").is_separated);
    let other = of_type(&report, "C");
    assert!(other.is_separated && (other.ms_per_record - 9.0).abs() < 0.01, "{other:?}");
}

#[test]
fn the_window_leaves_older_days_out() {
    let report = sample_measurements().report(NOON, Duration::from_hours(24));
    assert_eq!((report.per_record.records, report.days.len()), (10, 1));
    assert_eq!(report.from, NOON / DAY_MS * DAY_MS);
}

#[test]
fn measurements_come_back_from_disk_and_only_changes_are_written() {
    let mut measurements = sample_measurements();
    let mut disk = std::collections::BTreeMap::new();
    assert!(save(&mut measurements, &mut disk) > 0);
    assert_eq!(save(&mut measurements, &mut disk), 0, "nothing has changed");
    let report = measurements.report(NOON, WEEK);
    let mut back = Measurements::restore(disk.clone().into_iter().collect());
    assert_eq!(back.report(NOON, WEEK), report);
    for measurements in [&mut measurements, &mut back] {
        add_success(measurements, NOON, &[3], 30);
    }
    assert_eq!(back.report(NOON, WEEK), measurements.report(NOON, WEEK), "today continues");
    save(&mut back, &mut disk);
    assert_eq!(disk.len(), 4, "two days, and their hours");
}

#[test]
fn notes_of_other_versions_and_damaged_ones_are_dropped() {
    let mut measurements = sample_measurements();
    let mut disk = std::collections::BTreeMap::new();
    save(&mut measurements, &mut disk);
    disk.insert("telemetry".to_owned(), br#"{"days":{}}"#.to_vec());
    disk.get_mut("telemetry/day/2026-03-01").unwrap()[12] ^= 0x55;
    let mut back = Measurements::restore(disk.clone().into_iter().collect());
    assert_eq!(back.report(NOON, WEEK).per_record.records, 50, "the day that can be read");
    add_success(&mut back, NOON, &[3], 30);
    assert_eq!(back.report(NOON, WEEK).per_record.records, 53, "the damaged one starts over");
    save(&mut back, &mut disk);
    assert!(!disk.contains_key("telemetry") && disk.len() == 4, "{:?}", disk.keys());
}

proptest! {
    /// The sums are of whole numbers: the order in which days are added up does not matter.
    #[test]
    fn days_add_up_to_the_same_as_one_day(
        batches in prop::collection::vec((prop::collection::vec(0..40_u64, 20), 1..60_000_u64, 0..5_u64, any::<bool>()), 1..40),
    ) {
        let (mut spread, mut together) = (Measurements::default(), Measurements::default());
        for (counts, duration_ms, day, succeeds) in batches {
            // Sixteen types in all, so that none shares an entry with another one on some days only.
            let counts = &counts[..16];
            for (measurements, at) in [(&mut spread, NOON - day * DAY_MS), (&mut together, NOON)] {
                if succeeds && counts.iter().any(|count| *count > 0) {
                    add_success(measurements, at, counts, duration_ms);
                } else {
                    add_failure(measurements, at, counts, BatchOutcome::ServerError);
                }
            }
        }
        let sorted = |measurements: &Measurements| {
            let mut report = measurements.report(NOON, WEEK);
            report.by_type.sort_by(|one, other| one.record_type.cmp(&other.record_type));
            let costs: Vec<f64> = report.by_type.iter().map(|report| report.ms_per_record).collect();
            for of_type in &mut report.by_type {
                (of_type.ms_per_record, of_type.delay_ms, of_type.delay_share) = (0.0, 0.0, 0.0);
            }
            report.batch_overhead_ms = None;
            (TelemetryReport { days: Vec::new(), hours: Vec::new(), ..report }, costs)
        };
        let ((spread, costs), (together, expected)) = (sorted(&spread), sorted(&together));
        prop_assert_eq!(spread, together);
        // The solver adds in another order.
        for (cost, expected) in costs.iter().zip(&expected) {
            prop_assert!((cost - expected).abs() <= 1e-3 * (1.0 + expected), "{} {}", cost, expected);
        }
    }
}
