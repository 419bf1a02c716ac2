//! The protocol over HTTP: the content of requests. Only this module uses awc.

pub mod collector;
mod connection_pool;
mod failure;
mod kept_connection;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Display;
use std::future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::http::header;
use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hyper::Uri;
use thiserror::Error;
use tokio::task::JoinHandle;

use self::connection_pool::{CONNECTION_AGE_MAX, ConnectionPool, SlotUse};
use super::batch_body::encode_body;
use super::credential::Token;
use super::host::host_header;
use super::proxy::ProxyError;
use super::request_limits::RequestLimits;
use super::tls::TlsError;
use super::{ConnectionInvalidation, Exchange, SendOptions, Transport};
use crate::config;
use crate::model::{Batch, BatchId, DeviceId, Network};
use crate::protocol::device_status::{DeviceStatus, status_path};
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ServerHints};
use crate::protocol::wire;

/// Why a transport cannot be created.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The address of the server cannot be used.
    #[error("server.url is not a URL: {0}")]
    Url(#[from] hyper::http::uri::InvalidUri),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Sends batches over HTTP/1.1, with or without TLS.
pub struct HttpTransport {
    pool: Rc<ConnectionPool>,
    config: config::Server,
    endpoint: String,
    identity: SenderIdentity,
    pool_watch: JoinHandle<()>,
}

/// What identifies the device to the server.
#[derive(Clone)]
struct SenderIdentity {
    /// Set here because awc would omit a port that is the default of another scheme.
    host: String,
    device: DeviceIdentity,
    token: Option<Token>,
}

/// How a device is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The id, for programs.
    pub id: DeviceId,
    /// The name, for people; printable ASCII.
    pub name: String,
}

impl SenderIdentity {
    fn add_headers(&self, request: ClientRequest) -> ClientRequest {
        let request = request
            .insert_header((header::HOST, self.host.as_str()))
            .insert_header((wire::DEVICE_ID, self.device.id.to_string()))
            .insert_header((wire::DEVICE_NAME, self.device.name.as_str()));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }
}

impl HttpTransport {
    /// Creates a transport, on the thread that will use it. At most `uploads` batches are under way at once, and one
    /// query beside them. On a notification of `invalidation`, requests in flight end, and existing connections are not
    /// used again.
    pub fn new(
        config: &config::Server,
        uploads: usize,
        device: DeviceIdentity,
        token: Option<Token>,
        invalidation: Rc<ConnectionInvalidation>,
    ) -> Result<Self, TransportError> {
        let server: Uri = config.url.parse()?;
        let identity = SenderIdentity { host: host_header(&server), device, token };
        let pool = Rc::new(ConnectionPool::new(config, uploads, server, invalidation, CONNECTION_AGE_MAX)?);
        let watched = Rc::clone(&pool);
        let pool_watch = actix_rt::spawn(async move { watched.drop_unusable_connections().await });
        // TLS is added below awc, so awc always gets an http URL.
        let (_, authority_and_path) = config.url.split_once("://").unwrap_or_default();
        let endpoint = format!("http://{}{}", authority_and_path.trim_end_matches('/'), config.path);
        Ok(Self { pool, config: config.clone(), endpoint, identity, pool_watch })
    }

    fn send_request(
        &self,
        slot_use: SlotUse,
        request: impl Fn(&Client) -> ClientRequest + 'static,
        body: impl Future<Output = Result<Bytes, impl Display>> + 'static,
        limits: RequestLimits,
    ) -> LocalBoxFuture<'static, Exchange> {
        let (pool, token) = (Rc::clone(&self.pool), self.identity.token.clone());
        async move {
            let body = match body.await {
                Ok(body) => body,
                Err(error) => return failed_before_sending(error.to_string()),
            };
            let mut exchange = pool.send_request(slot_use, request, body, &limits).await;
            // Only here is it known which token was sent.
            if let Some(token) = token {
                token.hide_in(&mut exchange.result);
            }
            exchange
        }
        .boxed_local()
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.pool_watch.abort();
    }
}

impl Transport for HttpTransport {
    fn send_batch(&self, batch: Arc<Batch>, options: SendOptions) -> LocalBoxFuture<'static, Exchange> {
        let SendOptions { encoding, response_deadline, new_connection } = options;
        let (encoded, device) = (Arc::clone(&batch), self.identity.device.id);
        let body = async move { encode_body(&encoded, device, encoding).await };
        let (endpoint, identity) = (self.endpoint.clone(), self.identity.clone());
        let request = move |client: &Client| {
            let request = identity
                .add_headers(client.post(&endpoint))
                .insert_header((wire::BATCH_ID, batch.open.id.to_string()))
                .insert_header((wire::BATCH_SEQUENCE, batch.sequence.to_string()))
                .insert_header((wire::BATCH_ATTEMPT, batch.open.attempt.to_string()))
                .insert_header((header::CONTENT_TYPE, "application/json"));
            match encoding {
                Some(encoding) => request.insert_header((header::CONTENT_ENCODING, encoding.name())),
                None => request,
            }
        };
        let limits = RequestLimits::for_batch(&self.config, response_deadline);
        self.send_request(SlotUse::Upload { new_connection }, request, body, limits)
    }

    fn query_outcome(&self, batch: BatchId) -> LocalBoxFuture<'static, Exchange> {
        let (url, identity) = (format!("{}/{batch}", self.endpoint), self.identity.clone());
        let request = move |client: &Client| identity.add_headers(client.get(&url));
        let limits = RequestLimits::for_short_request(&self.config);
        let no_body = future::ready(Ok::<_, Infallible>(Bytes::new()));
        self.send_request(SlotUse::Query, request, no_body, limits)
    }

    fn report_status(&self, status: &DeviceStatus) -> LocalBoxFuture<'static, Exchange> {
        let (url, identity) = (status_path(&self.endpoint, self.identity.device.id), self.identity.clone());
        let request = move |client: &Client| {
            identity.add_headers(client.post(&url)).insert_header((header::CONTENT_TYPE, "application/json"))
        };
        let body = future::ready(serde_json::to_vec(status).map(Bytes::from));
        self.send_request(SlotUse::Report, request, body, RequestLimits::for_short_request(&self.config))
    }
}

/// For a batch that could not be encoded.
fn failed_before_sending(message: String) -> Exchange {
    Exchange {
        result: RequestResult::Failure(RequestFailure::new(Delivery::NotSent, message)),
        hints: ServerHints::default(),
        accepts: None,
        date: None,
        elapsed: Duration::ZERO,
        network: Network::default(),
    }
}
