//! Who holds back whom: records of one key go out in the order in which they arrived, whatever
//! their priorities. A *lane* is the unsettled records of a key, in that order.
//!
//! Only what stands at the head of a lane, and what can go along with it, is free to go. So a
//! record that a claim passed over needs no index of its own: whoever stands before it brings it
//! along, or wakes it when it leaves.

use std::collections::BTreeSet;

use redb::ReadableTable;
use uuid::Uuid;

use super::StoreError;
use super::body;
use super::op::Transaction;
use super::read;
use super::schema::{Snapshot, StoredState};
use super::state::State;
use crate::model::{Holder, Place, RecordId, RecordState};

/// Due time of a FAILED record that an earlier one of its key holds: whoever holds it wakes it.
pub(super) const HELD: u64 = u64::MAX;

/// Records behind a holder that are counted; beyond, it is "at least".
const COUNTED: usize = 1000;
/// Holders that a status names.
const NAMED: usize = 10;
/// Records under review, and failed ones, that are looked at for holders.
const SCAN: usize = 100;

fn seq(place: u64) -> u64 {
    Place(place).seq()
}

impl Transaction<'_, '_> {
    /// The records that stand before this one in its lane, first to last.
    pub(super) fn before(
        &self,
        key: &str,
        place: u64,
    ) -> Result<impl Iterator<Item = Result<u64, StoreError>> + use<'_>, StoreError> {
        let range = self.tables.lanes.range((key, 0)..(key, seq(place)))?;
        Ok(range.map(|item| Ok(item?.1.value())))
    }

    /// The record that stands next behind this one in its lane.
    pub(super) fn behind(&self, key: &str, place: u64) -> Result<Option<u64>, StoreError> {
        let mut range = self.tables.lanes.range((key, seq(place) + 1)..=(key, u64::MAX))?;
        Ok(range.next().transpose()?.map(|(_, place)| place.value()))
    }

    /// Whether a record stands before this one that is not of `company`.
    pub(super) fn is_held(
        &self,
        key: Option<&str>,
        place: u64,
        company: &BTreeSet<u64>,
    ) -> Result<bool, StoreError> {
        let Some(key) = key else { return Ok(false) };
        for earlier in self.before(key, place)? {
            if !company.contains(&earlier?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The record goes to the end of its lane.
    pub(super) fn join_lane(&mut self, key: Option<&str>, place: u64) -> Result<(), StoreError> {
        if let Some(key) = key {
            self.tables.lanes.insert((key, seq(place)), place)?;
            let counters = &self.state.counters;
            self.state.holders_changed |= counters.failed + counters.quarantined > 0;
        }
        Ok(())
    }

    /// The record is settled or gone: the next of its lane may be free to go.
    pub(super) fn leave_lane(&mut self, key: Option<&str>, place: u64) -> Result<(), StoreError> {
        let Some(key) = key else { return Ok(()) };
        self.tables.lanes.remove((key, seq(place)))?;
        self.state.holders_changed = true;
        self.wake_lane(key)
    }

    /// The head of a lane is looked at by the next claim, unless something else keeps it.
    fn wake_lane(&mut self, key: &str) -> Result<(), StoreError> {
        let head = self.tables.lanes.range((key, 0)..=(key, u64::MAX))?.next().transpose()?;
        let Some(head) = head.map(|(_, place)| place.value()) else {
            return Ok(());
        };
        if self.state.claimed.contains_key(&head) {
            return Ok(());
        }
        let Some(header) = self.header(head)? else { return Ok(()) };
        match self.manifest_row(header.id)? {
            Some(row) if row.state == StoredState::Pending => self.state.wake(head),
            Some(row) if row.state == StoredState::Failed && row.due_at.is_none() => {
                self.reschedule(header.id, head, HELD, self.now.steady)?;
            }
            _ => {}
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

/// The record that holds this one back: an earlier one of its key that failed or is under review.
pub(super) fn held_by(
    snapshot: &Snapshot,
    state: &State,
    key: Option<&str>,
    place: u64,
) -> Result<Option<RecordId>, StoreError> {
    let Some(key) = key else { return Ok(None) };
    let first = snapshot.lanes.range((key, 0)..(key, seq(place)))?.next().transpose()?;
    let Some(first) = first.map(|(_, place)| place.value()) else {
        return Ok(None);
    };
    let holder = holder(snapshot, state, first)?;
    Ok(holder.map(|holder| holder.id))
}

/// How many records stand behind this one in its lane, up to a bound.
pub(super) fn holds(snapshot: &Snapshot, key: &str, place: u64) -> Result<u64, StoreError> {
    let behind = snapshot.lanes.range((key, seq(place) + 1)..=(key, u64::MAX))?.take(COUNTED);
    Ok(behind.count() as u64)
}

/// The record at this place, if it is one that holds others back.
fn holder(snapshot: &Snapshot, state: &State, place: u64) -> Result<Option<Holder>, StoreError> {
    let Ok(Some(header)) = body::header(&snapshot.payload, place) else {
        return Ok(None);
    };
    let (Some(row), Some(key)) = (read::row(snapshot, header.id)?, header.key) else {
        return Ok(None);
    };
    let id = RecordId(Uuid::from_u128(header.id));
    let record_state = match row.state {
        StoredState::Failed if state.is_in_flight(place) => RecordState::Syncing,
        StoredState::Failed => RecordState::Failed,
        StoredState::Quarantined => RecordState::Quarantined,
        StoredState::Pending | StoredState::Synced => return Ok(None),
    };
    let holds = holds(snapshot, &key, place)?;
    Ok((holds > 0).then_some(Holder { id, key, state: record_state, holds }))
}

/// The first records that hold others back.
pub(super) fn holders(snapshot: &Snapshot, state: &State) -> Result<Vec<Holder>, StoreError> {
    let mut places = Vec::new();
    for item in snapshot.quarantine.range::<u64>(..)?.take(SCAN) {
        places.push(item?.0.value());
    }
    for item in snapshot.retry.range::<(u64, u64)>(..)?.take(SCAN) {
        places.push(item?.0.value().1);
    }
    places.extend(state.claimed.keys().take(SCAN));
    let mut holders = Vec::new();
    for place in places {
        if holders.len() == NAMED {
            break;
        }
        let Some(found) = holder(snapshot, state, place)? else { continue };
        // Behind another holder it is held itself.
        if held_by(snapshot, state, Some(&found.key), place)?.is_none() {
            holders.push(found);
        }
    }
    Ok(holders)
}
