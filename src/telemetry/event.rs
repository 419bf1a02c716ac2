//! Everything that can happen, as types. Whoever makes it happen tells telemetry, which writes
//! the journal, counts, and passes it on to those who listen on the socket.

use actix::Message;

use crate::api::BatchReport;
use crate::model::Network;
use crate::model::{BatchId, Link, RecordId};
use crate::policy::breaker::BreakerState;
use crate::store::QuarantinedRecord;

/// Something happened. Losing one costs a line or a count, never data.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Event {
    /// A send of a batch, or the look-up of one, came to an end.
    BatchEnded {
        /// What became of it.
        report: BatchReport,
        /// Its records by type.
        types: Vec<(String, u64)>,
        /// What the network was like.
        network: Network,
    },
    /// A batch goes on as others: its parts, or itself under a new id.
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
        /// Which records.
        ids: Vec<RecordId>,
    },
    /// A record was set aside.
    RecordQuarantined {
        /// The batch that it failed in.
        batch: BatchId,
        /// Which, whose, and why.
        record: QuarantinedRecord,
    },
    /// A person put a record under review. Its error tells what its last try met, too.
    RecordAddedToReview(QuarantinedRecord),
    /// The breaker went to another mode.
    BreakerChanged(BreakerState),
    /// The way to the server opened or closed.
    LinkChanged(Link),
}
