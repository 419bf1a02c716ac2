//! Who holds back whom: records of one key go out in the order in which they arrived, whatever
//! their priorities. A *lane* is the unsettled records of a key that one user handed over, or of all users where
//! these share keys, in that order.
//!
//! Only what stands at the head of a lane, and what can go along with it, is free to go. So a
//! record that a claim passed over needs no index of its own: whoever stands before it brings it
//! along, or wakes it when it leaves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use redb::ReadableTable;
use uuid::Uuid;

use super::StoreError;
use super::body;
use super::key_space::{KeySpace, Lane};
use super::op::Transaction;
use super::open::OpenBatches;
use super::read;
use super::schema::{Header, ManifestRow, MemberRow, Snapshot, StoredState};
use crate::model::{Holder, Place, RecordId, RecordState};

/// Due time of a FAILED record that an earlier one of its key holds: whoever holds it wakes it.
pub(super) const HELD: u64 = u64::MAX;

/// Records behind a holder that are counted; beyond, it is "at least".
const COUNTED: usize = 1000;
/// Holders that a status names.
const NAMED: usize = 10;
/// Records under review, and failed ones, that are looked at for holders.
const SCAN: usize = 100;
/// Urgent records that are remembered while they are held; beyond, the least urgent go with their lane.
const MAX_URGENT: usize = 1000;

