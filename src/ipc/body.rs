//! The body of a request, taken in within limits: of its size, of the caller's pace, and of the memory
//! that all bodies take together. That of large ones is shared; a small one never waits for it, so that
//! large uploads that are slow cannot keep small requests out.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout;

use super::auth::Peer;
use super::error::ApiError;
use super::shares::{Share, Shares};
use super::state::Shared;
use crate::api::submission::BYTE_ORDER_MARK;

/// Bodies of the largest size that may be in memory at once.
const LARGEST_AT_ONCE: usize = 2;
/// What every body may have beside that: as many at most as there are connections.
const SMALL: usize = 64 << 10;
/// A whole body may take so many times as long as a pause in it.
const PAUSES: u32 = 10;

/// Bytes of all bodies that are in memory, beyond the first [`SMALL`] of each.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Shares);

impl Default for Bodies {
    /// How much there is, the configuration says when a body comes.
    fn default() -> Self {
        Self(Shares::new(0))
    }
}

/// What one body takes of them, until it is dropped.
#[derive(Debug)]
struct Room {
    /// None where large bodies are refused anyway.
    share: Option<Share>,
    /// All that came, the first [`SMALL`] with it.
    came: usize,
}

impl Room {
    /// Takes some more, unless that is more than the caller may have.
    fn grow(&mut self, bytes: usize) -> bool {
        let came = self.came.saturating_add(bytes);
        let more = came.saturating_sub(SMALL) - self.came.saturating_sub(SMALL);
        let fits = more == 0 || self.share.as_mut().is_some_and(|share| share.grow(more));
        if fits {
            self.came = came;
        }
        fits
    }
}

/// A body that is yet to be read.
pub(super) struct RequestBody {
    body: Incoming,
    /// Whether its head says that it is NDJSON.
    pub(super) is_ndjson: bool,
    bodies: Bodies,
    room: Room,
}

/// A body that was read. It counts for as long as it is there.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _room: Room,
}

impl RequestBody {
    pub(super) fn new(headers: &HeaderMap, body: Incoming, peer: &Peer, bodies: &Bodies) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self {
            body,
            is_ndjson: content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("ndjson")),
            bodies: bodies.clone(),
            room: Room { share: bodies.0.take(peer.uid, 0), came: 0 },
        }
    }

    /// All of it.
    pub(super) async fn whole(mut self, shared: &Shared) -> Result<Whole, ApiError> {
        let (limit, pause) = {
            let config = shared.board.config.borrow();
            let limit = usize::try_from(config.ipc.max_request_bytes.0).unwrap_or(usize::MAX);
            (limit, config.ipc.stall_timeout.0)
        };
        // What says that it is too large is not read at all.
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        self.bodies.0.set_total(limit.saturating_mul(LARGEST_AT_ONCE));
        let reading = self.read(limit, pause);
        let mut bytes = timeout(pause.saturating_mul(PAUSES), reading).await.map_err(|_| too_slow())??;
        skip_byte_order_mark(&mut bytes);
        Ok(Whole { bytes, _room: self.room })
    }

    async fn read(&mut self, limit: usize, pause: Duration) -> Result<Bytes, ApiError> {
        let mut body = BytesMut::new();
        while let Some(frame) = timeout(pause, self.body.frame()).await.map_err(|_| too_slow())? {
            let frame = frame.map_err(|error| {
                let message = format!("the request broke off: {error}; nothing was stored");
                ApiError::bad_request("broken_request", message)
            })?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            if !self.room.grow(chunk.len()) {
                return Err(busy());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

pub(super) fn skip_byte_order_mark(bytes: &mut Bytes) {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.advance(BYTE_ORDER_MARK.len());
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!(
        "the request is larger than ipc.max_request_bytes ({limit}); nothing was stored; send fewer records at a time"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn too_slow() -> ApiError {
    let message = format!(
        "the body of the request did not come in time: ipc.stall_timeout is the longest pause in it, and {PAUSES} times that the \
         longest time for all of it; nothing was stored; send it anew"
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

fn busy() -> ApiError {
    let message = "too many large requests come at once, of this user or of all; nothing was stored; repeat this in a moment";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}
