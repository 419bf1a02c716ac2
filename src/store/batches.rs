//! The life of a batch on disk once it is claimed: sent, settled, cut.

use std::collections::{BTreeSet, HashMap};

use redb::ReadableTable;
use uuid::Uuid;

use super::StoreError;
use super::codec;
use super::holds::HELD;
use super::queue::{Op, Transaction, open_batch};
use super::schema::{BatchRow, Header, ManifestRow, MemberRow, StoredError, StoredState};
use crate::clock::millis;
use crate::config;
use crate::model::{Batch, BatchId, BatchPhase, BatchRecord, LastError, OpenBatch, RecordId, Sequence};
use crate::policy::agenda::{ClaimOrder, Disposition, Outcome};
use crate::policy::backoff;
use crate::policy::isolation::Cut;
use crate::policy::sizing::SizeRule;

/// Receipts that one settlement looks at, at least.
const PRUNE_STEP: usize = 100;

/// Marks an open batch as in flight.
pub struct Dispatch {
    /// Which.
    pub batch: BatchId,
    /// For its first send.
    pub sequence: Sequence,
}

/// Settles a batch and claims the next in the same commit.
pub struct Settle {
    /// Which.
    pub batch: BatchId,
    /// What becomes of it.
    pub disposition: Disposition,
    /// For records that are tried again.
    pub retry: config::Retry,
    /// What to send next.
    pub then: Option<ClaimOrder>,
}

/// What a settlement came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Records that the server has now.
    pub synced: Vec<RecordId>,
    /// Records set aside, their types, and why.
    pub quarantined: Vec<(RecordId, String, LastError)>,
    /// Records that are tried again.
    pub failed: usize,
    /// Results for records that the batch did not hold.
    pub foreign: usize,
    /// Parts, or the batch under its new id.
    pub opened: Vec<OpenBatch>,
    /// The next batch, when one was asked for and found.
    pub claimed: Option<Batch>,
}

impl Op for Dispatch {
    /// None when every record of the batch is held by its key and went back to the queue.
    type Reply = Option<Batch>;

    fn apply(self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.batch.0.as_u128();
        let Some(mut row) = transaction.state.open.get(&id).cloned() else {
            return Ok(None);
        };
        // What was sent under an id stays the set of that id.
        if row.attempt == 0 {
            transaction.carve_held(&mut row)?;
        }
        if row.members.is_empty() {
            transaction.close_row(id)?;
            return Ok(None);
        }
        if row.sequence.0 == 0 {
            row.sequence = (self.sequence.index, self.sequence.total);
        }
        row.attempt += 1;
        row.counted = false;
        row.phase = BatchPhase::InFlight;
        let batch = transaction.load(id, &row)?;
        transaction.put_batch(id, row)?;
        Ok(Some(batch))
    }
}

impl Op for Settle {
    type Reply = Settled;

    fn apply(self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.batch.0.as_u128();
        let mut settled = Settled::default();
        if let Some(row) = transaction.state.open.get(&id).cloned() {
            match self.disposition {
                Disposition::Close { outcomes, missing } => {
                    transaction.close(id, &row, outcomes, &missing, &self.retry, &mut settled)?;
                }
                Disposition::Keep { phase, lone_failures, error } => {
                    transaction.keep(id, row, phase, lone_failures, error.as_ref())?;
                }
                Disposition::Cut { cut, error } => {
                    settled.opened = transaction.cut(id, row, &cut, error.as_ref())?;
                }
                Disposition::Rename { lone_failures } => {
                    settled.opened = vec![transaction.rename(id, row, lone_failures)?];
                }
            }
        }
        // Twice as many as came: else they could come faster than they go.
        transaction.prune_receipts(PRUNE_STEP.max(2 * settled.synced.len()))?;
        if let Some(order) = &self.then {
            settled.claimed = transaction.claim(order)?;
        }
        Ok(settled)
    }
}

