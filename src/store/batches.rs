//! Dispatches and settles claimed batches.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::batch_rows::{QuarantinedRecord, SyncedRecord, record_id};
use super::claim::Claim;
use super::error::StoreError;
use super::lanes::BlockedMembers;
use super::notes::SaveNote;
use super::op::{Op, Transaction};
use super::open_batches::to_open_batch;
use super::schema::{
    BatchRow, DUE_WHEN_UNBLOCKED, ManifestRow, MemberRow, StoredPhase, StoredRule, StoredState,
};
use super::server_receipts::insert_receipt;
use crate::clock::millis;
use crate::config;
use crate::model::{Batch, BatchId, BatchPhase, LastError, OpenBatch, RecordId, Sequence};
use crate::policy::backoff;
use crate::policy::isolation::Cut;
use crate::policy::scheduler::{Disposition, Outcome};

/// Marks an open batch as in flight.
pub struct Dispatch {
    /// The batch.
    pub batch: BatchId,
    /// Used for its first send.
    pub sequence: Sequence,
    /// Before its first send, records behind another one of their key go back to the queue.
    pub one_per_key: bool,
}

/// Settles a batch and claims the next one in the same commit.
pub struct Settle {
    /// The batch.
    pub batch: BatchId,
    /// What becomes of it.
    pub disposition: Disposition,
    /// For records that are sent again.
    pub retry: config::Retry,
    /// The claim of the next batch.
    pub then: Option<Claim>,
    /// A note of another component that shares the commit.
    pub note: Option<SaveNote>,
}

/// The result of a settlement.
#[derive(Debug, Default)]
pub struct SettleSummary {
    /// Records that the server has confirmed.
    pub synced: Vec<SyncedRecord>,
    /// Records that were quarantined.
    pub quarantined: Vec<QuarantinedRecord>,
    /// Records that are sent again.
    pub failed: usize,
    /// Results for records that were not in the batch.
    pub foreign: usize,
    /// The parts of a split batch, or the batch under its new id.
    pub opened: Vec<OpenBatch>,
    /// The next batch, if a claim was requested and found records.
    pub claimed: Option<Batch>,
}

/// A record of a batch that is to be sent again.
struct RetriedMember<'d> {
    id: u128,
    position: u64,
    entry: ManifestRow,
    error: &'d LastError,
}

impl Op for Dispatch {
    /// None when all members were blocked and went back to the queue.
    type Reply = Option<Batch>;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.batch.0.as_u128();
        let Some(mut row) = transaction.state.open.get(id).cloned() else {
            return Ok(None);
        };
        // An id that was sent keeps its set of records.
        if row.attempt == 0 {
            transaction.return_blocked_members(&mut row, self.one_per_key)?;
        }
        if row.members.is_empty() {
            transaction.remove_batch(id)?;
            return Ok(None);
        }
        if row.sequence.0 == 0 {
            row.sequence = (self.sequence.index, self.sequence.total);
        }
        row.attempt += 1;
        row.counted = false;
        row.phase = StoredPhase::InFlight;
        match transaction.load_batch(id, &row)? {
            Ok(batch) => {
                transaction.save_batch(id, row)?;
                Ok(Some(batch))
            }
            Err(unsendable) => {
                // This id cannot be sent again without all of its members. The others get another id.
                transaction.disband_batch(id, &row)?;
                transaction.quarantine_unsendable(&row, &unsendable)?;
                Ok(None)
            }
        }
    }
}

impl Op for Settle {
    type Reply = SettleSummary;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.batch.0.as_u128();
        let mut settled = SettleSummary::default();
        if let Some(row) = transaction.state.open.get(id).cloned() {
            match &self.disposition {
                Disposition::Close { outcomes, missing, retry_after } => {
                    let to_retry = transaction.close_batch(id, &row, outcomes, missing, &mut settled)?;
                    transaction.schedule_retries(to_retry, &self.retry, *retry_after)?;
                    transaction.remove_batch(id)?;
                }
                Disposition::Keep { phase, lone_failures, error } => {
                    transaction.keep_batch(id, row, *phase, *lone_failures, error.as_ref())?;
                }
                Disposition::Cut { cut, error } => {
                    settled.opened = transaction.split_batch(id, row, cut, error.as_ref())?;
                }
                Disposition::Rename { lone_failures } => {
                    settled.opened = vec![transaction.rename_batch(id, row, *lone_failures)?];
                }
            }
        } else {
            // An earlier commit settled the batch, but its reply was lost.
            settled.opened = transaction.unsent_parts_of(id);
        }
        if let Some(note) = &self.note {
            note.apply(transaction)?;
        }
        transaction.make_room_for_receipts(settled.synced.len())?;
        if let Some(claim) = &self.then {
            settled.claimed = transaction.claim_batch(claim)?;
        }
        Ok(settled)
    }
}

