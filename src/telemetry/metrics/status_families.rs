//! Families of the queue, of the run, and of what decides about the next batch.

use std::time::Duration;

use super::counters::float;
use super::family::{MetricFamily, MetricKind};
use super::sources::MetricSources;
use crate::api::{AlertName, Phase, QueueUse};
use crate::model::DiskState;

const BREAKER_MODES: [&str; 4] = ["normal", "micro", "open", "probing"];
const DISK_STATES: [(&str, DiskState); 3] =
    [("ok", DiskState::Ok), ("full", DiskState::Full), ("failing", DiskState::Failing)];

pub(super) fn status_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let mut families = queue_families(sources);
    families.extend(run_families(sources));
    families.extend(batching_families(sources));
    families.extend(state_families(sources));
    families
}

fn gauge(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(MetricKind::Gauge, name, help)
}

fn queue_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { status, now, .. } = sources;
    let queue = &status.queue;
    let age = queue.oldest_pending_at.map_or(0, |at| now.saturating_sub(at) / 1000);
    let records = [
        ("pending", status.records.pending),
        ("syncing", status.records.syncing),
        ("failed", status.records.failed),
        ("synced", status.records.synced),
        ("quarantined", status.records.quarantined),
    ];
    vec![
        gauge("fieldsync_records", "Records by state").with_each("name", records),
        gauge("fieldsync_queue_records", "Records that the server has not confirmed").with(queue.records),
        gauge("fieldsync_queue_max_records", "The limit of queue_records").with(queue.max_records),
        gauge("fieldsync_queue_bytes", "Payload bytes that are not confirmed").with(queue.bytes),
        gauge("fieldsync_queue_max_bytes", "The limit of queue_bytes").with(queue.max_bytes),
        gauge("fieldsync_queue_disk_bytes", "Disk that unconfirmed records take, estimated")
            .with(queue.disk_bytes),
        gauge("fieldsync_queue_max_disk_bytes", "The limit of queue_disk_bytes").with(queue.max_disk_bytes),
        gauge("fieldsync_queue_used_ratio", "The largest used part of a limit of the queue")
            .with(used_ratio(queue)),
        gauge("fieldsync_queue_file_bytes", "Size of the file of the queue").with(queue.file_bytes),
        gauge("fieldsync_oldest_pending_age_seconds", "Age of the oldest record that waits; 0 if none waits")
            .with(age),
        gauge("fieldsync_disk_free_bytes", "Free bytes on the disk of the queue")
            .with_known(queue.disk_free_bytes),
        gauge("fieldsync_disk_state", "1 for the state of the disk of the queue")
            .with_each("name", DISK_STATES.map(|(name, state)| (name, queue.disk == state))),
    ]
}

fn used_ratio(queue: &QueueUse) -> f64 {
    let used = [
        (queue.records, queue.max_records),
        (queue.bytes, queue.max_bytes),
        (queue.disk_bytes, queue.max_disk_bytes),
    ];
    used.iter().filter(|(_, max)| *max > 0).map(|(used, max)| float(*used) / float(*max)).fold(0.0, f64::max)
}

fn run_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { status, backlog, counters, .. } = sources;
    let timestamp = |at: Option<u64>| at.map_or(0, |at| at / 1000);
    vec![
        gauge("fieldsync_run_done", "Records settled in this run").with(status.sync.done),
        gauge("fieldsync_run_records", "Records of this run").with(status.sync.total),
        gauge("fieldsync_run_eta_seconds", "Estimated time until all records are sent, while some are sent")
            .with_known(status.sync.eta_s),
        gauge(
            "fieldsync_synced_since_start",
            "Records that the server confirmed since the daemon started; better use records_synced_total",
        )
        .with(backlog.synced_total),
        gauge(
            "fieldsync_last_success_timestamp_seconds",
            "When the server last confirmed a record, since 1970; 0 if it has not",
        )
        .with(timestamp(status.sync.last_success_at)),
        gauge(
            "fieldsync_last_contact_timestamp_seconds",
            "When the server last responded, since 1970; 0 if it has not since the daemon started",
        )
        .with(timestamp(counters.last_contact_at)),
    ]
}

fn batching_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { status, per_record, start_up, .. } = sources;
    let batching = &status.batching;
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let learned = |time: &Option<Duration>| time.map(|time| time.as_secs_f64());
    vec![
        gauge("fieldsync_batch_size", "Records in the next fresh batch").with(batching.size as u64),
        gauge("fieldsync_batch_expected_seconds", "Expected duration of such a batch")
            .with_known(batching.expected_ms.map(seconds)),
        gauge("fieldsync_learned_record_seconds", "Measured time per record").with_known(learned(per_record)),
        gauge("fieldsync_learned_overhead_seconds", "Learned time of a batch that its records do not cause")
            .with_known(learned(start_up)),
        gauge("fieldsync_time_budget_seconds", "The longest duration that is planned for a batch")
            .with(seconds(batching.time_budget_ms)),
        gauge("fieldsync_time_limit_seconds", "Time limit of the gateway in front of the server, as learned")
            .with(seconds(batching.time_limit_ms)),
        gauge("fieldsync_in_flight_batches", "Batches under way").with(batching.in_flight as u64),
        gauge("fieldsync_in_flight_limit", "Batches that may be under way at once now")
            .with(batching.in_flight_limit as u64),
    ]
}

fn state_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { status, backlog, .. } = sources;
    let phases = Phase::ALL.iter().map(|phase| (phase.to_string(), status.sync.phase == *phase));
    let is_active = |name: AlertName| status.alerts.iter().any(|alert| alert.alert == name);
    let alerts = AlertName::ALL.iter().map(|name| (name.to_string(), is_active(*name)));
    vec![
        gauge("fieldsync_phase", "1 for the phase of the daemon").with_each("name", phases),
        gauge("fieldsync_paused", "1 while sending is paused on request").with(backlog.paused),
        gauge("fieldsync_alert", "1 for each alert that is active").with_each("name", alerts),
        gauge("fieldsync_breaker_mode", "1 for the mode of the circuit breaker")
            .with_each("name", BREAKER_MODES.map(|mode| (mode, status.breaker.mode == mode))),
        gauge("fieldsync_breaker_failures", "Batch failures in a row")
            .with(u64::from(status.breaker.consecutive_failures)),
    ]
}
