//! The way to the server: one narrow trait, so that another protocol is another file.

mod connection;
pub mod credential;
mod dial;
pub mod encoding;
mod host;
pub mod http;
pub mod proxy;
mod request_limits;
pub mod response;
mod tcp_state;
pub mod tls;
mod transfer_trace;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;

use crate::model::{Batch, BatchId, Network};
use crate::protocol::exchange::{RequestResult, ServerHints};
use encoding::Encoding;

/// What carries batches to the server. Its futures never fail: what happened is an answer, too.
pub trait Transport {
    /// Sends a batch. With `patience`, an answer is waited for no longer than that after the body is out.
    fn send(
        &self,
        batch: Arc<Batch>,
        encoding: Option<Encoding>,
        patience: Option<Duration>,
    ) -> LocalBoxFuture<'static, Exchange>;

    /// Asks what became of a batch.
    fn look_up(&self, batch: BatchId) -> LocalBoxFuture<'static, Exchange>;
}

/// Tells when connections are of no use any more.
#[derive(Debug, Default)]
pub struct Parting {
    /// All of them: the link went away.
    pub gone: Notify,
    /// Those whose address on our side is no longer ours.
    pub moved: Notify,
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The answer, or how far the request came.
    pub result: RequestResult,
    /// What the server asks for.
    pub hints: ServerHints,
    /// The encodings that the server says it takes, when it says so.
    pub accepts: Option<Vec<Encoding>>,
    /// What time the server has, since 1970, when it says so.
    pub date: Option<Duration>,
    /// From the first thought of it to the answer.
    pub took: Duration,
    /// What the network was like.
    pub network: Network,
}
