//! Keeps the order within a key. A *lane* holds the unsettled records of one key in order of arrival: those of one
//! user, or of all users if they share keys. Records of a lane are sent in this order, whatever their priorities.
//!
//! Only the head of a lane may be sent, and records that can go in the same batch. A record that a claim passed over
//! needs no index: its predecessors either take it along or wake it when they leave the lane.

use std::collections::{BTreeSet, HashMap};

use redb::ReadableTable;

use super::body;
use super::error::StoreError;
use super::key_space::Lane;
use super::lane_view::{
    COUNTED_SUCCESSORS_MAX, NAMED_BLOCKERS_MAX, blocking_state, count_lane_step, to_blocker,
};
use super::op::Transaction;
use super::schema::{DUE_WHEN_UNBLOCKED, ManifestRow, MemberRow, StoredState, seq_of};
use crate::model::Blocker;

/// Members of a batch that must not be sent with it.
#[derive(Default)]
pub(super) struct BlockedMembers {
    /// Members behind another record in their lane, in order of arrival.
    pub(super) in_lanes: Vec<(MemberRow, Lane)>,
    /// Members whose key another lane has, too: their turn does not depend on its records.
    pub(super) same_key: Vec<MemberRow>,
}

impl Transaction<'_, '_> {
    /// The positions of a lane from a `seq` up to `position`, in order.
    pub(super) fn predecessors(
        &self,
        lane: &Lane,
        from: u64,
        position: u64,
    ) -> Result<impl Iterator<Item = Result<u64, StoreError>> + use<'_>, StoreError> {
        let end = seq_of(position);
        let range = self.tables.lanes.range(lane.positions_between(from.min(end), end))?;
        Ok(range.map(|item| {
            count_lane_step();
            Ok(item?.1.value())
        }))
    }

    /// The position of the next record of the lane.
    pub(super) fn successor_of(&self, lane: &Lane, position: u64) -> Result<Option<u64>, StoreError> {
        let mut range = self.tables.lanes.range(lane.positions_from(seq_of(position) + 1))?;
        Ok(range.next().transpose()?.map(|(_, position)| position.value()))
    }

    /// The members of a batch that a record outside of it blocks. A blocked member blocks all later members of its
    /// lane. With `one_per_key`, so does a member that stays. No two lanes with the same key stay: the server would hold
    /// one user's record behind another's.
    pub(super) fn blocked_members(
        &self,
        members: &[MemberRow],
        one_per_key: bool,
    ) -> Result<BlockedMembers, StoreError> {
        let member_positions: BTreeSet<u64> = members.iter().map(|member| member.position).collect();
        // For each lane, the `seq` up to which all of its records are members; none after a gap.
        let mut fronts: HashMap<Lane, Option<u64>> = HashMap::new();
        let mut ordered: Vec<&MemberRow> = members.iter().collect();
        ordered.sort_by_key(|member| seq_of(member.position));
        let mut keys: HashMap<String, Lane> = HashMap::new();
        let mut blocked = BlockedMembers::default();
        for member in ordered {
            let Some(lane) = self.lane_of_record(member.position)? else { continue };
            if keys.get(lane.key()).is_some_and(|first| *first != lane) {
                blocked.same_key.push(member.clone());
                continue;
            }
            let front = fronts.entry(lane.clone()).or_insert(Some(0));
            if let Some(from) = *front {
                *front = Some(seq_of(member.position) + 1);
                for earlier in self.predecessors(&lane, from, member.position)? {
                    if !member_positions.contains(&earlier?) {
                        *front = None;
                        break;
                    }
                }
            }
            if front.is_none() {
                blocked.in_lanes.push((member.clone(), lane));
            } else {
                if one_per_key {
                    *front = None;
                }
                keys.entry(lane.key().to_owned()).or_insert(lane);
            }
        }
        Ok(blocked)
    }

    /// The lane of the record at a position; none if its payload cannot be read.
    pub(super) fn lane_of_record(&self, position: u64) -> Result<Option<Lane>, StoreError> {
        Ok(self.readable_header(position)?.and_then(|header| header.lane_in(self.state.key_space)))
    }

    /// Appends a record to its lane.
    pub(super) fn join_lane(&mut self, lane: Option<&Lane>, position: u64) -> Result<(), StoreError> {
        let Some(lane) = lane else { return Ok(()) };
        self.tables.lanes.insert(lane.position_of(seq_of(position)), position)?;
        let stuck = self.state.counters.records.failed + self.state.counters.records.quarantined;
        if stuck > 0 && !self.state.blockers_changed {
            self.count_new_successor(lane)?;
        }
        Ok(())
    }

    /// Updates the known blocking records after an append to this lane, without examining all of them.
    fn count_new_successor(&mut self, lane: &Lane) -> Result<(), StoreError> {
        let blockers = &mut self.state.blockers;
        let is_of_lane = |blocker: &&mut Blocker| {
            blocker.key.as_deref().is_some_and(|key| lane.includes_key_of(blocker.submitter, key))
        };
        if let Some(known) = blockers.iter_mut().find(is_of_lane) {
            known.blocked_count = (known.blocked_count + 1).min(COUNTED_SUCCESSORS_MAX as u64);
            return Ok(());
        }
        if self.state.blockers.len() >= NAMED_BLOCKERS_MAX {
            return Ok(());
        }
        let Some(head) = self.lane_head(lane)? else { return Ok(()) };
        let Ok(Some(header)) = body::read_header(&self.tables.payload, head) else { return Ok(()) };
        let Some(row) = self.manifest_row(header.id)? else { return Ok(()) };
        if let Some(state) = blocking_state(&self.state.open, row.state, head) {
            let range = self.tables.lanes.range(lane.positions_from(seq_of(head) + 1))?;
            let blocked_count = range.take(COUNTED_SUCCESSORS_MAX).count() as u64;
            self.state.blockers.extend(to_blocker(header, state, blocked_count));
        }
        Ok(())
    }

    fn lane_head(&self, lane: &Lane) -> Result<Option<u64>, StoreError> {
        let head = self.tables.lanes.range(lane.positions_from(0))?.next().transpose()?;
        Ok(head.map(|(_, position)| position.value()))
    }

    /// Removes a settled or discarded record from its lane and wakes the next one.
    pub(super) fn leave_lane(&mut self, row: &ManifestRow) -> Result<(), StoreError> {
        let Some(lane) = row.lane_in(self.state.key_space) else { return Ok(()) };
        self.tables.lanes.remove(lane.position_of(seq_of(row.position)))?;
        self.state.urgent.remove_record(row.position);
        self.state.blockers_changed = true;
        self.wake_lane(&lane)
    }

    /// Wakes a record that leaves quarantine, and those that it blocked.
    pub(super) fn release_from_review(&mut self, row: &ManifestRow) -> Result<(), StoreError> {
        self.state.wake_record(row.position);
        self.state.blockers_changed = true;
        self.state.waits_changed = true;
        row.lane_in(self.state.key_space).map_or(Ok(()), |lane| self.wake_lane(&lane))
    }

    /// Lets the next claim examine the head of a lane and its most urgent record, unless something else prevents the
    /// head from being sent.
    fn wake_lane(&mut self, lane: &Lane) -> Result<(), StoreError> {
        while let Some(head) = self.lane_head(lane)? {
            if self.state.open.batch_of(head).is_none() && self.is_unidentifiable(head)? {
                self.drop_from_lane(lane, head)?;
                continue;
            }
            if self.wake_blocked(head)? {
                while let Some(urgent) = self.state.urgent.most_urgent(lane) {
                    self.state.urgent.remove_record(urgent);
                    if urgent != head && self.wake_blocked(urgent)? {
                        break;
                    }
                }
            }
            break;
        }
        Ok(())
    }

    /// Lets the next claim examine a blocked record. False if something else prevents it from being sent.
    fn wake_blocked(&mut self, position: u64) -> Result<bool, StoreError> {
        if self.state.open.batch_of(position).is_some() {
            return Ok(false);
        }
        let Some(header) = self.readable_header(position)? else { return Ok(false) };
        match self.manifest_row(header.id)? {
            Some(row) if row.state == StoredState::Pending => self.state.wake_record(position),
            Some(row) if row.state == StoredState::Failed && row.due_at.is_none() => {
                self.reschedule_retry(header.id, position, DUE_WHEN_UNBLOCKED, self.now.steady)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether neither payload and manifest row nor the quarantine table tell what is at this position.
    fn is_unidentifiable(&self, position: u64) -> Result<bool, StoreError> {
        match self.readable_header(position)? {
            Some(header) => Ok(self.manifest_row(header.id)?.is_none()),
            None => Ok(self.tables.quarantine.get(position)?.is_none()),
        }
    }

    /// Removes a record that can never be sent, so that it does not block its successors forever.
    pub(super) fn drop_from_lane(&mut self, lane: &Lane, position: u64) -> Result<(), StoreError> {
        tracing::error!(
            place = position,
            "a record that cannot be read no longer blocks later records of its key"
        );
        self.state.urgent.remove_record(position);
        self.state.blockers_changed = true;
        self.tables.lanes.remove(lane.position_of(seq_of(position)))?;
        Ok(())
    }

    /// Remembers a blocked record that is more urgent than its predecessor, which would take it along too late.
    pub(super) fn note_urgent(&mut self, lane: &Lane, position: u64) -> Result<(), StoreError> {
        let last =
            self.tables.lanes.range(lane.positions_between(0, seq_of(position)))?.next_back().transpose()?;
        if last.is_some_and(|(_, before)| before.value() > position) {
            self.state.urgent.add_record(lane, position);
        }
        Ok(())
    }

    /// Changes the due time of a FAILED record that is in no batch.
    pub(super) fn reschedule_retry(
        &mut self,
        id: u128,
        position: u64,
        was: u64,
        due: u64,
    ) -> Result<(), StoreError> {
        self.state.waits_changed = true;
        self.tables.retry.remove((was, position))?;
        self.tables.retry.insert((due, position), ())?;
        if let Some(mut row) = self.manifest_row(id)? {
            row.due_at = (due != DUE_WHEN_UNBLOCKED).then_some(due);
            let state = row.state;
            self.write_row(id, &row, Some(state))?;
        }
        Ok(())
    }
}