impl Transaction<'_, '_> {
    /// Returns members to the queue that a record outside of the batch blocks; with `one_per_key`, also those behind
    /// another one of their key.
    fn return_blocked_members(&mut self, row: &mut BatchRow, one_per_key: bool) -> Result<(), StoreError> {
        let BlockedMembers { in_lanes, same_key } = self.blocked_members(&row.members, one_per_key)?;
        for (member, lane) in &in_lanes {
            self.return_to_queue(member, DUE_WHEN_UNBLOCKED)?;
            self.note_urgent(lane, member.position)?;
        }
        for member in &same_key {
            self.return_to_queue(member, self.now.steady)?;
        }
        let blocked = in_lanes.iter().map(|(member, _)| member).chain(&same_key);
        let blocked: BTreeSet<u64> = blocked.map(|member| member.position).collect();
        row.members.retain(|member| !blocked.contains(&member.position));
        row.bytes = row.members.iter().map(|member| u64::from(member.bytes)).sum();
        Ok(())
    }

    /// Settles each record by its own outcome. Returns those to send again, which are still members.
    fn close_batch<'d>(
        &mut self,
        id: u128,
        row: &BatchRow,
        outcomes: &'d [(RecordId, Outcome)],
        missing: &'d Outcome,
        settled: &mut SettleSummary,
    ) -> Result<Vec<RetriedMember<'d>>, StoreError> {
        let total = outcomes.len();
        let mut by_id: HashMap<u128, &Outcome> = HashMap::with_capacity(total);
        for (record, outcome) in outcomes {
            // The first result for a record counts.
            by_id.entry(record.0.as_u128()).or_insert(outcome);
        }
        let mut known = 0;
        let (mut to_retry, mut sent_payloads) = (Vec::new(), Vec::new());
        for member in &row.members {
            let given = by_id.remove(&member.id);
            known += usize::from(given.is_some());
            let outcome = given.unwrap_or(missing);
            let Some(mut entry) = self.member_row(member)? else { continue };
            let was = entry.state;
            entry.attempts += u32::from(!row.counted);
            entry.updated_at = self.now.wall;
            entry.batch = Some(id);
            entry.due_at = None;
            match outcome {
                Outcome::Synced(receipt) => {
                    entry.state = StoredState::Synced;
                    entry.error = None;
                    self.state.open_mut().release_member(member.position);
                    sent_payloads.push(member.position);
                    self.tables.receipts.insert(member.position, (member.id, self.now.steady))?;
                    if let Some(receipt) = receipt {
                        let table = &mut self.tables.server_receipts;
                        insert_receipt(table, &mut self.state.counters, member.position, receipt)?;
                    }
                    settled.synced.push(SyncedRecord {
                        id: record_id(member.id),
                        submitter: entry.submitter,
                        created_at: entry.created_at,
                        receipt: receipt.clone(),
                    });
                    self.state.totals.synced += 1;
                    self.state.totals.settled += 1;
                    self.leave_lane(&entry)?;
                }
                Outcome::Quarantine(error) => {
                    entry.state = StoredState::Quarantined;
                    entry.error = Some(error.into());
                    self.state.open_mut().release_member(member.position);
                    self.tables.quarantine.insert(member.position, member.id)?;
                    settled.quarantined.push(QuarantinedRecord {
                        id: record_id(member.id),
                        submitter: entry.submitter,
                        record_type: entry.record_type.clone(),
                        error: error.clone(),
                    });
                    self.state.totals.quarantined += 1;
                    self.state.totals.settled += 1;
                    self.state.blockers_changed = true;
                }
                Outcome::Retry(error) => {
                    to_retry.push(RetriedMember { id: member.id, position: member.position, entry, error });
                    continue;
                }
            }
            self.save_row(member.id, &entry, Some(was))?;
        }
        self.remove_payloads(&mut sent_payloads)?;
        settled.foreign = total - known;
        settled.failed = to_retry.len();
        Ok(to_retry)
    }

    /// Makes records of one batch due at the same time, so that they are sent together again. The wait follows the
    /// record with the most attempts: a server that keeps asking for time gets it even if newer records joined the
    /// batch. It is at least as long as the server asks for.
    fn schedule_retries(
        &mut self,
        to_retry: Vec<RetriedMember<'_>>,
        retry: &config::Retry,
        retry_after: Duration,
    ) -> Result<(), StoreError> {
        let Some(attempts) = to_retry.iter().map(|member| member.entry.attempts).max() else {
            return Ok(());
        };
        let rng = &mut fastrand::Rng::new();
        let wait = backoff::backoff_delay(retry.initial_backoff.0, retry.max_backoff.0, attempts, rng);
        let due = self.now.steady.saturating_add(millis(wait.max(retry_after)));
        self.state.blockers_changed = true;
        self.state.waits_changed = true;
        for RetriedMember { id, position, mut entry, error } in to_retry {
            let was = entry.state;
            entry.state = StoredState::Failed;
            entry.error = Some(error.into());
            entry.due_at = Some(due);
            self.state.open_mut().release_member(position);
            self.tables.retry.insert((due, position), ())?;
            self.save_row(id, &entry, Some(was))?;
        }
        Ok(())
    }

    /// If there is an error, marks the members as FAILED and counts the attempt once.
    fn fail_members(
        &mut self,
        id: u128,
        row: &mut BatchRow,
        error: Option<&LastError>,
    ) -> Result<(), StoreError> {
        let Some(error) = error else { return Ok(()) };
        self.state.blockers_changed = true;
        for mut member in std::mem::take(&mut row.members) {
            let Some(mut entry) = self.member_row(&member)? else { continue };
            let was = entry.state;
            entry.state = StoredState::Failed;
            entry.attempts += u32::from(!row.counted);
            entry.updated_at = self.now.wall;
            entry.batch = Some(id);
            entry.due_at = None;
            entry.error = Some(error.into());
            member.failed = true;
            self.save_row(member.id, &entry, Some(was))?;
            row.members.push(member);
        }
        row.bytes = row.members.iter().map(|member| u64::from(member.bytes)).sum();
        row.counted = true;
        Ok(())
    }

    fn keep_batch(
        &mut self,
        id: u128,
        mut row: BatchRow,
        phase: BatchPhase,
        lone_failures: u32,
        error: Option<&LastError>,
    ) -> Result<(), StoreError> {
        self.fail_members(id, &mut row, error)?;
        row.phase = phase.into();
        row.lone_failures = lone_failures;
        self.save_batch(id, row)
    }

    fn split_batch(
        &mut self,
        id: u128,
        mut row: BatchRow,
        cut: &Cut,
        error: Option<&LastError>,
    ) -> Result<Vec<OpenBatch>, StoreError> {
        self.fail_members(id, &mut row, error)?;
        self.remove_batch(id)?;
        let mut members = row.members.into_iter();
        let mut parts: Vec<Vec<MemberRow>> =
            cut.parts.iter().map(|size| members.by_ref().take(*size).collect()).collect();
        // Members may have been removed since the split was planned, but none were added.
        parts.push(members.collect());
        parts.retain(|part| !part.is_empty());
        let mut opened = Vec::with_capacity(parts.len());
        for members in parts {
            let part = BatchRow {
                parent: Some(id),
                stage: cut.stage.into(),
                rule: StoredRule::Split,
                phase: StoredPhase::Waiting,
                sequence: (0, 0),
                attempt: 0,
                lone_failures: 0,
                counted: false,
                bytes: members.iter().map(|member| u64::from(member.bytes)).sum(),
                members,
            };
            let part_id = Uuid::new_v4().as_u128();
            opened.push(to_open_batch(part_id, &part));
            self.save_batch(part_id, part)?;
        }
        Ok(opened)
    }

    /// The batches that were split from this one and have not been sent.
    fn unsent_parts_of(&self, id: u128) -> Vec<OpenBatch> {
        let parts = self.state.open.iter().filter(|(_, row)| row.parent == Some(id) && row.attempt == 0);
        let mut parts: Vec<OpenBatch> = parts.map(|(id, row)| to_open_batch(id, row)).collect();
        parts.sort_by_key(|part| part.place);
        parts
    }

    fn rename_batch(&mut self, id: u128, row: BatchRow, lone_failures: u32) -> Result<OpenBatch, StoreError> {
        self.remove_batch(id)?;
        let new_id = Uuid::new_v4().as_u128();
        let row = BatchRow {
            parent: Some(id),
            phase: StoredPhase::Waiting,
            sequence: (0, 0),
            attempt: 0,
            counted: false,
            lone_failures,
            ..row
        };
        let opened = to_open_batch(new_id, &row);
        self.save_batch(new_id, row)?;
        Ok(opened)
    }
}
