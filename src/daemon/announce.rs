//! Passes what changes on to those outside: `STATUS=` to systemd, `progress` and `alert` to the feed.

use std::time::Duration;

use super::notify::{News, Notifier};
use crate::ipc::feed::Feed;
use crate::ipc::status::Board;

/// Changes that come closer together are announced as one.
const SPACING: Duration = Duration::from_millis(50);

/// Announces until the daemon ends.
pub(super) async fn announce(mut board: Board, feed: Feed, notifier: Notifier) {
    let mut sentence = String::new();
    let mut raised: Vec<String> = Vec::new();
    loop {
        let status = board.status();
        if status.sync.text != sentence {
            notifier.tell(News::Status(status.sync.text.clone()));
            sentence.clone_from(&status.sync.text);
        }
        feed.announce("progress", &status);
        for alert in status.alerts.iter().filter(|alert| !raised.contains(&alert.alert)) {
            tracing::warn!("alert: {}", alert.message);
            feed.announce("alert", alert);
        }
        raised = status.alerts.into_iter().map(|alert| alert.alert).collect();
        if !board.changed().await {
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}
