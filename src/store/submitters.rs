//! What the store holds of each user.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schema::{ManifestRow, StoredState};
use crate::model::{OTHER_SUBMITTERS, SUBMITTERS_MAX};

/// What the store holds of one user. As in [`super::schema::Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holding {
    pub(super) pending: u64,
    pub(super) failed: u64,
    pub(super) synced: u64,
    pub(super) quarantined: u64,
    pub(super) bytes: u64,
    pub(super) disk_bytes: u64,
}

impl Holding {
    fn of(&mut self, state: StoredState) -> &mut u64 {
        match state {
            StoredState::Pending => &mut self.pending,
            StoredState::Failed => &mut self.failed,
            StoredState::Synced => &mut self.synced,
            StoredState::Quarantined => &mut self.quarantined,
        }
    }

    /// Records whose payload is kept.
    pub(super) fn unsettled(&self) -> u64 {
        self.pending + self.failed + self.quarantined
    }
}

/// What the store holds, by user.
///
/// Users beyond [`SUBMITTERS_MAX`] are counted together until nothing is left of any of them: only then it is certain
/// that a user without an entry has no record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Submitters(BTreeMap<u32, Holding>);

impl Submitters {
    /// The uid under which a user's records are counted, or would be.
    pub(super) fn entry_of(&self, submitter: u32) -> u32 {
        let known = self.0.contains_key(&submitter);
        let free = self.0.len() < SUBMITTERS_MAX && !self.0.contains_key(&OTHER_SUBMITTERS);
        if known || free { submitter } else { OTHER_SUBMITTERS }
    }

    /// What is counted under the same uid as this user's records.
    pub(super) fn holding(&self, submitter: u32) -> Holding {
        self.0.get(&self.entry_of(submitter)).copied().unwrap_or_default()
    }

    /// What all users' records weigh.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.0.values().map(|holding| holding.disk_bytes).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Holding)> {
        self.0.iter().map(|(submitter, holding)| (*submitter, *holding))
    }

    /// Counts a record's change of state; none is "not there".
    pub(super) fn count(&mut self, row: &ManifestRow, was: Option<StoredState>, is: Option<StoredState>) {
        let uid = self.entry_of(row.submitter);
        let holding = self.0.entry(uid).or_default();
        let (bytes, disk_bytes) = (u64::from(row.payload_bytes), row.disk_bytes());
        if let Some(state) = was {
            let count = holding.of(state);
            *count = count.saturating_sub(1);
        }
        if was.is_some_and(StoredState::is_unsettled) {
            holding.bytes = holding.bytes.saturating_sub(bytes);
            holding.disk_bytes = holding.disk_bytes.saturating_sub(disk_bytes);
        }
        if let Some(state) = is {
            *holding.of(state) += 1;
        }
        if is.is_some_and(StoredState::is_unsettled) {
            holding.bytes += bytes;
            holding.disk_bytes += disk_bytes;
        }
        if *holding == Holding::default() {
            self.0.remove(&uid);
        }
    }

    /// The same entries with nothing in them: to count all records anew and compare.
    pub(super) fn zeroed(&self) -> Self {
        Self(self.0.keys().map(|submitter| (*submitter, Holding::default())).collect())
    }
}
