//! The actors, each with one concern, and the messages between them.
//!
//! Work flows in messages whose reply is awaited, in one direction: planner → breaker → uploader, and all → store.
//! State flows on `watch` channels, which cannot grow. Events flow to telemetry by `try_send`. No actor awaits another
//! that may await it.

pub mod alert_monitor;
pub mod batch_planner;
pub mod circuit_breaker;
pub mod connectivity;
pub mod otlp_exporter;
pub mod queue_reader;
pub mod queue_store;
pub mod status_reporter;
pub mod telemetry;
pub mod uploader;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use crate::config::Config;
use crate::model::{Batch, BatchId, ConnectFailure};
use crate::policy::outcome_reply::QueriedOutcome;
use crate::policy::reach::Evidence;
use crate::policy::status_schedule::ReportReply;
use crate::policy::verdict::UploadResult;
use crate::protocol::device_status::DeviceStatus;
use crate::telemetry::event::Event;

/// The present configuration: a reload takes effect the next time it is read.
pub type ConfigWatch = watch::Receiver<Arc<Config>>;

/// Sends a batch that is on disk. Breaker and uploader take the same message.
#[derive(Clone, Message)]
#[rtype(result = "Result<UploadResult, BreakerOpen>")]
pub struct Upload {
    /// The batch.
    pub batch: Arc<Batch>,
    /// How long to wait for the response after the body was sent, if less than the time limit.
    pub response_deadline: Option<Duration>,
    /// Other batches succeed while this one is denied: its denial says nothing about the link.
    pub is_denied_alone: bool,
    /// It goes over another connection than those that are kept: its record failed alone.
    pub new_connection: bool,
}

/// Batches that the store closed because a person removed a record from them.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct BatchesClosed(pub Vec<BatchId>);

/// The breaker is open: nothing was sent.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOpen;

/// Probes the link to the server with an outcome query for a batch that does not exist.
#[derive(Clone, Copy, Message)]
#[rtype(result = "Option<LinkEvidence>")]
pub struct Probe;

/// What the result of a request shows about the link.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LinkEvidence {
    /// What the result shows.
    pub evidence: Evidence,
    /// Why no connection could be opened, if that is the reason.
    pub failure: Option<ConnectFailure>,
}

/// Asks the server for the outcome of a batch.
#[derive(Clone, Copy, Message)]
#[rtype(result = "QueriedOutcome")]
pub struct QueryOutcome(pub BatchId);

/// Reports the status of the device to the server.
#[derive(Clone, Debug, Message)]
#[rtype(result = "ReportReply")]
pub struct ReportStatus(pub DeviceStatus);

/// Asks whether an actor still handles messages, for the watchdog.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Tells an actor to finish its work and to start nothing new.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// A person asked to try now.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TryNow;

/// Sends an event to telemetry. If its mailbox is full, the event is dropped and the loss is logged.
pub(crate) fn send_event(telemetry: &Recipient<Event>, event: Event) {
    if let Err(error) = telemetry.try_send(event) {
        tracing::debug!(%error, "an event was dropped: the mailbox of telemetry is full");
    }
}
