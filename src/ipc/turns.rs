//! Turns of calls that look, or that change many records: one has it at a time, and then as much time passes as it
//! took. So however many callers repeat such calls, there is time left for records, batches and admins, and for the
//! rest of the device.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;
use crate::clock::{Clock, millis};

/// The shortest pause between two turns: some hundred looks a second are enough for everybody.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest one, after a turn that the disk has kept.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Those who wait for a turn, in the order in which they came.
#[derive(Debug)]
pub struct Turns {
    places: Semaphore,
    clock: Clock,
    /// When the next turn may begin, in milliseconds of the clock.
    next_at_ms: AtomicU64,
}

/// A turn, until it is dropped.
pub(super) struct TurnGuard<'t> {
    turns: &'t Turns,
    began_at: Duration,
    _place: SemaphorePermit<'t>,
}

impl Turns {
    /// Nobody waits.
    pub fn new(clock: Clock) -> Self {
        Self { places: Semaphore::new(1), clock, next_at_ms: AtomicU64::new(0) }
    }

    pub(super) async fn take(&self) -> Result<TurnGuard<'_>, ApiError> {
        let place = self.places.acquire().await.map_err(|_| ApiError::stopping())?;
        let next_at = Duration::from_millis(self.next_at_ms.load(Ordering::Relaxed));
        let pause = next_at.saturating_sub(self.clock.now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(TurnGuard { turns: self, began_at: self.clock.now(), _place: place })
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let now = self.turns.clock.now();
        let pause = now.saturating_sub(self.began_at).clamp(PAUSE_MIN, PAUSE_MAX);
        self.turns.next_at_ms.store(millis(now + pause), Ordering::Relaxed);
    }
}
