//! The client of the local API: HTTP/1.1 over the daemon's Unix socket.
//!
//! Each request uses a new connection. A connect on the same machine takes microseconds, and there is no idle connection
//! that the daemon could close: if a connection ends early, the daemon ended. Every body has a size limit, and every wait
//! a time limit, except for events.

mod body;
#[cfg(test)]
pub(crate) mod scripted;
mod sse;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::HeaderValue;
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::protocol::wire::ErrorBody;

pub use body::{ClientBody, Events};
pub use sse::ServerSentEvent;

/// JSON, as most bodies are.
pub const JSON: &str = "application/json";
/// One JSON value on each line.
pub const NDJSON: &str = "application/x-ndjson";

const LAST_EVENT_ID: &str = "last-event-id";

/// The largest body that is read completely. Streams have no limit.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// The largest body of an error response.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Longer than any commit on worn flash.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);
/// If the backlog of the socket is full, a connect fails but may succeed a moment later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon could not be reached; nothing was sent.
    #[error("no daemon responds at {}", socket.display())]
    NoDaemon {
        /// The path of the socket.
        socket: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The daemon refused the request.
    #[error("the daemon refused with {status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code for programs.
        code: String,
        /// The message for people.
        message: String,
        /// The faulty record of the request, from 1.
        position: Option<u64>,
    },
    /// The connection ended early: it is not known whether the request took effect.
    #[error("the connection to the daemon ended before its response was complete")]
    Lost {
        /// The reason.
        source: io::Error,
    },
    /// The response is not one of the local API.
    #[error("the response is not from the daemon's local API: {0}")]
    Protocol(String),
}

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For the daemon at this socket. Connects with the first request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket of the daemon.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The complete response to a `GET`.
    pub async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        let body = self.send_with_body(Method::GET, path, JSON, Bytes::new()).await?;
        body.read_whole(RESPONSE_BYTES_MAX, RESPONSE_TIMEOUT).await
    }

    /// The complete response to a `POST`.
    pub async fn post(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let body = self.send_with_body(Method::POST, path, kind, body).await?;
        body.read_whole(RESPONSE_BYTES_MAX, RESPONSE_TIMEOUT).await
    }

    /// The complete response to a `PUT`.
    pub async fn put(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let body = self.send_with_body(Method::PUT, path, kind, body).await?;
        body.read_whole(RESPONSE_BYTES_MAX, RESPONSE_TIMEOUT).await
    }

    /// The response to a `GET`, piece by piece.
    pub async fn get_stream(&self, path: &str) -> Result<ClientBody, ClientError> {
        self.send_with_body(Method::GET, path, JSON, Bytes::new()).await
    }

    /// The events from now on, beginning with the present status.
    pub async fn events(&self) -> Result<Events, ClientError> {
        self.events_after(None).await
    }

    /// As [`Self::events`], with the events since this id that the daemon still has.
    pub async fn events_after(&self, after: Option<&str>) -> Result<Events, ClientError> {
        let mut request = build_request(Method::GET, "/v1/events", JSON);
        // An id that is not a valid header value is ignored.
        if let Some(id) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
            request = request.header(LAST_EVENT_ID, id);
        }
        Ok(Events::new(self.send_request(request, Bytes::new()).await?))
    }

    async fn send_with_body(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<ClientBody, ClientError> {
        self.send_request(build_request(method, path, kind), body).await
    }

    async fn send_request(&self, request: request::Builder, body: Bytes) -> Result<ClientBody, ClientError> {
        let request =
            request.body(Full::new(body)).map_err(|error| ClientError::Protocol(error.to_string()))?;
        let stream = self.connect_with_retry().await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(connection_error)?;
        // It ends by itself when sender and response are dropped, where the caller gets its errors.
        tokio::spawn(connection);
        let response = timeout(RESPONSE_TIMEOUT, sender.send_request(request))
            .await
            .map_err(|_| timeout_error())?
            .map_err(connection_error)?;
        check_status(response).await
    }

    async fn connect_with_retry(&self) -> Result<UnixStream, ClientError> {
        let attempts = CONNECT_TIMEOUT.as_millis() / CONNECT_RETRY_PAUSE.as_millis();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < attempts => {
                    sleep(CONNECT_RETRY_PAUSE).await;
                }
                Err(source) => {
                    let socket = self.socket.clone();
                    return Err(ClientError::NoDaemon { socket, source });
                }
            }
        }
    }
}

fn build_request(method: Method, path: &str, kind: &str) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::USER_AGENT, concat!("fieldsync/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, kind)
}

/// Decodes a response of the local API.
pub fn decode_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// A path with a query, encoded.
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

async fn check_status(response: Response<Incoming>) -> Result<ClientBody, ClientError> {
    let status = response.status();
    let body = ClientBody::new(response.into_body());
    if status.is_success() {
        return Ok(body);
    }
    let body = body.read_whole(REFUSAL_BYTES_MAX, RESPONSE_TIMEOUT).await?;
    Err(refusal_error(status, &body))
}

/// Error responses contain an [`ErrorBody`] from the daemon's handlers, or text or nothing from the HTTP layer.
fn refusal_error(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => ClientError::Refused {
            status: status.as_u16(),
            code: error.code,
            message: error.message,
            position: error.position,
        },
        Err(_) => ClientError::Refused {
            status: status.as_u16(),
            code: "unexplained".to_owned(),
            message: match String::from_utf8_lossy(body).trim() {
                "" => status.to_string(),
                text => text.to_owned(),
            },
            position: None,
        },
    }
}

fn connection_error(error: hyper::Error) -> ClientError {
    if error.is_parse() {
        ClientError::Protocol(error.to_string())
    } else {
        let source = io::Error::other(error);
        ClientError::Lost { source }
    }
}

fn timeout_error() -> ClientError {
    ClientError::Lost {
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no response within {} s", RESPONSE_TIMEOUT.as_secs()),
        ),
    }
}

#[cfg(test)]
mod tests;
