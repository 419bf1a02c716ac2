//! Connects the exporter of OTLP with what it reports.

use actix::{Actor, Addr};
use tokio::sync::watch;

use crate::actors::otlp_exporter::{ExporterInputs, OtlpExporter};
use crate::clock::SteadyClock;
use crate::ipc::metrics::MetricCollector;
use crate::ipc::status::StatusSources;
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::sources::ExportCounts;
use crate::telemetry::metrics::start_time::StartTime;

pub(super) fn start_exporter(
    sources: &StatusSources,
    counters: watch::Receiver<Counters>,
    metrics: MetricCollector,
    counts: watch::Sender<ExportCounts>,
    steady: SteadyClock,
    started: StartTime,
) -> Addr<OtlpExporter> {
    let inputs = ExporterInputs {
        config: sources.config.clone(),
        counters,
        link: sources.link.clone(),
        backlog: sources.backlog.clone(),
        planner: sources.planner.clone(),
        alerts: sources.alerts.clone(),
        collect: Box::new(move || metrics.collect()),
        device: sources.device,
        started,
        steady,
        counts,
    };
    OtlpExporter::new(inputs).start()
}
