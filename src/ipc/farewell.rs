//! Turns a caller away whose user has as many connections as it may have: the refusal, and the end of the connection.
//!
//! It takes no place of those that are limited. What it costs is limited in turn: in time, in bytes that are read,
//! and in how many callers are turned away at once; beyond that the connection is dropped without a word.

use std::io;

use actix_web::ResponseError;
use actix_web::body::to_bytes;
use actix_web::http::StatusCode;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::ApiError;
use super::server::LINGER;
use super::shares::Shares;

/// Callers that are turned away at the same time.
const MAX_FAREWELLS: usize = 32;
/// What one of them may still send: more than a request of the command line, so that it reads why.
const MAX_DRAIN_BYTES: usize = 4 << 20;
const DRAIN_STEP_BYTES: usize = 16 << 10;

/// Turns callers away.
#[derive(Clone, Debug)]
pub(super) struct Farewells {
    response: Bytes,
    places: Shares,
}

impl Farewells {
    pub(super) async fn new() -> Self {
        Self { response: response().await, places: Shares::new(MAX_FAREWELLS) }
    }

    /// Ends a connection in a task of its own.
    pub(super) fn turn_away(&self, stream: UnixStream, uid: u32) {
        let Some(place) = self.places.take(uid, 1) else {
            tracing::debug!(uid, "a connection on the socket was dropped: too many are being turned away");
            return;
        };
        let response = self.response.clone();
        actix_rt::spawn(async move {
            match timeout(LINGER, refuse(stream, &response)).await {
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
    let mut buffer = vec![0; DRAIN_STEP_BYTES];
    // Clients take a response that comes before their request for a fault of the protocol.
    let mut drained = stream.read(&mut buffer).await?;
    stream.write_all(response).await?;
    stream.shutdown().await?;
    // What is left unread at the end would keep the caller from reading the response.
    while drained < MAX_DRAIN_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => drained += read,
        }
    }
    Ok(())
}

/// The refusal as it goes over the wire: no request is parsed for it.
async fn response() -> Bytes {
    let message = "too many connections: one user has at most half of ipc.max_connections, and some are kept for root and \
                   the daemon's own user; nothing was stored or changed; end programs that keep connections open, or \
                   repeat this in a moment";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    let body = to_bytes(error.error_response().into_body()).await.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat().into()
}
