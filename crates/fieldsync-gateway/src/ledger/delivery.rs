//! What a ledger stores of a batch that is handed over to a destination.
//!
//! A delivery leases its records and their keys before the first byte of them is sent, so that no other delivery,
//! in this gateway or another, hands over the same record or a later one of a key meanwhile. A delivery whose lease
//! has lapsed has died: others may lease what it held. The destination stores nothing twice, so that a record whose
//! outcome is unknown is handed over once more.
//!
//! A record that was handed over stays known as sent until it is applied or rejected: other content under its id would
//! overwrite what the destination may have.

use std::time::Duration;

use uuid::Uuid;

use super::{Admission, BatchSettlement, LedgerError};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::BatchResponse;
use crate::validated_batch::ValidatedBatch;

/// Names one delivery of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeliveryId(pub(crate) Uuid);

impl DeliveryId {
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

/// How long a record that was sent without a certain outcome stays known.
pub(crate) const SENT_RETENTION: Duration = Duration::from_hours(30 * 24);

/// What became of the record at this position of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredVerdict {
    pub(crate) position: usize,
    pub(crate) outcome: DeliveryOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The destination has the record.
    Applied(Receipt),
    /// The record is at fault: its device sends it again only after a change.
    Rejected,
    /// To be sent again. The destination may have the record, so that its id stays taken.
    Uncertain,
}

/// The part of a ledger that deliveries use. What an operation stores is durable when it returns, all of it or nothing.
pub(crate) trait DeliveryLedger {
    /// Says what is known of each record, and leases the records that are to be handed over.
    fn begin_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        lease: Duration,
    ) -> Result<Vec<Admission>, LedgerError>;

    /// Lets the lease end so much later from now. `positions` are those of its records without a stored verdict.
    /// Returns false if the lease of one of them, or of its key, has ended: then others may hand over the same
    /// records.
    fn extend_lease(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        positions: &[usize],
        lease: Duration,
    ) -> Result<bool, LedgerError>;

    /// Stores certain verdicts: an applied record becomes known with its receipt. None of these records is leased
    /// any more; their keys are.
    fn record_verdicts(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        now: u64,
    ) -> Result<(), LedgerError>;

    /// As [`Self::record_verdicts`], also for uncertain outcomes, and stores the response and ends the lease. If the batch got a response
    /// meanwhile, that one stays, unless it lacks receipts.
    fn finish_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        response: &BatchResponse,
        now: u64,
    ) -> Result<BatchSettlement, LedgerError>;

    /// Forgets up to `max` records that were sent longer than `retention` ago, by the clock of the ledger, without a
    /// certain outcome. Returns how many.
    fn prune_sent(&self, retention: Duration, max: usize) -> Result<usize, LedgerError>;

    /// Counts a request for an access token, unless there were `requests_max` within `window`. Then it returns how
    /// long to wait.
    fn take_token_request(
        &self,
        requests_max: usize,
        window: Duration,
        now: u64,
    ) -> Result<Option<Duration>, LedgerError>;
}
