//! How many records and bytes the store holds: in all, and of each user.
//!
//! The counters change in the transaction that changes what they count. Every commit writes them but a lone append, which
//! follows from its payload (`unlisted.rs`).

use std::collections::BTreeMap;

use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize};

use super::codec;
use super::error::StoreError;
use super::schema::{ManifestRow, StoredState, meta};
use crate::model::{OTHER_SUBMITTERS, SUBMITTERS_MAX};

/// Records by state, and the payload bytes of those that are not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordCounts {
    pub(super) pending: u64,
    pub(super) failed: u64,
    pub(super) synced: u64,
    pub(super) quarantined: u64,
    pub(super) bytes: u64,
}

impl RecordCounts {
    /// Counts a record's change of state; none is "not there".
    fn count_change(&mut self, bytes: u64, from: Option<StoredState>, to: Option<StoredState>) {
        if let Some(count) = from.and_then(|state| self.count_mut(state)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = to.and_then(|state| self.count_mut(state)) {
            *count += 1;
        }
        self.bytes = change_size(self.bytes, bytes, from, to);
    }

    /// None for discarded records: they are counted apart, because they are not in the queue any more.
    fn count_mut(&mut self, state: StoredState) -> Option<&mut u64> {
        match state {
            StoredState::Pending => Some(&mut self.pending),
            StoredState::Failed => Some(&mut self.failed),
            StoredState::Synced => Some(&mut self.synced),
            StoredState::Quarantined => Some(&mut self.quarantined),
            StoredState::Discarded => None,
        }
    }

    /// Records whose payload is kept.
    pub(super) fn unsettled_count(&self) -> u64 {
        self.pending + self.failed + self.quarantined
    }
}

/// A sum of the sizes of unsettled records, after a record of `size` has changed its state.
fn change_size(sum: u64, size: u64, from: Option<StoredState>, to: Option<StoredState>) -> u64 {
    let removed = if from.is_some_and(StoredState::is_unsettled) { size } else { 0 };
    let added = if to.is_some_and(StoredState::is_unsettled) { size } else { 0 };
    sum.saturating_sub(removed) + added
}

/// What the store holds of one user. Its fields are on disk in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubmitterUsage {
    pub(super) records: RecordCounts,
    pub(super) disk_bytes: u64,
}

/// What the store holds, by user.
///
/// Users beyond [`SUBMITTERS_MAX`] share one entry until none of them has a record or receipt: only then is it
/// certain that a user without an entry has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubmitterCounters(BTreeMap<u32, SubmitterUsage>);

impl SubmitterCounters {
    /// The uid under which a user's records are counted, or would be.
    pub(super) fn entry_of(&self, submitter: u32) -> u32 {
        let known = self.0.contains_key(&submitter);
        let free = self.0.len() < SUBMITTERS_MAX && !self.0.contains_key(&OTHER_SUBMITTERS);
        if known || free { submitter } else { OTHER_SUBMITTERS }
    }

    /// What is counted under the same uid as this user's records.
    pub(super) fn usage_of(&self, submitter: u32) -> SubmitterUsage {
        self.0.get(&self.entry_of(submitter)).copied().unwrap_or_default()
    }

    /// The estimated disk use of all users' records.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.0.values().map(|usage| usage.disk_bytes).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, SubmitterUsage)> {
        self.0.iter().map(|(submitter, usage)| (*submitter, *usage))
    }

    /// Counts a record's change of state; none is "not there".
    pub(super) fn count_change(
        &mut self,
        row: &ManifestRow,
        from: Option<StoredState>,
        to: Option<StoredState>,
    ) {
        // Such a change must not create or remove an entry: then other users would be counted under another uid.
        if [from, to].iter().all(|state| state.is_none_or(|state| state == StoredState::Discarded)) {
            return;
        }
        let uid = self.entry_of(row.submitter);
        let usage = self.0.entry(uid).or_default();
        usage.records.count_change(row.payload_bytes.into(), from, to);
        usage.disk_bytes = change_size(usage.disk_bytes, row.disk_bytes(), from, to);
        if *usage == SubmitterUsage::default() {
            self.0.remove(&uid);
        }
    }

    /// The same entries with all counts at zero, to count all records again and compare.
    pub(super) fn to_zeroed(&self) -> Self {
        Self(self.0.keys().map(|submitter| (*submitter, SubmitterUsage::default())).collect())
    }
}

/// The last change of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastChange {
    /// A random number of this store, and another one after a salvage or a return to an earlier version: changes before
    /// and after that are not in one order.
    pub(super) history: u64,
    /// The number of the change, from 1.
    pub(super) seq: u64,
}

