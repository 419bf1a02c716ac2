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
use crate::model::{Batch, BatchId};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::reach::Evidence;
use crate::policy::verdict::UploadResult;
use crate::telemetry::event::Event;

/// The configuration as it is now: a reload takes effect at the next look.
pub type ConfigWatch = watch::Receiver<Arc<Config>>;

/// Sends a batch that is on disk. Breaker and uploader take the same message.
#[derive(Clone, Message)]
#[rtype(result = "Result<UploadResult, BreakerOpen>")]
pub struct Upload {
    /// The batch.
    pub batch: Arc<Batch>,
    /// How long the response is awaited after the body is out, where less than the time limit will do.
    pub response_deadline: Option<Duration>,
    /// Others get through while this one is denied: its denial says nothing about the link.
    pub is_denied_alone: bool,
}

/// Batches that are no longer open in the store: a person took a record out of them.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct BatchesClosed(pub Vec<BatchId>);

/// The breaker is open: nothing was sent.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOpen;

/// Tries the link to the server with an outcome query for no batch at all.
#[derive(Clone, Copy, Message)]
#[rtype(result = "Option<Evidence>")]
pub struct Probe;

/// What a request showed of the link to the server.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LinkEvidence(pub Evidence);

/// Asks the server for the outcome of a batch.
#[derive(Clone, Copy, Message)]
#[rtype(result = "OutcomeReply")]
pub struct QueryOutcome(pub BatchId);

/// Asks whether an actor still handles messages, for the watchdog.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Finish the work under way and start no more.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// A person asked to try now.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TryNow;

/// Sends an event to telemetry. One that finds no room is dropped, and logged here.
pub(crate) fn send_event(telemetry: &Recipient<Event>, event: Event) {
    if let Err(error) = telemetry.try_send(event) {
        tracing::debug!(%error, "telemetry has no room for an event");
    }
}
