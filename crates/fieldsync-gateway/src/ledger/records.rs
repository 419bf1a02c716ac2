//! What a ledger keeps of applied records, and how much of it there is.

use crate::model::{BatchId, DeviceId, RecordId};

/// A line of the listing: a record that was applied, without its payload.
#[derive(Clone, Debug)]
pub(crate) struct AppliedRecord {
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
    pub(crate) device: DeviceId,
    pub(crate) batch: BatchId,
    pub(crate) record_type: String,
    pub(crate) key: Option<String>,
    /// Wall milliseconds.
    pub(crate) applied_at: u64,
}

/// An applied record that is still to be forwarded. Nothing else keeps its payload.
#[derive(Clone, Debug)]
pub(crate) struct OutboxEntry {
    pub(crate) record: AppliedRecord,
    pub(crate) payload: String,
}

/// How much of a table is read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLimit {
    pub(crate) rows: usize,
    /// Bytes of the payloads, or in the listing, which has none, of types and keys. The row that reaches this number is
    /// the last of the page.
    pub(crate) bytes: usize,
}

/// How large a ledger is. `None` where the store does not tell at a bounded cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerSize {
    /// On disk, with indexes and free space.
    pub(crate) bytes: Option<u64>,
    /// Applied records whose ids are known.
    pub(crate) records: Option<u64>,
    /// Records with a payload that waits to be forwarded, those of blocked lanes among them.
    pub(crate) outbox_records: Option<u64>,
}
