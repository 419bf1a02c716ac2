//! Limits expensive calls (reads, and changes of many records) to half of the time: one runs at a time, followed by a
//! pause as long as the call took. However many clients repeat such calls, time remains for records, batches, admins
//! and the rest of the device.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;
use crate::clock::{Clock, millis};

/// Several hundred calls a second are enough for all clients.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The pause after a call that a slow disk delayed.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Admits one call at a time, in order of arrival.
#[derive(Debug)]
pub struct Throttle {
    semaphore: Semaphore,
    clock: Clock,
    /// In milliseconds of the clock.
    next_start_ms: AtomicU64,
}

/// Admits the next call when it is dropped.
pub(super) struct ThrottlePermit<'t> {
    throttle: &'t Throttle,
    started_at: Duration,
    _permit: SemaphorePermit<'t>,
}

impl Throttle {
    /// Admits the first call at once.
    pub fn new(clock: Clock) -> Self {
        Self { semaphore: Semaphore::new(1), clock, next_start_ms: AtomicU64::new(0) }
    }

    pub(super) async fn acquire(&self) -> Result<ThrottlePermit<'_>, ApiError> {
        let permit = self.semaphore.acquire().await.map_err(|_| ApiError::daemon_stopping())?;
        let next_start = Duration::from_millis(self.next_start_ms.load(Ordering::Relaxed));
        let pause = next_start.saturating_sub(self.clock.now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(ThrottlePermit { throttle: self, started_at: self.clock.now(), _permit: permit })
    }
}

impl Drop for ThrottlePermit<'_> {
    fn drop(&mut self) {
        let now = self.throttle.clock.now();
        let pause = now.saturating_sub(self.started_at).clamp(PAUSE_MIN, PAUSE_MAX);
        self.throttle.next_start_ms.store(millis(now + pause), Ordering::Relaxed);
    }
}
