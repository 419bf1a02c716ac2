//! The actors, each with one concern, and what they say to each other.
//!
//! Work flows in messages that are awaited, down one way: planner → breaker → uploader, everyone
//! → store. State flows on `watch` channels, which cannot grow. Events flow to telemetry by
//! `try_send`. Nobody awaits upwards.

pub mod batch_planner;
pub mod circuit_breaker;
pub mod connectivity;
pub mod queue_reader;
pub mod queue_store;
pub mod telemetry;
pub mod uploader;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use crate::config::Config;
use crate::model::{Batch, BatchId, LastError, Network};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::reach::Evidence;
use crate::policy::verdict::Verdict;
use crate::protocol::exchange::ServerHints;
use crate::telemetry::event::Event;

/// The configuration as it is now: a reload takes effect at the next look.
pub type ConfigWatch = watch::Receiver<Arc<Config>>;

/// Sends a batch that is on disk. Breaker and uploader take the same message.
#[derive(Clone, Message)]
#[rtype(result = "Result<Uploaded, Refused>")]
pub struct Upload {
    /// The batch.
    pub batch: Arc<Batch>,
    /// How long an answer is waited for after the body is out, where less than the time limit will do.
    pub patience: Option<Duration>,
    /// Others get through while this one is denied: what is said of it says nothing of the link.
    pub is_denied_alone: bool,
}

/// What came of an upload.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// What the answer means.
    pub verdict: Verdict,
    /// The entry for the manifest, when it was no answer for the records.
    pub error: LastError,
    /// Until the answer, or until it was given up.
    pub took: Duration,
    /// The answer is that of an earlier request: how long it took says nothing of the batch.
    pub replayed: bool,
    /// What the server asks for.
    pub hints: Option<ServerHints>,
    /// What the network was like.
    pub network: Network,
}

/// Batches that are no longer open in the store: a person took a record out of them.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Disbanded(pub Vec<BatchId>);

/// The breaker is open: nothing was sent.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

/// Tries the way to the server with a look-up of no batch at all.
#[derive(Clone, Copy, Message)]
#[rtype(result = "Option<Evidence>")]
pub struct Probe;

/// What a request tells of the way to the server.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LinkEvidence(pub Evidence);

/// Asks what became of a batch.
#[derive(Clone, Copy, Message)]
#[rtype(result = "OutcomeReply")]
pub struct LookUp(pub BatchId);

/// Are you there? Fed to the watchdog.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Finish what is under way and take no more.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// A person asked to try now.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TryNow;

/// Tells telemetry. An event that finds no room is counted there by its absence, and logged here.
pub(crate) fn tell(telemetry: &Recipient<Event>, event: Event) {
    if let Err(error) = telemetry.try_send(event) {
        tracing::debug!(%error, "an event found no room");
    }
}
