//! Held records that go before the others of their lane once it moves.

use std::collections::{BTreeMap, BTreeSet};

use super::key_space::Lane;

/// Urgent records that are remembered while they are held; beyond, the least urgent go with their lane.
const MAX_URGENT: usize = 1000;

/// Held records with a higher priority than the record right before them in their lane. When the lane
/// moves, the next claim considers the most urgent of them together with all records before it.
#[derive(Default)]
pub(super) struct UrgentRecords {
    by_lane: BTreeMap<Lane, BTreeSet<u64>>,
    by_place: BTreeMap<u64, Lane>,
}

impl UrgentRecords {
    /// Remembers a record.
    pub(super) fn add_record(&mut self, lane: &Lane, place: u64) {
        self.by_lane.entry(lane.clone()).or_default().insert(place);
        self.by_place.insert(place, lane.clone());
        if self.by_place.len() > MAX_URGENT
            && let Some((place, _)) = self.by_place.last_key_value()
        {
            self.remove_record(*place);
        }
    }

    /// Forgets a record: it goes, or is gone.
    pub(super) fn remove_record(&mut self, place: u64) {
        let Some(lane) = self.by_place.remove(&place) else { return };
        if let Some(places) = self.by_lane.get_mut(&lane) {
            places.remove(&place);
            if places.is_empty() {
                self.by_lane.remove(&lane);
            }
        }
    }

    /// The most urgent record of a lane.
    pub(super) fn most_urgent(&self, lane: &Lane) -> Option<u64> {
        self.by_lane.get(lane)?.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }
}
