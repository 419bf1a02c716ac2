//! Rejects connections of users that have as many as they may have: sends an error response and closes them.
//!
//! Such a connection takes no slot of those that are limited. Its cost is limited in time, in bytes that are read, and in
//! the number of connections that are rejected at once. Beyond that number, connections are dropped without a response.

use std::io;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::{LINGER_TIMEOUT, drain};
use super::error::ApiError;
use super::user_quotas::UserQuotas;

/// Connections that are rejected at the same time.
const REJECTIONS_MAX: usize = 32;
/// What a rejected client may still send: more than a request of the command line, so that it reads the response.
const DRAIN_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) struct ConnectionRejector {
    response: Bytes,
    slots: UserQuotas,
}

impl ConnectionRejector {
    pub(super) fn new() -> Self {
        Self { response: encode_response(), slots: UserQuotas::new(REJECTIONS_MAX) }
    }

    /// Rejects a connection in a task of its own.
    pub(super) fn reject_connection(&self, stream: UnixStream, uid: u32) {
        let Some(slot) = self.slots.try_acquire(uid, 1) else {
            tracing::debug!(uid, "dropped a connection on the socket: too many are being rejected");
            return;
        };
        let response = self.response.clone();
        actix_rt::spawn(async move {
            match timeout(LINGER_TIMEOUT, send_rejection(stream, &response)).await {
                Ok(Ok(())) => tracing::debug!(uid, "rejected a connection: its user has too many"),
                Ok(Err(error)) => tracing::debug!(uid, %error, "a rejected client disconnected"),
                Err(_) => tracing::debug!(uid, "a rejected client did not close its connection in time"),
            }
            drop(slot);
        });
    }
}

async fn send_rejection(mut stream: UnixStream, response: &[u8]) -> io::Result<()> {
    // Clients take a response that precedes their request for a protocol error.
    let read_bytes = stream.read(&mut [0; 1024]).await?;
    stream.write_all(response).await?;
    stream.shutdown().await?;
    drain(&mut stream, DRAIN_BYTES_MAX - read_bytes).await
}

/// The response as it goes over the wire, because no request is parsed for it.
fn encode_response() -> Bytes {
    let message = "too many connections: one user has at most half of ipc.max_connections, and some are reserved for root \
                   and the daemon's own user; nothing was stored or changed; stop programs that keep connections open, \
                   or repeat this in a moment";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    let (body, retry_after) = (error.to_json(), error.retry_after_seconds().unwrap_or_default());
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: {retry_after}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat().into()
}
