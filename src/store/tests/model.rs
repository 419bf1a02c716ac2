//! The queue as a plain map: what each operation must do, without tables, indexes or cursors.

use std::collections::BTreeMap;

use super::disk::SimulatedDisk;
use super::support::{HOUR_MS, QueueBench, id};
use crate::model::{
    Batch, BatchId, BatchPhase, NewRecord, OpenBatch, QueuePosition, RecordId, RecordState, Stage,
};
use crate::policy::scheduler::Outcome;
use crate::protocol::receipt::Receipt;
use crate::store::{
    AddRefused, AddToReviewSummary, AppendRefused, Filter, KeySpace, LimitReached, QueueLimits,
};

#[derive(Clone, Debug)]
pub(super) struct ModelRecord {
    pub(super) position: u64,
    pub(super) submitter: u32,
    pub(super) new: NewRecord,
    pub(super) state: RecordState,
    pub(super) attempts: u32,
    pub(super) batch: Option<BatchId>,
    /// Steady time at which it was synced or discarded.
    settled_at: u64,
    /// What the server said it became.
    receipt: Option<Receipt>,
}

impl ModelRecord {
    fn seq(&self) -> u64 {
        QueuePosition(self.position).seq()
    }

    pub(super) fn is_unsettled(&self) -> bool {
        !matches!(self.state, RecordState::Synced | RecordState::Discarded)
    }

    /// Whether this record must be sent before another of the same lane.
    fn goes_before(&self, other: &Self, key_space: KeySpace) -> bool {
        let same_keys = key_space == KeySpace::Shared || self.submitter == other.submitter;
        let same_lane = same_keys && self.new.key.is_some() && self.new.key == other.new.key;
        self.is_unsettled() && same_lane && self.seq() < other.seq()
    }
}

#[derive(Clone, Debug)]
pub(super) struct ModelBatch {
    /// In sending order.
    pub(super) members: Vec<RecordId>,
    /// Of the first send; 0 before.
    sequence: (u32, u32),
    pub(super) attempt: u32,
    pub(super) counted: bool,
    pub(super) phase: BatchPhase,
    pub(super) stage: Stage,
    pub(super) lone_failures: u32,
}

#[derive(Clone, Default)]
pub(super) struct QueueModel {
    pub(super) records: BTreeMap<RecordId, ModelRecord>,
    pub(super) open: BTreeMap<BatchId, ModelBatch>,
    appended: u64,
    /// Whether users have shared keys at some time.
    pub(super) shared_since: bool,
}

