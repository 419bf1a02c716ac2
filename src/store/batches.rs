//! The life of a batch on disk: claimed, sent, settled, cut.

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
use crate::model::{
    Batch, BatchId, BatchPhase, BatchRecord, LastError, OpenBatch, RecordId, Sequence, Stage,
};
use crate::policy::agenda::{ClaimOrder, Disposition, Outcome};
use crate::policy::backoff;
use crate::policy::isolation::Cut;
use crate::policy::sizing::SizeRule;

/// Records that one claim looks at; the next goes on from there.
const CLAIM_SCAN: usize = 10_000;
/// Receipts that one settlement looks at, at least.
const PRUNE_STEP: usize = 100;

/// Takes fresh records from the queue into a batch.
pub struct Claim(pub ClaimOrder);

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

impl Op for Claim {
    type Reply = Option<Batch>;

    fn apply(self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.claim(&self.0)
    }
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

/// Candidates for a batch, as they are found.
#[derive(Default)]
struct Draft {
    members: Vec<MemberRow>,
    places: BTreeSet<u64>,
    bytes: u64,
}

impl Draft {
    /// False when the batch is full.
    fn has_room(&self, order: &ClaimOrder, bytes: u64) -> bool {
        self.members.is_empty()
            || (self.members.len() < order.limit.records && self.bytes + bytes <= order.limit.bytes)
    }

    fn add(&mut self, member: MemberRow) {
        self.places.insert(member.place);
        self.bytes += u64::from(member.bytes);
        self.members.push(member);
    }
}

impl Transaction<'_, '_> {
    fn claim(&mut self, order: &ClaimOrder) -> Result<Option<Batch>, StoreError> {
        let mut draft = Draft::default();
        self.draft_due(order, &mut draft)?;
        self.draft_fresh(order, &mut draft)?;
        if draft.members.is_empty() {
            return Ok(None);
        }
        draft.members.sort_by_key(|member| member.place);
        let id = Uuid::new_v4().as_u128();
        let row = BatchRow {
            parent: None,
            stage: Stage::Fresh,
            rule: order.limit.rule,
            phase: BatchPhase::InFlight,
            sequence: (order.sequence.index, order.sequence.total),
            attempt: 1,
            lone_failures: 0,
            counted: false,
            bytes: draft.bytes,
            members: draft.members,
        };
        let batch = self.load(id, &row)?;
        for (member, record) in row.members.iter().zip(&batch.records) {
            self.state.keys.claim(record.key.as_deref(), member.place);
            if let Some(key) = &record.key {
                // The open batch holds the key from now on.
                self.tables.holds.remove((key.as_str(), member.place))?;
            }
        }
        self.put_batch(id, row)?;
        Ok(Some(batch))
    }

    /// Failed records whose time has come, the longest due first.
    fn draft_due(&mut self, order: &ClaimOrder, draft: &mut Draft) -> Result<(), StoreError> {
        let (mut taken, mut held) = (Vec::new(), Vec::new());
        // A row that leads nowhere would be due for ever.
        let mut stray = Vec::new();
        for item in self.tables.retry.range(..=(self.now, u64::MAX))?.take(CLAIM_SCAN) {
            let (due, place) = item?.0.value();
            let Some((header, bytes)) = self.header(place)? else {
                stray.push((due, place));
                continue;
            };
            if !draft.has_room(order, u64::from(bytes)) {
                break;
            }
            if self.is_held(header.key.as_deref(), place, &draft.places)? {
                held.push((due, place, header.id));
            } else {
                draft.add(MemberRow { place, id: header.id, bytes, failed: true });
                taken.push((due, place));
            }
        }
        for (due, place, id) in held {
            self.reschedule(id, place, due, HELD)?;
        }
        for row in taken.into_iter().chain(stray) {
            self.tables.retry.remove(row)?;
        }
        Ok(())
    }

    /// Records that were never tried, in queue order.
    fn draft_fresh(&mut self, order: &ClaimOrder, draft: &mut Draft) -> Result<(), StoreError> {
        let mut looked_at = 0;
        for range in self.state.cursors.ranges() {
            let mut passed = Vec::new();
            for item in self.tables.payload.range(range)? {
                let (place, sealed) = item?;
                let place = place.value();
                if looked_at == CLAIM_SCAN {
                    break;
                }
                let (header, body) = match codec::unseal::<Header>(sealed.value()) {
                    Ok(whole) => whole,
                    Err(error) => {
                        tracing::error!(place, %error, "a waiting record does not read and is left where it is");
                        passed.push(place);
                        continue;
                    }
                };
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                if !draft.has_room(order, u64::from(bytes)) {
                    looked_at = CLAIM_SCAN;
                    break;
                }
                looked_at += 1;
                passed.push(place);
                let plainly_waits = !self.state.claimed.contains_key(&place)
                    && self.manifest_row(header.id)?.is_some_and(|row| row.state == StoredState::Pending);
                if !plainly_waits {
                    continue;
                }
                if self.is_held(header.key.as_deref(), place, &draft.places)? {
                    self.state.cursors.passed_held = true;
                } else {
                    draft.add(MemberRow { place, id: header.id, bytes, failed: false });
                }
            }
            if let Some(place) = passed.last() {
                self.state.cursors.passed(*place);
            }
            if looked_at >= CLAIM_SCAN {
                return Ok(());
            }
        }
        self.state.cursors.dry = true;
        Ok(())
    }

    /// The header of a payload, and the size of its body. One that does not read is left where it
    /// is: it must not keep the others from going.
    pub(super) fn header(&self, place: u64) -> Result<Option<(Header, u32)>, StoreError> {
        let Some(sealed) = self.tables.payload.get(place)? else {
            return Ok(None);
        };
        match codec::unseal::<Header>(sealed.value()) {
            Ok((header, body)) => Ok(Some((header, u32::try_from(body.len()).unwrap_or(u32::MAX)))),
            Err(error) => {
                tracing::error!(place, %error, "a record does not read and is left where it is");
                Ok(None)
            }
        }
    }

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
    fn load(&self, id: u128, row: &BatchRow) -> Result<Batch, StoreError> {
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

    fn put_batch(&mut self, id: u128, row: BatchRow) -> Result<(), StoreError> {
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
