//! The list of families and its encodings.

mod parsing;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use self::parsing::{Samples, read_otlp, read_text};
use super::counters::{Counters, float};
use super::families::collect_families;
use super::family::{MetricFamily, MetricKind, PointValue, Unit};
use super::openmetrics::encode_openmetrics;
use super::otlp::{AlertLogRecord, Resource, encode_logs, encode_metrics};
use super::process::ProcessUsage;
use super::prometheus_text::encode_prometheus_text;
use super::sources::{ExportCounts, MetricSources, commit_times};
use crate::api::samples::{sample_report, sample_sync};
use crate::api::{
    AlertName, BatchOutcome, BatchReport, Batching, BreakerStatus, ConnectivityStatus, Counts, QueueUse,
    Status,
};
use crate::clock::SteadyClock;
use crate::model::{
    Backlog, DeviceId, InFlightRule, InterfaceKind, Link, LinkState, Network, RecordId, SizeRule,
};
use crate::policy::alerts::facts::{CredentialExpiry, Validity};
use crate::store::SyncedRecord;

/// The most points of a family: labels have bounded sets of values.
const POINTS_MAX: usize = 32;

fn sample_status() -> Status {
    let link = Link { state: LinkState::Online, metered: Some(true), ..Link::default() };
    Status {
        version: "1.2.3".into(),
        device_id: DeviceId(uuid::Uuid::nil()),
        device_name: "van \"12\" \\ \n".into(),
        started_at: 1_000_000,
        sync: sample_sync(),
        records: Counts { pending: 1, syncing: 2, failed: 3, synced: 4, quarantined: 5 },
        queue: QueueUse { disk_free_bytes: Some(1 << 40), max_bytes: 100, bytes: 25, ..QueueUse::default() },
        batching: Batching {
            size: 25,
            rule: SizeRule::Learned.into(),
            ms_per_record: Some(7),
            expected_ms: Some(175),
            at_most_ms: Some(300),
            time_budget_ms: 45_000,
            time_limit_ms: 60_000,
            in_flight: 1,
            in_flight_limit: 4,
            in_flight_rule: InFlightRule::Measured.into(),
        },
        breaker: BreakerStatus { mode: "micro".into(), consecutive_failures: 3, retry_at: None },
        connectivity: ConnectivityStatus::from(link),
        alerts: Vec::new(),
        caller: None,
    }
}

fn families_of(counters: &Counters) -> Vec<MetricFamily> {
    let mut status = sample_status();
    status.sync.eta_s = Some(31);
    let mut commits = commit_times();
    commits.observe(0.004);
    collect_families(&MetricSources {
        status: &status,
        backlog: &Backlog { accepted_total: 9, synced_total: 4, ..Backlog::default() },
        link: &Link {
            state: LinkState::Online,
            interface: Some(InterfaceKind::Wifi),
            metered: Some(false),
            ..Link::default()
        },
        counters,
        commits: &commits,
        exports: &ExportCounts { accepted: 2, dropped_log_records: 1, ..ExportCounts::default() },
        expiry: CredentialExpiry {
            token: None,
            certificate: Some(Validity { begins: None, ends: 3_000_000_000_000 }),
        },
        clock_offset_ms: Some(-1_500),
        per_record: Some(Duration::from_micros(7_250)),
        start_up: Some(Duration::from_millis(80)),
        process: &ProcessUsage::read(),
        started_at: 1_500_000,
        now: 2_000_000,
    })
}

fn sample_network(body_bytes: u64) -> Network {
    Network {
        connect: Some(Duration::from_millis(120)),
        body_bytes,
        sent: Some(Duration::from_millis(40)),
        exchange: Some(Duration::from_millis(1_500)),
        round_trip: Some(Duration::from_millis(65)),
        interface: Some(InterfaceKind::Wifi),
        signal_dbm: Some(-67),
        ..Network::default()
    }
}

fn no_counts() -> Counters {
    Counters::new(SteadyClock::continue_from(0))
}

fn counters_with_a_batch() -> Counters {
    let mut counters = no_counts();
    counters.batch_ended(&sample_report(SizeRule::Learned, None), &sample_network(4_000));
    counters
}

fn find_family<'f>(families: &'f [MetricFamily], name: &str) -> &'f MetricFamily {
    families.iter().find(|family| family.name == name).unwrap()
}

