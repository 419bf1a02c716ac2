//! Turns of calls that only look: one has it at a time, and where several wait, none follows the other at once.
//! So however many callers look again and again, there is time left for records, batches and admins, and for the
//! rest of the device.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;

/// Before the turn of a call that had to wait for it. A thousand looks a second are enough for everybody.
const PAUSE_BETWEEN_TURNS: Duration = Duration::from_millis(1);

/// Those who wait for a turn, in the order in which they came.
#[derive(Debug)]
pub struct Turns(Semaphore);

/// A turn, until it is dropped.
pub(super) type Turn<'t> = SemaphorePermit<'t>;

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turns {
    pub(super) async fn take(&self) -> Result<Turn<'_>, ApiError> {
        let has_to_wait = self.0.available_permits() == 0;
        let turn = self.0.acquire().await.map_err(|_| ApiError::stopping())?;
        if has_to_wait {
            tokio::time::sleep(PAUSE_BETWEEN_TURNS).await;
        }
        Ok(turn)
    }
}
