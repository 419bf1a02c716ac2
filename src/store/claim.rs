//! Taking records from the queue into a batch: the highest priority first, then the first to arrive.
//!
//! Three sources, merged by place: fresh records, found by walking `payload` from the cursors;
//! failed ones that are due; and records that a former claim passed over and that somebody woke.
//! A record is taken together with those that stand before it in its lane, or not at all.

use std::collections::{BTreeSet, HashMap};

use redb::ReadableTable;

use super::error::StoreError;
use super::key_space::Lane;
use super::op::{Op, Transaction};
use super::schema::{BatchRow, DUE_WHEN_UNBLOCKED, MemberRow, StoredPhase, StoredStage, StoredState, seq_of};
use super::state::Cursors;
use crate::model::{Batch, BatchId};
use crate::policy::scheduler::ClaimOrder;
use crate::policy::sizing::Filling;

/// Records that one claim looks at; the next goes on from there.
const CLAIM_SCAN_RECORDS_MAX: usize = 10_000;
/// Failed records that are due of which one claim chooses, at least: those of a whole batch come back together.
const DUE_SCAN_RECORDS_MIN: usize = 1000;

/// Takes records from the queue into a batch.
pub struct Claim {
    order: ClaimOrder,
    /// Known before it is done: repeated, a claim finds what it claimed.
    id: BatchId,
}

impl Claim {
    /// A claim for a new batch.
    pub fn new(order: ClaimOrder) -> Self {
        Self { order, id: BatchId::new() }
    }
}

impl Op for Claim {
    type Reply = Option<Batch>;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.claim_batch(self)
    }
}

/// A record that may be taken.
struct Candidate {
    row: MemberRow,
    record_type: String,
    lane: Option<Lane>,
    /// Its row in `retry`, when it failed.
    due: Option<u64>,
}

/// What a record comes to that is looked at.
enum Availability {
    /// It may be taken.
    Free(Candidate),
    /// Its state, or another batch, keeps it.
    Kept,
    /// Nothing at its place can be read.
    Unreadable,
}

/// How far a draft has come in a lane, so that each of its records is looked at once.
#[derive(Clone, Copy, Default)]
struct LaneProgress {
    /// All before this are taken.
    next: u64,
    /// This one cannot go now, and so nothing behind it can.
    blocked_at: Option<u64>,
}

/// A batch in the making.
struct BatchDraft<'o> {
    order: &'o ClaimOrder,
    filling: Filling<'o>,
    members: Vec<Candidate>,
    positions: BTreeSet<u64>,
    lanes: HashMap<Lane, LaneProgress>,
    cursors: Cursors,
    /// Looked at outside of the walk: failed ones that are due, woken ones, and who comes along.
    waiting: BTreeSet<u64>,
    /// Since when the failed ones of them are due.
    due: HashMap<u64, u64>,
    /// Those of `waiting` that need not be looked at again until somebody wakes them.
    dismissed: Vec<Deferral>,
    looked_at: usize,
}

enum Deferral {
    /// An earlier one of its lane holds it.
    Held { lane: Lane, position: u64, id: u128, due: Option<u64> },
    /// It stands in a lane, and nothing at its place can be read.
    Unreadable { lane: Lane, position: u64 },
    /// Nothing at this place can be sent; its row in `retry`, if it has one, would be due for ever.
    Stray { position: u64, due: Option<u64> },
}

#[derive(PartialEq)]
enum DraftStep {
    Done,
    /// It would be next, but the batch is full.
    Full,
}

impl BatchDraft<'_> {
    /// Takes it, if there is room.
    fn add_candidate(&mut self, candidate: Candidate) -> bool {
        let fits = self.filling.admit(&candidate.record_type, u64::from(candidate.row.bytes));
        if fits {
            self.positions.insert(candidate.row.position);
            if let Some(lane) = &candidate.lane {
                self.lane_progress(lane).next = seq_of(candidate.row.position) + 1;
            }
            self.members.push(candidate);
        }
        fits
    }

    fn lane_progress(&mut self, lane: &Lane) -> &mut LaneProgress {
        self.lanes.entry(lane.clone()).or_default()
    }

    /// In queue order, save that records of one lane stand in the order of their arrival.
    fn into_send_order(mut self) -> (Vec<MemberRow>, Vec<Candidate>) {
        self.members.sort_by_key(|member| member.row.position);
        let mut lanes: HashMap<&Lane, Vec<u64>> = HashMap::new();
        for member in &self.members {
            if let Some(lane) = &member.lane {
                lanes.entry(lane).or_default().push(member.row.position);
            }
        }
        for positions in lanes.values_mut() {
            positions.sort_by_key(|position| std::cmp::Reverse(crate::model::QueuePosition(*position).seq()));
        }
        let by_position: HashMap<u64, &MemberRow> =
            self.members.iter().map(|member| (member.row.position, &member.row)).collect();
        let rows = self.members.iter().map(|member| {
            let own = member.lane.as_ref().and_then(|lane| lanes.get_mut(lane)).and_then(Vec::pop);
            own.and_then(|position| by_position.get(&position).copied()).unwrap_or(&member.row).clone()
        });
        let rows = rows.collect();
        (rows, self.members)
    }
}

