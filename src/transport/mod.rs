//! Sends requests to the server. One narrow trait, so that another protocol would be another file.

mod batch_body;
mod connection;
pub mod credential;
mod dial;
pub mod encoding;
mod host;
pub mod http;
pub mod proxy;
mod request_limits;
pub mod response;
mod slot;
mod tcp_state;
pub mod tls;
mod transfer_trace;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;

use crate::model::{Batch, BatchId, Network};
use crate::protocol::device_status::DeviceStatus;
use crate::protocol::exchange::{RequestResult, ServerHints};
use encoding::ContentEncoding;

/// Sends batches to the server. Its futures never fail: an [`Exchange`] also describes a failure.
pub trait Transport {
    /// Sends a batch.
    fn send_batch(&self, batch: Arc<Batch>, options: SendOptions) -> LocalBoxFuture<'static, Exchange>;

    /// Asks the server for the outcome of a batch.
    fn query_outcome(&self, batch: BatchId) -> LocalBoxFuture<'static, Exchange>;

    /// Reports the status of the device.
    fn report_status(&self, status: &DeviceStatus) -> LocalBoxFuture<'static, Exchange>;
}

/// How a batch is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// How its body is encoded.
    pub encoding: Option<ContentEncoding>,
    /// How long to wait for a response at most, once the body is out.
    pub response_deadline: Option<Duration>,
    /// It goes over a connection that carried no request before.
    pub new_connection: bool,
}

/// Notified when existing connections can no longer be used.
#[derive(Debug, Default)]
pub struct ConnectionInvalidation {
    /// The link is down: no connection can be used.
    pub link_down: Notify,
    /// A local address may be gone: connections from it cannot be used.
    pub address_changed: Notify,
}

/// One request and its result.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The response, or how much of the request was sent.
    pub result: RequestResult,
    /// What the server asks of the next batches.
    pub hints: ServerHints,
    /// The encodings that the server accepts, if it names them.
    pub accepts: Option<Vec<ContentEncoding>>,
    /// The server's time since 1970, if it sends one.
    pub date: Option<Duration>,
    /// From the start of the request to the response.
    pub elapsed: Duration,
    /// Measurements of the network.
    pub network: Network,
}