impl LastChange {
    /// No change yet.
    pub(super) fn new_history() -> Self {
        Self { history: fastrand::u64(..), seq: 0 }
    }
}

/// What is counted. Its fields are on disk in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) next_seq: u64,
    pub(super) records: RecordCounts,
    /// Commits so far: tells whether a commit that reported an error took place.
    pub(super) commits: u64,
    /// Steady time of the last commit that wrote the counters.
    pub(super) steady: u64,
    /// In a row of their own.
    #[serde(skip)]
    pub(super) submitters: SubmitterCounters,
    /// The estimated disk use of the server's receipts, in a row of its own.
    #[serde(skip)]
    pub(super) server_receipt_bytes: u64,
    /// Receipts of discarded records, in a row of its own.
    #[serde(skip)]
    pub(super) discarded: u64,
    /// In a row of its own; none before a first change.
    #[serde(skip)]
    pub(super) last_change: Option<LastChange>,
}

impl Counters {
    /// Reads the counters from disk.
    pub(super) fn read_from(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, StoreError> {
        let missing = StoreError::Inconsistent("the counts by user are missing");
        let submitters = codec::decode_row(meta.get(meta::SUBMITTERS_KEY)?.ok_or(missing)?.value())?;
        Ok(Self { submitters, ..Self::read_totals(meta)? })
    }

    /// Reads the counters from disk, but for those by user.
    pub(super) fn read_totals(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, StoreError> {
        let missing = StoreError::Inconsistent("the counters are missing");
        let totals: Self = codec::decode_row(meta.get(meta::COUNTERS_KEY)?.ok_or(missing)?.value())?;
        let read_number = |name| -> Result<u64, StoreError> {
            let number = meta.get(name)?.map(|number| codec::decode_row(number.value())).transpose()?;
            Ok(number.unwrap_or_default())
        };
        let server_receipt_bytes = read_number(meta::SERVER_RECEIPT_BYTES_KEY)?;
        let discarded = read_number(meta::DISCARDED_COUNT_KEY)?;
        let last_change =
            meta.get(meta::CHANGES_KEY)?.map(|row| codec::decode_row(row.value())).transpose()?;
        // An earlier version does not write this row, and its commits may have changed records.
        let last_change = last_change
            .filter(|(_, _, commits): &(u64, u64, u64)| *commits == totals.commits)
            .map(|(history, seq, _)| LastChange { history, seq });
        Ok(Self { server_receipt_bytes, discarded, last_change, ..totals })
    }

    pub(super) fn write_to(
        &self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StoreError> {
        meta.insert(meta::COUNTERS_KEY, codec::encode_row(self)?.as_slice())?;
        meta.insert(meta::SUBMITTERS_KEY, codec::encode_row(&self.submitters)?.as_slice())?;
        for (name, number) in [
            (meta::SERVER_RECEIPT_BYTES_KEY, self.server_receipt_bytes),
            (meta::DISCARDED_COUNT_KEY, self.discarded),
        ] {
            if number > 0 {
                meta.insert(name, codec::encode_row(&number)?.as_slice())?;
            } else {
                meta.remove(name)?;
            }
        }
        if let Some(LastChange { history, seq }) = self.last_change {
            let row = codec::encode_row(&(history, seq, self.commits))?;
            meta.insert(meta::CHANGES_KEY, row.as_slice())?;
        }
        Ok(())
    }

    /// Counts a record's change of state; none is "not there".
    pub(super) fn count_change(
        &mut self,
        row: &ManifestRow,
        from: Option<StoredState>,
        to: Option<StoredState>,
    ) {
        self.records.count_change(row.payload_bytes.into(), from, to);
        self.submitters.count_change(row, from, to);
        if from == Some(StoredState::Discarded) {
            self.discarded = self.discarded.saturating_sub(1);
        }
        self.discarded += u64::from(to == Some(StoredState::Discarded));
    }

    /// Receipts: of synced and of discarded records.
    pub(super) fn receipt_count(&self) -> u64 {
        self.records.synced + self.discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::support::sample_header;

    #[test]
    fn the_bytes_of_counters_on_disk_stay_the_same() {
        let row = ManifestRow::new_pending(sample_header());
        let mut counters = Counters { next_seq: 300, commits: 20, steady: 30, ..Counters::default() };
        counters.count_change(&row, None, Some(StoredState::Failed));
        counters.count_change(&row, None, Some(StoredState::Synced));
        assert_eq!(codec::encode_row(&counters).unwrap(), b"\x01\xfb\x2c\x01\x00\x01\x01\x00\x05\x14\x1e");
        assert_eq!(
            codec::encode_row(&counters.submitters).unwrap(),
            b"\x01\x01\x03\x00\x01\x01\x00\x05\xfb\xfb\x00"
        );
    }
}