impl Transaction<'_, '_> {
    pub(super) fn claim_batch(&mut self, claim: &Claim) -> Result<Option<Batch>, StoreError> {
        let (order, id) = (&claim.order, claim.id.0.as_u128());
        if let Some(row) = self.state.open.get(id)
            && let Ok(batch) = self.load_batch(id, row)?
        {
            return Ok(Some(batch));
        }
        loop {
            let draft = self.draft_batch(order)?;
            self.state.cursors = draft.cursors.clone();
            self.apply_deferrals(&draft.dismissed)?;
            if draft.members.is_empty() {
                return Ok(None);
            }
            let rule = draft.filling.rule().into();
            let (members, taken) = draft.into_send_order();
            let row = BatchRow {
                parent: None,
                stage: StoredStage::Fresh,
                rule,
                phase: StoredPhase::InFlight,
                sequence: (order.sequence.index, order.sequence.total),
                attempt: 1,
                lone_failures: 0,
                counted: false,
                bytes: members.iter().map(|member| u64::from(member.bytes)).sum(),
                members,
            };
            let batch = match self.load_batch(id, &row)? {
                Ok(batch) => batch,
                Err(unsendable) => {
                    // Set aside, and not of the next draft; the others stay where they were.
                    for member in &row.members {
                        self.state.wake_record(member.position);
                    }
                    self.quarantine_unsendable(&row, &unsendable)?;
                    continue;
                }
            };
            for candidate in taken {
                self.state.woken.remove(&candidate.row.position);
                self.state.urgent.remove_record(candidate.row.position);
                if let Some(due) = candidate.due {
                    self.tables.retry.remove((due, candidate.row.position))?;
                }
            }
            self.save_batch(id, row)?;
            return Ok(Some(batch));
        }
    }

