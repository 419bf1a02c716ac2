//! The events that actors send to telemetry, which logs them, measures them and publishes them on the socket.

use actix::Message;

use crate::api::{Alert, AlertChange, BatchReport};
use crate::model::Network;
use crate::model::{BatchId, Link};
use crate::policy::breaker::BreakerState;
use crate::policy::in_flight::InFlight;
use crate::store::{QuarantinedRecord, SyncedRecord};

/// An event. Losing one costs a log line or a count, never data.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Event {
    /// A batch was sent, or its outcome was queried, and the result was settled.
    BatchEnded {
        /// The result.
        report: BatchReport,
        /// Its records by type.
        types: Vec<(String, u64)>,
        /// What the network was like.
        network: Network,
    },
    /// The server was asked for the outcome of a batch.
    OutcomeQueried {
        /// The class of its reply.
        reply: &'static str,
    },
    /// A batch was replaced by its parts, or by itself under a new id.
    BatchDivided {
        /// Which.
        from: BatchId,
        /// In queue order.
        into: Vec<BatchId>,
    },
    /// The server confirmed records of a batch.
    RecordsSynced {
        /// Which batch.
        batch: BatchId,
        /// Which, whose, and what they became.
        records: Vec<SyncedRecord>,
    },
    /// A record was quarantined.
    RecordQuarantined {
        /// The batch that it failed in.
        batch: BatchId,
        /// Which, whose, and why.
        record: QuarantinedRecord,
    },
    /// A person put a record under review. Its error also says why the last attempt failed.
    RecordAddedToReview(QuarantinedRecord),
    /// The mode of the breaker changed.
    BreakerChanged(BreakerState),
    /// The number of batches that may be under way at once changed.
    InFlightLimitChanged(InFlight),
    /// The link to the server changed.
    LinkChanged(Link),
    /// An alert started, became more severe, or ended.
    AlertChanged(AlertChange),
    /// An alert was active when the previous run ended.
    AlertRestored(Alert),
}
