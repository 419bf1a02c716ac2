//! The rows of open batches: loads and saves them, returns members to the queue, and handles unsendable members.

use std::collections::BTreeSet;

use redb::ReadableTable;
use uuid::Uuid;

use super::body;
use super::codec;
use super::error::StoreError;
use super::op::Transaction;
use super::open_batches::to_open_batch;
use super::schema::{BatchRow, DUE_WHEN_UNBLOCKED, ManifestRow, MemberRow, StoredError, StoredState};
use crate::journal;
use crate::model::{Batch, BatchRecord, LastError, QueuePosition, RecordId, Sequence};
use crate::protocol::receipt::Receipt;

/// A record that the server has confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedRecord {
    /// The record.
    pub id: RecordId,
    /// The user (uid) who submitted it.
    pub submitter: u32,
    /// When it was accepted, in wall milliseconds.
    pub created_at: u64,
    /// What the server said it became, if it said so.
    pub receipt: Option<Receipt>,
}

/// A record that was quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRecord {
    /// The record.
    pub id: RecordId,
    /// The user (uid) who submitted it.
    pub submitter: u32,
    /// Its type.
    pub record_type: String,
    /// The error that it was quarantined for.
    pub error: LastError,
}

/// Positions of the members that cannot be sent.
#[derive(Default)]
pub(super) struct Unsendable {
    /// Their payload is damaged.
    damaged: BTreeSet<u64>,
    /// Their payload is missing.
    missing: BTreeSet<u64>,
}

impl Transaction<'_, '_> {
    /// The batch with its payloads, in queue order, or the members that cannot be sent.
    pub(super) fn load_batch(
        &self,
        id: u128,
        row: &BatchRow,
    ) -> Result<Result<Batch, Unsendable>, StoreError> {
        let mut records = Vec::with_capacity(row.members.len());
        let mut unsendable = Unsendable::default();
        for member in &row.members {
            match body::read_payload(&self.tables.payload, &self.tables.chunks, member.position) {
                Ok(Some((header, payload))) => records.push(BatchRecord {
                    id: record_id(member.id),
                    record_type: header.record_type,
                    key: header.key,
                    priority: QueuePosition(member.position).priority(),
                    created_at: header.created_at,
                    payload,
                }),
                Ok(None) => drop(unsendable.missing.insert(member.position)),
                Err(StoreError::Codec(error)) => {
                    tracing::error!(record_id = %record_id(member.id), %error, "a record cannot be read");
                    unsendable.damaged.insert(member.position);
                }
                Err(error) => return Err(error),
            }
        }
        if !unsendable.damaged.is_empty() || !unsendable.missing.is_empty() {
            return Ok(Err(unsendable));
        }
        let sequence = Sequence { index: row.sequence.0, total: row.sequence.1 };
        Ok(Ok(Batch { open: to_open_batch(id, row), sequence, records }))
    }

    /// Returns a member to the queue, as if it had not been in a batch.
    pub(super) fn return_to_queue(&mut self, member: &MemberRow, due: u64) -> Result<(), StoreError> {
        self.state.open_mut().release_member(member.position);
        if member.failed {
            self.reschedule_retry(member.id, member.position, DUE_WHEN_UNBLOCKED, due)?;
        } else {
            self.state.wake_record(member.position);
        }
        Ok(())
    }

    /// Returns one member of a batch that was never sent to the queue.
    pub(super) fn remove_member(
        &mut self,
        id: u128,
        mut row: BatchRow,
        position: u64,
    ) -> Result<(), StoreError> {
        for member in row.members.extract_if(.., |member| member.position == position) {
            self.return_to_queue(&member, self.now.steady)?;
        }
        row.bytes = row.members.iter().map(|member| u64::from(member.bytes)).sum();
        if row.members.is_empty() { self.remove_batch(id) } else { self.save_batch(id, row) }
    }

    /// Returns all members to the queue and removes the batch.
    pub(super) fn disband_batch(&mut self, id: u128, row: &BatchRow) -> Result<(), StoreError> {
        for member in &row.members {
            self.return_to_queue(member, self.now.steady)?;
        }
        self.remove_batch(id)
    }

    pub(super) fn save_batch(&mut self, id: u128, row: BatchRow) -> Result<(), StoreError> {
        self.state.waits_changed = true;
        self.state.blockers_changed |= row.members.iter().any(|member| member.failed);
        self.tables.batches.insert(id, codec::encode_row(&row)?.as_slice())?;
        self.state.forget_in_flight(id);
        self.state.open_mut().insert_batch(id, row);
        Ok(())
    }

