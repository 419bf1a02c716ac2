//! `GET /metrics`: the status as OpenMetrics text, read when it is asked for.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::api::{AlertName, Phase, Status};
use crate::model::{Backlog, LinkState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    name: String,
}

pub(super) fn encode_metrics(status: &Status, backlog: &Backlog, now: u64) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("fieldsync");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let metric: Gauge = Gauge::default();
        metric.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, metric);
    };
    gauge("queue_bytes", "Payload bytes that are not confirmed", status.queue.bytes);
    gauge("queue_max_bytes", "The limit of queue_bytes", status.queue.max_bytes);
    gauge("queue_disk_bytes", "Disk that unconfirmed records take, estimated", status.queue.disk_bytes);
    gauge("queue_max_disk_bytes", "The limit of queue_disk_bytes", status.queue.max_disk_bytes);
    gauge("run_done", "Records settled in this run", status.sync.done);
    gauge("run_total", "Records of this run", status.sync.total);
    gauge(
        "synced_since_start",
        "Records that the server confirmed since the daemon started",
        backlog.synced_total,
    );
    gauge("batch_size", "Records in the next fresh batch", status.batching.size as u64);
    gauge("breaker_failures", "Batch failures in a row", u64::from(status.breaker.consecutive_failures));
    gauge(
        "online",
        "1 while the server can be reached",
        u64::from(status.connectivity.state == LinkState::Online),
    );
    let age = status.queue.oldest_pending_at.map_or(0, |at| now.saturating_sub(at) / 1000);
    gauge("oldest_pending_age_seconds", "Age of the oldest record that waits; 0 if none waits", age);
    let last_success = status.sync.last_success_at.map_or(0, |at| at / 1000);
    gauge(
        "last_success_timestamp_seconds",
        "When the server last confirmed a record, since 1970; 0 if it has not",
        last_success,
    );
    let mut named = |name: &str, help: &str, values: &[(String, u64)]| {
        let family = Family::<NameLabel, Gauge>::default();
        for (name, value) in values {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            family.get_or_create(&NameLabel { name: name.clone() }).set(value);
        }
        registry.register(name, help, family);
    };
    let phases = Phase::ALL.iter().map(|phase| (phase.to_string(), u64::from(status.sync.phase == *phase)));
    named("phase", "1 for the phase of the daemon", &phases.collect::<Vec<_>>());
    let is_active = |name: AlertName| status.alerts.iter().any(|alert| alert.alert == name);
    let alerts = AlertName::ALL.iter().map(|name| (name.to_string(), u64::from(is_active(*name))));
    named("alert", "1 for each alert that is active", &alerts.collect::<Vec<_>>());
    let records = [
        ("pending", status.records.pending),
        ("syncing", status.records.syncing),
        ("failed", status.records.failed),
        ("synced", status.records.synced),
        ("quarantined", status.records.quarantined),
    ];
    named("records", "Records by state", &records.map(|(name, count)| (name.to_owned(), count)));
    let device = [("id", status.device_id.to_string()), ("name", status.device_name.clone())];
    registry.register("device", "The device", Info::new(device.to_vec()));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
