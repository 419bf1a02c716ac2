//! The protocol over HTTP: the only file that knows awc.
//!
//! Defaults of awc that would lose data here are turned off: redirects (a redirected body is sent
//! empty), its own time-out (it includes the upload), HTTP/2 (a silently dead connection is used
//! again and again). Whether the first body byte was taken from us decides between "not sent" and
//! "in doubt"; so every body is a stream that remembers when it was first asked for.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::SizedStream;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header;
use awc::{Client, ClientRequest, Connector};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::Notify;

use super::credential::Token;
use super::encoding::Encoding;
use super::wire::{self, BatchRequest, WireRecord};
use super::{Exchange, Network, Transport, answer};
use crate::clock::{Clock, millis, wall_ms};
use crate::config;
use crate::model::{Batch, BatchId, DeviceId};
use crate::policy::sizing::Hints;
use crate::policy::verdict::{Failure, Reached, Seen};

/// A look-up is answered soon, or by nobody.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
/// What the gateway's own answer needs to get here after its limit has passed.
const ANSWER_SLACK: Duration = Duration::from_secs(2);
/// Bytes of a body that are handed to the connection at a time.
const CHUNK: usize = 16 << 10;

/// Why there is no transport.
#[derive(Debug, Error)]
pub enum TransportError {
    /// A PEM file does not read.
    #[error("{key}: cannot read {path}: {reason}")]
    Pem {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificates do not make a TLS configuration.
    #[error("the TLS configuration cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// Carries batches over HTTP/1.1, with or without TLS.
pub struct Http {
    client: Client,
    endpoint: String,
    device: DeviceId,
    token: Option<Token>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    answer: Duration,
    /// After the body is out.
    patience: Option<Duration>,
    look_up: Duration,
    answer_bytes: usize,
}

impl Http {
    /// A transport as configured, on the thread that will use it.
    pub fn new(
        config: &config::Server,
        device: DeviceId,
        token: Option<Token>,
    ) -> Result<Self, TransportError> {
        let mut connector = Connector::new()
            .timeout(config.connect_timeout.0)
            .handshake_timeout(config.connect_timeout.0)
            .limit(1);
        if config.url.starts_with("https:") {
            connector = connector.rustls_0_23(Arc::new(tls(config)?));
        }
        let client = Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .add_default_header((header::USER_AGENT, concat!("fieldsync/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Ok(Self {
            client,
            endpoint: format!("{}{}", config.url.trim_end_matches('/'), config.path),
            device,
            token,
            limits: Limits {
                answer: config.connect_timeout.0 + config.request_timeout.0 + ANSWER_SLACK,
                patience: None,
                look_up: config.connect_timeout.0 + config.request_timeout.0.min(LOOK_UP_LIMIT),
                answer_bytes: usize::try_from(config.max_answer_bytes.0).unwrap_or(usize::MAX),
            },
        })
    }

    fn prepared(&self, request: ClientRequest) -> ClientRequest {
        let request = request.insert_header((wire::DEVICE_ID, self.device.to_string()));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }
}

impl Transport for Http {
    fn send(
        &self,
        batch: Arc<Batch>,
        encoding: Option<Encoding>,
        patience: Option<Duration>,
    ) -> LocalBoxFuture<'static, Exchange> {
        let request = self
            .prepared(self.client.post(&self.endpoint))
            .insert_header((wire::BATCH_ID, batch.open.id.to_string()))
            .insert_header((wire::BATCH_SEQUENCE, batch.sequence.to_string()))
            .insert_header((wire::ATTEMPT, batch.open.attempt.to_string()))
            .insert_header((header::CONTENT_TYPE, "application/json"));
        let body = body_of(&batch, self.device).and_then(|body| match encoding {
            Some(encoding) => encoding.encode(&body).map_err(|error| error.to_string()),
            None => Ok(body),
        });
        let request = match encoding {
            Some(encoding) => request.insert_header((header::CONTENT_ENCODING, encoding.name())),
            None => request,
        };
        exchange(request, body, Limits { patience, ..self.limits }).boxed_local()
    }

    fn look_up(&self, batch: BatchId) -> LocalBoxFuture<'static, Exchange> {
        let request = self.prepared(self.client.get(format!("{}/{batch}", self.endpoint)));
        exchange(request, Ok(Vec::new()), Limits { answer: self.limits.look_up, ..self.limits }).boxed_local()
    }
}

/// A pure function of the batch: a resend is byte-identical.
fn body_of(batch: &Batch, device: DeviceId) -> Result<Vec<u8>, String> {
    let records = batch.records.iter().map(|record| {
        Ok(WireRecord {
            id: record.id,
            record_type: record.record_type.clone(),
            key: record.key.clone(),
            created_at: record.created_at,
            payload: RawValue::from_string(record.payload.to_string())?,
        })
    });
    let request = BatchRequest {
        batch_id: batch.open.id,
        device_id: device,
        sequence: batch.sequence,
        records: records.collect::<Result<_, serde_json::Error>>().map_err(|error| error.to_string())?,
    };
    serde_json::to_vec(&request).map_err(|error| error.to_string())
}

/// When the connection first asked for the body, and when it had all of it.
#[derive(Clone)]
struct Journey {
    clock: Clock,
    asked: Rc<Cell<Option<Duration>>>,
    out: Rc<Cell<Option<Duration>>>,
    is_out: Rc<Notify>,
}

impl Journey {
    fn new(clock: Clock) -> Self {
        Self { clock, asked: Rc::default(), out: Rc::default(), is_out: Rc::default() }
    }

