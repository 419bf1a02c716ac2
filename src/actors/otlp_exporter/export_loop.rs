//! The loop of the exporter: waits for contact, and pushes where that is allowed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::ExporterInputs;
use super::alert_queue::AlertQueue;
use super::push_schedule::PushSchedule;
use crate::clock::wall_ms;
use crate::config::{self, Config};
use crate::device_name::device_name;
use crate::model::Link;
use crate::telemetry::metrics::otlp::{AlertLogRecord, Resource, encode_logs, encode_metrics};
use crate::transport::credential::{CollectorHeaders, warn_of_clear_headers};
use crate::transport::http::collector::{Collector, CollectorSession, PushResult, Signal};

/// What a push needs besides the configuration.
pub(super) struct ExportLoop {
    inputs: ExporterInputs,
    alerts: Rc<RefCell<AlertQueue>>,
    schedule: PushSchedule,
    /// The responses that were seen.
    contacts: u64,
    /// The collector, and the configuration that it was made from.
    current: Option<(Arc<Config>, Rc<Collector>)>,
}

/// Why a push ended without success.
struct PushFailure {
    reason: String,
    retry_after: Option<Duration>,
}

impl PushFailure {
    /// Nothing was sent.
    fn on_device(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

impl ExportLoop {
    pub(super) fn new(inputs: ExporterInputs, alerts: Rc<RefCell<AlertQueue>>) -> Self {
        Self { inputs, alerts, schedule: PushSchedule::default(), contacts: 0, current: None }
    }

    /// Runs until the daemon ends.
    pub(super) async fn run(mut self) {
        let mut settings = config::Telemetry::default();
        loop {
            let now = self.inputs.config.borrow_and_update().telemetry.clone();
            if (&now.otlp_url, &now.otlp_headers_file) != (&settings.otlp_url, &settings.otlp_headers_file) {
                self.follow_settings(&now);
            }
            settings = now;
            let is_running = if settings.otlp_url.is_empty() {
                self.inputs.config.changed().await.is_ok()
            } else {
                tokio::select! {
                    changed = self.inputs.config.changed() => changed.is_ok(),
                    changed = self.inputs.counters.changed() => changed.is_ok(),
                }
            };
            if !is_running {
                return;
            }
            let contacts = self.inputs.counters.borrow_and_update().contacts();
            let is_contact = contacts > self.contacts;
            self.contacts = contacts;
            if is_contact && self.may_push() {
                self.push().await;
            }
        }
    }

    /// Another collector, or other headers: what failed before may work now.
    fn follow_settings(&mut self, settings: &config::Telemetry) {
        self.schedule = PushSchedule::default();
        if settings.otlp_url.is_empty() {
            self.alerts.borrow_mut().clear();
            self.current = None;
        }
        if let Some(warning) = warn_of_clear_headers(settings) {
            tracing::warn!("{warning}");
        }
    }

    fn may_push(&self) -> bool {
        let ExporterInputs { config, link, backlog, clock, .. } = &self.inputs;
        let link = *link.borrow();
        !config.borrow().telemetry.otlp_url.is_empty()
            && !link.state.is_closed()
            && link.deferral.is_none()
            && !backlog.borrow().paused
            && self.schedule.is_due(clock.now())
    }

    async fn push(&mut self) {
        let config = Arc::clone(&self.inputs.config.borrow());
        let result = self.push_signals(&config).await;
        let (now, interval) = (self.inputs.clock.now(), config.telemetry.otlp_interval.0);
        match result {
            Ok(()) => {
                if self.schedule.has_failed() {
                    tracing::info!("metrics are pushed to the collector again");
                }
                self.schedule.record_success(now, interval);
            }
            Err(PushFailure { reason, retry_after }) => {
                if self.schedule.has_failed() {
                    tracing::debug!("metrics could not be pushed to the collector: {reason}");
                } else {
                    tracing::warn!(
                        "metrics could not be pushed to the collector: {reason}. Records are synced regardless; the \
                         next attempt follows a later response of the server"
                    );
                }
                self.schedule.record_failure(now, interval, retry_after, config.retry.max_retry_after.0);
            }
        }
    }

    /// Pushes alerts, then metrics.
    async fn push_signals(&mut self, config: &Arc<Config>) -> Result<(), PushFailure> {
        let headers = CollectorHeaders::read_configured(&config.telemetry).map_err(|error| {
            PushFailure::on_device(error.describe("Nothing is pushed to the collector meanwhile"))
        })?;
        let collector = current_collector(&mut self.current, config)?;
        let session = collector.open_session(headers);
        let ExporterInputs { device, started_at, collect, .. } = &self.inputs;
        let resource = Resource { device_id: device.to_string(), device_name: device_name(config) };
        let encoding_error = |error: serde_json::Error| PushFailure::on_device(error.to_string());
        let alerts = self.alerts.borrow_mut().take();
        if !alerts.is_empty() {
            let body = encode_logs(&alerts, &resource).map_err(encoding_error)?;
            let result = self.push_signal(&session, Signal::Logs, &body).await;
            self.settle_alerts(alerts, &result);
            check_result(result)?;
        }
        let body = encode_metrics(&collect(), &resource, *started_at, wall_ms()).map_err(encoding_error)?;
        check_result(self.push_signal(&session, Signal::Metrics, &body).await)
    }

    /// Ends with the link, so that nothing is sent again when it returns.
    async fn push_signal(&self, session: &CollectorSession, signal: Signal, body: &[u8]) -> PushResult {
        let result = tokio::select! {
            result = session.push(signal, body) => result,
            () = wait_until_closed(self.inputs.link.clone()) => {
                PushResult::Failed { reason: "the link went down".into(), retry_after: None }
            }
        };
        self.inputs.counts.send_modify(|counts| match result {
            PushResult::Accepted { .. } => counts.accepted += 1,
            PushResult::Failed { .. } => counts.failed += 1,
            PushResult::Refused { .. } => counts.refused += 1,
        });
        result
    }

    /// OTLP forbids to repeat what was refused.
    fn settle_alerts(&self, alerts: Vec<AlertLogRecord>, result: &PushResult) {
        let mut queue = self.alerts.borrow_mut();
        match result {
            PushResult::Accepted { .. } => {}
            PushResult::Failed { .. } => queue.put_back(alerts),
            PushResult::Refused { .. } => queue.count_refused(alerts.len()),
        }
        self.inputs.counts.send_modify(|counts| counts.dropped_log_records = queue.dropped());
    }
}

/// The collector of the present configuration.
fn current_collector(
    current: &mut Option<(Arc<Config>, Rc<Collector>)>,
    config: &Arc<Config>,
) -> Result<Rc<Collector>, PushFailure> {
    if let Some((of, kept)) = current
        && Arc::ptr_eq(of, config)
    {
        return Ok(Rc::clone(kept));
    }
    let collector = Collector::new(config).map_err(|error| PushFailure::on_device(error.to_string()))?;
    let collector = Rc::new(collector);
    *current = Some((Arc::clone(config), Rc::clone(&collector)));
    Ok(collector)
}

fn check_result(result: PushResult) -> Result<(), PushFailure> {
    match result {
        PushResult::Accepted { warning } => {
            if let Some(warning) = warning {
                tracing::warn!("a push was accepted only partly: {warning}");
            }
            Ok(())
        }
        PushResult::Failed { reason, retry_after } => Err(PushFailure { reason, retry_after }),
        PushResult::Refused { reason } => Err(PushFailure { reason, retry_after: None }),
    }
}

async fn wait_until_closed(mut link: watch::Receiver<Link>) {
    // Without a sender, the daemon is ending.
    drop(link.wait_for(|link| link.state.is_closed()).await);
}
