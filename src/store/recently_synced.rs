//! The records that were synced last, in the order in which the server confirmed them.
//!
//! The receipts are in queue order, so this reads the list of changes from its end. A record that was synced before an
//! earlier version wrote that list is not found.

use std::collections::HashSet;

use uuid::Uuid;

use super::counters::Counters;
use super::error::StoreError;
use super::lane_view::LaneView;
use super::read::{StoreView, visible_state};
use super::schema::manifest_row;
use crate::model::{ManifestEntry, RecordId, RecordState};

/// Changes that one read examines, which takes a few milliseconds.
const SCAN_CHANGES_MAX: usize = 2000;

/// The records that were synced since a time.
#[derive(Debug, Default)]
pub struct RecentlySynced {
    /// The last of them, the latest first.
    pub entries: Vec<ManifestEntry>,
    /// How many there are.
    pub count: u64,
    /// There may be more: not all changes were examined.
    pub is_partial: bool,
}

impl StoreView {
    /// The last `limit` records that were synced at `since` or later, in wall milliseconds.
    pub fn list_recently_synced(&self, since: u64, limit: usize) -> Result<RecentlySynced, StoreError> {
        let mut found = RecentlySynced::default();
        let last = Counters::read_totals(&self.snapshot.meta)?.last_change;
        let (Some(table), Some(last)) = (&self.snapshot.changes, last) else { return Ok(found) };
        let mut lanes = LaneView::new(&self.snapshot, &self.open, self.key_space);
        let mut seen = HashSet::new();
        for item in table.range((last.history, 0)..=(last.history, last.seq))?.rev() {
            if seen.len() == SCAN_CHANGES_MAX {
                found.is_partial = true;
                break;
            }
            let id = item?.1.value();
            if !seen.insert(id) {
                continue;
            }
            let Some(row) = manifest_row(&self.snapshot.manifest, id)? else { continue };
            // The clock may have been wrong for a while, so an earlier time ends nothing.
            if visible_state(&self.open, &row) != RecordState::Synced || row.updated_at < since {
                continue;
            }
            found.count += 1;
            if found.entries.len() < limit {
                found.entries.push(self.to_entry(&mut lanes, RecordId(Uuid::from_u128(id)), row)?);
            }
        }
        Ok(found)
    }
}