impl Transaction<'_, '_> {
    /// Members whose key is held by a record outside of the batch go back to the queue.
    fn carve_held(&mut self, row: &mut BatchRow) -> Result<(), StoreError> {
        let mut company: BTreeSet<u64> = row.members.iter().map(|member| member.place).collect();
        for member in std::mem::take(&mut row.members) {
            let header = self.header(member.place)?;
            let key = header.and_then(|(header, _)| header.key);
            if !self.is_held(key.as_deref(), member.place, &company)? {
                row.members.push(member);
                continue;
            }
            company.remove(&member.place);
            row.bytes = row.bytes.saturating_sub(u64::from(member.bytes));
            self.state.claimed.remove(&member.place);
            self.state.keys.release(key.as_deref(), member.place);
            self.hold(key.as_deref(), member.place)?;
            if member.failed {
                // Whoever holds it frees it.
                self.reschedule(member.id, member.place, HELD, HELD)?;
            } else {
                self.state.cursors.rewind();
            }
        }
        Ok(())
    }

    /// The batch with its payloads, in queue order.
    pub(super) fn load(&self, id: u128, row: &BatchRow) -> Result<Batch, StoreError> {
        let mut records = Vec::with_capacity(row.members.len());
        for member in &row.members {
            let sealed = self.tables.payload.get(member.place)?;
            let sealed = sealed.ok_or(StoreError::Inconsistent("a batch names a record without payload"))?;
            let (header, body): (Header, _) = codec::unseal(sealed.value())?;
            records.push(BatchRecord {
                id: record_id(member.id),
                record_type: header.record_type,
                key: header.key,
                created_at: header.created_at,
                payload: body.into(),
            });
        }
        let sequence = Sequence { index: row.sequence.0, total: row.sequence.1 };
        Ok(Batch { open: open_batch(id, row), sequence, records })
    }

    pub(super) fn put_batch(&mut self, id: u128, row: BatchRow) -> Result<(), StoreError> {
        self.tables.batches.insert(id, codec::encode(&row)?.as_slice())?;
        for member in &row.members {
            self.state.claimed.insert(member.place, id);
        }
        self.state.open.insert(id, row);
        Ok(())
    }

    fn close_row(&mut self, id: u128) -> Result<(), StoreError> {
        self.tables.batches.remove(id)?;
        self.state.open.remove(&id);
        Ok(())
    }

    /// Every record by its own outcome.
    fn close(
        &mut self,
        id: u128,
        row: &BatchRow,
        outcomes: Vec<(RecordId, Outcome)>,
        missing: &Outcome,
        retry: &config::Retry,
        settled: &mut Settled,
    ) -> Result<(), StoreError> {
        let total = outcomes.len();
        let mut by_id: HashMap<u128, Outcome> = HashMap::with_capacity(total);
        for (record, outcome) in outcomes {
            // A second result for a record does not overrule the first.
            by_id.entry(record.0.as_u128()).or_insert(outcome);
        }
        let mut known = 0;
        for member in &row.members {
            let given = by_id.remove(&member.id);
            known += usize::from(given.is_some());
            let outcome = given.as_ref().unwrap_or(missing);
            self.settle_record(id, row, member, outcome, retry, settled)?;
        }
        settled.foreign = total - known;
        self.close_row(id)
    }

    fn settle_record(
        &mut self,
        batch: u128,
        row: &BatchRow,
        member: &MemberRow,
        outcome: &Outcome,
        retry: &config::Retry,
        settled: &mut Settled,
    ) -> Result<(), StoreError> {
        let place = member.place;
        let mut entry = self.member_entry(member)?;
        let was = entry.state;
        let key = entry.key.clone();
        entry.attempts += u32::from(!row.counted);
        entry.updated_at = self.now;
        entry.batch = Some(batch);
        entry.due_at = None;
        self.state.claimed.remove(&place);
        self.state.keys.release(key.as_deref(), place);
        match outcome {
            Outcome::Synced => {
                entry.state = StoredState::Synced;
                entry.error = None;
                self.drop_payload(place, member.bytes)?;
                self.tables.receipts.insert(place, (member.id, self.now))?;
                settled.synced.push(record_id(member.id));
                self.state.synced_total += 1;
                self.state.settled_total += 1;
                self.freed(key.as_deref(), place)?;
            }
            Outcome::Quarantine(error) => {
                entry.state = StoredState::Quarantined;
                entry.error = Some(stored(error));
                self.tables.quarantine.insert(place, member.id)?;
                self.hold(key.as_deref(), place)?;
                settled.quarantined.push((record_id(member.id), entry.record_type.clone(), error.clone()));
                self.state.settled_total += 1;
            }
            Outcome::Retry(error) => {
                let wait = backoff::delay(
                    retry.initial_backoff.0,
                    retry.max_backoff.0,
                    entry.attempts,
                    &mut fastrand::Rng::new(),
                );
                let due = self.now + millis(wait);
                entry.state = StoredState::Failed;
                entry.error = Some(stored(error));
                entry.due_at = Some(due);
                self.tables.retry.insert((due, place), ())?;
                self.hold(key.as_deref(), place)?;
                settled.failed += 1;
            }
        }
        self.put_row(member.id, &entry, Some(was))
    }

