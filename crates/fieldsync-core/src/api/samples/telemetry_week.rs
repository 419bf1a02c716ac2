//! A plausible week of a device, for tests and for the picture in the documentation: work from six to six, a slow
//! mobile network in the morning, photos that cost much, and batches beyond 50 records that reach the time limit.

use crate::api::{
    DayReport, FailureReport, HourReport, InFlightBucket, InterfaceCount, Outcomes, PerRecord, PeriodReport,
    SizeBucket, TelemetryReport, TypeReport,
};
use crate::clock::rfc3339;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Monday, 2 March 2026, 00:00 UTC.
const WEEK_START_MS: u64 = 1_772_409_600_000;
/// Of each working hour from 06:00: records, median and 95th percentile in milliseconds.
const WORKING_HOURS: [(u64, u64, u64); 12] = [
    (24, 420, 1_350),
    (71, 610, 2_480),
    (96, 690, 3_120),
    (64, 380, 1_420),
    (52, 330, 980),
    (47, 310, 920),
    (18, 300, 860),
    (55, 340, 1_040),
    (61, 350, 1_110),
    (58, 360, 1_260),
    (44, 390, 1_580),
    (15, 320, 940),
];
/// By how many percent each day, from Monday, is slower than usual; nobody works on Sunday.
const SLOWER_PERCENT: [Option<u64>; 7] =
    [Some(100), Some(112), Some(168), Some(121), Some(96), Some(88), None];

/// The report at the end of that week.
pub fn telemetry_week() -> TelemetryReport {
    let hours: Vec<HourReport> = (0..7 * 24).rev().filter_map(sample_hour).collect();
    let days = (0..7).rev().filter_map(|day| sample_day(day, &hours)).collect();
    TelemetryReport {
        window_s: 7 * 24 * 3600,
        from: WEEK_START_MS,
        to: WEEK_START_MS + 7 * DAY_MS - 4 * HOUR_MS,
        per_record: PerRecord { records: 3579, mean_ms: 684.0, p50_ms: 390, p95_ms: 2210 },
        batch_overhead_ms: Some(840.0),
        by_batch_size: sample_sizes(),
        by_in_flight: sample_in_flight(),
        by_type: sample_types(),
        failures: sample_failures(),
        days,
        hours,
    }
}

fn sample_hour(index: u64) -> Option<HourReport> {
    let slower = SLOWER_PERCENT[usize::try_from(index / 24).ok()?]?;
    let (records, median, most) = *WORKING_HOURS.get(usize::try_from(index % 24).ok()?.checked_sub(6)?)?;
    // Some variation that is the same in every run.
    let jitter = 85 + (index * 37) % 31;
    let (p50_ms, p95_ms) = (median * slower * jitter / 10_000, most * slower * jitter / 10_000);
    let records = records * jitter / 100;
    let batches = records / 12 + 1;
    let timeouts = u64::from(p95_ms > 3_000) + u64::from(p95_ms > 4_500);
    Some(HourReport {
        hour: WEEK_START_MS + index * HOUR_MS,
        period: PeriodReport {
            per_record: PerRecord { records, mean_ms: to_f64(p50_ms * 3 + p95_ms) / 4.0, p50_ms, p95_ms },
            outcomes: outcomes([batches, timeouts, 0, 0], records, None),
            quarantined: u64::from(index % 61 == 8),
        },
    })
}

fn sample_day(day: u64, hours: &[HourReport]) -> Option<DayReport> {
    let start = WEEK_START_MS + day * DAY_MS;
    let of_day: Vec<&PeriodReport> = hours
        .iter()
        .filter(|hour| (start..start + DAY_MS).contains(&hour.hour))
        .map(|hour| &hour.period)
        .collect();
    let sum = |number: fn(&PeriodReport) -> u64| of_day.iter().map(|hour| number(hour)).sum::<u64>();
    let records = sum(|hour| hour.per_record.records);
    let mean = |number: fn(&PeriodReport) -> u64| {
        of_day.iter().map(|hour| number(hour) * hour.per_record.records).sum::<u64>().checked_div(records)
    };
    let p50_ms = mean(|hour| hour.per_record.p50_ms)?;
    let p95_ms = mean(|hour| hour.per_record.p95_ms)?;
    let (batches, timeouts) = (sum(|hour| hour.outcomes.batches), sum(|hour| hour.outcomes.timeouts));
    Some(DayReport {
        day: rfc3339(start).chars().take(10).collect(),
        period: PeriodReport {
            per_record: PerRecord { records, mean_ms: to_f64(p50_ms * 3 + p95_ms) / 4.0, p50_ms, p95_ms },
            outcomes: outcomes([batches, timeouts, 0, 0], records, None),
            quarantined: sum(|hour| hour.quarantined),
        },
    })
}

/// From the number of batches, of those without a response in time, of refused ones and of other failures.
fn outcomes(
    [batches, timeouts, refused, other_failures]: [u64; 4],
    records: u64,
    records_per_s: Option<f64>,
) -> Outcomes {
    let succeeded = batches - timeouts - refused - other_failures;
    let success_rate = (batches > 0).then(|| to_f64(succeeded) / to_f64(batches));
    Outcomes { batches, succeeded, timeouts, refused, other_failures, records, success_rate, records_per_s }
}

