//! Connects the reporter of the device's status with what it reports.

use std::path::Path;

use actix::{Actor, Addr};
use tokio::sync::watch;

use crate::actors::status_reporter::{ReporterInputs, StatusReporter};
use crate::actors::uploader::Uploader;
use crate::api::{Counts, Status};
use crate::clock::{SteadyClock, wall_ms};
use crate::ipc::metrics::MetricCollector;
use crate::ipc::status::StatusSources;
use crate::link::power::{Power, SUPPLIES_DIR, read_power};
use crate::protocol::device_status::{DeviceStatus, RecordCounts, STATUS_ALERTS_MAX};
use crate::telemetry::metrics::counters::Counters;

pub(super) fn start_reporter(
    sources: &StatusSources,
    counters: &watch::Receiver<Counters>,
    metrics: &MetricCollector,
    steady: SteadyClock,
    uploader: &Addr<Uploader>,
) -> Addr<StatusReporter> {
    let (collected, metrics) = (sources.clone(), metrics.clone());
    let collect = move || DeviceStatus {
        clock_offset_ms: metrics.clock_offset_ms(),
        interface: collected.link.borrow().interface.map(|interface| interface.name().to_owned()),
        ..describe_device(&collected.current_status())
    };
    let inputs = ReporterInputs {
        config: sources.config.clone(),
        counters: counters.clone(),
        link: sources.link.clone(),
        backlog: sources.backlog.clone(),
        planner: sources.planner.clone(),
        collect: Box::new(collect),
        steady,
        uploader: uploader.clone().recipient(),
    };
    StatusReporter::new(inputs).start()
}

/// Nothing here names a record, its type or its content.
fn describe_device(status: &Status) -> DeviceStatus {
    let Counts { pending, syncing, failed, synced, quarantined } = status.records;
    let battery_percent = match read_power(Path::new(SUPPLIES_DIR)) {
        Power::Battery(percent) => Some(percent),
        Power::Mains => None,
    };
    let alerts = status.alerts.iter().take(STATUS_ALERTS_MAX);
    DeviceStatus {
        version: Some(status.version.clone()),
        at: Some(wall_ms()),
        records: Some(RecordCounts {
            pending: Some(pending),
            syncing: Some(syncing),
            failed: Some(failed),
            synced: Some(synced),
            quarantined: Some(quarantined),
        }),
        oldest_pending_at: status.queue.oldest_pending_at,
        queue_bytes: Some(status.queue.bytes),
        last_success_at: status.sync.last_success_at,
        alerts: alerts.map(|alert| alert.alert.to_string()).collect(),
        battery_percent,
        ..DeviceStatus::default()
    }
}