    pub(super) fn remove_batch(&mut self, id: u128) -> Result<(), StoreError> {
        self.state.waits_changed = true;
        self.tables.batches.remove(id)?;
        let row = self.state.open_mut().remove_batch(id);
        self.state.blockers_changed |= row.is_some_and(|row| row.members.iter().any(|member| member.failed));
        Ok(())
    }

    /// Handles members of a batch that is no longer on disk. Damaged records are quarantined. Missing records are
    /// removed, so that they block no others.
    pub(super) fn quarantine_unsendable(
        &mut self,
        row: &BatchRow,
        unsendable: &Unsendable,
    ) -> Result<(), StoreError> {
        self.is_damage_seen.set(true);
        for member in row.members.iter().filter(|member| unsendable.missing.contains(&member.position)) {
            self.remove_lost_record(member)?;
        }
        for member in row.members.iter().filter(|member| unsendable.damaged.contains(&member.position)) {
            let Some(entry) = self.member_row(member)? else { continue };
            let error = StoredError {
                class: "damaged".into(),
                http_status: None,
                code: None,
                message: "its payload on this device's disk is damaged and cannot be sent: replace the payload, or discard the record".into(),
                at: self.now.wall,
                field: None,
            };
            self.quarantine_record(member.id, entry, error)?;
        }
        Ok(())
    }

    /// Quarantines a record that is in no batch.
    pub(super) fn quarantine_record(
        &mut self,
        id: u128,
        mut row: ManifestRow,
        error: StoredError,
    ) -> Result<(), StoreError> {
        let was = row.state;
        if was == StoredState::Failed {
            self.tables.retry.remove((row.due_at.unwrap_or(DUE_WHEN_UNBLOCKED), row.position))?;
        }
        row.state = StoredState::Quarantined;
        row.updated_at = self.now.wall;
        row.due_at = None;
        row.error = Some(error);
        self.state.woken.remove(&row.position);
        self.tables.quarantine.insert(row.position, id)?;
        self.state.totals.quarantined += 1;
        self.state.totals.settled += 1;
        self.state.blockers_changed = true;
        self.state.waits_changed = true;
        self.save_row(id, &row, Some(was))
    }

    /// Removes what is left of a member without a payload.
    fn remove_lost_record(&mut self, member: &MemberRow) -> Result<(), StoreError> {
        self.is_damage_seen.set(true);
        self.state.open_mut().release_member(member.position);
        self.state.woken.remove(&member.position);
        let row = self.manifest_row(member.id)?.filter(|row| row.position == member.position);
        if row.as_ref().is_some_and(|row| !row.state.is_unsettled()) {
            return Ok(());
        }
        let id = record_id(member.id);
        tracing::error!(
            name: journal::RECORD_LOST,
            record_id = %id,
            "record {id} was accepted and is lost: it is in a batch, but its payload is missing"
        );
        let Some(row) = row else { return Ok(()) };
        self.state.waits_changed = true;
        self.tables.retry.remove((row.due_at.unwrap_or(DUE_WHEN_UNBLOCKED), member.position))?;
        self.tables.quarantine.remove(member.position)?;
        self.tables.manifest.remove(member.id)?;
        self.state.counters.count_change(&row, Some(row.state), None);
        self.remove_payload(member.position)?;
        self.leave_lane(&row)
    }

    /// The manifest row of a member. Rebuilds a missing row from the payload. Without a payload the record is lost, and
    /// the result is none.
    pub(super) fn member_row(&mut self, member: &MemberRow) -> Result<Option<ManifestRow>, StoreError> {
        if self.tables.payload.get(member.position)?.is_none() {
            self.remove_lost_record(member)?;
            return Ok(None);
        }
        if let Some(row) = self.manifest_row(member.id)? {
            return Ok(Some(row));
        }
        self.is_damage_seen.set(true);
        tracing::error!(record_id = %record_id(member.id), "the manifest entry of a record is missing and is rebuilt from its payload");
        let header = self.readable_header(member.position)?;
        let state = if member.failed { StoredState::Failed } else { StoredState::Pending };
        Ok(header.map(|header| ManifestRow { state, ..ManifestRow::new_pending(header) }))
    }
}

pub(super) fn record_id(id: u128) -> RecordId {
    RecordId(Uuid::from_u128(id))
}