#[cfg(test)]
thread_local! {
    /// Records of lanes that were looked at one after the other.
    pub(super) static LANE_STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn count_step() {
    #[cfg(test)]
    LANE_STEPS.set(LANE_STEPS.get() + 1);
}

pub(super) fn seq(place: u64) -> u64 {
    Place(place).seq()
}

/// Held records with a higher priority than the record right before them in their lane. When the lane
/// moves, the next claim considers the most urgent of them together with all records before it.
#[derive(Default)]
pub(super) struct Urgent {
    by_lane: BTreeMap<Lane, BTreeSet<u64>>,
    by_place: BTreeMap<u64, Lane>,
}

impl Urgent {
    /// Remembers a record.
    fn remember(&mut self, lane: &Lane, place: u64) {
        self.by_lane.entry(lane.clone()).or_default().insert(place);
        self.by_place.insert(place, lane.clone());
        if self.by_place.len() > MAX_URGENT
            && let Some((place, _)) = self.by_place.last_key_value()
        {
            self.forget(*place);
        }
    }

    /// Forgets a record: it goes, or is gone.
    pub(super) fn forget(&mut self, place: u64) {
        let Some(lane) = self.by_place.remove(&place) else { return };
        if let Some(places) = self.by_lane.get_mut(&lane) {
            places.remove(&place);
            if places.is_empty() {
                self.by_lane.remove(&lane);
            }
        }
    }

    /// The most urgent record of a lane.
    pub(super) fn first(&self, lane: &Lane) -> Option<u64> {
        self.by_lane.get(lane)?.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }
}

impl Transaction<'_, '_> {
    /// The records of a lane from this `seq` on that stand before `place`, first to last.
    pub(super) fn before(
        &self,
        lane: &Lane,
        from: u64,
        place: u64,
    ) -> Result<impl Iterator<Item = Result<u64, StoreError>> + use<'_>, StoreError> {
        let end = seq(place);
        let range = self.tables.lanes.range(lane.between(from.min(end), end))?;
        Ok(range.map(|item| {
            count_step();
            Ok(item?.1.value())
        }))
    }

    /// The record that stands next behind this one in its lane.
    pub(super) fn behind(&self, lane: &Lane, place: u64) -> Result<Option<u64>, StoreError> {
        let mut range = self.tables.lanes.range(lane.from(seq(place) + 1))?;
        Ok(range.next().transpose()?.map(|(_, place)| place.value()))
    }

    /// The members of a batch that a record outside of it holds, in order of arrival, with their lanes. A held
    /// member holds all later members of its lane.
    pub(super) fn held_members(&self, members: &[MemberRow]) -> Result<Vec<(MemberRow, Lane)>, StoreError> {
        let company: BTreeSet<u64> = members.iter().map(|member| member.place).collect();
        // Up to where each lane is of the batch without a gap; none once there was one.
        let mut fronts: HashMap<Lane, Option<u64>> = HashMap::new();
        let mut ordered: Vec<&MemberRow> = members.iter().collect();
        ordered.sort_by_key(|member| seq(member.place));
        let mut held = Vec::new();
        for member in ordered {
            let Some(lane) = self.lane_at(member.place)? else { continue };
            let front = fronts.entry(lane.clone()).or_insert(Some(0));
            if let Some(from) = *front {
                *front = Some(seq(member.place) + 1);
                for earlier in self.before(&lane, from, member.place)? {
                    if !company.contains(&earlier?) {
                        *front = None;
                        break;
                    }
                }
            }
            if front.is_none() {
                held.push((member.clone(), lane));
            }
        }
        Ok(held)
    }

    /// The lane of the record at a place, as far as its payload reads.
    pub(super) fn lane_at(&self, place: u64) -> Result<Option<Lane>, StoreError> {
        Ok(self.header(place)?.and_then(|header| header.lane(self.state.key_space)))
    }

    /// The record goes to the end of its lane.
    pub(super) fn join_lane(&mut self, lane: Option<&Lane>, place: u64) -> Result<(), StoreError> {
        let Some(lane) = lane else { return Ok(()) };
        self.tables.lanes.insert(lane.at(seq(place)), place)?;
        let stuck = self.state.counters.failed + self.state.counters.quarantined;
        if stuck > 0 && !self.state.holders_changed {
            self.count_follower(lane)?;
        }
        Ok(())
    }

    /// A record came behind others of its lane: what is known of holders follows without a look at all of them.
    fn count_follower(&mut self, lane: &Lane) -> Result<(), StoreError> {
        let holders = &mut self.state.holders;
        let is_of_lane =
            |holder: &&mut Holder| holder.key.as_deref().is_some_and(|key| lane.has(holder.submitter, key));
        if let Some(known) = holders.iter_mut().find(is_of_lane) {
            known.holds = (known.holds + 1).min(COUNTED as u64);
            return Ok(());
        }
        if self.state.holders.len() >= NAMED {
            return Ok(());
        }
        let Some(head) = self.lane_head(lane)? else { return Ok(()) };
        let Ok(Some(header)) = body::header(&self.tables.payload, head) else { return Ok(()) };
        let Some(row) = self.manifest_row(header.id)? else { return Ok(()) };
        if let Some(state) = stuck_state(&self.state.open, row.state, head) {
            let range = self.tables.lanes.range(lane.from(seq(head) + 1))?;
            let holds = range.take(COUNTED).count() as u64;
            self.state.holders.extend(holder(header, state, holds));
        }
        Ok(())
    }

    fn lane_head(&self, lane: &Lane) -> Result<Option<u64>, StoreError> {
        let head = self.tables.lanes.range(lane.from(0))?.next().transpose()?;
        Ok(head.map(|(_, place)| place.value()))
    }

    /// The record is settled or gone: the next of its lane may be free to go.
    pub(super) fn leave_lane(&mut self, row: &ManifestRow) -> Result<(), StoreError> {
        let Some(lane) = row.lane(self.state.key_space) else { return Ok(()) };
        self.tables.lanes.remove(lane.at(seq(row.place)))?;
        self.state.urgent.forget(row.place);
        self.state.holders_changed = true;
        self.wake_lane(&lane)
    }

    /// A record is back from review: it goes, and with it those that it held.
    pub(super) fn release(&mut self, row: &ManifestRow) -> Result<(), StoreError> {
        self.state.wake(row.place);
        self.state.holders_changed = true;
        self.state.waits_changed = true;
        row.lane(self.state.key_space).map_or(Ok(()), |lane| self.wake_lane(&lane))
    }

    /// The head of a lane is looked at by the next claim, and so is the most urgent record behind it,
    /// unless something else keeps the head.
    fn wake_lane(&mut self, lane: &Lane) -> Result<(), StoreError> {
        while let Some(head) = self.lane_head(lane)? {
            if self.state.open.batch_of(head).is_none() && self.is_beyond_reading(head)? {
                self.drop_from_lane(lane, head)?;
                continue;
            }
            if self.wake_held(head)? {
                while let Some(urgent) = self.state.urgent.first(lane) {
                    self.state.urgent.forget(urgent);
                    if urgent != head && self.wake_held(urgent)? {
                        break;
                    }
                }
            }
            break;
        }
        Ok(())
    }

    /// The next claim looks at a record that an earlier one of its key held; false when something else keeps it.
    fn wake_held(&mut self, place: u64) -> Result<bool, StoreError> {
        if self.state.open.batch_of(place).is_some() {
            return Ok(false);
        }
        let Some(header) = self.header(place)? else { return Ok(false) };
        match self.manifest_row(header.id)? {
            Some(row) if row.state == StoredState::Pending => self.state.wake(place),
            Some(row) if row.state == StoredState::Failed && row.due_at.is_none() => {
                self.reschedule(header.id, place, HELD, self.now.steady)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether nothing tells any more what stands at a place: neither its payload and its manifest entry, nor
    /// the list of those under review.
    fn is_beyond_reading(&self, place: u64) -> Result<bool, StoreError> {
        match self.header(place)? {
            Some(header) => Ok(self.manifest_row(header.id)?.is_none()),
            None => Ok(self.tables.quarantine.get(place)?.is_none()),
        }
    }

    /// A record that can never be sent must not hold those behind it for ever.
    pub(super) fn drop_from_lane(&mut self, lane: &Lane, place: u64) -> Result<(), StoreError> {
        tracing::error!(place, "a record that cannot be read no longer holds back later records of its key");
        self.state.urgent.forget(place);
        self.state.holders_changed = true;
        self.tables.lanes.remove(lane.at(seq(place)))?;
        Ok(())
    }

    /// Remembers a held record that is more urgent than the one before it: that one would bring it along too late.
    pub(super) fn remember_urgent(&mut self, lane: &Lane, place: u64) -> Result<(), StoreError> {
        let last = self.tables.lanes.range(lane.between(0, seq(place)))?.next_back().transpose()?;
        if last.is_some_and(|(_, before)| before.value() > place) {
            self.state.urgent.remember(lane, place);
        }
        Ok(())
    }

    /// A FAILED record outside of batches is due at another time.
    pub(super) fn reschedule(&mut self, id: u128, place: u64, was: u64, due: u64) -> Result<(), StoreError> {
        self.state.waits_changed = true;
        self.tables.retry.remove((was, place))?;
        self.tables.retry.insert((due, place), ())?;
        if let Some(mut row) = self.manifest_row(id)? {
            row.due_at = (due != HELD).then_some(due);
            let state = row.state;
            self.put_row(id, &row, Some(state))?;
        }
        Ok(())
    }
}

/// What a record is to those behind it in its lane; none when it does not hold them.
fn stuck_state(open: &OpenBatches, stored: StoredState, place: u64) -> Option<RecordState> {
    match stored {
        StoredState::Failed if open.is_in_flight(place) => Some(RecordState::Syncing),
        StoredState::Failed => Some(RecordState::Failed),
        StoredState::Quarantined => Some(RecordState::Quarantined),
        StoredState::Pending | StoredState::Synced => None,
    }
}

/// As people are told of it; none when it holds no other.
fn holder(header: Header, state: RecordState, holds: u64) -> Option<Holder> {
    let (id, submitter) = (RecordId(Uuid::from_u128(header.id)), header.submitter);
    let key = Some(header.key?);
    Some(Holder { id, key, submitter, state, holds }).filter(|_| holds > 0)
}

/// Who holds whom, for one look at the manifest: however many records of a lane it shows, it
/// looks at the head of it once, and counts each record behind them once.
pub(super) struct LaneView<'s> {
    snapshot: &'s Snapshot,
    open: &'s OpenBatches,
    key_space: KeySpace,
    /// The head of each lane, when that holds the others.
    heads: HashMap<Lane, Option<Head>>,
    windows: HashMap<Lane, Window>,
    steps: usize,
}

/// The first record of a lane, which failed or is under review.
#[derive(Clone, Copy)]
struct Head {
    seq: u64,
    id: RecordId,
    state: RecordState,
}

/// The records behind the one of a lane that was counted last.
#[derive(Default)]
struct Window {
    counted_from: u64,
    seqs: VecDeque<u64>,
}

impl<'s> LaneView<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, open: &'s OpenBatches, key_space: KeySpace) -> Self {
        Self { snapshot, open, key_space, heads: HashMap::new(), windows: HashMap::new(), steps: 0 }
    }

    /// Records that were counted so far.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// The record that holds this one back: an earlier one of its lane that failed or is under review.
    pub(super) fn held_by(&mut self, row: &ManifestRow) -> Result<Option<RecordId>, StoreError> {
        let Some(lane) = row.lane(self.key_space) else { return Ok(None) };
        let head = self.head(&lane)?;
        Ok(head.filter(|head| head.seq < seq(row.place)).map(|head| head.id))
    }

    fn head(&mut self, lane: &Lane) -> Result<Option<Head>, StoreError> {
        if let Some(known) = self.heads.get(lane) {
            return Ok(*known);
        }
        let head = self.stuck_head(lane)?;
        self.heads.insert(lane.clone(), head);
        Ok(head)
    }

    fn stuck_head(&self, lane: &Lane) -> Result<Option<Head>, StoreError> {
        let head = self.snapshot.lanes.range(lane.from(0))?.next().transpose()?;
        let Some(head) = head.map(|(_, place)| place.value()) else { return Ok(None) };
        let Ok(Some(header)) = body::header(&self.snapshot.payload, head) else { return Ok(None) };
        let row = read::row(self.snapshot, header.id)?;
        let state = row.and_then(|row| stuck_state(self.open, row.state, head));
        let id = RecordId(Uuid::from_u128(header.id));
        Ok(state.map(|state| Head { seq: seq(head), id, state }))
    }

    /// How many records stand behind this one in its lane, up to a bound.
    pub(super) fn holds(&mut self, row: &ManifestRow) -> Result<u64, StoreError> {
        let lane = row.lane(self.key_space);
        lane.map_or(Ok(0), |lane| self.count_behind(&lane, seq(row.place)))
    }

    fn count_behind(&mut self, lane: &Lane, seq: u64) -> Result<u64, StoreError> {
        let window = self.windows.entry(lane.clone()).or_default();
        if seq < window.counted_from {
            window.seqs.clear();
        }
        window.counted_from = seq;
        while window.seqs.front().is_some_and(|first| *first <= seq) {
            window.seqs.pop_front();
        }
        let from = window.seqs.back().copied().unwrap_or(seq) + 1;
        let lacking = COUNTED - window.seqs.len();
        for item in self.snapshot.lanes.range(lane.from(from))?.take(lacking) {
            window.seqs.push_back(item?.0.value().2);
            self.steps += 1;
            count_step();
        }
        Ok(window.seqs.len() as u64)
    }

    /// The record at this place, if it is the head of its lane and holds others back.
    fn holder(&mut self, place: u64) -> Result<Option<Holder>, StoreError> {
        let Ok(Some(header)) = body::header(&self.snapshot.payload, place) else { return Ok(None) };
        let Some(lane) = header.lane(self.key_space) else { return Ok(None) };
        let Some(Head { state, .. }) = self.head(&lane)?.filter(|head| head.seq == seq(place)) else {
            return Ok(None);
        };
        let holds = self.count_behind(&lane, seq(place))?;
        Ok(holder(header, state, holds))
    }
}

/// The first records that hold others back.
pub(super) fn holders(
    snapshot: &Snapshot,
    open: &OpenBatches,
    key_space: KeySpace,
) -> Result<Vec<Holder>, StoreError> {
    let mut places = Vec::new();
    for item in snapshot.quarantine.range::<u64>(..)?.take(SCAN) {
        places.push(item?.0.value());
    }
    for item in snapshot.retry.range::<(u64, u64)>(..)?.take(SCAN) {
        places.push(item?.0.value().1);
    }
    places.extend(open.places().take(SCAN));
    let mut lanes = LaneView::new(snapshot, open, key_space);
    let mut holders = Vec::new();
    for place in places {
        if holders.len() == NAMED {
            break;
        }
        holders.extend(lanes.holder(place)?);
    }
    Ok(holders)
}
