//! The loop of the exporter: waits for contact, and pushes where that is allowed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::contact::Contact;
use super::signal_pushes::{PushFailure, PushTimes, SignalPushes};
use super::{ExporterInputs, WaitingAlerts};
use crate::api::AlertChange;
use crate::clock::wall_ms;
use crate::config::{self, Config};
use crate::device_name::device_name;
use crate::model::Link;
use crate::telemetry::metrics::otlp::{AlertLogRecord, Resource, encode_logs, encode_metrics};
use crate::transport::credential::{CollectorHeaders, warn_of_clear_headers};
use crate::transport::http::collector::{Collector, CollectorNotice, CollectorSession, PushResult, Signal};

/// A push waits this long, so that it has the alerts that the last batch caused.
const SETTLE_WAIT: Duration = Duration::from_millis(200);

/// What a push needs besides the configuration.
pub(super) struct ExportLoop {
    inputs: ExporterInputs,
    alerts: Rc<WaitingAlerts>,
    contact: Contact,
    metrics: SignalPushes,
    logs: SignalPushes,
    /// The collector, and the configuration that it was made from.
    current: Option<(Arc<Config>, Rc<Collector>)>,
}

/// The signals that may be pushed now.
#[derive(Clone, Copy)]
struct DueSignals {
    metrics: bool,
    logs: bool,
}

impl DueSignals {
    const NONE: Self = Self { metrics: false, logs: false };

    fn is_any(self) -> bool {
        self.metrics || self.logs
    }
}

/// What the requests of one push have in common.
struct PushSession {
    session: CollectorSession,
    resource: Resource,
}

impl ExportLoop {
    pub(super) fn new(inputs: ExporterInputs, alerts: Rc<WaitingAlerts>) -> Self {
        Self {
            inputs,
            alerts,
            contact: Contact::default(),
            metrics: SignalPushes::new(Signal::Metrics),
            logs: SignalPushes::new(Signal::Logs),
            current: None,
        }
    }

    /// Runs until the daemon ends.
    pub(super) async fn run(mut self) {
        let mut settings = config::Telemetry::default();
        let mut known = Arc::clone(&self.inputs.config.borrow());
        loop {
            let present = Arc::clone(&self.inputs.config.borrow_and_update());
            if !Arc::ptr_eq(&known, &present) {
                // The headers may have been corrected, or the collector.
                self.metrics.forget_failure();
                self.logs.forget_failure();
            }
            let now = present.telemetry.clone();
            known = present;
            if (&now.otlp_url, &now.otlp_headers_file) != (&settings.otlp_url, &settings.otlp_headers_file) {
                self.follow_settings(&settings, &now);
            }
            settings = now;
            if !self.wait_for_change(!settings.otlp_url.is_empty()).await {
                return;
            }
            if self.find_due_signals().is_any() {
                tokio::time::sleep(SETTLE_WAIT).await;
                let due = self.find_due_signals();
                // Another configuration is followed before it is used.
                if due.is_any() && Arc::ptr_eq(&known, &self.inputs.config.borrow()) {
                    self.push(due).await;
                }
            }
        }
    }

    /// Returns false when the daemon is ending.
    async fn wait_for_change(&mut self, has_collector: bool) -> bool {
        let ExporterInputs { config, counters, backlog, planner, .. } = &mut self.inputs;
        if !has_collector {
            return config.changed().await.is_ok();
        }
        tokio::select! {
            changed = config.changed() => changed.is_ok(),
            changed = counters.changed() => changed.is_ok(),
            changed = backlog.changed() => changed.is_ok(),
            changed = planner.changed() => changed.is_ok(),
            () = self.alerts.added.notified() => true,
        }
    }

    /// Another collector, or other headers.
    fn follow_settings(&mut self, former: &config::Telemetry, settings: &config::Telemetry) {
        self.metrics = SignalPushes::new(Signal::Metrics);
        self.logs = SignalPushes::new(Signal::Logs);
        let mut alerts = self.alerts.queue.borrow_mut();
        if settings.otlp_url.is_empty() {
            alerts.clear();
            self.current = None;
        } else if former.otlp_url != settings.otlp_url {
            self.contact.skip(self.inputs.counters.borrow().contacts());
            // This collector knows none of the alerts that started before.
            for alert in self.inputs.alerts.borrow().iter() {
                let change = AlertChange { alert: alert.clone(), active: true };
                alerts.push_if_unknown(AlertLogRecord::new(&change, wall_ms()));
            }
        }
        if let Some(warning) = warn_of_clear_headers(settings) {
            tracing::warn!("{warning}");
        }
    }

