//! Days and types are bounded, and those that matter keep their places.

use std::collections::BTreeMap;

use super::*;

#[test]
fn days_and_types_are_bounded() {
    let mut measurements = Measurements::default();
    for n in 0..300 {
        measurements.record_quarantined(&format!("type {n}"), NOON + 300 * DAY_MS);
        measurements.record_quarantined("one", NOON + n * DAY_MS);
    }
    let report = measurements.report(NOON + 300 * DAY_MS, Duration::from_hours(24 * 365));
    assert!((85..=90).contains(&report.days.len()), "{}", report.days.len());
    assert_eq!(
        report.by_type.len(),
        16 + 1 + 1,
        "sixteen of the last day, the rest, and one of the other days"
    );
    assert_eq!(of_type(&report, "(other types)").quarantined, 284);
}

#[test]
fn a_clock_that_jumps_loses_nothing_of_the_other_days() {
    let mut measurements = Measurements::default();
    for at in [NOON, 0, NOON, NOON + 40 * DAY_MS, NOON] {
        add_success(&mut measurements, at, &[1], 10);
    }
    assert_eq!(measurements.report(NOON, WEEK).per_record.records, 3);
    assert_eq!(measurements.report(1000, WEEK).per_record.records, 1);
}

/// Days that are saved and restored one after the other, as by a device that is switched off each evening.
fn measure_days(disk: &mut BTreeMap<String, Vec<u8>>, days: impl Iterator<Item = u64>) -> Measurements {
    let mut measurements = Measurements::default();
    for day in days {
        measurements = Measurements::restore(disk.clone().into_iter().collect());
        add_success(&mut measurements, NOON + day * DAY_MS, &[1], 10);
        save(&mut measurements, disk);
    }
    measurements
}

#[test]
fn a_clock_that_was_ahead_for_long_does_not_keep_the_places_of_right_days() {
    let mut disk = BTreeMap::new();
    measure_days(&mut disk, 0..5);
    measure_days(&mut disk, 300..400);
    let report = measure_days(&mut disk, 5..15).report(NOON + 14 * DAY_MS, Duration::from_hours(24 * 20));
    assert_eq!((report.days.len(), report.hours.len()), (10, 9), "{:?}", report.days);
    assert!(disk.len() <= 90 + 9, "{} notes", disk.len());
}

#[test]
fn a_clock_that_starts_in_the_past_each_day_takes_one_place() {
    let (mut measurements, past) = (Measurements::default(), 1000);
    for day in 0..100 {
        add_success(&mut measurements, past, &[1], 10);
        add_success(&mut measurements, NOON + day * DAY_MS, &[1], 10);
    }
    let report = measurements.report(NOON + 99 * DAY_MS, Duration::from_hours(24 * 100));
    assert_eq!((report.days.len(), report.hours.len()), (89, 8), "the newest days are there");
}

#[test]
fn the_type_that_takes_the_most_time_has_an_entry_although_it_comes_last() {
    let mut measurements = Measurements::default();
    for n in 0..200 {
        let first = [(format!("small {}", n % 30), 5)];
        let report = batch_at(NOON, 5, BatchOutcome::Answered, 20);
        measurements.batch_ended(&report, &first, &wifi(), LOCAL_HOUR);
        if n >= 100 && n % 2 == 0 {
            let report = batch_at(NOON, 4, BatchOutcome::Answered, 900);
            let mixed = [("small 3".to_owned(), 1), ("Photos".to_owned(), 3)];
            measurements.batch_ended(&report, &mixed, &wifi(), LOCAL_HOUR);
        }
    }
    let report = measurements.report(NOON, WEEK);
    assert_eq!(report.by_type.len(), 17);
    let slowest = report.by_type.iter().max_by(|one, other| one.delay_ms.total_cmp(&other.delay_ms)).unwrap();
    assert_eq!((slowest.record_type.as_str(), slowest.records), ("Photos", 150));
    let records: u64 = report.by_type.iter().map(|of_type| of_type.records).sum();
    assert_eq!(records, 1200, "none is lost when types make room");
}

#[test]
fn types_that_made_room_still_explain_the_durations() {
    let mut measurements = Measurements::default();
    for n in 0..200_u64 {
        let (small, large) = (1 + n * 7 % 11, 1 + n * 5 % 13);
        let records = usize::try_from(small + large).unwrap();
        let report = batch_at(NOON, records, BatchOutcome::Answered, 40 + 2 * small + 30 * large);
        let types = [(format!("small {}", n % 25), small), ("Photos".to_owned(), large)];
        measurements.batch_ended(&report, &types, &wifi(), LOCAL_HOUR);
    }
    let report = measurements.report(NOON, WEEK);
    for (name, cost) in [("Photos", 30.0), ("(other types)", 2.0)] {
        let of_type = of_type(&report, name);
        assert!(of_type.is_separated && (of_type.ms_per_record - cost).abs() < 0.1, "{of_type:?}");
    }
}
