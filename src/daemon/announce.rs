//! Passes what changes on to those outside: `STATUS=` to systemd, `progress` and `alert` to the feed, and to the
//! journal what a person has to see to.

use std::collections::BTreeMap;
use std::time::Duration;

use super::notify::{News, Notifier};
use crate::api::{Alert, AlertName, OpenEnum, Phase};
use crate::ipc::status::StatusSources;
use crate::journal;
use crate::telemetry::audience::Audience;
use crate::telemetry::feed::Feed;

/// Changes that come closer together are announced as one.
const SPACING: Duration = Duration::from_millis(50);
/// A queue around its limit has its alert come and go: the journal hears of the same one so often at most.
const ALERT_AGAIN: Duration = Duration::from_hours(1);

/// Announces until the daemon ends.
pub(super) async fn announce(mut sources: StatusSources, feed: Feed, notifier: Notifier) {
    let mut sentence = String::new();
    let mut phase = Phase::Idle;
    let mut raised: Vec<OpenEnum<AlertName>> = Vec::new();
    let mut logged: BTreeMap<OpenEnum<AlertName>, Duration> = BTreeMap::new();
    loop {
        let status = sources.current_status();
        if status.sync.phase != phase {
            phase = status.sync.phase;
            log_phase(phase, &status.sync.text);
        }
        if status.sync.text != sentence {
            notifier.tell(News::Status(status.sync.text.clone()));
            sentence.clone_from(&status.sync.text);
        }
        let mut redacted = status.clone();
        Audience::OTHERS.redact_status(&mut redacted);
        feed.announce_by_reader("progress", &status, None, &redacted);
        for alert in status.alerts.iter().filter(|alert| !raised.contains(&alert.alert)) {
            let now = sources.clock.now();
            let before = logged.get(&alert.alert);
            if before.is_none_or(|before| now.saturating_sub(*before) >= ALERT_AGAIN) {
                log_alert(alert);
                logged.insert(alert.alert.clone(), now);
            }
            feed.announce("alert", alert);
        }
        raised = status.alerts.into_iter().map(|alert| alert.alert).collect();
        if !sources.wait_for_change().await {
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}

/// Nothing goes on by itself in these.
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
        // The store has said so, and why.
        Some(AlertName::DiskFull | AlertName::DiskFailing) => {}
        None => tracing::warn!("alert: {message}"),
    }
}
