//! What the forwarder shares with the rest of the gateway: its state, and what wakes it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The link between the forwarder and the rest of the gateway.
#[derive(Debug, Default)]
pub(crate) struct ForwardControl {
    is_stopped: AtomicBool,
    reviewed: Notify,
    reloaded: Notify,
}

impl ForwardControl {
    /// Whether the receiver is gone (410), so that nothing is sent.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stopped(&self, is_stopped: bool) {
        self.is_stopped.store(is_stopped, Ordering::Relaxed);
    }

    /// Tells the forwarder that a review changed lanes.
    pub(crate) fn notify_reviewed(&self) {
        self.reviewed.notify_one();
    }

    pub(crate) async fn wait_for_review(&self) {
        self.reviewed.notified().await;
    }

    /// Tells the forwarder to read its files again, and to try a receiver that was gone.
    pub(crate) fn notify_reloaded(&self) {
        self.reloaded.notify_one();
    }

    pub(crate) async fn wait_for_reload(&self) {
        self.reloaded.notified().await;
    }
}
