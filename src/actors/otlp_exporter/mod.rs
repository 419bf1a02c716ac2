//! Pushes metrics and alerts to an OTLP collector while the device is in contact with its server anyway.
//!
//! It never causes contact: a push follows a response of the server within seconds, and only while sending is neither
//! paused nor deferred. Metrics are pushed at most once in `telemetry.otlp_interval`, at the end of a run if that is near;
//! alerts as soon as there is contact. A push that fails is repeated after a later response. It uses no connection of the
//! batches and nobody waits for it, so that a collector that hangs delays nothing.

mod alert_queue;
mod contact;
mod export_loop;
mod push_schedule;
mod signal_pushes;

use std::cell::RefCell;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::{Notify, watch};

use super::batch_planner::PlannerState;
use super::{ConfigWatch, Drain, Ping};
use crate::api::Alert;
use crate::clock::SteadyClock;
use crate::model::{Backlog, DeviceId, Link};
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::family::MetricFamily;
use crate::telemetry::metrics::otlp::AlertLogRecord;
use crate::telemetry::metrics::sources::ExportCounts;
use crate::telemetry::metrics::start_time::StartTime;
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
    /// Shows whether batches are under way.
    pub planner: watch::Receiver<PlannerState>,
    /// The active alerts.
    pub alerts: watch::Receiver<Vec<Alert>>,
    /// Collects the metrics.
    pub collect: Box<dyn Fn() -> Vec<MetricFamily>>,
    /// This device.
    pub device: DeviceId,
    /// When the daemon started.
    pub started: StartTime,
    /// Waits continue while the device sleeps.
    pub steady: SteadyClock,
    /// Where pushes are counted.
    pub counts: watch::Sender<ExportCounts>,
}

/// Records of alerts that wait for a push.
#[derive(Default)]
struct WaitingAlerts {
    queue: RefCell<AlertQueue>,
    added: Notify,
}

/// The actor.
pub struct OtlpExporter {
    /// None once it runs.
    inputs: Option<ExporterInputs>,
    config: ConfigWatch,
    counts: watch::Sender<ExportCounts>,
    alerts: Rc<WaitingAlerts>,
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
            let mut queue = self.alerts.queue.borrow_mut();
            queue.push(record);
            self.counts.send_modify(|counts| counts.dropped_log_records = queue.dropped());
            self.alerts.added.notify_one();
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
