//! Passes what changes on to those outside: `STATUS=` to systemd, `progress` and `alert` to the feed.

use std::time::Duration;

use serde_json::json;

use super::notify::{News, Notifier};
use crate::config;
use crate::ipc::api::Status;
use crate::ipc::feed::Feed;
use crate::ipc::status::Board;

/// Changes that come closer together are announced as one.
const SPACING: Duration = Duration::from_millis(50);

/// Announces until the daemon ends.
pub(super) async fn announce(mut board: Board, feed: Feed, notifier: Notifier) {
    let mut sentence = String::new();
    let mut raised: Vec<&'static str> = Vec::new();
    loop {
        let status = board.status();
        if status.sync.text != sentence {
            notifier.tell(News::Status(status.sync.text.clone()));
            sentence.clone_from(&status.sync.text);
        }
        feed.announce("progress", &status);
        let alerts = alerts(&status, &board.config.borrow().telemetry, crate::clock::wall_ms());
        for (name, message) in &alerts {
            if !raised.contains(name) {
                tracing::warn!("alert: {message}");
                feed.announce("alert", &json!({"alert": name, "message": message}));
            }
        }
        raised = alerts.into_iter().map(|(name, _)| name).collect();
        if !board.changed().await {
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}

/// The thresholds that are passed now.
fn alerts(status: &Status, config: &config::Telemetry, now: u64) -> Vec<(&'static str, String)> {
    let mut alerts = Vec::new();
    let review = status.records.quarantined;
    if config.alert_quarantined > 0 && review >= config.alert_quarantined {
        alerts.push(("needs_review", format!("{review} records need review: fieldsync quarantine list")));
    }
    let (bytes, most) = (status.queue.bytes, status.queue.max_bytes);
    if bytes.saturating_mul(100) >= most.saturating_mul(u64::from(config.alert_queue_percent)) {
        alerts.push(("queue_filling", format!("the queue holds {bytes} of at most {most} bytes")));
    }
    let oldest = status.queue.oldest_pending_at.map_or(0, |at| now.saturating_sub(at));
    if oldest > crate::clock::millis(config.alert_oldest_pending.0) {
        let hours = oldest / 3_600_000;
        alerts.push(("records_wait", format!("the oldest record waits for {hours} hours")));
    }
    alerts
}
