//! Stores new records: all records of a request, or none.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};
use thiserror::Error;

use super::body;
use super::counters::SubmitterUsage;
use super::disk_use::estimate_disk_bytes;
use super::error::StoreError;
use super::limits::LimitReached;
use super::op::{Op, Transaction};
use super::schema::{ManifestRow, RecordHeader};
use crate::model::{NewRecord, QueuePosition, RecordId};

/// Stores new records.
pub struct Append {
    /// In order, with their digests.
    records: Vec<(NewRecord, ContentDigest)>,
    /// The user (uid) who submits them.
    submitter: u32,
}

impl Append {
    /// Computes the digests here, to keep that work off the store's thread.
    pub fn new(records: Vec<NewRecord>, submitter: u32) -> Self {
        let with_digest = |record: NewRecord| {
            let digest = content_digest(&record.record_type, record.key.as_deref(), &record.payload);
            (record, digest)
        };
        Self { records: records.into_iter().map(with_digest).collect(), submitter }
    }
}

/// What an append stored. It is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendSummary {
    /// New records.
    pub accepted: u64,
    /// Records that were known, with the same content.
    pub duplicates: u64,
    /// Ids of all records, in order.
    pub ids: Vec<RecordId>,
}

/// Why nothing was stored. `position` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendRefused {
    /// A payload is larger than `queue.max_record_bytes`.
    #[error("record {position} has {bytes} bytes of payload, more than queue.max_record_bytes ({limit})")]
    TooLarge {
        /// The record's number in the request.
        position: u64,
        /// Size of its payload.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The id is known, with other content.
    #[error("record {position}: id {id} is known with other content; give a changed record a new id")]
    Conflict {
        /// The record's number in the request.
        position: u64,
        /// Its id.
        id: RecordId,
    },
    /// A record of another user has the id. Its content is not compared, so that the reply does not reveal it.
    #[error("record {position}: id {id} is taken by a record of another user; give this record a new id")]
    Taken {
        /// The record's number in the request.
        position: u64,
        /// Its id.
        id: RecordId,
    },
    /// The disk is full.
    #[error(
        "the disk is full: nothing was stored. Stored records are still sent. Try again when the disk has room"
    )]
    DiskFull,
    /// A limit of the queue is reached.
    #[error("{0}: nothing was stored; try again when records have been synced, or {remedy}", remedy = .0.remedy_text())]
    Full(LimitReached),
}

impl Op for Append {
    type Reply = Result<AppendSummary, AppendRefused>;

    fn added_bytes(&self) -> u64 {
        self.records.iter().map(|(record, _)| record_disk_bytes(record)).sum()
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        reply.as_ref().is_ok_and(|done| done.accepted > 0)
    }

    fn accepts_unlisted_records() -> bool {
        true
    }

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let new_flags = match transaction.find_new_records(&self.records, self.submitter)? {
            Ok(new_flags) => new_flags,
            Err(refused) => return Ok(Err(refused)),
        };
        let accepted = new_flags.iter().filter(|is_new| **is_new).count() as u64;
        let ids = self.records.iter().map(|(record, _)| record.id).collect();
        for ((record, digest), _) in self.records.iter().zip(new_flags).filter(|(_, is_new)| *is_new) {
            transaction.insert_record(record, *digest, self.submitter)?;
        }
        if accepted > 0 {
            transaction.state.totals.accepted += accepted;
            transaction.state.cursors.dry = false;
            transaction.state.oldest_pending_at.get_or_insert(transaction.now.wall);
        }
        Ok(Ok(AppendSummary { accepted, duplicates: self.records.len() as u64 - accepted, ids }))
    }
}

pub(super) type ContentDigest = [u8; 16];

fn record_disk_bytes(record: &NewRecord) -> u64 {
    estimate_disk_bytes(&record.record_type, record.key.as_deref(), record.payload.len() as u64)
}

impl Transaction<'_, '_> {
    /// Tells for each record whether it is new.
    fn find_new_records(
        &self,
        records: &[(NewRecord, ContentDigest)],
        submitter: u32,
    ) -> Result<Result<Vec<bool>, AppendRefused>, StoreError> {
        let limits = self.limits;
        let mut new_flags = Vec::with_capacity(records.len());
        let mut seen: HashMap<RecordId, ContentDigest> = HashMap::with_capacity(records.len());
        let mut added = SubmitterUsage::default();
        for ((record, digest), position) in records.iter().zip(1..) {
            let size = record.payload.len() as u64;
            if size > limits.max_record_bytes {
                let limit = limits.max_record_bytes;
                return Ok(Err(AppendRefused::TooLarge { position, bytes: size, limit }));
            }
            let stored = self.manifest_row(record.id.0.as_u128())?;
            if stored.as_ref().is_some_and(|row| row.submitter != submitter) {
                return Ok(Err(AppendRefused::Taken { position, id: record.id }));
            }
            match stored.map(|row| row.digest).or_else(|| seen.get(&record.id).copied()) {
                Some(known) if known == *digest => new_flags.push(false),
                Some(_) => {
                    return Ok(Err(AppendRefused::Conflict { position, id: record.id }));
                }
                None => {
                    seen.insert(record.id, *digest);
                    new_flags.push(true);
                    added.records.pending += 1;
                    added.records.bytes += size;
                    added.disk_bytes += record_disk_bytes(record);
                }
            }
        }
        if !self.admits_records && added.records.pending > 0 {
            return Ok(Err(AppendRefused::DiskFull));
        }
        if let Some(reached) = limits.limit_reached_by(&self.state.counters, submitter, &added) {
            return Ok(Err(AppendRefused::Full(reached)));
        }
        Ok(Ok(new_flags))
    }

    fn insert_record(
        &mut self,
        record: &NewRecord,
        digest: ContentDigest,
        submitter: u32,
    ) -> Result<(), StoreError> {
        let id = record.id.0.as_u128();
        let seq = self.state.counters.next_seq;
        let position = QueuePosition::new(record.priority, seq).0;
        let header = RecordHeader {
            id,
            position,
            record_type: record.record_type.clone(),
            key: record.key.clone(),
            submitter,
            created_at: self.now.wall,
            bytes: u32::try_from(record.payload.len()).unwrap_or(u32::MAX),
            digest,
        };
        body::write_payload(&mut self.tables.payload, &mut self.tables.chunks, &header, &record.payload)?;
        self.join_lane(header.lane_in(self.state.key_space).as_ref(), position)?;
        let row = ManifestRow::new_pending(header.clone());
        self.state.counters.count_change(&row, None, Some(row.state));
        self.state.counters.next_seq = seq + 1;
        self.state.unlisted.insert(header);
        self.appended_count += 1;
        Ok(())
    }
}

/// Digest of type, key and payload. Two records with one id are the same if their digests are equal.
pub(super) fn content_digest(record_type: &str, key: Option<&str>, payload: &str) -> ContentDigest {
    let mut context = Context::new(&SHA256);
    for part in [record_type, key.unwrap_or_default()] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.update(&[u8::from(key.is_some())]);
    context.update(payload.as_bytes());
    let mut digest = ContentDigest::default();
    for (byte, hashed) in digest.iter_mut().zip(context.finish().as_ref()) {
        *byte = *hashed;
    }
    digest
}