    /// Chooses; changes nothing.
    fn draft_batch<'o>(&self, order: &'o ClaimOrder) -> Result<BatchDraft<'o>, StoreError> {
        let mut draft = BatchDraft {
            order,
            filling: order.limit.filling(),
            members: Vec::new(),
            positions: BTreeSet::new(),
            lanes: HashMap::new(),
            cursors: self.state.cursors.clone(),
            waiting: self.state.woken.clone(),
            due: HashMap::new(),
            dismissed: Vec::new(),
            looked_at: 0,
        };
        let due_scan = DUE_SCAN_RECORDS_MIN.max(order.limit.records);
        for item in self.tables.retry.range(..=(self.now.steady, u64::MAX))?.take(due_scan) {
            let (due, position) = item?.0.value();
            draft.waiting.insert(position);
            draft.due.insert(position, due);
        }
        self.add_urgent_records(&mut draft)?;
        for range in self.state.cursors.remaining_ranges() {
            let end = range.end;
            let mut walk = self.tables.payload.range(range)?.peekable();
            loop {
                let fresh = match walk.peek() {
                    Some(Ok((position, _))) => Some(position.value()),
                    Some(Err(_)) => return Err(first_error(walk)),
                    None => None,
                };
                let waiting = draft.waiting.first().copied().filter(|position| *position < end);
                let Some(position) = fresh.into_iter().chain(waiting).min() else {
                    break;
                };
                if draft.looked_at >= CLAIM_SCAN_RECORDS_MAX
                    || self.consider_record(position, &mut draft)? == DraftStep::Full
                {
                    return Ok(draft);
                }
                draft.looked_at += 1;
                draft.waiting.remove(&position);
                if fresh == Some(position) {
                    draft.cursors.mark_passed(position);
                    walk.next();
                }
            }
        }
        draft.cursors.dry = true;
        Ok(draft)
    }

    /// A lane moves when its head is due: its most urgent record is looked at then, too.
    fn add_urgent_records(&self, draft: &mut BatchDraft<'_>) -> Result<(), StoreError> {
        if self.state.urgent.is_empty() {
            return Ok(());
        }
        for position in draft.due.keys() {
            let lane = self.lane_of_record(*position)?;
            draft.waiting.extend(lane.and_then(|lane| self.state.urgent.most_urgent(&lane)));
        }
        Ok(())
    }

    /// Takes the record at a place, with those before it in its lane, if all of them are free to go.
    fn consider_record(&self, position: u64, draft: &mut BatchDraft<'_>) -> Result<DraftStep, StoreError> {
        if draft.positions.contains(&position) || self.state.open.batch_of(position).is_some() {
            return Ok(DraftStep::Done);
        }
        let Availability::Free(candidate) = self.availability_of(position)? else {
            let due = draft.due.get(&position).copied();
            draft.dismissed.push(Deferral::Stray { position, due });
            return Ok(DraftStep::Done);
        };
        let mut chain = Vec::new();
        if let Some(lane) = &candidate.lane
            && !self.collect_predecessors(lane, position, &mut chain, draft)?
        {
            let (lane, id, due) = (lane.clone(), candidate.row.id, candidate.due);
            draft.dismissed.push(Deferral::Held { lane, position, id, due });
            return Ok(DraftStep::Done);
        }
        chain.push(candidate);
        for member in chain {
            let (lane, position) = (member.lane.clone(), member.row.position);
            if !draft.add_candidate(member) {
                return Ok(DraftStep::Full);
            }
            // Whoever stands behind it and was passed over may come along, and must, before any later one does.
            if let Some(lane) = lane
                && let Some(behind) = self.successor_of(&lane, position)?
                && draft.cursors.has_passed(behind)
            {
                draft.waiting.insert(behind);
            }
        }
        Ok(DraftStep::Done)
    }

    /// The records before this one in its lane that the draft does not have yet, as many as it may take;
    /// false when one of them cannot go now.
    fn collect_predecessors(
        &self,
        lane: &Lane,
        position: u64,
        chain: &mut Vec<Candidate>,
        draft: &mut BatchDraft<'_>,
    ) -> Result<bool, StoreError> {
        let LaneProgress { next, blocked_at } = *draft.lane_progress(lane);
        if blocked_at.is_some_and(|blocked_at| blocked_at < seq_of(position)) {
            return Ok(false);
        }
        for earlier in self.predecessors(lane, next, position)? {
            let earlier = earlier?;
            draft.looked_at += 1;
            match self.availability_of(earlier)? {
                Availability::Free(earlier) => chain.push(earlier),
                Availability::Unreadable => {
                    draft.dismissed.push(Deferral::Unreadable { lane: lane.clone(), position: earlier });
                }
                Availability::Kept => {
                    draft.lane_progress(lane).blocked_at = Some(seq_of(earlier));
                    return Ok(false);
                }
            }
            if chain.len() > draft.order.limit.records {
                break;
            }
        }
        Ok(true)
    }

    /// Whether the record at a place may go: fresh, or failed and due, or failed and held until now.
    fn availability_of(&self, position: u64) -> Result<Availability, StoreError> {
        if self.state.open.batch_of(position).is_some() {
            return Ok(Availability::Kept);
        }
        let Some(header) = self.readable_header(position)? else {
            let reviewed = self.tables.quarantine.get(position)?.is_some();
            return Ok(if reviewed { Availability::Kept } else { Availability::Unreadable });
        };
        let Some(row) = self.manifest_row(header.id)? else { return Ok(Availability::Unreadable) };
        let due = match row.state {
            StoredState::Pending => None,
            StoredState::Failed if row.due_at.is_none_or(|due| due <= self.now.steady) => {
                Some(row.due_at.unwrap_or(DUE_WHEN_UNBLOCKED))
            }
            StoredState::Failed | StoredState::Quarantined | StoredState::Synced => {
                return Ok(Availability::Kept);
            }
        };
        let lane = header.lane_in(self.state.key_space);
        let row = MemberRow { position, id: header.id, bytes: header.bytes, failed: due.is_some() };
        Ok(Availability::Free(Candidate { row, record_type: header.record_type, lane, due }))
    }

    fn apply_deferrals(&mut self, dismissed: &[Deferral]) -> Result<(), StoreError> {
        for dismissed in dismissed {
            match *dismissed {
                Deferral::Held { ref lane, position, id, due } => {
                    self.state.woken.remove(&position);
                    self.note_urgent(lane, position)?;
                    if let Some(due) = due.filter(|due| *due != DUE_WHEN_UNBLOCKED) {
                        self.reschedule_retry(id, position, due, DUE_WHEN_UNBLOCKED)?;
                    }
                }
                Deferral::Unreadable { ref lane, position } => self.drop_from_lane(lane, position)?,
                Deferral::Stray { position, due } => {
                    self.state.woken.remove(&position);
                    if let Some(due) = due {
                        self.state.waits_changed = true;
                        self.tables.retry.remove((due, position))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn first_error<T>(mut walk: impl Iterator<Item = Result<T, redb::StorageError>>) -> StoreError {
    let error = walk.find_map(Result::err);
    error.map_or(StoreError::Inconsistent("a walk failed and did not say why"), StoreError::from)
}
