//! Operations that change the queue. A group of them shares a transaction and a commit.

use std::cell::Cell;
use std::sync::Arc;

use redb::ReadableTable;

use super::changes::{append_change, remove_old_changes};
use super::codec;
use super::error::StoreError;
use super::limits::QueueLimits;
use super::schema::{self, ManifestRow, RecordHeader, StoredState, Tables};
use super::state::QueueState;
use super::unlisted::{UNLISTED_RECORDS_MAX, UNLISTED_TIME_MAX_MS};
use crate::clock::Now;

/// An operation that changes the queue.
///
/// An operation validates before it changes anything. A rejection is a reply and leaves no change. An error comes from
/// the store and fails the whole group. An operation may be applied again if its commit did not take place.
pub trait Op: Send + 'static {
    /// What the sender receives after the commit.
    type Reply: Send + 'static;

    /// Applies the operation.
    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError>;

    /// Bytes that it adds, approximately.
    fn added_bytes(&self) -> u64 {
        0
    }

    /// Whether there is anything to commit.
    fn has_changes(_reply: &Self::Reply) -> bool {
        true
    }

    /// Whether it may be applied while there are unlisted records.
    fn accepts_unlisted_records() -> bool {
        false
    }
}

impl<O: Op + Sync> Op for Arc<O> {
    type Reply = O::Reply;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        O::apply(self, transaction)
    }

    fn added_bytes(&self) -> u64 {
        O::added_bytes(self)
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        O::has_changes(reply)
    }

    fn accepts_unlisted_records() -> bool {
        O::accepts_unlisted_records()
    }
}

/// Operations that share a commit.
pub trait Group {
    /// Applies all operations. False when there is nothing to commit.
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError>;

    /// Bytes that the group adds, approximately.
    fn added_bytes(&self) -> u64;
}

/// A group of one operation, which keeps the reply.
pub struct SingleOp<O: Op> {
    op: O,
    reply: Option<O::Reply>,
}

impl<O: Op> SingleOp<O> {
    /// A group that has not been applied.
    pub fn new(op: O) -> Self {
        Self { op, reply: None }
    }

    /// The reply of the last attempt; none if the operation failed.
    pub fn into_reply(self) -> Option<O::Reply> {
        self.reply
    }
}

impl<O: Op> Group for SingleOp<O> {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        self.reply = None;
        if !O::accepts_unlisted_records() {
            transaction.list_records()?;
        }
        let reply = self.op.apply(transaction)?;
        let changed = O::has_changes(&reply);
        self.reply = Some(reply);
        Ok(changed)
    }

    fn added_bytes(&self) -> u64 {
        self.op.added_bytes()
    }
}

/// The transaction of a group.
pub struct Transaction<'q, 't> {
    pub(super) tables: Tables<'t>,
    pub(super) state: &'q mut QueueState,
    pub(super) limits: QueueLimits,
    pub(super) now: Now,
    /// Whether the disk has room for new records.
    pub(super) admits_records: bool,
    /// Whether receipts must be evicted because the disk is low on space.
    pub(super) is_disk_low: bool,
    /// Whether a value could not be decoded.
    pub(super) is_damage_seen: Cell<bool>,
    /// New records so far.
    pub(super) appended_count: usize,
    /// Changes of records that were noted so far.
    pub(super) noted_changes: usize,
    /// Whether an operation needed all records in the manifest.
    pub(super) needs_all_rows: bool,
}

impl Transaction<'_, '_> {
    /// Reads the manifest row of a record.
    pub(super) fn manifest_row(&self, id: u128) -> Result<Option<ManifestRow>, StoreError> {
        let row = schema::manifest_row(&self.tables.manifest, id)?;
        Ok(row.or_else(|| self.state.unlisted.row_of(id)))
    }

    /// Writes the manifest rows of unlisted records, so that every record is in all tables.
    pub(super) fn list_records(&mut self) -> Result<(), StoreError> {
        self.needs_all_rows = true;
        self.state.unlisted.write_rows(&mut self.tables.manifest)
    }

    /// Counts the commit. Writes the counters and the manifest rows of new records, unless the commit is a lone append
    /// whose record may stay unlisted.
    pub(super) fn complete_commit(&mut self) -> Result<(), StoreError> {
        self.state.counters.commits += 1;
        let is_lone_append = self.appended_count == 1 && !self.needs_all_rows;
        let age = self.now.steady.saturating_sub(self.state.counters.steady);
        if is_lone_append && self.state.unlisted.len() <= UNLISTED_RECORDS_MAX && age < UNLISTED_TIME_MAX_MS {
            return Ok(());
        }
        self.list_records()?;
        remove_old_changes(&mut self.tables.changes, &self.state.counters, self.noted_changes)?;
        self.state.counters.steady = self.now.steady;
        self.state.counters.write_to(&mut self.tables.meta)
    }

    /// Writes the manifest row of a record that changed, and counts the change of state.
    pub(super) fn save_row(
        &mut self,
        id: u128,
        row: &ManifestRow,
        was: Option<StoredState>,
    ) -> Result<(), StoreError> {
        self.note_change(id)?;
        self.write_row(id, row, was)
    }

    /// Notes that a record changed, for readers of changes.
    fn note_change(&mut self, id: u128) -> Result<(), StoreError> {
        self.noted_changes += 1;
        append_change(&mut self.tables.changes, &mut self.state.counters, id)
    }

    /// As [`Self::save_row`], for a new record, or a change that no reader is interested in.
    pub(super) fn write_row(
        &mut self,
        id: u128,
        row: &ManifestRow,
        was: Option<StoredState>,
    ) -> Result<(), StoreError> {
        self.state.counters.count_change(row, was, Some(row.state));
        self.tables.manifest.insert(id, codec::encode_row(row)?.as_slice())?;
        Ok(())
    }

    /// Deletes the payload at a position.
    pub(super) fn remove_payload(&mut self, position: u64) -> Result<(), StoreError> {
        self.remove_payloads(&mut [position])
    }

    /// Deletes the payloads at these positions. Those that are next to each other are removed as one range, which
    /// writes each page of the tree once.
    pub(super) fn remove_payloads(&mut self, positions: &mut [u64]) -> Result<(), StoreError> {
        self.state.waits_changed = true;
        positions.sort_unstable();
        for run in positions.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            self.tables.payload.retain_in(*first..=*last, |_, _| false)?;
            let chunks = (*first, 0)..=(*last, u32::MAX);
            if self.tables.chunks.range(chunks.clone())?.next().is_some() {
                self.tables.chunks.retain_in(chunks, |_, _| false)?;
            }
        }
        Ok(())
    }

    /// The header of a payload. Skips and reports one that cannot be read, so that it does not prevent other records
    /// from being sent.
    pub(super) fn readable_header(&self, position: u64) -> Result<Option<RecordHeader>, StoreError> {
        let Some(sealed) = self.tables.payload.get(position)? else {
            return Ok(None);
        };
        match codec::unseal_row::<RecordHeader>(sealed.value()) {
            Ok(row) => Ok(Some(row.header)),
            Err(error) => {
                tracing::error!(place = position, %error, "a record cannot be read and is skipped");
                self.is_damage_seen.set(true);
                Ok(None)
            }
        }
    }
}
