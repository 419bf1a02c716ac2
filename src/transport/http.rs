//! The protocol over HTTP: what a request says. Only this module knows awc.

mod failure;
mod kept_connection;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::http::header;
use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hyper::Uri;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::task::JoinHandle;

use self::kept_connection::{AGE_LIMIT, Pool};
use super::credential::Token;
use super::encoding::Encoding;
use super::host::host_header;
use super::proxy::ProxyError;
use super::request_limits::Limits;
use super::tls::TlsError;
use super::{Exchange, Parting, Transport};
use crate::config;
use crate::model::{Batch, BatchId, DeviceId, Network};
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ServerHints};
use crate::protocol::wire::{self, BatchRequest, WireRecord};

/// Why there is no transport.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The address of the server cannot be used.
    #[error("server.url is no URL: {0}")]
    Url(#[from] hyper::http::uri::InvalidUri),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no way through the proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Carries batches over HTTP/1.1, with or without TLS.
pub struct Http {
    pool: Rc<Pool>,
    config: config::Server,
    endpoint: String,
    sender: Sender,
    watch: JoinHandle<()>,
}

/// Who sends.
#[derive(Clone)]
struct Sender {
    /// awc would leave a port out that is another scheme's own.
    host: String,
    device: DeviceId,
    token: Option<Token>,
}

impl Sender {
    fn sign(&self, request: ClientRequest) -> ClientRequest {
        let request = request
            .insert_header((header::HOST, self.host.as_str()))
            .insert_header((wire::DEVICE_ID, self.device.to_string()));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }
}

impl Http {
    /// A transport as configured, on the thread that will use it. When `parting` tells that connections
    /// are of no use, what is under way ends, and none of them is used again.
    pub fn new(
        config: &config::Server,
        device: DeviceId,
        token: Option<Token>,
        parting: Rc<Parting>,
    ) -> Result<Self, TransportError> {
        let server: Uri = config.url.parse()?;
        let sender = Sender { host: host_header(&server), device, token };
        let pool = Rc::new(Pool::new(config, server, parting, AGE_LIMIT)?);
        let watched = Rc::clone(&pool);
        let watch = actix_rt::spawn(async move {
            loop {
                watched.parted().await;
                watched.renew();
            }
        });
        // Where TLS is spoken, it lies below what awc is given.
        let (_, authority_and_path) = config.url.split_once("://").unwrap_or_default();
        let endpoint = format!("http://{}{}", authority_and_path.trim_end_matches('/'), config.path);
        Ok(Self { pool, config: config.clone(), endpoint, sender, watch })
    }

    fn exchange(
        &self,
        request: impl Fn(&Client) -> ClientRequest + 'static,
        body: Bytes,
        limits: Limits,
    ) -> LocalBoxFuture<'static, Exchange> {
        let (pool, token) = (Rc::clone(&self.pool), self.sender.token.clone());
        async move {
            let mut exchange = pool.exchange(request, body, &limits).await;
            // Here it is known which one was sent.
            if let Some(token) = token {
                token.hide_in(&mut exchange.result);
            }
            exchange
        }
        .boxed_local()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Transport for Http {
    fn send(
        &self,
        batch: Arc<Batch>,
        encoding: Option<Encoding>,
        patience: Option<Duration>,
    ) -> LocalBoxFuture<'static, Exchange> {
        let body = body_of(&batch, self.sender.device).and_then(|body| match encoding {
            Some(encoding) => encoding.encode(&body).map_err(|error| error.to_string()),
            None => Ok(body),
        });
        let body = match body {
            Ok(body) => Bytes::from(body),
            Err(message) => return std::future::ready(unsent(message)).boxed_local(),
        };
        let (endpoint, sender) = (self.endpoint.clone(), self.sender.clone());
        let request = move |client: &Client| {
            let request = sender
                .sign(client.post(&endpoint))
                .insert_header((wire::BATCH_ID, batch.open.id.to_string()))
                .insert_header((wire::BATCH_SEQUENCE, batch.sequence.to_string()))
                .insert_header((wire::ATTEMPT, batch.open.attempt.to_string()))
                .insert_header((header::CONTENT_TYPE, "application/json"));
            match encoding {
                Some(encoding) => request.insert_header((header::CONTENT_ENCODING, encoding.name())),
                None => request,
            }
        };
        self.exchange(request, body, Limits::of_batch(&self.config, patience))
    }

    fn look_up(&self, batch: BatchId) -> LocalBoxFuture<'static, Exchange> {
        let (url, sender) = (format!("{}/{batch}", self.endpoint), self.sender.clone());
        let request = move |client: &Client| sender.sign(client.get(&url));
        self.exchange(request, Bytes::new(), Limits::of_look_up(&self.config))
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

/// A batch that could not even be put into words.
fn unsent(message: String) -> Exchange {
    Exchange {
        result: RequestResult::Failure(RequestFailure { delivery: Delivery::NotSent, message }),
        hints: ServerHints::default(),
        accepts: None,
        date: None,
        took: Duration::ZERO,
        network: Network::default(),
    }
}