    /// Ends when an answer was waited for long enough.
    async fn hang_up(&self, patience: Option<Duration>) {
        let Some(patience) = patience else { return std::future::pending().await };
        self.is_out.notified().await;
        tokio::time::sleep(patience).await;
    }

    fn body(
        &self,
        bytes: Vec<u8>,
    ) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Infallible>> + use<>> {
        let (this, size) = (self.clone(), bytes.len() as u64);
        let chunks = futures_util::stream::unfold(Bytes::from(bytes), move |mut rest| {
            if this.asked.get().is_none() {
                this.asked.set(Some(this.clock.now()));
            }
            let next = (!rest.is_empty()).then(|| rest.split_to(rest.len().min(CHUNK)));
            if rest.is_empty() && this.out.get().is_none() {
                this.out.set(Some(this.clock.now()));
                this.is_out.notify_one();
            }
            std::future::ready(next.map(|chunk| (Ok(chunk), rest)))
        });
        SizedStream::new(size, chunks)
    }
}

async fn exchange(request: ClientRequest, body: Result<Vec<u8>, String>, limits: Limits) -> Exchange {
    let clock = Clock::start();
    let journey = Journey::new(clock);
    let mut exchange = Exchange {
        seen: Seen::Failure(Failure { reached: Reached::Nothing, message: String::new() }),
        hints: Hints::default(),
        accepts: None,
        took: Duration::ZERO,
        network: Network::default(),
    };
    let bytes = match body {
        Ok(bytes) => bytes,
        Err(message) => {
            exchange.seen = Seen::Failure(Failure { reached: Reached::Nothing, message });
            return exchange;
        }
    };
    exchange.network.body_bytes = bytes.len() as u64;
    // A look-up has no body; its first byte is the request itself, and nothing is in doubt after it.
    let bodiless = bytes.is_empty();
    let sending = if bodiless { request.send() } else { request.send_body(journey.body(bytes)) };
    let whole = async {
        let mut response = sending.await.map_err(|error| describe(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.body().limit(limits.answer_bytes).await;
        Ok((status, headers, body.map_err(|error| format!("the answer broke off: {error}"))?))
    };
    let answered = tokio::select! {
        answered = tokio::time::timeout(limits.answer, whole) => answered.map_err(|_| limits.answer),
        () = journey.hang_up(limits.patience) => Err(limits.patience.unwrap_or_default()),
    };
    let asked = journey.asked.get();
    exchange.took = clock.now();
    exchange.network.connect = asked;
    exchange.network.sent = journey.out.get();
    exchange.network.exchange = asked.map(|asked| exchange.took.saturating_sub(asked));
    let failed = |reached, message| {
        // Making a connection has a shorter limit of its own: a look-up that timed out was sent.
        let sent = asked.is_some() || (bodiless && reached == Reached::SentAndTimedOut);
        let reached = if sent { reached } else { Reached::Nothing };
        Seen::Failure(Failure { reached, message })
    };
    exchange.seen = match answered {
        Ok(Ok((status, headers, body))) => {
            let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
            let decoded = answer::decode(status, field, &body, wall_ms());
            (exchange.hints, exchange.accepts) = (decoded.hints, decoded.accepts);
            Seen::Answer(decoded.answer)
        }
        Ok(Err(message)) => failed(Reached::Sent, message),
        Err(limit) => {
            let limit = humantime::format_duration(Duration::from_millis(millis(limit)));
            failed(Reached::SentAndTimedOut, format!("no answer within {limit}"))
        }
    };
    exchange
}

fn describe(error: &SendRequestError) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "the connection was closed before the answer".into()
        }
        SendRequestError::Connect(error) => format!("cannot connect: {error}"),
        SendRequestError::Send(error) => format!("the connection broke while sending: {error}"),
        SendRequestError::Response(error) => format!("the answer is no HTTP: {error}"),
        other => other.to_string(),
    }
}

fn tls(config: &config::Server) -> Result<ClientConfig, TransportError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in certificates("server.ca_file", path)? {
            roots.add(certificate)?;
        }
    } else {
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            tracing::warn!(%error, "a system certificate does not read");
        }
        roots.add_parsable_certificates(native.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut tls = match (&config.client_cert_file, &config.client_key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("server.client_cert_file", certificate)?;
            let key_error = |error: rustls_pki_types::pem::Error| TransportError::Pem {
                key: "server.client_key_file",
                path: key.display().to_string(),
                reason: error.to_string(),
            };
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).map_err(key_error)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(
    key: &'static str,
    path: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let wrong = |reason: String| TransportError::Pem { key, path: path.display().to_string(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(certificates) }
}
