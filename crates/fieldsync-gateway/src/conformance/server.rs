//! The server under test: connections to it, and single requests.
//!
//! Every request has a connection of its own, so that a point can end it at any byte without disturbing another.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::ext::on_informational;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{HeaderMap, Request, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::finding::{Finding, PointResult};
use super::request::{KitRequest, TokenUse, WireBody};
use super::response::KitResponse;
use super::sample::{SampleBatch, SampleRecord};
use super::size_limits::SizeLimits;
use crate::causes::with_causes;
use crate::http_client::{authorization_value, build_https_connector};

/// As devices are configured by default (`server.max_answer_bytes`).
pub(super) const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// A batch that takes most servers some time.
const LARGE_BATCH_RECORDS: usize = 500;
/// A device counts the bytes of payloads alone.
const SAMPLE_PAYLOAD: &str = r#"{"Subject":"Conformance","Amount":120.5}"#;
const WRONG_TOKEN: &str = "a-token-that-no-server-knows";

/// The server under test, and how to reach it.
pub(super) struct TestedServer {
    connector: HttpsConnector<HttpConnector>,
    /// The URL without a path.
    origin: Uri,
    /// The path of the batch endpoint.
    path: String,
    token: Option<Arc<str>>,
    authorization: Option<HeaderValue>,
    pub(super) time_limit: Duration,
    record_type: String,
    /// A shell command that ends the server and starts it again.
    pub(super) restart_command: Option<String>,
    size_limits: Mutex<SizeLimits>,
}

/// Where the server is, and how to speak to it.
pub(super) struct ServerAddress {
    pub(super) origin: Uri,
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) roots: RootCertStore,
    pub(super) time_limit: Duration,
    pub(super) record_type: String,
    pub(super) restart_command: Option<String>,
}

/// Why the kit cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerSetupError {
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the token of --token-file cannot be sent in a header")]
    Token,
}

/// What happened instead of a response.
#[derive(Debug, thiserror::Error)]
enum MissingResponse {
    #[error("nothing within the time limit")]
    TimedOut,
    #[error("{0}")]
    Lost(String),
}

/// A connection that has not sent anything.
pub(super) type RawStream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

impl TestedServer {
    pub(super) fn new(address: ServerAddress) -> Result<Self, ServerSetupError> {
        let authorization = match &address.token {
            None => None,
            Some(token) => Some(authorization_value("Bearer", token).ok_or(ServerSetupError::Token)?),
        };
        Ok(Self {
            connector: build_https_connector(address.roots)?,
            origin: address.origin,
            path: address.path,
            token: address.token.map(Into::into),
            authorization,
            time_limit: address.time_limit,
            record_type: address.record_type,
            restart_command: address.restart_command,
            size_limits: Mutex::default(),
        })
    }

    pub(super) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// A record that the server should apply.
    pub(super) fn sample_record(&self) -> SampleRecord {
        SampleRecord::new(&self.record_type, SAMPLE_PAYLOAD)
    }

    /// A batch of a new device with so many records, unless the server asks for fewer.
    pub(super) fn sample_batch(&self, records: usize) -> PointResult<SampleBatch> {
        match self.records_max() {
            Some(limit) if limit < records => Err(Finding::skipped(format!(
                "the server takes {limit} records in a batch (by its hints, or by a 413), and this needs {records}"
            ))),
            _ => Ok(SampleBatch::new((0..records).map(|_| self.sample_record()).collect())),
        }
    }

    /// A batch that takes most servers some time.
    pub(super) fn large_batch(&self) -> SampleBatch {
        let records = self.records_max().map_or(LARGE_BATCH_RECORDS, |limit| limit.min(LARGE_BATCH_RECORDS));
        SampleBatch::new((0..records).map(|_| self.sample_record()).collect())
    }

    /// Most records that the server takes in a batch, as far as is known.
    pub(super) fn records_max(&self) -> Option<usize> {
        self.size_limits().records_max(SAMPLE_PAYLOAD.len())
    }

    /// A batch with so many records got 413.
    pub(super) fn note_refusal(&self, records: usize) {
        self.size_limits().note_refusal(records);
    }

