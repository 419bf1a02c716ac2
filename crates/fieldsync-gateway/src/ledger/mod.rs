//! The interface of a ledger: a few operations, each synchronous and one transaction.
//!
//! An implementation guarantees that [`Ledger::settle_batch`] is atomic, and durable when it returns.
//! Two calls at the same time, in this process or another, never apply a record twice.
//!
//! With a destination, a batch is delivered instead: see [`DeliveryLedger`].
//!
//! Of an applied record, the ledger keeps the id, a digest and the columns of the listing. Its payload is stored only
//! where records are forwarded, in the outbox, and only until it was handed on. Records of one device and key are in
//! the outbox in the order of `seq`; among others, no order is promised.

mod admission;
mod delivery;
mod devices;
mod held_keys;
mod records;
mod refused;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use admission::{Admission, AdmissionFacts, SentRecord, admit_records};
pub(crate) use delivery::{DeliveryId, DeliveryLedger, DeliveryOutcome, SENT_RETENTION, StoredVerdict};
pub(crate) use devices::{
    DeviceCounts, DeviceEntry, DeviceLedger, DevicePosition, DevicePruning, DeviceReport, latest_plausible,
};
pub(crate) use held_keys::HeldKeys;
pub(crate) use records::{AppliedRecord, LedgerSize, OutboxEntry, PageLimit};
pub(crate) use refused::{
    ForwardVerdict, HoldReason, LaneCounts, LaneId, LanePage, LaneRecord, PageSettlement, PageSource,
    RefusedEntry, RefusedLedger, ReviewDecision,
};

use super::digest::Sha256Digest;
use super::validated_batch::ValidatedBatch;
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchResponse;

/// The response to a batch, as it was sent the first time.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) fingerprint: Sha256Digest,
    pub(crate) response: BatchResponse,
}

/// How a batch was settled.
#[derive(Debug)]
pub(crate) enum BatchSettlement {
    /// By this request.
    New(BatchResponse),
    /// By an earlier request; the response says so.
    Replayed(BatchResponse),
    /// Not at all: its id belongs to another body.
    IdReused,
}

impl StoredResponse {
    /// The settlement of a batch with this fingerprint, given that this response is stored under its id.
    pub(crate) fn settle_for(self, fingerprint: &Sha256Digest) -> BatchSettlement {
        if self.fingerprint == *fingerprint {
            BatchSettlement::Replayed(self.into_replay())
        } else {
            BatchSettlement::IdReused
        }
    }

    /// Whether it confirms records that have no receipt: it was given without a destination.
    pub(crate) fn lacks_receipts(&self) -> bool {
        self.response.results.iter().any(|result| result.status.is_stored() && result.receipt.is_none())
    }

    /// The response, marked as one that was sent before.
    pub(crate) fn into_replay(mut self) -> BatchResponse {
        self.response.replayed = true;
        self.response
    }
}

/// The records to forward next.
#[derive(Debug)]
pub(crate) enum ForwardTurn {
    /// Another gateway forwards.
    OtherGateway,
    /// This gateway forwards: the first of the `waiting` records of the outbox, in the order of `seq`.
    ThisGateway { page: Vec<OutboxEntry>, waiting: u64 },
}

/// How long a claim lasts, and the right to forward, without being extended: so long a gateway that crashes keeps them.
pub(crate) const CLAIM_LEASE: Duration = Duration::from_secs(10);

/// The durable state of one gateway, or of several that share it.
pub(crate) trait Ledger: DeliveryLedger + RefusedLedger + DeviceLedger + Send + Sync {
    /// How many writing operations may usefully run at the same time.
    fn writers_max(&self) -> usize;

    /// Whether other gateways may use the ledger, too.
    fn is_shared(&self) -> bool;

    /// Claims a batch until it is released, or until its lease ends. Returns false if another gateway has it.
    ///
    /// A claim avoids duplicate work, and lets other gateways answer outcome queries. It may be lost: only
    /// [`Self::settle_batch`] decides what is applied.
    fn claim_batch(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// Releases a claim. Returns false if it was already lost.
    fn release_batch(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// Extends the leases of all claims of this gateway, and of its right to forward while it has that.
    fn renew_claims(&self) -> Result<(), LedgerError>;

    /// Whether a gateway has claimed the batch.
    fn is_claimed(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// The response that a batch got.
    fn stored_response(
        &self,
        device: DeviceId,
        batch: BatchId,
    ) -> Result<Option<StoredResponse>, LedgerError>;

    /// Applies the new records and stores the response: all of it, or nothing.
    fn settle_batch(&self, batch: &ValidatedBatch, now: u64) -> Result<BatchSettlement, LedgerError>;

    /// Deletes up to `max` responses that are older than `retention`, by the clock of the ledger. Returns how many.
    fn prune_responses(&self, retention: Duration, max: usize) -> Result<usize, LedgerError>;

    /// Forgets records that were applied longer than `retention` ago, by the clock of the ledger: their ids, and their
    /// lines of the listing. A record whose payload still waits is kept, and so is the newest one. Looks at `max`
    /// records at most, and returns at how many: fewer mean that no older ones are left.
    fn prune_records(&self, retention: Duration, max: usize) -> Result<usize, LedgerError>;

    /// A page of the listing: the records after `seq`, in order.
    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<AppliedRecord>, LedgerError>;

    /// The records to forward next. A gateway that gets any is the only one to forward, until it ends or yields.
    fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError>;

    /// Lets another gateway forward, if there is one.
    fn yield_forwarding(&self) -> Result<(), LedgerError>;

    /// How large the ledger is, at a bounded cost.
    fn size_bytes(&self) -> Result<LedgerSize, LedgerError>;

    /// Fails when the ledger cannot be read or written.
    fn check_health(&self) -> Result<(), LedgerError>;

    /// Closes the ledger after the running operations; later ones fail.
    fn close(&self) -> Result<(), LedgerError>;
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerOpenError {
    #[error("the store {} is in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("{} exists, but is not a ledger of this program", path.display())]
    Foreign {
        path: PathBuf,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    #[error("the store {store} has schema {found}; this program knows schema {known}")]
    Schema { store: String, found: u64, known: u64 },
    #[error("cannot make or read the store {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the store {}", path.display())]
    Engine {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the database {database} rejects this gateway, or cannot hold a ledger")]
    Unfit {
        database: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the database {database} cannot be reached; records wait on their devices until it can")]
    Unreachable {
        database: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot start")]
    Start(#[source] io::Error),
}

/// Why a ledger operation failed. It was applied as a whole, or not at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("the ledger cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the ledger's storage failed")]
    Storage(#[source] Box<dyn Error + Send + Sync>),
    #[error("a response in the ledger cannot be encoded or decoded")]
    Response(#[from] serde_json::Error),
    #[error("the ledger is closed")]
    Closed,
}