fn sample_sizes() -> Vec<SizeBucket> {
    let bucket = |size: &str, numbers, records, rate, mean_ms, expected_ms, expected| SizeBucket {
        size: size.into(),
        outcomes: outcomes(numbers, records, rate),
        mean_ms,
        expected_ms,
        expected,
    };
    vec![
        bucket("1", [58, 3, 2, 1], 52, Some(0.6), Some(1_480.0), Some(1_320.0), 48),
        bucket("2–5", [41, 1, 0, 1], 143, Some(1.7), Some(2_050.0), Some(1_960.0), 37),
        bucket("6–10", [66, 1, 1, 0], 531, Some(2.6), Some(3_170.0), Some(3_240.0), 61),
        bucket("11–25", [74, 2, 0, 1], 1_310, Some(3.4), Some(5_640.0), Some(5_700.0), 70),
        bucket("26–50", [38, 4, 0, 0], 1_182, Some(3.8), Some(11_900.0), Some(10_800.0), 34),
        bucket("51–100", [9, 4, 0, 0], 361, Some(2.1), Some(27_300.0), Some(21_900.0), 5),
        bucket(">100", [0; 4], 0, None, None, None, 0),
    ]
}

fn sample_in_flight() -> Vec<InFlightBucket> {
    let bucket = |in_flight: &str, numbers, records, rate| InFlightBucket {
        in_flight: in_flight.into(),
        outcomes: outcomes(numbers, records, rate),
    };
    vec![
        bucket("1", [181, 6, 3, 2], 1_920, Some(2.2)),
        bucket("2", [74, 4, 0, 1], 1_120, Some(3.6)),
        bucket("3–4", [31, 5, 0, 0], 539, Some(4.1)),
        bucket("5–8", [0; 4], 0, None),
        bucket(">8", [0; 4], 0, None),
    ]
}

fn sample_types() -> Vec<TypeReport> {
    let of_type =
        |record_type: &str, records, ms_per_record: f64, failed_ms, share, failures, quarantined| {
            let p50_ms = 390;
            TypeReport {
                record_type: record_type.into(),
                records,
                per_record: PerRecord { records, mean_ms: ms_per_record, p50_ms, p95_ms: p50_ms * 4 },
                ms_per_record,
                is_separated: records > 20,
                delay_ms: to_f64(records) * ms_per_record + failed_ms,
                failed_ms,
                delay_share: share,
                failures,
                quarantined,
            }
        };
    vec![
        of_type("Photos", 286, 4_120.0, 241_000.0, 0.53, 96, 1),
        of_type("PriceSurveys", 418, 940.0, 58_000.0, 0.17, 31, 0),
        of_type("ServiceReports", 391, 610.0, 22_000.0, 0.10, 12, 0),
        of_type("Orders", 912, 280.0, 19_000.0, 0.10, 22, 2),
        of_type("Visits", 1_244, 160.0, 11_000.0, 0.08, 17, 0),
        of_type("Signatures", 311, 120.0, 2_000.0, 0.015, 3, 0),
        of_type("(other types)", 17, 350.0, 0.0, 0.005, 0, 0),
    ]
}

fn sample_failures() -> Vec<FailureReport> {
    let on = |interfaces: &[(&str, u64)]| {
        let count = |(interface, count): &(&str, u64)| InterfaceCount {
            interface: (*interface).into(),
            count: *count,
        };
        interfaces.iter().map(count).collect::<Vec<_>>()
    };
    let hours = |from: usize, counts: &[u64]| {
        let mut by_hour = vec![0; 24];
        by_hour[from..from + counts.len()].copy_from_slice(counts);
        by_hour
    };
    vec![
        FailureReport {
            class: "timeout".into(),
            count: 15,
            interface: Some("cellular".into()),
            interfaces: on(&[("cellular", 12), ("wifi", 3)]),
            connect_ms: Some(412.0),
            round_trip_ms: Some(286.0),
            bytes_per_s: Some(24_800.0),
            signal_dbm: Some(-104.0),
            metered: 12,
            link_age_s: Some(95.0),
            by_hour: hours(6, &[1, 4, 6, 1, 0, 0, 0, 0, 1, 1, 1]),
        },
        FailureReport {
            class: "unreachable".into(),
            count: 9,
            interface: Some("cellular".into()),
            interfaces: on(&[("cellular", 7), ("wifi", 1), ("ethernet", 1)]),
            round_trip_ms: None,
            signal_dbm: Some(-111.0),
            metered: 7,
            link_age_s: Some(14.0),
            by_hour: hours(5, &[1, 2, 2, 1, 0, 0, 0, 1, 0, 0, 1, 1]),
            ..FailureReport::default()
        },
        FailureReport {
            class: "throttled".into(),
            count: 3,
            interface: Some("wifi".into()),
            interfaces: on(&[("wifi", 2), ("ethernet", 1)]),
            connect_ms: Some(38.0),
            round_trip_ms: Some(21.0),
            bytes_per_s: Some(610_000.0),
            link_age_s: Some(5_400.0),
            by_hour: hours(17, &[2, 1]),
            ..FailureReport::default()
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn to_f64(number: u64) -> f64 {
    number as f64
}
