//! Remembers blocked records that go first when their lane moves.

use std::collections::{BTreeMap, BTreeSet};

use super::key_space::Lane;

/// Urgent records to remember while they are blocked. Beyond this number, the least urgent ones wait for their turn.
const URGENT_RECORDS_MAX: usize = 1000;

/// Blocked records with a higher priority than their predecessor. When the lane moves, the next claim considers the
/// most urgent one together with all of its predecessors.
#[derive(Default)]
pub(super) struct UrgentRecords {
    by_lane: BTreeMap<Lane, BTreeSet<u64>>,
    by_position: BTreeMap<u64, Lane>,
}

impl UrgentRecords {
    /// Remembers a record.
    pub(super) fn add_record(&mut self, lane: &Lane, position: u64) {
        self.by_lane.entry(lane.clone()).or_default().insert(position);
        self.by_position.insert(position, lane.clone());
        if self.by_position.len() > URGENT_RECORDS_MAX
            && let Some((position, _)) = self.by_position.last_key_value()
        {
            self.remove_record(*position);
        }
    }

    /// Forgets a record that was claimed or removed.
    pub(super) fn remove_record(&mut self, position: u64) {
        let Some(lane) = self.by_position.remove(&position) else { return };
        if let Some(positions) = self.by_lane.get_mut(&lane) {
            positions.remove(&position);
            if positions.is_empty() {
                self.by_lane.remove(&lane);
            }
        }
    }

    /// The most urgent record of a lane.
    pub(super) fn most_urgent(&self, lane: &Lane) -> Option<u64> {
        self.by_lane.get(lane)?.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }
}
