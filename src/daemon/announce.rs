//! Announces changes of the status: `STATUS=` to systemd, `progress` and `alert` to the feed, and to the journal what
//! needs a person.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::Recipient;
use tokio::time::timeout;

use super::notify::{Notifier, SystemdMessage};
use crate::actors::send_event;
use crate::api::{Alert, AlertName, OpenEnum, Phase};
use crate::ipc::status::StatusSources;
use crate::journal;
use crate::telemetry::audience::Audience;
use crate::telemetry::event::Event;
use crate::telemetry::feed::Feed;

/// Changes within this time are announced together.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// If the queue is near its limit, the alert is raised again and again. The journal gets the same alert no more often
/// than this.
const ALERT_LOG_INTERVAL: Duration = Duration::from_hours(1);

/// Runs until the daemon ends.
pub(super) async fn announce_changes(
    mut sources: StatusSources,
    feed: Feed,
    events: Recipient<Event>,
    notifier: Notifier,
) {
    let mut sentence = String::new();
    let mut phase = Phase::Idle;
    let mut raised: Vec<Alert> = Vec::new();
    let mut logged: BTreeMap<OpenEnum<AlertName>, Duration> = BTreeMap::new();
    loop {
        let status = sources.current_status();
        if let Some(new) = status.sync.phase.known().filter(|new| *new != phase) {
            phase = new;
            log_phase(phase, &status.sync.line());
        }
        let shown = status.sync.line();
        if shown != sentence {
            notifier.notify(SystemdMessage::Status(shown.clone()));
            sentence = shown;
        }
        let mut redacted = status.clone();
        Audience::OTHERS.redact_status(&mut redacted);
        feed.publish_redacted("progress", &status, None, &redacted);
        for alert in not_among(&status.alerts, &raised) {
            let now = sources.clock.now();
            let before = logged.get(&alert.alert);
            if before.is_none_or(|before| now.saturating_sub(*before) >= ALERT_LOG_INTERVAL) {
                log_alert(alert);
                logged.insert(alert.alert.clone(), now);
            }
            feed.publish("alert", alert);
            send_event(&events, Event::AlertChanged { alert: alert.clone(), active: true });
        }
        for alert in not_among(&raised, &status.alerts) {
            send_event(&events, Event::AlertChanged { alert: alert.clone(), active: false });
        }
        raised = status.alerts;
        let refresh = sources.next_refresh().unwrap_or(Duration::MAX);
        if timeout(refresh, sources.wait_for_change()).await == Ok(false) {
            return;
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// The alerts whose names are not among those of the others.
fn not_among<'a>(alerts: &'a [Alert], others: &'a [Alert]) -> impl Iterator<Item = &'a Alert> {
    alerts.iter().filter(|alert| others.iter().all(|other| other.alert != alert.alert))
}

/// Logs the phases that need a person.
fn log_phase(phase: Phase, sentence: &str) {
    match phase {
        Phase::AuthRequired => tracing::warn!(name: journal::AUTH_REQUIRED, "{sentence}"),
        Phase::Misconfigured => tracing::warn!(name: journal::MISCONFIGURED, "{sentence}"),
        Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Paused | Phase::Deferred => {}
    }
}

fn log_alert(alert: &Alert) {
    let message = &alert.message;
    match alert.alert.known() {
        Some(AlertName::NeedsReview) => tracing::warn!(name: journal::NEEDS_REVIEW, "alert: {message}"),
        Some(AlertName::RecordsWait) => tracing::warn!(name: journal::RECORDS_WAIT, "alert: {message}"),
        Some(AlertName::QueueFilling) => tracing::warn!(name: journal::QUEUE_FILLING, "alert: {message}"),
        Some(AlertName::StoreDamaged) => tracing::warn!(name: journal::STORE_DAMAGED, "alert: {message}"),
        Some(AlertName::TokenInClear) => tracing::warn!(name: journal::TOKEN_IN_CLEAR, "alert: {message}"),
        // Already logged with the reason, by the store or by the reload.
        Some(AlertName::DiskFull | AlertName::DiskFailing | AlertName::ConfigurationRefused) => {}
        None => tracing::warn!("alert: {message}"),
    }
}
