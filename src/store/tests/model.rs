//! The queue as a plain map: what each operation must do, without any table, index or cursor.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::support::{Bench, HOUR, id};
use crate::model::{Batch, BatchId, BatchPhase, NewRecord, OpenBatch, Place, RecordId, RecordState, Stage};
use crate::policy::agenda::Outcome;
use crate::store::{AddRefused, AddedToReview, AppendRefused, Filter, Limits};

#[derive(Clone, Debug)]
pub(super) struct Rec {
    pub(super) place: u64,
    pub(super) new: NewRecord,
    pub(super) state: RecordState,
    pub(super) attempts: u32,
    pub(super) batch: Option<BatchId>,
    /// Steady time at which it was synced.
    synced_at: u64,
}

impl Rec {
    fn seq(&self) -> u64 {
        Place(self.place).seq()
    }

    pub(super) fn unfinished(&self) -> bool {
        self.state != RecordState::Synced
    }
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    /// In the order in which they are sent.
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
pub(super) struct Model {
    pub(super) records: BTreeMap<RecordId, Rec>,
    pub(super) open: BTreeMap<BatchId, Open>,
    appended: u64,
}

impl Model {
    /// What an append must answer; `None` when it is refused.
    pub(super) fn append(&mut self, records: &[NewRecord], limits: Limits) -> Result<u64, &'static str> {
        let mut fresh: Vec<NewRecord> = Vec::new();
        for new in records {
            let known = self.records.get(&new.id).map(|known| &known.new);
            let known = known.or_else(|| fresh.iter().find(|known| known.id == new.id));
            let content = |new: &NewRecord| (new.record_type.clone(), new.key.clone(), new.payload.clone());
            if new.payload.len() as u64 > limits.max_record_bytes {
                return Err("too large");
            }
            match known {
                Some(known) if content(known) == content(new) => {}
                Some(_) => return Err("conflict"),
                None => fresh.push(new.clone()),
            }
        }
        let kept = || self.records.values().filter(|known| known.unfinished()).map(|known| &known.new);
        let count = kept().chain(&fresh).count() as u64;
        let bytes: u64 = kept().chain(&fresh).map(|new| new.payload.len() as u64).sum();
        if !fresh.is_empty() && (count > limits.max_records || bytes > limits.max_bytes) {
            return Err("full");
        }
        let accepted = fresh.len() as u64;
        for new in fresh {
            self.appended += 1;
            let place = Place::new(new.priority, self.appended).0;
            let rec = Rec { place, new, state: RecordState::Pending, attempts: 0, batch: None, synced_at: 0 };
            self.records.insert(rec.new.id, rec);
        }
        Ok(accepted)
    }

