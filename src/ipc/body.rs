//! Request bodies, read within limits on size, on the client's pace, and on the memory that all bodies take together.
//! Large bodies share that memory. Small ones never wait for it, so that slow uploads do not block small requests.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout;

use super::auth::Peer;
use super::error::ApiError;
use super::state::ApiState;
use super::user_quotas::{QuotaGuard, UserQuotas};
use crate::api::submission::BYTE_ORDER_MARK;
use crate::causes::with_causes;

/// The shared memory has room for this many bodies of the largest size.
const LARGEST_BODIES: usize = 2;
/// Every body may take this much without using the shared memory.
const FREE_BYTES: usize = 64 << 10;
/// A whole body may take this many times `ipc.stall_timeout`.
const TOTAL_TIMEOUT_FACTOR: u32 = 10;

/// Memory for large bodies. Its size follows the configuration whenever a body is read.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(UserQuotas);

impl Default for BodyMemory {
    fn default() -> Self {
        Self(UserQuotas::new(0))
    }
}

/// The memory of one body, released when it is dropped.
#[derive(Debug)]
struct BodyAllocation {
    /// None where the user may not have large bodies at all.
    quota: Option<QuotaGuard>,
    /// All bytes of the body, [`FREE_BYTES`] included.
    bytes: usize,
}

impl BodyAllocation {
    fn try_grow(&mut self, bytes: usize) -> bool {
        let total = self.bytes.saturating_add(bytes);
        let more = total.saturating_sub(FREE_BYTES) - self.bytes.saturating_sub(FREE_BYTES);
        let has_room = more == 0 || self.quota.as_mut().is_some_and(|quota| quota.try_grow(more));
        if has_room {
            self.bytes = total;
        }
        has_room
    }
}

/// A body that has not been read.
pub(super) struct RequestBody {
    body: Incoming,
    pub(super) is_ndjson: bool,
    memory: BodyMemory,
    allocation: BodyAllocation,
}

/// A body that was read. Its memory counts until it is dropped.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _allocation: BodyAllocation,
}

impl RequestBody {
    pub(super) fn new(headers: &HeaderMap, body: Incoming, peer: &Peer, memory: &BodyMemory) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self {
            body,
            is_ndjson: content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("ndjson")),
            memory: memory.clone(),
            allocation: BodyAllocation { quota: memory.0.try_acquire(peer.uid, 0), bytes: 0 },
        }
    }

    pub(super) async fn read_all(self, state: &ApiState) -> Result<BufferedBody, ApiError> {
        self.read_to_end(state).await.map_err(ApiError::closing_connection)
    }

    async fn read_to_end(mut self, state: &ApiState) -> Result<BufferedBody, ApiError> {
        let (limit, stall_timeout) = {
            let config = state.sources.config.borrow();
            let limit = usize::try_from(config.ipc.max_request_bytes.0).unwrap_or(usize::MAX);
            (limit, config.ipc.stall_timeout.0)
        };
        // A body is not read at all if its Content-Length is too large.
        if self.body.size_hint().lower() > limit as u64 {
            return Err(request_too_large(limit));
        }
        self.memory.0.set_total(limit.saturating_mul(LARGEST_BODIES));
        let reading = self.read_chunks(limit, stall_timeout);
        let total_timeout = stall_timeout.saturating_mul(TOTAL_TIMEOUT_FACTOR);
        let mut bytes = timeout(total_timeout, reading).await.map_err(|_| request_timeout())??;
        skip_byte_order_mark(&mut bytes);
        Ok(BufferedBody { bytes, _allocation: self.allocation })
    }

    async fn read_chunks(&mut self, limit: usize, stall_timeout: Duration) -> Result<Bytes, ApiError> {
        let mut body = BytesMut::new();
        while let Some(frame) =
            timeout(stall_timeout, self.body.frame()).await.map_err(|_| request_timeout())?
        {
            let frame = frame.map_err(|error| {
                let message = format!("the request ended early: {}; nothing was stored", with_causes(&error));
                ApiError::bad_request("broken_request", message)
            })?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            if body.len() + chunk.len() > limit {
                return Err(request_too_large(limit));
            }
            if !self.allocation.try_grow(chunk.len()) {
                return Err(memory_busy());
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

fn request_too_large(limit: usize) -> ApiError {
    let message = format!(
        "the request is larger than ipc.max_request_bytes ({limit}); nothing was stored; send fewer records at a time"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn request_timeout() -> ApiError {
    let message = format!(
        "the body of the request did not arrive in time: no pause in it may be longer than ipc.stall_timeout, and all of it \
         may take {TOTAL_TIMEOUT_FACTOR} times as long; nothing was stored; send it again"
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

fn memory_busy() -> ApiError {
    let message = "too many large requests arrive at once, from this user or from all; nothing was stored; repeat this in a \
                   moment";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}
