//! Pushes metrics and alerts to an OTLP collector while the device is in contact with its server anyway.
//!
//! It never causes contact: a push follows a response of the server, at most once in `telemetry.otlp_interval`, and only
//! while sending is neither paused nor deferred. A push that fails is repeated after a later response. It uses no
//! connection of the batches and nobody waits for it, so that a collector that hangs delays nothing.

mod alert_queue;
mod export_loop;
mod push_schedule;

use std::cell::RefCell;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::{Notify, watch};

use super::{ConfigWatch, Drain, Ping};
use crate::clock::Clock;
use crate::model::{Backlog, DeviceId, Link};
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::family::MetricFamily;
use crate::telemetry::metrics::otlp::AlertLogRecord;
use crate::telemetry::metrics::sources::ExportCounts;
use alert_queue::AlertQueue;
use export_loop::ExportLoop;

/// What the exporter needs to know.
pub struct ExporterInputs {
    /// The current configuration.
    pub config: ConfigWatch,
    /// Shows when the server responded.
    pub counters: watch::Receiver<Counters>,
    /// The connection to the server.
    pub link: watch::Receiver<Link>,
    /// Shows whether sending is paused.
    pub backlog: watch::Receiver<Backlog>,
    /// Collects the metrics.
    pub collect: Box<dyn Fn() -> Vec<MetricFamily>>,
    /// This device.
    pub device: DeviceId,
    /// When the daemon started, in wall milliseconds.
    pub started_at: u64,
    /// Monotonic time since then.
    pub clock: Clock,
    /// Where pushes are counted.
    pub counts: watch::Sender<ExportCounts>,
}

/// The actor.
pub struct OtlpExporter {
    /// None once it runs.
    inputs: Option<ExporterInputs>,
    config: ConfigWatch,
    counts: watch::Sender<ExportCounts>,
    alerts: Rc<RefCell<AlertQueue>>,
    stopped: Rc<Notify>,
}

impl OtlpExporter {
    /// An actor that pushes nothing until a collector is configured.
    pub fn new(inputs: ExporterInputs) -> Self {
        Self {
            config: inputs.config.clone(),
            counts: inputs.counts.clone(),
            inputs: Some(inputs),
            alerts: Rc::default(),
            stopped: Rc::default(),
        }
    }
}

/// An alert that started or ended, for the collector.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ExportAlert(pub AlertLogRecord);

impl Actor for OtlpExporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(inputs) = self.inputs.take() else { return };
        let running = ExportLoop::new(inputs, Rc::clone(&self.alerts));
        let stopped = Rc::clone(&self.stopped);
        let exporting = async move {
            tokio::select! {
                () = running.run() => {}
                () = stopped.notified() => {}
            }
        };
        ctx.spawn(exporting.into_actor(self));
    }
}

impl Handler<ExportAlert> for OtlpExporter {
    type Result = ();

    fn handle(&mut self, ExportAlert(record): ExportAlert, _: &mut Self::Context) {
        // Without a collector there is nothing to keep records for.
        if !self.config.borrow().telemetry.otlp_url.is_empty() {
            let mut alerts = self.alerts.borrow_mut();
            alerts.push(record);
            self.counts.send_modify(|counts| counts.dropped_log_records = alerts.dropped());
        }
    }
}

impl Handler<Ping> for OtlpExporter {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for OtlpExporter {
    type Result = ();

    /// A push under way ends.
    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) {
        self.stopped.notify_one();
    }
}
