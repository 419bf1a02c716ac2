//! The body of a request, taken in within limits: of its size, of the caller's pace, and of the memory
//! that all bodies take together. That of large ones is shared; a small one never waits for it, so that
//! large uploads that are slow cannot keep small requests out.

use std::cell::Cell;
use std::future::{Ready, poll_fn, ready};
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::error::ApiError;
use super::half_close::Hunger;
use super::intake::BYTE_ORDER_MARK;
use super::server::Shared;

/// Bodies of the largest size that may be in memory at once.
const LARGEST_AT_ONCE: usize = 2;
/// What every body may have beside that: as many at most as there are connections.
const SMALL: usize = 64 << 10;
/// A whole body may take so many times as long as a pause in it.
const PAUSES: u32 = 10;

/// Bytes of all bodies that are in memory, beyond the first [`SMALL`] of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodies(Rc<Cell<usize>>);

/// The part of them that one body takes, until it is dropped.
#[derive(Debug)]
struct Share {
    of: Bodies,
    /// All that came, the first [`SMALL`] with it.
    came: usize,
}

impl Share {
    /// Takes some more, unless that would be more than `most` for all.
    fn grow(&mut self, bytes: usize, most: usize) -> bool {
        let came = self.came.saturating_add(bytes);
        let more = came.saturating_sub(SMALL) - self.counted();
        let all = self.of.0.get().saturating_add(more);
        if more > 0 && all > most {
            return false;
        }
        self.of.0.set(all);
        self.came = came;
        true
    }

    fn counted(&self) -> usize {
        self.came.saturating_sub(SMALL)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.set(self.of.0.get().saturating_sub(self.counted()));
    }
}

/// A body that is yet to be read.
pub(super) struct Incoming {
    payload: dev::Payload,
    /// How long it is, where its head says so.
    length: Option<u64>,
    /// Whether its head says that it is NDJSON.
    pub(super) is_ndjson: bool,
    share: Share,
    hunger: Hunger,
}

/// A body that was read. It counts for as long as it is there.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _share: Share,
}

impl FromRequest for Incoming {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let bodies = request.app_data::<web::Data<Bodies>>().map(|bodies| bodies.get_ref().clone());
        let hunger = request.conn_data::<Hunger>().cloned().unwrap_or_default();
        hunger.forget();
        ready(Ok(Self {
            payload: payload.take(),
            length: header(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            is_ndjson: header(CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().contains("ndjson")),
            share: Share { of: bodies.unwrap_or_default(), came: 0 },
            hunger,
        }))
    }
}

impl Incoming {
    /// All of it.
    pub(super) async fn whole(mut self, shared: &Shared) -> Result<Whole, ApiError> {
        let (limit, pause) = {
            let config = shared.board.config.borrow();
            let limit = usize::try_from(config.ipc.max_request_bytes.0).unwrap_or(usize::MAX);
            (limit, config.ipc.stall_timeout.0)
        };
        // What says that it is too large is not read at all.
        if self.length.is_some_and(|length| length > limit as u64) {
            return Err(too_large(limit));
        }
        let reading = self.read(limit, pause);
        let mut bytes = timeout(pause.saturating_mul(PAUSES), reading).await.map_err(|_| too_slow())??;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.advance(BYTE_ORDER_MARK.len());
        }
        Ok(Whole { bytes, _share: self.share })
    }

    async fn read(&mut self, limit: usize, pause: Duration) -> Result<Bytes, ApiError> {
        let mut body = BytesMut::new();
        loop {
            let next = poll_fn(|cx| {
                let next = self.payload.poll_next_unpin(cx);
                self.hunger.note(next.is_pending(), cx);
                next
            });
            let Some(chunk) = timeout(pause, next).await.map_err(|_| too_slow())? else {
                return Ok(body.freeze());
            };
            let chunk = chunk.map_err(|error| {
                let message = format!("the request broke off: {error}; nothing was stored");
                ApiError::bad_request("broken_request", message)
            })?;
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            if !self.share.grow(chunk.len(), limit.saturating_mul(LARGEST_AT_ONCE)) {
                return Err(busy());
            }
            body.extend_from_slice(&chunk);
        }
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
    let message = "too many large requests come at once; nothing was stored; repeat this in a moment";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}
