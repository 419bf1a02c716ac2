//! Reads the body of a batch, within limits of size, time and memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::GatewayState;
use crate::request_error::RequestError;

/// A body is given up when nothing of it arrives for this long, or if it takes this long and is slower than
/// [`BYTES_PER_SECOND_MIN`].
const BODY_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The slowest mobile links are several times as fast.
const BYTES_PER_SECOND_MIN: u64 = 500;
/// Memory for a body before any of it has arrived.
const INITIAL_CAPACITY_MAX: usize = 64 << 10;
/// Memory for all bodies that are being read or validated.
const BODY_BYTES_IN_MEMORY_MAX: usize = 256 << 20;
/// When the devices return if there is no memory for their bodies.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// How much memory bodies use.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory(AtomicUsize);

/// A part of the memory; free again when it is dropped.
pub(super) struct ReservedMemory<'a> {
    memory: &'a BodyMemory,
    bytes: usize,
}

impl ReservedMemory<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), RequestError> {
        let before = self.memory.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > BODY_BYTES_IN_MEMORY_MAX {
            return Err(RequestError::Busy { wait: MEMORY_WAIT });
        }
        Ok(())
    }
}

impl Drop for ReservedMemory<'_> {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl GatewayState {
    /// Reads a body, and reserves memory for it.
    pub(super) async fn read_body(
        &self,
        headers: &HeaderMap,
        mut payload: Payload,
    ) -> Result<(Bytes, ReservedMemory<'_>), RequestError> {
        let limit = self.body_bytes_max;
        let content_length = parse_content_length(headers);
        if content_length.is_some_and(|length| length > limit) {
            return Err(RequestError::BodyTooLarge { limit });
        }
        let mut body = BytesMut::with_capacity(content_length.unwrap_or(0).min(INITIAL_CAPACITY_MAX));
        let mut reserved = ReservedMemory { memory: &self.body_memory, bytes: 0 };
        let began = self.metrics.now();
        loop {
            let wait = time_left(body.len(), self.metrics.elapsed_since(began));
            let chunk = match timeout(wait, payload.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) => return Err(RequestError::BodyInterrupted),
                Ok(None) => return Ok((body.freeze(), reserved)),
                Err(_) => return Err(RequestError::BodyTooSlow),
            };
            if body.len() + chunk.len() > limit {
                return Err(RequestError::BodyTooLarge { limit });
            }
            reserved.grow(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
    }
}

/// How large the body is, if the head says so.
pub(super) fn parse_content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How long the next part of a body may take, of which so much has arrived.
fn time_left(received: usize, elapsed: Duration) -> Duration {
    let earned = Duration::from_secs(received as u64 / BYTES_PER_SECOND_MIN);
    (BODY_STALL_TIMEOUT + earned).saturating_sub(elapsed).min(BODY_STALL_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_drips_is_given_up_and_a_slow_one_is_not() {
        let seconds = Duration::from_secs;
        for (received, elapsed, left) in [
            (0, 0, 30),
            (0, 29, 1),
            // One byte each second.
            (30, 30, 0),
            // 2,000 bytes in a second: what a mobile link without coverage by anything better does.
            (2000 * 30, 30, 30),
            (2000 * 600, 600, 30),
            // Fast at first, and nothing since.
            (500 * 100, 125, 5),
        ] {
            assert_eq!(time_left(received, seconds(elapsed)), seconds(left), "{received} in {elapsed} s");
        }
    }

    #[test]
    fn bodies_share_a_bounded_memory_and_give_it_back() {
        let memory = BodyMemory::default();
        let mut one = ReservedMemory { memory: &memory, bytes: 0 };
        one.grow(BODY_BYTES_IN_MEMORY_MAX).unwrap();
        let mut other = ReservedMemory { memory: &memory, bytes: 0 };
        assert!(matches!(other.grow(1), Err(RequestError::Busy { .. })));
        drop((one, other));
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
