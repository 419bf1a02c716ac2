//! The way to the server: one narrow trait, so that another protocol is another file.

pub mod answer;
mod connection;
pub mod credential;
mod dial;
pub mod encoding;
pub mod http;
mod journey;
mod kernel;
mod limits;
pub mod proxy;
pub mod tls;
pub use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::model::{Batch, BatchId, InterfaceKind};
use crate::policy::sizing::Hints;
use crate::policy::verdict::Seen;
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
    pub seen: Seen,
    /// What the server asks for.
    pub hints: Hints,
    /// The encodings that the server says it takes, when it says so.
    pub accepts: Option<Vec<Encoding>>,
    /// What time the server has, since 1970, when it says so.
    pub date: Option<Duration>,
    /// From the first thought of it to the answer.
    pub took: Duration,
    /// What the network was like.
    pub network: Network,
}

/// What the network was like during a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Until the first body byte could be written: name, TCP and TLS for a new connection,
    /// next to nothing for one that was kept.
    pub connect: Option<Duration>,
    /// Bytes of the body as it went out.
    pub body_bytes: u64,
    /// Until the kernel had taken the last body byte from us; none when it did not.
    #[serde(default)]
    pub sent: Option<Duration>,
    /// From the first body byte taken to the answer's head, or the end.
    pub exchange: Option<Duration>,
    /// The kernel's smoothed round trip at the end, to the proxy where there is one.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// What led to the server, where it is known.
    #[serde(default)]
    pub interface: Option<InterfaceKind>,
    /// The signal at the end in dBm, where that was wireless and the system tells.
    #[serde(default)]
    pub signal_dbm: Option<i16>,
}