/// The rules of Prometheus and OpenMetrics for names, as far as `promtool check metrics` knows them, and ours.
#[test]
fn names_follow_the_conventions_of_prometheus_and_openmetrics() {
    let families = families_of(&counters_with_a_batch());
    assert!(families.len() >= 50, "{} families", families.len());
    let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), families.len(), "each name is unique");
    for family in &families {
        let MetricFamily { name, unit, help, kind, points } = family;
        let parts: Vec<&str> = name.split('_').collect();
        assert!(matches!(parts[0], "fieldsync" | "process"), "{name}");
        let is_plain = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
        assert!(parts.iter().all(is_plain), "{name}: lower case, without empty parts");
        for reserved in ["total", "info", "count", "sum", "bucket", "created"] {
            assert!(!name.ends_with(&format!("_{reserved}")), "{name}: the encoder adds suffixes");
        }
        for abbreviation in
            ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d", "milliseconds"]
        {
            assert!(!parts.contains(&abbreviation), "{name}: base units only, in full");
        }
        for kind in ["counter", "gauge", "histogram", "summary", "metric"] {
            assert!(!parts.contains(&kind), "{name}: no type in a name");
        }
        for base in [Unit::Seconds, Unit::Bytes, Unit::Ratio, Unit::Dbm] {
            assert!(!parts.contains(&base.name()) || *unit == Some(base), "{name}: the unit is at the end");
        }
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        assert!(points.len() <= POINTS_MAX, "{name}: {} points", points.len());
        let labels: BTreeSet<_> = points.iter().map(|point| &point.labels).collect();
        assert_eq!(labels.len(), points.len(), "{name}: each set of labels is unique");
        for point in points {
            let is_histogram = matches!(point.value, PointValue::Histogram(_));
            assert_eq!(is_histogram, *kind == MetricKind::Histogram, "{name}");
            assert!(point.labels.iter().all(|(label, _)| *label != "le" && *label != "type"), "{name}");
        }
    }
}

#[test]
fn a_batch_is_counted_by_outcome_size_phase_and_latency() {
    let mut counters = counters_with_a_batch();
    let refused = BatchReport {
        outcome: BatchOutcome::Unauthorized.into(),
        http_status: Some(401),
        attempt: 2,
        ..sample_report(SizeRule::Learned, None)
    };
    counters.batch_ended(&refused, &Network::default());
    let unreachable = BatchReport {
        outcome: BatchOutcome::Unreachable.into(),
        http_status: None,
        ..sample_report(SizeRule::Learned, None)
    };
    counters.batch_ended(&unreachable, &Network::default());
    counters.batch_divided(2);
    counters.batch_divided(1);
    counters.outcome_queried("hindered");
    counters.outcome_queried("completed");
    counters.alert_started("needs_review");
    let now = SteadyClock::continue_from(0).now();
    let synced = |created_at| SyncedRecord { id: RecordId::new(), submitter: 0, created_at, receipt: None };
    // The clock was ahead when the last of them was accepted, and years behind for the one before it.
    let accepted = [now.wall - 10_000, now.wall - 2_000, now.wall, 86_400_000, now.wall + 86_400_000];
    counters.add_latencies(&accepted.map(synced), now);
    let text = encode_prometheus_text(&families_of(&counters)).unwrap();
    let samples = read_text(&text, "");
    for (sample, expected) in [
        ("fieldsync_batches_total{outcome=answered}", 1.0),
        ("fieldsync_batches_total{outcome=unauthorized}", 1.0),
        ("fieldsync_batches_total{outcome=timeout}", 0.0),
        ("fieldsync_batch_duration_seconds_count{result=answered}", 1.0),
        ("fieldsync_batch_duration_seconds_sum{result=answered}", 27.9),
        ("fieldsync_batch_duration_seconds_bucket{le=20,result=answered}", 0.0),
        ("fieldsync_batch_duration_seconds_bucket{le=30,result=answered}", 1.0),
        ("fieldsync_batch_duration_seconds_count{result=failed}", 2.0),
        ("fieldsync_batch_records_bucket{le=25}", 3.0),
        ("fieldsync_batch_records_bucket{le=10}", 0.0),
        ("fieldsync_request_phase_duration_seconds_count{phase=connect}", 1.0),
        ("fieldsync_request_body_bytes_sum", 4_000.0),
        ("fieldsync_sent_bytes_total", 4_000.0),
        ("fieldsync_batch_retries_total", 1.0),
        ("fieldsync_batch_splits_total", 1.0),
        ("fieldsync_batches_renamed_total", 1.0),
        ("fieldsync_outcome_queries_total{reply=unreachable}", 1.0),
        ("fieldsync_outcome_queries_total{reply=completed}", 1.0),
        ("fieldsync_credential_refusals_total", 1.0),
        ("fieldsync_contacts_total", 3.0),
        ("fieldsync_alerts_started_total{name=needs_review}", 1.0),
        ("fieldsync_record_latency_seconds_bucket{le=1}", 1.0),
        ("fieldsync_record_latency_seconds_bucket{le=5}", 2.0),
        ("fieldsync_record_latency_seconds_sum", 12.0),
        ("fieldsync_record_latency_seconds_count", 3.0),
        ("process_start_time_seconds", 1_500.0),
        ("fieldsync_records_accepted_total", 9.0),
        ("fieldsync_breaker_mode{name=micro}", 1.0),
        ("fieldsync_breaker_mode{name=normal}", 0.0),
        ("fieldsync_queue_used_ratio", 0.25),
        ("fieldsync_learned_overhead_seconds", 0.08),
        ("fieldsync_clock_offset_seconds", -1.5),
        ("fieldsync_certificate_expiry_timestamp_seconds", 3e9),
    ] {
        let value = samples.get(sample).unwrap_or_else(|| panic!("{sample} is missing: {text}"));
        assert!((value - expected).abs() < 1e-9, "{sample}: {value}, not {expected}");
    }
}

