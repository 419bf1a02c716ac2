//! Replaces the payload of a quarantined record.

use thiserror::Error;

use super::append::content_digest;
use super::body;
use super::counters::{RecordCounts, SubmitterUsage};
use super::error::StoreError;
use super::limits::LimitReached;
use super::op::{Op, Transaction};
use super::schema::{RecordHeader, StoredState, Tables};
use crate::model::RecordId;

/// Replaces the payload of a quarantined record and queues it again.
pub struct ReplacePayload {
    /// The record.
    pub id: RecordId,
    /// The new payload, checked to be a JSON object.
    pub payload: Box<str>,
}

/// Why a payload is not replaced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MendRefused {
    /// No record has this id.
    #[error("no record has this id")]
    Unknown,
    /// The record is not quarantined.
    #[error(
        "only the payload of a QUARANTINED record can be replaced, and this record does not need review. If it still waits, an admin can mark \
         it for review: fieldsync quarantine add ID"
    )]
    NotQuarantined,
    /// The queue would exceed a limit.
    #[error(
        "{0}: the record still needs review, unchanged; try again when records have been synced, or {remedy}", remedy = .0.remedy_text()
    )]
    Full(LimitReached),
    /// The disk is full.
    #[error("the disk is full: the record still needs review, unchanged; make room and try again")]
    DiskFull,
    /// The payload is larger than `queue.max_record_bytes`.
    #[error("the payload has {bytes} bytes, more than queue.max_record_bytes ({limit})")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl Op for ReplacePayload {
    type Reply = Result<(), MendRefused>;

    fn added_bytes(&self) -> u64 {
        self.payload.len() as u64
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        reply.is_ok()
    }

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.id.0.as_u128();
        let (bytes, limit) = (self.payload.len() as u64, transaction.limits.max_record_bytes);
        if bytes > limit {
            return Ok(Err(MendRefused::TooLarge { bytes, limit }));
        }
        let Some(mut row) = transaction.manifest_row(id)? else {
            return Ok(Err(MendRefused::Unknown));
        };
        if row.state != StoredState::Quarantined {
            return Ok(Err(MendRefused::NotQuarantined));
        }
        let before = row.clone();
        row.payload_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let added = SubmitterUsage {
            records: RecordCounts {
                bytes: bytes.saturating_sub(before.payload_bytes.into()),
                ..RecordCounts::default()
            },
            disk_bytes: row.disk_bytes().saturating_sub(before.disk_bytes()),
        };
        if let Some(reached) =
            transaction.limits.limit_reached_by(&transaction.state.counters, row.submitter, &added)
        {
            return Ok(Err(MendRefused::Full(reached)));
        }
        if !transaction.admits_records {
            return Ok(Err(MendRefused::DiskFull));
        }
        row.digest = content_digest(&row.record_type, row.key.as_deref(), &self.payload);
        let header = RecordHeader {
            id,
            position: row.position,
            record_type: row.record_type.clone(),
            key: row.key.clone(),
            submitter: row.submitter,
            created_at: row.created_at,
            bytes: row.payload_bytes,
            digest: row.digest,
        };
        transaction.remove_payload(row.position)?;
        let Tables { payload, chunks, .. } = &mut transaction.tables;
        body::write_payload(payload, chunks, &header, &self.payload)?;
        row.state = StoredState::Pending;
        row.updated_at = transaction.now.wall;
        transaction.state.counters.count_change(&before, Some(before.state), None);
        transaction.save_row(id, &row, None)?;
        transaction.tables.quarantine.remove(row.position)?;
        transaction.release_from_review(&row)?;
        Ok(Ok(()))
    }
}