impl QueueModel {
    /// The reply that an append must give.
    pub(super) fn apply_append(
        &mut self,
        submitter: u32,
        records: &[NewRecord],
        limits: QueueLimits,
    ) -> Result<u64, &'static str> {
        let mut fresh: Vec<NewRecord> = Vec::new();
        for new in records {
            let is_taken = self.records.get(&new.id).is_some_and(|known| known.submitter != submitter);
            let known = self.records.get(&new.id).map(|known| &known.new);
            let known = known.or_else(|| fresh.iter().find(|known| known.id == new.id));
            let content = |new: &NewRecord| (new.record_type.clone(), new.key.clone(), new.payload.clone());
            if new.payload.len() as u64 > limits.max_record_bytes {
                return Err("too large");
            }
            if is_taken {
                return Err("taken");
            }
            match known {
                Some(known) if content(known) == content(new) => {}
                Some(_) => return Err("conflict"),
                None => fresh.push(new.clone()),
            }
        }
        let kept: Vec<&ModelRecord> = self.records.values().filter(|known| known.is_unsettled()).collect();
        let size = |new: &NewRecord| new.payload.len() as u64;
        let exceeds = |kept: &mut dyn Iterator<Item = &&ModelRecord>, share: f64| {
            let kept = kept.map(|known| size(&known.new));
            let sizes: Vec<u64> = kept.chain(fresh.iter().map(size)).collect();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "small numbers"
            )]
            let most = |limit: u64| (limit as f64 * share) as u64;
            let (count, bytes) = (sizes.len() as u64, sizes.iter().sum::<u64>());
            !fresh.is_empty() && (count > most(limits.max_records) || bytes > most(limits.max_bytes))
        };
        if exceeds(&mut kept.iter(), 1.0) {
            return Err("full");
        }
        if exceeds(&mut kept.iter().filter(|known| known.submitter == submitter), limits.user_share) {
            return Err("share full");
        }
        let accepted = fresh.len() as u64;
        for new in fresh {
            self.appended += 1;
            let position = QueuePosition::new(new.priority, self.appended).0;
            let rec = ModelRecord {
                position,
                submitter,
                new,
                state: RecordState::Pending,
                attempts: 0,
                batch: None,
                settled_at: 0,
                receipt: None,
            };
            self.records.insert(rec.new.id, rec);
        }
        Ok(accepted)
    }

    pub(super) fn refusal_name(refused: &AppendRefused) -> &'static str {
        match refused {
            AppendRefused::TooLarge { .. } => "too large",
            AppendRefused::Conflict { .. } => "conflict",
            AppendRefused::Taken { .. } => "taken",
            AppendRefused::Full(LimitReached { is_share: false, .. }) => "full",
            AppendRefused::Full(LimitReached { is_share: true, .. }) => "share full",
            AppendRefused::DiskFull => "disk full",
        }
    }

    /// A claim returned this batch. Failed records in it must have been due.
    pub(super) fn apply_claim(&mut self, batch: &Batch, records: usize, bytes: u64, bench: &QueueBench) {
        assert!(batch.records.len() == 1 || (batch.records.len() <= records && batch.open.bytes <= bytes));
        let members: Vec<RecordId> = batch.records.iter().map(|record| record.id).collect();
        for record in &batch.records {
            let rec = &self.records[&record.id];
            assert!(rec.batch.is_none(), "a record is claimed twice");
            assert!(matches!(rec.state, RecordState::Pending | RecordState::Failed), "{:?}", rec.state);
            assert_eq!((&rec.new.payload, &rec.new.key), (&record.payload, &record.key));
            let entry = bench.find_entry(record.id).unwrap();
            assert_eq!(entry.state, RecordState::Syncing);
        }
        self.check_order(&members, bench.key_space);
        for (earlier, position) in members.iter().zip(1..) {
            let mut later = members[position..].iter().map(|id| &self.records[id]);
            let earlier = &self.records[earlier];
            assert!(later.all(|later| !later.goes_before(earlier, bench.key_space)), "{members:?}");
        }
        let (id, attempt) = (batch.open.id, batch.open.attempt);
        assert_eq!((attempt, batch.sequence.index), (1, 1));
        let sequence = (batch.sequence.index, batch.sequence.total);
        self.open.insert(id, ModelBatch { sequence, ..to_model_batch(&batch.open, members) });
        self.link_members(id);
    }

    /// A claim found nothing: no record could have been sent.
    pub(super) fn check_nothing_claimable(&self, bench: &QueueBench) {
        for rec in self.records.values().filter(|rec| rec.is_unsettled() && rec.batch.is_none()) {
            let first = !self.records.values().any(|other| other.goes_before(rec, bench.key_space));
            let due = match rec.state {
                RecordState::Pending => true,
                RecordState::Failed => {
                    let entry = bench.find_entry(rec.new.id).unwrap();
                    entry.next_attempt_at.is_none_or(|due| due <= bench.now().wall)
                }
                _ => false,
            };
            assert!(!(first && due), "a claim passed over {rec:?}");
        }
    }

    /// No earlier record of a member's lane is unsettled outside of the batch, and no two users have the same key in it.
    fn check_order(&self, members: &[RecordId], key_space: KeySpace) {
        let mut users = BTreeMap::new();
        for member in members.iter().map(|id| &self.records[id]).filter(|_| key_space != KeySpace::Shared) {
            let Some(key) = &member.new.key else { continue };
            let user = users.entry(key).or_insert(member.submitter);
            assert_eq!(*user, member.submitter, "two users have the key {key} in one batch");
        }
        for member in members.iter().map(|id| &self.records[id]) {
            let earlier = self
                .records
                .values()
                .find(|other| other.goes_before(member, key_space) && !members.contains(&other.new.id));
            assert!(earlier.is_none(), "{member:?} goes before {earlier:?}");
        }
    }

    pub(super) fn apply_dispatch(&mut self, id: BatchId, sent: Option<&Batch>, key_space: KeySpace) {
        let mut was = self.open.remove(&id).unwrap();
        let members: Vec<RecordId> =
            sent.map_or_else(Vec::new, |batch| batch.records.iter().map(|record| record.id).collect());
        assert!(members.iter().all(|member| was.members.contains(member)));
        if was.attempt > 0 {
            assert_eq!(members, was.members, "an id that was sent keeps its set");
        }
        for member in &was.members {
            self.records.get_mut(member).unwrap().batch = None;
        }
        let Some(batch) = sent else { return };
        assert_eq!(batch.open.attempt, was.attempt + 1);
        // What was sent before keys were shared keeps its order.
        if was.attempt == 0 || !self.shared_since {
            self.check_order(&members, key_space);
        }
        let sequence = (batch.sequence.index, batch.sequence.total);
        if was.sequence.0 > 0 {
            assert_eq!(sequence, was.sequence, "an id that was sent keeps its sequence");
        }
        let attempt = was.attempt + 1;
        was = ModelBatch { members, sequence, attempt, counted: false, phase: BatchPhase::InFlight, ..was };
        self.open.insert(id, was);
        self.link_members(id);
    }

    /// Marks members as failed. The attempt counts once per send.
    pub(super) fn apply_failure(&mut self, id: BatchId) {
        let batch = self.open.get_mut(&id).unwrap();
        for member in &batch.members {
            let rec = self.records.get_mut(member).unwrap();
            rec.state = RecordState::Failed;
            rec.attempts += u32::from(!batch.counted);
        }
        batch.counted = true;
    }

    pub(super) fn apply_close(
        &mut self,
        id: BatchId,
        outcomes: &[(RecordId, Outcome)],
        missing: &Outcome,
        bench: &QueueBench,
    ) {
        let batch = self.open.remove(&id).unwrap();
        for member in &batch.members {
            let rec = self.records.get_mut(member).unwrap();
            let given = outcomes.iter().find(|(id, _)| id == member).map_or(missing, |(_, given)| given);
            rec.attempts += u32::from(!batch.counted);
            rec.batch = None;
            rec.settled_at = bench.now;
            rec.state = match given {
                Outcome::Synced(receipt) => {
                    rec.receipt.clone_from(receipt);
                    RecordState::Synced
                }
                Outcome::Quarantine(_) => RecordState::Quarantined,
                Outcome::Retry(_) => RecordState::Failed,
            };
        }
    }

    /// One batch was replaced by others with the same records.
    pub(super) fn apply_replacement(&mut self, id: BatchId, opened: &[OpenBatch]) {
        let was = self.open.remove(&id).unwrap();
        let mut members = was.members.iter().copied();
        for part in opened {
            assert_eq!((part.attempt, part.phase, part.parent), (0, BatchPhase::Waiting, Some(id)));
            let own = members.by_ref().take(part.records).collect();
            self.open.insert(part.id, to_model_batch(part, own));
            self.link_members(part.id);
        }
        assert_eq!(members.next(), None, "the parts are the whole");
    }

    /// A person quarantined records. A batch that was sent keeps its set or is disbanded.
    pub(super) fn check_added_to_review(&mut self, ids: &[RecordId], done: &AddToReviewSummary) {
        let mut added = Vec::new();
        let mut refused = Vec::new();
        for id in ids {
            match self.add_to_review(*id) {
                Ok(true) => added.push(*id),
                Ok(false) => {}
                Err(why) => refused.push((*id, why)),
            }
        }
        assert_eq!(done.examined, ids.len());
        assert_eq!(done.added.iter().map(|record| record.id).collect::<Vec<_>>(), added);
        assert_eq!(done.refused, refused);
    }

    fn add_to_review(&mut self, id: RecordId) -> Result<bool, AddRefused> {
        let rec = self.records.get_mut(&id).ok_or(AddRefused::Unknown)?;
        match rec.state {
            RecordState::Synced => return Err(AddRefused::Synced),
            RecordState::Discarded => return Err(AddRefused::Discarded),
            RecordState::Quarantined => return Ok(false),
            _ => {}
        }
        if let Some(batch) = rec.batch {
            let open = self.open.get_mut(&batch).unwrap();
            if open.phase != BatchPhase::Waiting {
                return Err(AddRefused::OutcomePending);
            }
            let leaving: Vec<RecordId> =
                open.members.extract_if(.., |member| open.attempt > 0 || *member == id).collect();
            if open.members.is_empty() {
                self.open.remove(&batch);
            }
            for member in leaving {
                self.records.get_mut(&member).unwrap().batch = None;
            }
        }
        self.records.get_mut(&id).unwrap().state = RecordState::Quarantined;
        Ok(true)
    }

    /// Of a quarantined record, only a receipt is kept.
    pub(super) fn discard(&mut self, id: RecordId, now: u64) {
        let rec = self.records.get_mut(&id).unwrap();
        (rec.state, rec.settled_at) = (RecordState::Discarded, now);
    }

    fn link_members(&mut self, id: BatchId) {
        for member in &self.open[&id].members {
            self.records.get_mut(member).unwrap().batch = Some(id);
        }
    }

    /// Receipts may be removed only when they are old, or when the disk had no room.
    pub(super) fn forget_receipts(&mut self, bench: &QueueBench) {
        let short = bench.disk.as_ref().is_some_and(SimulatedDisk::was_short);
        self.records.retain(|id, rec| {
            let kept = rec.is_unsettled() || bench.find_entry(*id).is_some();
            assert!(
                kept || short || bench.now - rec.settled_at > bench.limits.keep_synced_ms,
                "{rec:?} went early"
            );
            kept
        });
    }

    /// Every acknowledged record is there, in the right state.
    pub(super) fn check_queue(&self, bench: &QueueBench) {
        let queue = bench.queue();
        for (id, rec) in &self.records {
            let entry = bench.find_entry(*id).unwrap_or_else(|| panic!("{rec:?} is lost"));
            let in_flight = rec.batch.is_some_and(|batch| self.open[&batch].phase == BatchPhase::InFlight);
            let state = if in_flight { RecordState::Syncing } else { rec.state };
            assert_eq!((entry.state, entry.attempts), (state, rec.attempts), "{rec:?}");
            assert_eq!((entry.seq, entry.priority), (rec.seq(), rec.new.priority));
            assert_eq!(entry.discarded_by.is_some(), rec.state == RecordState::Discarded, "{rec:?}");
            let payload = bench.with_view(|view| view.read_payload(*id)).map(|(payload, _)| payload);
            assert_eq!(payload, rec.is_unsettled().then(|| rec.new.payload.clone()));
            assert_eq!(bench.with_view(|view| view.receipt_of(&entry)), rec.receipt, "{rec:?}");
            assert!(entry.next_attempt_at.is_none_or(|due| due <= bench.now().wall + HOUR_MS));
        }
        let batches = queue.open_batches();
        assert_eq!(batches.len(), self.open.len());
        for batch in batches {
            let known = &self.open[&batch.id];
            assert_eq!(
                (batch.records, batch.attempt, batch.phase, batch.stage, batch.lone_failures),
                (known.members.len(), known.attempt, known.phase, known.stage, known.lone_failures)
            );
            let row = queue.state().open.get(batch.id.0.as_u128()).unwrap();
            let members: Vec<RecordId> = row.members.iter().map(|member| id(member.id)).collect();
            assert_eq!((row.sequence, &members), (known.sequence, &known.members));
        }
    }

    /// Pages return every record once, in queue order, for every filter.
    pub(super) fn check_pages(&self, bench: &QueueBench) {
        use RecordState::{Discarded, Failed, Pending, Quarantined, Synced, Syncing};
        let states = [Pending, Syncing, Synced, Failed, Quarantined, Discarded].map(Some);
        let states = std::iter::once(None).chain(states);
        let filters = [(None, None), (Some("B"), None), (None, Some(2))];
        let filters = states.flat_map(|state| filters.map(|(kind, by)| (state, kind, by)));
        for (state, record_type, submitter) in filters {
            let mut filter =
                Filter { state, record_type: record_type.map(Into::into), submitter, after: None, limit: 3 };
            let mut found = Vec::new();
            loop {
                let page = bench.with_view(|view| view.list_page(&filter));
                assert!(page.entries.len() <= filter.limit);
                found.extend(page.entries.into_iter().map(|entry| entry.id));
                filter.after = page.next;
                if filter.after.is_none() {
                    break;
                }
            }
            let mut expected: Vec<&ModelRecord> = self
                .records
                .values()
                .filter(|rec| {
                    let flying = rec.batch.is_some_and(|id| self.open[&id].phase == BatchPhase::InFlight);
                    let is = if flying { Syncing } else { rec.state };
                    state.is_none_or(|state| state == is)
                        && record_type.is_none_or(|wanted| wanted == rec.new.record_type)
                        && submitter.is_none_or(|wanted| wanted == rec.submitter)
                })
                .collect();
            expected.sort_by_key(|rec| rec.position);
            let expected: Vec<RecordId> = expected.iter().map(|rec| rec.new.id).collect();
            assert_eq!(found, expected, "{state:?} {record_type:?} {submitter:?}");
        }
    }
}

fn to_model_batch(batch: &OpenBatch, members: Vec<RecordId>) -> ModelBatch {
    ModelBatch {
        members,
        sequence: (0, 0),
        attempt: batch.attempt,
        counted: false,
        phase: batch.phase,
        stage: batch.stage,
        lone_failures: batch.lone_failures,
    }
}
