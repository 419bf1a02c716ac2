//! Claims records from the queue for a batch: by priority, then by arrival.
//!
//! Candidates come from three sources, merged by position: fresh records, which a walk through `payload` finds; failed
//! records that are due; and woken records, which an earlier claim passed over. A record is taken together with
//! its predecessors in its lane, or not at all.

use redb::ReadableTable;

use super::batch_draft::{BatchDraft, Candidate, DeferredRecord, DraftStep, LaneProgress};
use super::error::StoreError;
use super::key_space::Lane;
use super::op::{Op, Transaction};
use super::schema::{BatchRow, DUE_WHEN_UNBLOCKED, MemberRow, StoredPhase, StoredStage, StoredState, seq_of};
use crate::model::{Batch, BatchId};
use crate::policy::scheduler::ClaimOrder;

/// Records that one claim examines. The next claim continues there.
const CLAIM_SCAN_RECORDS_MAX: usize = 10_000;
/// Due records to choose from, at least: the records of a failed batch are due together.
const DUE_SCAN_RECORDS_MIN: usize = 1000;

/// Claims records from the queue for a batch.
pub struct Claim {
    order: ClaimOrder,
    /// Chosen in advance, so that a repeated claim finds its batch.
    id: BatchId,
}

impl Claim {
    /// A claim with a new batch id.
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

/// Whether a record may be sent.
enum Availability {
    /// It may be sent.
    Sendable(Candidate),
    /// Its state or another batch prevents it.
    Blocked,
    /// Its payload or manifest row cannot be read.
    Unreadable,
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
            self.apply_deferrals(&draft.deferrals)?;
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
                    // Unsendable members are handled and not drafted again. The others stay where they are.
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

    /// Chooses the members. Changes nothing.
    fn draft_batch<'o>(&self, order: &'o ClaimOrder) -> Result<BatchDraft<'o>, StoreError> {
        let mut draft = BatchDraft::new(order, self.state.cursors.clone(), self.state.woken.clone());
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
                if draft.examined >= CLAIM_SCAN_RECORDS_MAX
                    || self.consider_record(position, &mut draft)? == DraftStep::Full
                {
                    return Ok(draft);
                }
                draft.examined += 1;
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

    /// When the head of a lane is due, its most urgent record becomes a candidate too.
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

    /// Adds the record at a position together with its predecessors, if all of them may be sent.
    fn consider_record(&self, position: u64, draft: &mut BatchDraft<'_>) -> Result<DraftStep, StoreError> {
        if draft.positions.contains(&position) || self.state.open.batch_of(position).is_some() {
            return Ok(DraftStep::Done);
        }
        let Availability::Sendable(candidate) = self.availability_of(position)? else {
            let due = draft.due.get(&position).copied();
            draft.deferrals.push(DeferredRecord::Unsendable { position, due });
            return Ok(DraftStep::Done);
        };
        if let Some(lane) = candidate.lane.as_ref().filter(|lane| draft.has_key_elsewhere(lane)) {
            draft.pass_over(lane, position);
            return Ok(DraftStep::Done);
        }
        let mut predecessors = Vec::new();
        if let Some(lane) = &candidate.lane
            && !self.collect_predecessors(lane, position, &mut predecessors, draft)?
        {
            draft.deferrals.push(candidate.block(lane));
            return Ok(DraftStep::Done);
        }
        let mut blocked = None;
        match &candidate.lane {
            // Only the head of the lane goes now, and the candidate follows.
            Some(lane) if draft.order.one_per_key && !predecessors.is_empty() => {
                predecessors.truncate(1);
                blocked = Some(candidate.block(lane));
            }
            _ => predecessors.push(candidate),
        }
        for member in predecessors {
            let (lane, position) = (member.lane.clone(), member.row.position);
            if !draft.add_candidate(member) {
                return Ok(DraftStep::Full);
            }
            // A successor that was passed over may join the batch, and must do so before any later one.
            if let Some(lane) = lane
                && let Some(behind) = self.successor_of(&lane, position)?
                && draft.cursors.has_passed(behind)
            {
                draft.waiting.insert(behind);
            }
        }
        draft.deferrals.extend(blocked);
        Ok(DraftStep::Done)
    }

    /// Collects the predecessors in the lane that the draft lacks, up to the size of a batch. False when one of them
    /// cannot be sent now.
    fn collect_predecessors(
        &self,
        lane: &Lane,
        position: u64,
        predecessors: &mut Vec<Candidate>,
        draft: &mut BatchDraft<'_>,
    ) -> Result<bool, StoreError> {
        let LaneProgress { next, blocked_at, .. } = *draft.lane_progress(lane);
        if blocked_at.is_some_and(|blocked_at| blocked_at < seq_of(position)) {
            return Ok(false);
        }
        for earlier in self.predecessors(lane, next, position)? {
            let earlier = earlier?;
            draft.examined += 1;
            match self.availability_of(earlier)? {
                Availability::Sendable(earlier) => predecessors.push(earlier),
                Availability::Unreadable => {
                    draft
                        .deferrals
                        .push(DeferredRecord::Unreadable { lane: lane.clone(), position: earlier });
                }
                Availability::Blocked => {
                    draft.lane_progress(lane).blocked_at = Some(seq_of(earlier));
                    return Ok(false);
                }
            }
            if predecessors.len() > draft.order.limit.records
                || (draft.order.one_per_key && !predecessors.is_empty())
            {
                break;
            }
        }
        Ok(true)
    }

    /// Whether the record at a position may be sent: it is fresh, failed and due, or failed and no longer blocked.
    fn availability_of(&self, position: u64) -> Result<Availability, StoreError> {
        if self.state.open.batch_of(position).is_some() {
            return Ok(Availability::Blocked);
        }
        let Some(header) = self.readable_header(position)? else {
            let reviewed = self.tables.quarantine.get(position)?.is_some();
            return Ok(if reviewed { Availability::Blocked } else { Availability::Unreadable });
        };
        let Some(row) = self.manifest_row(header.id)? else { return Ok(Availability::Unreadable) };
        let due = match row.state {
            StoredState::Pending => None,
            StoredState::Failed if row.due_at.is_none_or(|due| due <= self.now.steady) => {
                Some(row.due_at.unwrap_or(DUE_WHEN_UNBLOCKED))
            }
            StoredState::Failed | StoredState::Quarantined | StoredState::Synced | StoredState::Discarded => {
                return Ok(Availability::Blocked);
            }
        };
        let lane = header.lane_in(self.state.key_space);
        let row = MemberRow { position, id: header.id, bytes: header.bytes, failed: due.is_some() };
        Ok(Availability::Sendable(Candidate { row, record_type: header.record_type, lane, due }))
    }

    fn apply_deferrals(&mut self, deferrals: &[DeferredRecord]) -> Result<(), StoreError> {
        for deferrals in deferrals {
            match *deferrals {
                DeferredRecord::Blocked { ref lane, position, id, due } => {
                    self.state.woken.remove(&position);
                    self.note_urgent(lane, position)?;
                    if let Some(due) = due.filter(|due| *due != DUE_WHEN_UNBLOCKED) {
                        self.reschedule_retry(id, position, due, DUE_WHEN_UNBLOCKED)?;
                    }
                }
                DeferredRecord::SameKey { position } => self.state.wake_record(position),
                DeferredRecord::Unreadable { ref lane, position } => self.drop_from_lane(lane, position)?,
                DeferredRecord::Unsendable { position, due } => {
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
    error.map_or(
        StoreError::Inconsistent("a walk through the queue failed without an error"),
        StoreError::from,
    )
}
