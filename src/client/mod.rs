//! The client of the local API: HTTP/1.1 over the daemon's Unix socket.
//!
//! Every request has a connection of its own. A connect on the same machine costs microseconds, and
//! so there is no idle connection that the daemon could have closed in the meantime: whatever ends in
//! the middle ended because the daemon went away. Everything that is read has a limit in size, and
//! everything that is waited for a limit in time, events excepted.

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

pub use body::{Body, Events};
pub use sse::Event;

/// JSON, as most bodies are.
pub const JSON: &str = "application/json";
/// One JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";

const LAST_EVENT_ID: &str = "last-event-id";

/// The largest answer that is read whole; streams are not bound by it.
const MAX_ANSWER: usize = 64 << 20;
/// The largest refusal that is read.
const MAX_REFUSAL: usize = 64 << 10;
/// Longer than any commit takes on worn flash.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// A full backlog refuses a connect that could succeed a moment later.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody could be reached; nothing was sent.
    #[error("no daemon answers at {}", socket.display())]
    NoDaemon {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon said no.
    #[error("the daemon refused with {status} {code}: {message}")]
    Refused {
        /// HTTP.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// Which record of the request is at fault, from 1.
        position: Option<u64>,
    },
    /// The connection ended in the middle: whether the request took effect is not known.
    #[error("the connection to the daemon ended before its answer was complete")]
    Lost {
        /// How.
        source: io::Error,
    },
    /// Whoever answered does not speak the local API.
    #[error("the answer is not the daemon's local API: {0}")]
    Protocol(String),
}

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Of the daemon at this socket. Connects with the first request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the daemon is looked for.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The whole answer to a `GET`.
    pub async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        let body = self.call(Method::GET, path, JSON, Bytes::new()).await?;
        body.read_all(MAX_ANSWER, ANSWER_WITHIN).await
    }

    /// The whole answer to a `POST`.
    pub async fn post(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let body = self.call(Method::POST, path, kind, body).await?;
        body.read_all(MAX_ANSWER, ANSWER_WITHIN).await
    }

    /// The whole answer to a `PUT`.
    pub async fn put(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let body = self.call(Method::PUT, path, kind, body).await?;
        body.read_all(MAX_ANSWER, ANSWER_WITHIN).await
    }

    /// The answer to a `GET`, piece by piece.
    pub async fn stream(&self, path: &str) -> Result<Body, ClientError> {
        self.call(Method::GET, path, JSON, Bytes::new()).await
    }

    /// What the daemon reports from now on, its present status first.
    pub async fn events(&self) -> Result<Events, ClientError> {
        self.events_after(None).await
    }

    /// As [`Self::events`], with what was reported since the event of this id, as far as the daemon knows.
    pub async fn events_after(&self, after: Option<&str>) -> Result<Events, ClientError> {
        let mut request = build_request(Method::GET, "/v1/events", JSON);
        // An id that no header can carry is as good as none.
        if let Some(id) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
            request = request.header(LAST_EVENT_ID, id);
        }
        Ok(Events::new(self.send(request, Bytes::new()).await?))
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Body, ClientError> {
        self.send(build_request(method, path, kind), body).await
    }

    async fn send(&self, request: request::Builder, body: Bytes) -> Result<Body, ClientError> {
        let request =
            request.body(Full::new(body)).map_err(|error| ClientError::Protocol(error.to_string()))?;
        let stream = self.connect().await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(connection_error)?;
        // It ends by itself when the sender and the answer are dropped; its errors reach the caller there.
        tokio::spawn(connection);
        let response = timeout(ANSWER_WITHIN, sender.send_request(request))
            .await
            .map_err(|_| too_late())?
            .map_err(connection_error)?;
        check_status(response).await
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let attempts = CONNECT_WITHIN.as_millis() / CONNECT_PAUSE.as_millis();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < attempts => {
                    sleep(CONNECT_PAUSE).await;
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

/// Reads an answer of the local API.
pub fn decode_json<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// A path with a query, encoded.
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

async fn check_status(response: Response<Incoming>) -> Result<Body, ClientError> {
    let status = response.status();
    let body = Body::new(response.into_body());
    if status.is_success() {
        return Ok(body);
    }
    let answer = body.read_all(MAX_REFUSAL, ANSWER_WITHIN).await?;
    Err(to_refusal(status, &answer))
}

/// Refusals come from the daemon's handlers as [`ErrorBody`], and from the HTTP layer below them as text or nothing.
fn to_refusal(status: StatusCode, answer: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(answer) {
        Ok(ErrorBody { error }) => ClientError::Refused {
            status: status.as_u16(),
            code: error.code,
            message: error.message,
            position: error.position,
        },
        Err(_) => ClientError::Refused {
            status: status.as_u16(),
            code: "unexplained".to_owned(),
            message: match String::from_utf8_lossy(answer).trim() {
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

fn too_late() -> ClientError {
    ClientError::Lost {
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
        ),
    }
}

#[cfg(test)]
mod tests;
