//! The body of a request, taken in within limits: of its size, of the caller's pace, and of the memory
//! that all bodies take together. That of large ones is shared; a small one never waits for it, so that
//! large uploads that are slow cannot keep small requests out.

use std::future::{Ready, poll_fn, ready};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::auth::Peer;
use super::error::ApiError;
use super::half_close::Hunger;
use super::server::Shared;
use super::shares::{Share, Shares};
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
pub(super) struct Incoming {
    payload: dev::Payload,
    /// How long it is, where its head says so.
    length: Option<u64>,
    /// Whether its head says that it is NDJSON.
    pub(super) is_ndjson: bool,
    bodies: Option<Bodies>,
    room: Room,
    hunger: Hunger,
}

/// A body that was read. It counts for as long as it is there.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _room: Room,
}

impl FromRequest for Incoming {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let bodies = request.app_data::<web::Data<Bodies>>().map(|bodies| bodies.get_ref().clone());
        // The page has no such peers, and takes small bodies only.
        let peer = request.conn_data::<Peer>();
        let share = bodies.as_ref().zip(peer).and_then(|(bodies, peer)| bodies.0.take(peer.uid, 0));
        let hunger = request.conn_data::<Hunger>().cloned().unwrap_or_default();
        hunger.forget();
        ready(Ok(Self {
            payload: payload.take(),
            length: header(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            is_ndjson: header(CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().contains("ndjson")),
            bodies,
            room: Room { share, came: 0 },
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
        if let Some(bodies) = &self.bodies {
            bodies.0.set_total(limit.saturating_mul(LARGEST_AT_ONCE));
        }
        let reading = self.read(limit, pause);
        let mut bytes = timeout(pause.saturating_mul(PAUSES), reading).await.map_err(|_| too_slow())??;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.advance(BYTE_ORDER_MARK.len());
        }
        Ok(Whole { bytes, _room: self.room })
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
            if !self.room.grow(chunk.len()) {
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
    let message = "too many large requests come at once, of this user or of all; nothing was stored; repeat this in a moment";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}
