//! The feed that `GET /v1/events` streams: bounded, and honest about gaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::broadcast;

/// Announcements that a slow reader may lag behind before it misses some.
const CAPACITY: usize = 256;

/// One event, ready to be written.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Counts from 1 since the daemon started.
    pub id: u64,
    /// `progress`, `batch`, `record`, `breaker`, `connectivity`, `alert`
    pub event: &'static str,
    /// JSON on one line.
    pub data: Arc<str>,
}

/// Where announcements are made and heard.
#[derive(Clone, Debug)]
pub struct Feed {
    sender: broadcast::Sender<Announcement>,
    next: Arc<AtomicU64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), next: Arc::new(AtomicU64::new(1)) }
    }
}

impl Feed {
    /// Makes an announcement. Costs next to nothing while nobody listens.
    pub fn announce(&self, event: &'static str, data: &impl Serialize) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        match serde_json::to_string(data) {
            Ok(data) => {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                // Fails only when the last listener has just left.
                drop(self.sender.send(Announcement { id, event, data: data.into() }));
            }
            Err(error) => tracing::error!(%error, event, "an event cannot be written as JSON"),
        }
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Announcement> {
        self.sender.subscribe()
    }
}