    fn find_due_signals(&mut self) -> DueSignals {
        let now = self.now();
        let responses = self.inputs.counters.borrow().contacts();
        let is_run_under_way = self.inputs.planner.borrow().is_run_under_way(&self.inputs.backlog.borrow());
        self.contact.update(responses, is_run_under_way, now);
        if !self.may_push() || !self.contact.is_recent(now) {
            return DueSignals::NONE;
        }
        // A failure is followed by another attempt only after another response.
        let may_retry = self.logs.is_before(responses) || !self.logs.has_failed();
        DueSignals {
            metrics: self.metrics.is_due(now)
                && self.metrics.is_before(responses)
                && !self.contact.should_await_run(now),
            logs: self.logs.is_due(now) && may_retry && !self.alerts.queue.borrow().is_empty(),
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.inputs.steady.now().steady)
    }

    fn may_push(&self) -> bool {
        let ExporterInputs { config, link, backlog, .. } = &self.inputs;
        let link = *link.borrow();
        !config.borrow().telemetry.otlp_url.is_empty()
            && !link.state.is_closed()
            && link.deferral.is_none()
            && !backlog.borrow().paused
    }

    /// Pushes alerts, then metrics. Each signal has a result of its own.
    async fn push(&mut self, due: DueSignals) {
        let config = Arc::clone(&self.inputs.config.borrow());
        let responses = self.contact.responses();
        let opened = self.open_session(&config).map_err(|failure| failure.reason);
        let failed = |reason: &String| Err(PushFailure::on_device(reason.clone()));
        let (interval, retry_after_max) = (config.telemetry.otlp_interval.0, config.retry.max_retry_after.0);
        if due.logs {
            self.logs.begin(responses);
            let result = match &opened {
                Ok(opened) => self.push_alerts(opened).await,
                Err(reason) => failed(reason),
            };
            // After a success, alerts wait only for contact.
            let is_accepted = result.is_ok();
            let interval = if is_accepted { Duration::ZERO } else { interval };
            self.logs.end(result, &PushTimes { now: self.now(), interval, retry_after_max });
        }
        if due.metrics {
            self.metrics.begin(responses);
            let result = match &opened {
                Ok(opened) => self.push_metrics(opened).await,
                Err(reason) => failed(reason),
            };
            self.metrics.end(result, &PushTimes { now: self.now(), interval, retry_after_max });
        }
    }

    fn open_session(&mut self, config: &Arc<Config>) -> Result<PushSession, PushFailure> {
        let headers = CollectorHeaders::read_configured(&config.telemetry).map_err(|error| {
            PushFailure::on_device(error.describe("Nothing is pushed to the collector meanwhile"))
        })?;
        let session = current_collector(&mut self.current, config)?.open_session(headers);
        let resource =
            Resource { device_id: self.inputs.device.to_string(), device_name: device_name(config) };
        Ok(PushSession { session, resource })
    }

    async fn push_alerts(&self, opened: &PushSession) -> Result<Option<CollectorNotice>, PushFailure> {
        let alerts = self.alerts.queue.borrow_mut().take();
        let body = encode_logs(&alerts, &opened.resource).map_err(|error| encoding_failure(&error))?;
        let result = self.push_signal(&opened.session, Signal::Logs, &body).await;
        self.settle_alerts(alerts, &result);
        check_result(result)
    }

    async fn push_metrics(&self, opened: &PushSession) -> Result<Option<CollectorNotice>, PushFailure> {
        let ExporterInputs { collect, steady, started, .. } = &self.inputs;
        let (families, now) = (collect(), steady.now());
        let body = encode_metrics(&families, &opened.resource, started.wall_ms(now), now.wall)
            .map_err(|error| encoding_failure(&error))?;
        check_result(self.push_signal(&opened.session, Signal::Metrics, &body).await)
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
        let mut queue = self.alerts.queue.borrow_mut();
        match result {
            PushResult::Accepted { .. } => {}
            PushResult::Failed { .. } => queue.put_back(alerts),
            PushResult::Refused { .. } => queue.count_refused(alerts.len()),
        }
        self.inputs.counts.send_modify(|counts| counts.dropped_log_records = queue.dropped());
    }
}

fn encoding_failure(error: &serde_json::Error) -> PushFailure {
    PushFailure::on_device(error.to_string())
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

fn check_result(result: PushResult) -> Result<Option<CollectorNotice>, PushFailure> {
    match result {
        PushResult::Accepted { notice } => Ok(notice),
        PushResult::Failed { reason, retry_after } => Err(PushFailure { reason, retry_after }),
        PushResult::Refused { reason } => Err(PushFailure { reason, retry_after: None }),
    }
}

async fn wait_until_closed(mut link: watch::Receiver<Link>) {
    // Without a sender, the daemon is ending.
    drop(link.wait_for(|link| link.state.is_closed()).await);
}
