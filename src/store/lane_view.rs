//! Finds the records that block later records of their key, and counts those, in a snapshot.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::body;
use super::error::StoreError;
use super::key_space::{KeySpace, Lane};
use super::open_batches::OpenBatches;
use super::schema::{ManifestRow, RecordHeader, Snapshot, StoredState, manifest_row, seq_of};
use crate::model::{Blocker, RecordId, RecordState};

/// Successors of a blocking record to count. This number stands for "at least so many".
pub(super) const COUNTED_SUCCESSORS_MAX: usize = 1000;
/// Blocking records that a status names.
pub(super) const NAMED_BLOCKERS_MAX: usize = 10;
/// Records in each of quarantine, `retry` and open batches to examine for blocking ones.
const BLOCKER_SCAN_RECORDS_MAX: usize = 100;
#[cfg(test)]
thread_local! {
    /// Records of lanes that were examined one by one.
    pub(super) static LANE_STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn count_lane_step() {
    #[cfg(test)]
    LANE_STEPS.set(LANE_STEPS.get() + 1);
}

/// The state in which a record blocks its successors; none if it does not block them.
pub(super) fn blocking_state(open: &OpenBatches, stored: StoredState, position: u64) -> Option<RecordState> {
    match stored {
        StoredState::Failed if open.is_in_flight(position) => Some(RecordState::Syncing),
        StoredState::Failed => Some(RecordState::Failed),
        StoredState::Quarantined => Some(RecordState::Quarantined),
        StoredState::Pending | StoredState::Synced | StoredState::Discarded => None,
    }
}

/// The blocking record as people see it; none if it blocks no other.
pub(super) fn to_blocker(header: RecordHeader, state: RecordState, blocked_count: u64) -> Option<Blocker> {
    let (id, submitter) = (RecordId(Uuid::from_u128(header.id)), header.submitter);
    let key = Some(header.key?);
    Some(Blocker { id, key, submitter, state, blocked_count }).filter(|_| blocked_count > 0)
}

/// Answers which record blocks which, for one read of the manifest. Reads the head of each lane once and counts each
/// successor once, however many records of the lane are shown.
pub(super) struct LaneView<'s> {
    snapshot: &'s Snapshot,
    open: &'s OpenBatches,
    key_space: KeySpace,
    /// The head of each lane, if it blocks the others.
    heads: HashMap<Lane, Option<BlockingHead>>,
    windows: HashMap<Lane, LaneWindow>,
    steps: usize,
}

/// The first record of a lane, which failed or is quarantined.
#[derive(Clone, Copy)]
struct BlockingHead {
    seq: u64,
    id: RecordId,
    state: RecordState,
}

/// The successors of the record of a lane that was counted last.
#[derive(Default)]
struct LaneWindow {
    counted_from: u64,
    seqs: VecDeque<u64>,
}

impl<'s> LaneView<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, open: &'s OpenBatches, key_space: KeySpace) -> Self {
        Self { snapshot, open, key_space, heads: HashMap::new(), windows: HashMap::new(), steps: 0 }
    }

    /// Records that were counted so far.
    pub(super) fn steps_taken(&self) -> usize {
        self.steps
    }

    /// The record that blocks this one: the head of its lane, if that failed or is quarantined.
    pub(super) fn blocked_by(&mut self, row: &ManifestRow) -> Result<Option<RecordId>, StoreError> {
        let Some(lane) = row.lane_in(self.key_space) else { return Ok(None) };
        let head = self.blocking_head(&lane)?;
        Ok(head.filter(|head| head.seq < seq_of(row.position)).map(|head| head.id))
    }

    fn blocking_head(&mut self, lane: &Lane) -> Result<Option<BlockingHead>, StoreError> {
        if let Some(known) = self.heads.get(lane) {
            return Ok(*known);
        }
        let head = self.read_blocking_head(lane)?;
        self.heads.insert(lane.clone(), head);
        Ok(head)
    }

    fn read_blocking_head(&self, lane: &Lane) -> Result<Option<BlockingHead>, StoreError> {
        let head = self.snapshot.lanes.range(lane.positions_from(0))?.next().transpose()?;
        let Some(head) = head.map(|(_, position)| position.value()) else { return Ok(None) };
        let Ok(Some(header)) = body::read_header(&self.snapshot.payload, head) else { return Ok(None) };
        let row = manifest_row(&self.snapshot.manifest, header.id)?;
        let state = row.and_then(|row| blocking_state(self.open, row.state, head));
        let id = RecordId(Uuid::from_u128(header.id));
        Ok(state.map(|state| BlockingHead { seq: seq_of(head), id, state }))
    }

    /// How many records of its lane follow this one, up to a limit.
    pub(super) fn blocked_count(&mut self, row: &ManifestRow) -> Result<u64, StoreError> {
        let lane = row.lane_in(self.key_space);
        lane.map_or(Ok(0), |lane| self.count_successors(&lane, seq_of(row.position)))
    }

    fn count_successors(&mut self, lane: &Lane, seq: u64) -> Result<u64, StoreError> {
        let window = self.windows.entry(lane.clone()).or_default();
        if seq < window.counted_from {
            window.seqs.clear();
        }
        window.counted_from = seq;
        while window.seqs.front().is_some_and(|first| *first <= seq) {
            window.seqs.pop_front();
        }
        let from = window.seqs.back().copied().unwrap_or(seq) + 1;
        let missing = COUNTED_SUCCESSORS_MAX - window.seqs.len();
        for item in self.snapshot.lanes.range(lane.positions_from(from))?.take(missing) {
            window.seqs.push_back(item?.0.value().2);
            self.steps += 1;
            count_lane_step();
        }
        Ok(window.seqs.len() as u64)
    }

    /// The record at this position, if it is the head of its lane and blocks others.
    fn blocker_at(&mut self, position: u64) -> Result<Option<Blocker>, StoreError> {
        let Ok(Some(header)) = body::read_header(&self.snapshot.payload, position) else { return Ok(None) };
        let Some(lane) = header.lane_in(self.key_space) else { return Ok(None) };
        let Some(BlockingHead { state, .. }) =
            self.blocking_head(&lane)?.filter(|head| head.seq == seq_of(position))
        else {
            return Ok(None);
        };
        let blocked_count = self.count_successors(&lane, seq_of(position))?;
        Ok(to_blocker(header, state, blocked_count))
    }
}

/// The first records that block others.
pub(super) fn find_blockers(
    snapshot: &Snapshot,
    open: &OpenBatches,
    key_space: KeySpace,
) -> Result<Vec<Blocker>, StoreError> {
    let mut positions = Vec::new();
    for item in snapshot.quarantine.range::<u64>(..)?.take(BLOCKER_SCAN_RECORDS_MAX) {
        positions.push(item?.0.value());
    }
    for item in snapshot.retry.range::<(u64, u64)>(..)?.take(BLOCKER_SCAN_RECORDS_MAX) {
        positions.push(item?.0.value().1);
    }
    positions.extend(open.member_places().take(BLOCKER_SCAN_RECORDS_MAX));
    let mut lanes = LaneView::new(snapshot, open, key_space);
    let mut blockers = Vec::new();
    for position in positions {
        if blockers.len() == NAMED_BLOCKERS_MAX {
            break;
        }
        blockers.extend(lanes.blocker_at(position)?);
    }
    Ok(blockers)
}