    fn member_entry(&self, member: &MemberRow) -> Result<ManifestRow, StoreError> {
        let row = self.manifest_row(member.id)?;
        row.ok_or(StoreError::Inconsistent("a batch names a record without manifest entry"))
    }

    /// With an error: the records, and only those, are FAILED, and the attempt counts once.
    fn fail_members(
        &mut self,
        id: u128,
        row: &mut BatchRow,
        error: Option<&LastError>,
    ) -> Result<(), StoreError> {
        let Some(error) = error else { return Ok(()) };
        for member in &mut row.members {
            let mut entry = self.member_entry(member)?;
            let was = entry.state;
            entry.state = StoredState::Failed;
            entry.attempts += u32::from(!row.counted);
            entry.updated_at = self.now;
            entry.batch = Some(id);
            entry.due_at = None;
            entry.error = Some(stored(error));
            member.failed = true;
            self.put_row(member.id, &entry, Some(was))?;
        }
        row.counted = true;
        Ok(())
    }

    fn keep(
        &mut self,
        id: u128,
        mut row: BatchRow,
        phase: BatchPhase,
        lone_failures: u32,
        error: Option<&LastError>,
    ) -> Result<(), StoreError> {
        self.fail_members(id, &mut row, error)?;
        row.phase = phase;
        row.lone_failures = lone_failures;
        self.put_batch(id, row)
    }

    fn cut(
        &mut self,
        id: u128,
        mut row: BatchRow,
        cut: &Cut,
        error: Option<&LastError>,
    ) -> Result<Vec<OpenBatch>, StoreError> {
        self.fail_members(id, &mut row, error)?;
        self.close_row(id)?;
        let mut members = row.members.into_iter();
        let mut parts: Vec<Vec<MemberRow>> =
            cut.parts.iter().map(|size| members.by_ref().take(*size).collect()).collect();
        // Members may have been taken out since the cut was planned, but never added.
        parts.push(members.collect());
        parts.retain(|part| !part.is_empty());
        let mut opened = Vec::with_capacity(parts.len());
        for members in parts {
            let part = BatchRow {
                parent: Some(id),
                stage: cut.stage,
                rule: SizeRule::Split,
                phase: BatchPhase::Waiting,
                sequence: (0, 0),
                attempt: 0,
                lone_failures: 0,
                counted: false,
                bytes: members.iter().map(|member| u64::from(member.bytes)).sum(),
                members,
            };
            let part_id = Uuid::new_v4().as_u128();
            opened.push(open_batch(part_id, &part));
            self.put_batch(part_id, part)?;
        }
        Ok(opened)
    }

    fn rename(&mut self, id: u128, row: BatchRow, lone_failures: u32) -> Result<OpenBatch, StoreError> {
        self.close_row(id)?;
        let new_id = Uuid::new_v4().as_u128();
        let row = BatchRow {
            parent: Some(id),
            phase: BatchPhase::Waiting,
            sequence: (0, 0),
            attempt: 0,
            counted: false,
            lone_failures,
            ..row
        };
        let opened = open_batch(new_id, &row);
        self.put_batch(new_id, row)?;
        Ok(opened)
    }
}

fn record_id(id: u128) -> RecordId {
    RecordId(Uuid::from_u128(id))
}

fn stored(error: &LastError) -> StoredError {
    StoredError {
        class: error.class.clone(),
        http_status: error.http_status,
        code: error.code.clone(),
        message: error.message.clone(),
        at: error.at,
    }
}