    pub(super) fn refusal(refused: &AppendRefused) -> &'static str {
        match refused {
            AppendRefused::TooLarge { .. } => "too large",
            AppendRefused::Conflict { .. } => "conflict",
            AppendRefused::Full { .. } => "full",
            AppendRefused::DiskFull => "disk full",
        }
    }

    /// A claim found this; `failed` records among it must have been due.
    pub(super) fn claimed(&mut self, batch: &Batch, records: usize, bytes: u64, bench: &Bench) {
        assert!(batch.records.len() == 1 || (batch.records.len() <= records && batch.open.bytes <= bytes));
        let members: Vec<RecordId> = batch.records.iter().map(|record| record.id).collect();
        for record in &batch.records {
            let rec = &self.records[&record.id];
            assert!(rec.batch.is_none(), "a record is claimed twice");
            assert!(matches!(rec.state, RecordState::Pending | RecordState::Failed), "{:?}", rec.state);
            assert_eq!((&rec.new.payload, &rec.new.key), (&record.payload, &record.key));
            let entry = bench.entry(record.id).unwrap();
            assert_eq!(entry.state, RecordState::Syncing);
        }
        self.check_order(&members);
        let (id, attempt) = (batch.open.id, batch.open.attempt);
        assert_eq!((attempt, batch.sequence.index), (1, 1));
        let sequence = (batch.sequence.index, batch.sequence.total);
        self.open.insert(id, Open { sequence, ..open(&batch.open, members) });
        self.link(id);
    }

    /// Nothing that could go was left behind by a claim that found nothing.
    pub(super) fn nothing_to_claim(&self, bench: &Bench) {
        for rec in self.records.values().filter(|rec| rec.unfinished() && rec.batch.is_none()) {
            let first = rec.new.key.is_none()
                || !self.records.values().any(|other| {
                    other.unfinished() && other.new.key == rec.new.key && other.seq() < rec.seq()
                });
            let due = match rec.state {
                RecordState::Pending => true,
                RecordState::Failed => {
                    let entry = bench.entry(rec.new.id).unwrap();
                    entry.next_attempt_at.is_none_or(|due| due <= bench.now().wall)
                }
                _ => false,
            };
            assert!(!(first && due), "a claim passed over {rec:?}");
        }
    }

    /// No earlier record of a member's key is unfinished outside of the batch.
    fn check_order(&self, members: &[RecordId]) {
        for member in members.iter().map(|id| &self.records[id]).filter(|member| member.new.key.is_some()) {
            let earlier = self.records.values().find(|other| {
                other.unfinished()
                    && other.new.key == member.new.key
                    && other.seq() < member.seq()
                    && !members.contains(&other.new.id)
            });
            assert!(earlier.is_none(), "{member:?} goes before {earlier:?}");
        }
    }

    pub(super) fn dispatched(&mut self, id: BatchId, sent: Option<&Batch>) {
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
        self.check_order(&members);
        let sequence = (batch.sequence.index, batch.sequence.total);
        if was.sequence.0 > 0 {
            assert_eq!(sequence, was.sequence, "an id that was sent keeps its sequence");
        }
        let attempt = was.attempt + 1;
        was = Open { members, sequence, attempt, counted: false, phase: BatchPhase::InFlight, ..was };
        self.open.insert(id, was);
        self.link(id);
    }

    /// Members fail with an attempt that is counted once a send.
    pub(super) fn failed(&mut self, id: BatchId) {
        let batch = self.open.get_mut(&id).unwrap();
        for member in &batch.members {
            let rec = self.records.get_mut(member).unwrap();
            rec.state = RecordState::Failed;
            rec.attempts += u32::from(!batch.counted);
        }
        batch.counted = true;
    }

    pub(super) fn closed(
        &mut self,
        id: BatchId,
        outcomes: &[(RecordId, Outcome)],
        missing: &Outcome,
        bench: &Bench,
    ) {
        let batch = self.open.remove(&id).unwrap();
        for member in &batch.members {
            let rec = self.records.get_mut(member).unwrap();
            let given = outcomes.iter().find(|(id, _)| id == member).map_or(missing, |(_, given)| given);
            rec.attempts += u32::from(!batch.counted);
            rec.batch = None;
            rec.synced_at = bench.now;
            rec.state = match given {
                Outcome::Synced => RecordState::Synced,
                Outcome::Quarantine(_) => RecordState::Quarantined,
                Outcome::Retry(_) => RecordState::Failed,
            };
        }
    }

    /// One batch went, these came in its place, with the same records.
    pub(super) fn replaced(&mut self, id: BatchId, opened: &[OpenBatch]) {
        let was = self.open.remove(&id).unwrap();
        let mut members = was.members.iter().copied();
        for part in opened {
            assert_eq!((part.attempt, part.phase, part.parent), (0, BatchPhase::Waiting, Some(id)));
            let own = members.by_ref().take(part.records).collect();
            self.open.insert(part.id, open(part, own));
            self.link(part.id);
        }
        assert_eq!(members.next(), None, "the parts are the whole");
    }

    /// A person puts records under review. A batch that was sent keeps its set, or is no more.
    pub(super) fn added_to_review(&mut self, ids: &[RecordId], done: &AddedToReview) {
        let mut added = Vec::new();
        let mut refused = Vec::new();
        for id in ids {
            match self.add_to_review(*id) {
                Ok(true) => added.push(*id),
                Ok(false) => {}
                Err(why) => refused.push((*id, why)),
            }
        }
        assert_eq!(done.looked_at, ids.len());
        assert_eq!(done.added.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), added);
        assert_eq!(done.refused, refused);
    }

    fn add_to_review(&mut self, id: RecordId) -> Result<bool, AddRefused> {
        let rec = self.records.get_mut(&id).ok_or(AddRefused::Unknown)?;
        match rec.state {
            RecordState::Synced => return Err(AddRefused::Synced),
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

    fn link(&mut self, id: BatchId) {
        for member in &self.open[&id].members {
            self.records.get_mut(member).unwrap().batch = Some(id);
        }
    }

    /// Receipts may be forgotten once they are old, and not before, unless the disk had no room.
    pub(super) fn forget_receipts(&mut self, bench: &Bench) {
        let short = bench.disk.as_ref().is_some_and(Disk::was_short);
        self.records.retain(|id, rec| {
            let kept = rec.state != RecordState::Synced || bench.entry(*id).is_some();
            assert!(
                kept || short || bench.now - rec.synced_at > bench.limits.keep_synced_ms,
                "{rec:?} went early"
            );
            kept
        });
    }

    /// Everything that was acknowledged is there, in the state that it must be in.
    pub(super) fn check(&self, bench: &Bench) {
        let queue = bench.queue();
        for (id, rec) in &self.records {
            let entry = bench.entry(*id).unwrap_or_else(|| panic!("{rec:?} is lost"));
            let in_flight = rec.batch.is_some_and(|batch| self.open[&batch].phase == BatchPhase::InFlight);
            let state = if in_flight { RecordState::Syncing } else { rec.state };
            assert_eq!((entry.state, entry.attempts), (state, rec.attempts), "{rec:?}");
            assert_eq!((entry.seq, entry.priority), (rec.seq(), rec.new.priority));
            let payload = bench.look(|view| view.payload(*id)).map(|(payload, _)| payload);
            assert_eq!(payload, rec.unfinished().then(|| rec.new.payload.clone()));
            assert!(entry.next_attempt_at.is_none_or(|due| due <= bench.now().wall + HOUR));
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

    /// A walk by pages returns every record once, in queue order, for every filter.
    pub(super) fn check_pages(&self, bench: &Bench) {
        use RecordState::{Failed, Pending, Quarantined, Synced, Syncing};
        let states = [None, Some(Pending), Some(Syncing), Some(Synced), Some(Failed), Some(Quarantined)];
        for (state, record_type) in states.into_iter().flat_map(|state| [(state, None), (state, Some("B"))]) {
            let record_type_wanted = record_type.map(Into::into);
            let mut filter = Filter { state, record_type: record_type_wanted, limit: 3, ..Filter::default() };
            let mut found = Vec::new();
            loop {
                let page = bench.look(|view| view.page(&filter));
                assert!(page.entries.len() <= filter.limit);
                found.extend(page.entries.into_iter().map(|entry| entry.id));
                filter.after = page.next;
                if filter.after.is_none() {
                    break;
                }
            }
            let mut expected: Vec<&Rec> = self
                .records
                .values()
                .filter(|rec| {
                    let flying = rec.batch.is_some_and(|id| self.open[&id].phase == BatchPhase::InFlight);
                    let is = if flying { Syncing } else { rec.state };
                    state.is_none_or(|state| state == is)
                        && record_type.is_none_or(|wanted| wanted == rec.new.record_type)
                })
                .collect();
            expected.sort_by_key(|rec| rec.place);
            let expected: Vec<RecordId> = expected.iter().map(|rec| rec.new.id).collect();
            assert_eq!(found, expected, "{state:?} {record_type:?}");
        }
    }
}

fn open(batch: &OpenBatch, members: Vec<RecordId>) -> Open {
    Open {
        members,
        sequence: (0, 0),
        attempt: batch.attempt,
        counted: false,
        phase: batch.phase,
        stage: batch.stage,
        lone_failures: batch.lone_failures,
    }
}
