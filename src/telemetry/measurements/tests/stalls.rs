//! A batch that stalls, and one that is slow because of its records.

use super::*;

const LATENCY_MS: u64 = 40;

/// A batch that the sender, which knows no types, expected to take 10 ms a record.
fn add_unexpected(measurements: &mut Measurements, at: u64, counts: &[u64], duration_ms: u64) {
    let records = counts.iter().sum::<u64>();
    let batch = batch_at(at, usize::try_from(records).unwrap(), BatchOutcome::Answered, duration_ms);
    let report = BatchReport { expected_ms: Some(LATENCY_MS + 10 * records), ..batch };
    measurements.batch_ended(&report, &counts_of(counts), &wifi(), LOCAL_HOUR);
}

/// 79 batches of a fast type and a slow one.
fn add_mixed(measurements: &mut Measurements, at: u64) {
    for n in 0..79 {
        let (a, b) = (1 + n * 7 % 23, 1 + n * 5 % 19);
        add_unexpected(measurements, at, &[a, b], LATENCY_MS + 2 * a + 20 * b + n % 9);
    }
}

#[track_caller]
fn assert_separated(report: &TelemetryReport, costs: &[(&str, f64)]) {
    for (name, cost) in costs {
        let found = of_type(report, name);
        let is_close = (found.ms_per_record - cost).abs() < 0.1 * cost + 0.3;
        assert!(found.is_separated && is_close, "{found:?}");
    }
}

#[test]
fn one_batch_that_stalls_does_not_hide_what_the_types_cost() {
    let mut measurements = Measurements::default();
    add_mixed(&mut measurements, NOON);
    add_unexpected(&mut measurements, NOON, &[10, 10], 20_000);
    let report = measurements.report(NOON, WEEK);
    assert_separated(&report, &[("A", 2.0), ("B", 20.0)]);
    assert!(report.per_record.mean_ms > 20.0, "the durations keep the true time: {:?}", report.per_record);
}

#[test]
fn the_first_batch_of_a_day_may_stall() {
    let mut measurements = Measurements::default();
    add_mixed(&mut measurements, NOON - DAY_MS);
    add_unexpected(&mut measurements, NOON, &[10, 10], 20_000);
    let report = measurements.report(NOON, WEEK);
    assert_separated(&report, &[("A", 2.0), ("B", 20.0)]);
}

#[test]
fn batches_that_are_slow_because_of_a_type_count_completely() {
    let mut measurements = Measurements::default();
    for n in 0..20 {
        add_unexpected(
            &mut measurements,
            NOON,
            &[20 + n % 7, 1 + n % 3],
            LATENCY_MS + 2 * (20 + n % 7) + 80 * (1 + n % 3),
        );
    }
    for n in 1..10 {
        add_unexpected(&mut measurements, NOON, &[0, 5 * n], LATENCY_MS + 80 * 5 * n);
    }
    let report = measurements.report(NOON, WEEK);
    assert_separated(&report, &[("A", 2.0), ("B", 80.0)]);
    assert!((of_type(&report, "B").ms_per_record - 80.0).abs() < 0.1, "nothing was cut off: {report:?}");
}