/// Prometheus appends the unit of a pushed metric to its name, unless the name contains what it translates the unit to. It
/// translates only the units that it knows.
#[test]
fn no_pushed_unit_is_appended_to_a_name_that_has_it() {
    let translations = [("", ""), ("s", "seconds"), ("By", "bytes"), ("1", "ratio")];
    for family in families_of(&counters_with_a_batch()) {
        let code = family.unit.map_or("", Unit::ucum_code);
        let translated = translations.iter().find(|(unit, _)| *unit == code);
        let (_, suffix) = translated.unwrap_or_else(|| panic!("{}: {code} is not translated", family.name));
        assert!(family.name.ends_with(suffix), "{}: {code}", family.name);
    }
}

#[test]
fn the_documentation_lists_every_family() {
    let page = include_str!("../../../docs/monitoring.md");
    for family in families_of(&counters_with_a_batch()) {
        let suffix = match family.kind {
            MetricKind::Counter => "_total",
            MetricKind::Info => "_info",
            MetricKind::Gauge | MetricKind::Histogram => "",
        };
        let row = format!("| `{}{suffix}", family.name);
        let is_listed = |line: &str| line.strip_prefix(&row).is_some_and(|rest| rest.starts_with(['`', '{']));
        assert!(page.lines().any(is_listed), "docs/monitoring.md lacks {}{suffix}", family.name);
    }
}

#[test]
fn families_without_a_value_are_left_out() {
    let families = families_of(&no_counts());
    let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
    assert!(!names.contains("fieldsync_link_signal_dbm"), "no batch was sent yet");
    assert!(
        families_of(&counters_with_a_batch()).iter().any(|family| family.name == "fieldsync_link_signal_dbm")
    );
}

#[test]
fn labels_of_any_text_are_escaped_in_each_format() {
    let families = families_of(&no_counts());
    let escaped =
        r#"fieldsync_device_info{id="00000000-0000-0000-0000-000000000000",name="van \"12\" \\ \n"} 1"#;
    for text in [encode_openmetrics(families.clone()).unwrap(), encode_prometheus_text(&families).unwrap()] {
        assert!(text.lines().any(|line| line == escaped), "{text}");
    }
}

#[test]
fn an_alert_is_a_log_record_with_its_severity() {
    let record = |is_critical, is_active| AlertLogRecord {
        alert: "disk_full".into(),
        message: "the disk is full".into(),
        remedy: "free some disk space".into(),
        is_critical,
        is_active,
        at: 1_700_000_000_123,
    };
    let resource = Resource { device_id: "id".into(), device_name: "van".into() };
    let body =
        encode_logs(&[record(true, true), record(false, true), record(true, false)], &resource).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let records = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    let severities: Vec<_> = (0..3).map(|n| records[n]["severityNumber"].as_u64()).collect();
    assert_eq!(severities, [Some(17), Some(13), Some(9)]);
    assert_eq!(records[0]["timeUnixNano"], "1700000000123000000", "a 64-bit integer is a text");
    assert_eq!(records[0]["body"]["stringValue"], "alert disk_full started: the disk is full");
}

fn any_report() -> impl Strategy<Value = (BatchReport, Network)> {
    let outcome = prop::sample::select(BatchOutcome::ALL);
    (outcome, 0_usize..2_000, 0_u64..10_000_000, 0_u64..200_000, 1_u32..4).prop_map(
        |(outcome, records, bytes, duration_ms, attempt)| {
            let report = BatchReport {
                outcome: outcome.into(),
                records,
                bytes,
                duration_ms,
                attempt,
                ..sample_report(SizeRule::Learned, None)
            };
            (report, sample_network(bytes / 3))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened, each format has the same samples with the same values.
    #[test]
    fn all_encoders_agree_on_all_values(
        batches in prop::collection::vec(any_report(), 0..20),
        alerts in prop::collection::vec(prop::sample::select(AlertName::ALL), 0..5),
    ) {
        let mut counters = no_counts();
        for (report, network) in &batches {
            counters.batch_ended(report, network);
        }
        for alert in alerts {
            counters.alert_started(&alert.to_string());
        }
        let families = families_of(&counters);
        let plain: Samples = read_text(&encode_prometheus_text(&families).unwrap(), "");
        let open = read_text(&encode_openmetrics(families.clone()).unwrap(), "# EOF");
        let resource = Resource { device_id: "id".into(), device_name: "van".into() };
        let json = encode_metrics(&families, &resource, 1_000, 2_000).unwrap();
        let pushed = read_otlp(&serde_json::from_slice(&json).unwrap(), &families);
        prop_assert_eq!(&plain, &open);
        prop_assert_eq!(&plain, &pushed);
        prop_assert_eq!(
            plain.get("fieldsync_request_body_bytes_count").copied(),
            Some(float(batches.iter().filter(|(_, network)| network.body_bytes > 0).count() as u64))
        );
        let sent = find_family(&families, "fieldsync_sent_bytes");
        prop_assert_eq!(&sent.points[0].value, &PointValue::Integer(batches.iter().map(|(_, network)| network.body_bytes).sum()));
    }
}
