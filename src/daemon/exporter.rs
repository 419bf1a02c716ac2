//! Connects the exporter of OTLP with what it reports.

use actix::{Actor, Addr};
use tokio::sync::watch;

use crate::actors::otlp_exporter::{ExporterInputs, OtlpExporter};
use crate::ipc::metrics::MetricCollector;
use crate::ipc::status::StatusSources;
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::sources::ExportCounts;

pub(super) fn start_exporter(
    sources: &StatusSources,
    counters: watch::Receiver<Counters>,
    metrics: MetricCollector,
    counts: watch::Sender<ExportCounts>,
) -> Addr<OtlpExporter> {
    let inputs = ExporterInputs {
        config: sources.config.clone(),
        counters,
        link: sources.link.clone(),
        backlog: sources.backlog.clone(),
        collect: Box::new(move || metrics.collect()),
        device: sources.device,
        started_at: sources.started_at,
        clock: sources.clock,
        counts,
    };
    OtlpExporter::new(inputs).start()
}
