//! Announces changes of the status: `STATUS=` to systemd, `progress` to the feed, and to the journal what needs a
//! person.

use std::time::Duration;

use tokio::time::timeout;

use super::notify::{Notifier, SystemdMessage};
use crate::api::Phase;
use crate::ipc::status::StatusSources;
use crate::journal;
use crate::telemetry::audience::Audience;
use crate::telemetry::feed::Feed;

/// Changes within this time are announced together.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// Runs until the daemon ends.
pub(super) async fn announce_changes(mut sources: StatusSources, feed: Feed, notifier: Notifier) {
    let mut sentence = String::new();
    let mut phase = Phase::Idle;
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
        let refresh = sources.next_refresh().unwrap_or(Duration::MAX);
        if timeout(refresh, sources.wait_for_change()).await == Ok(false) {
            return;
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Logs the phases that need a person.
fn log_phase(phase: Phase, sentence: &str) {
    match phase {
        Phase::AuthRequired => tracing::warn!(name: journal::AUTH_REQUIRED, "{sentence}"),
        Phase::Misconfigured => tracing::warn!(name: journal::MISCONFIGURED, "{sentence}"),
        Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Paused | Phase::Deferred => {}
    }
}
