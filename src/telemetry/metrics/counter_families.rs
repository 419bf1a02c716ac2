//! Families of what is counted since the start.

use super::family::{MetricFamily, MetricKind};
use super::sources::{ExportCounts, MetricSources};

pub(super) fn counter_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let mut families = record_families(sources);
    families.extend(batch_families(sources));
    families.extend(request_families(sources));
    families.extend(change_families(sources));
    families
}

fn counter(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(MetricKind::Counter, name, help)
}

fn histogram(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(MetricKind::Histogram, name, help)
}

fn record_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { backlog, counters, commits, .. } = sources;
    vec![
        counter("fieldsync_records_accepted", "Records that apps enqueued, without duplicates")
            .with(backlog.accepted_total),
        counter("fieldsync_records_synced", "Records that the server confirmed").with(backlog.synced_total),
        counter("fieldsync_records_quarantined", "Records that were put under review")
            .with(backlog.quarantined_total),
        counter("fieldsync_records_discarded", "Records that people discarded").with(backlog.discarded_total),
        histogram(
            "fieldsync_record_latency_seconds",
            "Time from the acceptance of a record to its confirmation by the server",
        )
        .with(&counters.latency_seconds),
        histogram("fieldsync_store_commit_duration_seconds", "Duration of commits of the queue")
            .with(*commits),
    ]
}

fn batch_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let counters = sources.counters;
    vec![
        counter("fieldsync_batches", "Batches sent, by the class of the response")
            .with_each("outcome", counters.batches.iter()),
        histogram(
            "fieldsync_batch_duration_seconds",
            "Time from the start of sending a batch to the response or failure",
        )
        .with_each(
            "result",
            [("answered", &counters.answered_seconds), ("failed", &counters.failed_seconds)],
        ),
        histogram("fieldsync_batch_records", "Records of batches sent").with(&counters.batch_records),
        counter("fieldsync_batch_payload_bytes", "Payload bytes of batches sent, before encoding")
            .with(counters.payload_bytes),
        counter("fieldsync_batch_retries", "Batches sent again under the same id").with(counters.retries),
        counter("fieldsync_batch_splits", "Batches split into smaller ones").with(counters.splits),
        counter("fieldsync_batches_renamed", "Batches sent again under a new id").with(counters.renamed),
        counter("fieldsync_outcome_queries", "Queries for the outcome of a batch, by reply")
            .with_each("reply", counters.queries.iter()),
    ]
}

fn request_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let counters = sources.counters;
    let phases = [
        ("connect", &counters.connect_seconds),
        ("send", &counters.send_seconds),
        ("exchange", &counters.exchange_seconds),
    ];
    vec![
        histogram(
            "fieldsync_request_phase_duration_seconds",
            "Time until a connection is usable, until the body is sent, and from its first byte to the response",
        )
        .with_each("phase", phases),
        histogram("fieldsync_request_body_bytes", "Size of bodies as they were sent, after encoding")
            .with(&counters.body_bytes),
        counter("fieldsync_sent_bytes", "Body bytes of batches, after encoding").with(counters.sent_bytes),
        counter("fieldsync_contacts", "Responses of the server to batches and outcome queries")
            .with(counters.contacts),
        counter("fieldsync_credential_refusals", "Batches that were not accepted because of the credential")
            .with(counters.credential_refusals),
    ]
}

fn change_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { counters, exports, .. } = sources;
    let ExportCounts { accepted, failed, refused, dropped_log_records } = exports;
    let pushes = [("accepted", *accepted), ("failed", *failed), ("refused", *refused)];
    vec![
        counter("fieldsync_breaker_transitions", "Changes of the circuit breaker, by its new mode")
            .with_each("mode", counters.breaker_changes.iter()),
        counter("fieldsync_link_changes", "Changes of the link to the server, by its new state")
            .with_each("state", counters.link_changes.iter()),
        counter("fieldsync_alerts_started", "Alerts that started or became more severe, by name")
            .with_each("name", counters.alerts.iter()),
        counter("fieldsync_otlp_pushes", "Requests to the OTLP collector, by result")
            .with_each("result", pushes),
        counter("fieldsync_otlp_dropped_log_records", "Records of alerts that no OTLP collector accepted")
            .with(*dropped_log_records),
    ]
}