    fn size_limits(&self) -> MutexGuard<'_, SizeLimits> {
        self.size_limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for bytes that no client would send.
    pub(super) async fn connect(&self) -> PointResult<RawStream> {
        let mut connector = self.connector.clone();
        let connecting = timeout(self.time_limit, connector.call(self.origin.clone()));
        match connecting.await {
            Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
            Ok(Err(error)) => Err(no_response(&format!("no connection: {}", with_causes(error.as_ref())))),
            Err(_) => Err(no_response("no connection within the time limit")),
        }
    }

    /// A connection that is ready to send a request.
    pub(super) async fn open(&self) -> PointResult<SendRequest<WireBody>> {
        let stream = self.connect().await?.into_inner();
        let (sender, connection) =
            handshake(stream).await.map_err(|error| no_response(&with_causes(&error)))?;
        // Its errors are those of the request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Sends a request over this connection and reads the whole response.
    pub(super) async fn exchange(
        &self,
        sender: SendRequest<WireBody>,
        request: &KitRequest,
    ) -> PointResult<KitResponse> {
        self.try_exchange(sender, request).await?.map_err(|missing| no_response(&missing.to_string()))
    }

    /// As [`Self::exchange`], with what happened instead of a response.
    async fn try_exchange(
        &self,
        mut sender: SendRequest<WireBody>,
        request: &KitRequest,
    ) -> PointResult<Result<KitResponse, MissingResponse>> {
        let mut wire = self.wire_request(request)?;
        let has_interim = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&has_interim);
        on_informational(&mut wire, move |_| seen.store(true, Ordering::Relaxed));
        let lost = |error: &(dyn Error + 'static)| MissingResponse::Lost(with_causes(error));
        let exchange = async {
            let response = sender.send_request(wire).await.map_err(|error| lost(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
            let body = body.map_err(|error| lost(error.as_ref()))?.to_bytes();
            let has_interim = has_interim.load(Ordering::Relaxed);
            let token = self.token.clone();
            Ok(KitResponse { status: parts.status, headers: parts.headers, body, has_interim, token })
        };
        let ended = timeout(self.time_limit, exchange).await.unwrap_or(Err(MissingResponse::TimedOut));
        if let Ok(response) = &ended {
            self.size_limits().note_hints(&response.headers);
        }
        Ok(ended)
    }

    /// As [`Self::send_once`], for a body that is so large that the server may end the connection before all of it
    /// arrived: then, there is no response.
    pub(super) async fn send_large(&self, request: &KitRequest) -> PointResult<Option<KitResponse>> {
        match self.try_exchange(self.open().await?, request).await? {
            Ok(response) => Ok(Some(response)),
            Err(MissingResponse::Lost(_)) => Ok(None),
            Err(missing @ MissingResponse::TimedOut) => Err(no_response(&missing.to_string())),
        }
    }

    /// Sends a request once, and returns whatever comes.
    pub(super) async fn send_once(&self, request: &KitRequest) -> PointResult<KitResponse> {
        self.exchange(self.open().await?, request).await
    }

    /// The head of a request as text, for a raw connection; `framing` is the header that delimits the body.
    pub(super) fn raw_head(&self, request: &KitRequest, framing: &str) -> Vec<u8> {
        let mut head =
            format!("{} {}{} HTTP/1.1\r\n", request.method, self.path, request.suffix).into_bytes();
        let mut headers = request.headers.clone();
        headers.extend(self.connection_headers(request.token));
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        head
    }

    fn wire_request(&self, request: &KitRequest) -> PointResult<Request<WireBody>> {
        let mut wire = Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", self.path, request.suffix))
            .body(request.wire_body())
            .map_err(|error| Finding::skipped(format!("the request cannot be built: {error}")))?;
        *wire.headers_mut() = request.headers.clone();
        wire.headers_mut().extend(self.connection_headers(request.token));
        Ok(wire)
    }

    fn connection_headers(&self, token: TokenUse) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let host = self.origin.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        headers.extend(host.map(|host| (HOST, host)));
        let token = match token {
            TokenUse::Configured => self.authorization.clone(),
            TokenUse::Missing => None,
            TokenUse::Wrong => authorization_value("Bearer", WRONG_TOKEN),
        };
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        headers
    }
}

fn no_response(found: &str) -> Finding {
    Finding::failed("a complete response", found)
}
