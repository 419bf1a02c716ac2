//! Turns a caller away whose user has as many connections as it may have: the refusal, and the end of the connection.
//!
//! It takes no place of those that are limited. What it costs is limited in turn: in time, in bytes that are read,
//! and in how many callers are turned away at once; beyond that the connection is dropped without a word.

use std::io;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::{LINGER_TIMEOUT, drain};
use super::error::ApiError;
use super::shares::Shares;

/// Callers that are turned away at the same time.
const MAX_FAREWELLS: usize = 32;
/// What one of them may still send: more than a request of the command line, so that it reads why.
const MAX_DRAIN_BYTES: usize = 4 << 20;

/// Turns callers away.
#[derive(Clone, Debug)]
pub(super) struct Farewells {
    response: Bytes,
    places: Shares,
}

impl Farewells {
    pub(super) fn new() -> Self {
        Self { response: response(), places: Shares::new(MAX_FAREWELLS) }
    }

    /// Ends a connection in a task of its own.
    pub(super) fn turn_away(&self, stream: UnixStream, uid: u32) {
        let Some(place) = self.places.take(uid, 1) else {
            tracing::debug!(uid, "a connection on the socket was dropped: too many are being turned away");
            return;
        };
        let response = self.response.clone();
        actix_rt::spawn(async move {
            match timeout(LINGER_TIMEOUT, refuse(stream, &response)).await {
                Ok(Ok(())) => {
                    tracing::debug!(uid, "a caller was turned away: its user has too many connections");
                }
                Ok(Err(error)) => tracing::debug!(uid, %error, "a caller that was turned away is gone"),
                Err(_) => tracing::debug!(uid, "a caller that was turned away did not hang up in time"),
            }
            drop(place);
        });
    }
}

async fn refuse(mut stream: UnixStream, response: &[u8]) -> io::Result<()> {
    // Clients take a response that comes before their request for a fault of the protocol.
    let begun = stream.read(&mut [0; 1024]).await?;
    stream.write_all(response).await?;
    stream.shutdown().await?;
    drain(&mut stream, MAX_DRAIN_BYTES - begun).await
}

/// The refusal as it goes over the wire: no request is parsed for it.
fn response() -> Bytes {
    let message = "too many connections: one user has at most half of ipc.max_connections, and some are kept for root and \
                   the daemon's own user; nothing was stored or changed; end programs that keep connections open, or \
                   repeat this in a moment";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    let body = error.to_json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat().into()
}
