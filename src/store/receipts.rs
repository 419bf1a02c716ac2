//! Receipts: kept for a time, so that a record that comes again is known, and given up, the oldest
//! first, where the disk has little room.
//!
//! They stand in the order of the queue, not of time: another index would cost every settlement flash. So
//! the oldest are found by their age: a sample says which age a quarter of them has reached, and a
//! walk that goes round forgets those.

use redb::{ReadableTable, ReadableTableMetadata};

use super::codec;
use super::error::StoreError;
use super::op::{Group, Transaction};
use super::schema::{ManifestRow, StoredState};
use super::state::ReceiptEviction;

/// Receipts that one commit checks while the daemon is idle.
const IDLE_PRUNE_RECEIPTS_MAX: usize = 1000;
/// Receipts that give way in one commit: few enough for a disk that is full.
const EVICT_RECEIPTS_MAX: usize = 400;
/// Receipts that one commit looks at for those that give way.
const EVICT_SCAN_RECEIPTS_MAX: usize = 20_000;
/// Times that are compared to find the oldest quarter.
const AGE_SAMPLES_MAX: usize = 4096;
/// Receipts that are sampled: of more, it is the oldest of so many that go first.
const SAMPLED_RECEIPTS_MAX: usize = 1_000_000;
/// Of the receipts, this part gives way before the age is looked for again.
const EVICTED_SHARE_DIVISOR: usize = 4;

/// Forgets some of the receipts that were kept long enough; whether there were any.
pub(super) struct PruneReceipts;

impl Group for PruneReceipts {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        Ok(transaction.prune_receipts(IDLE_PRUNE_RECEIPTS_MAX)? > 0)
    }

    fn added_bytes(&self) -> u64 {
        0
    }
}

/// Forgets some of the oldest receipts, however young they are; how many.
#[derive(Default)]
pub(super) struct EvictReceipts(pub(super) usize);

impl Group for EvictReceipts {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        self.0 = transaction.evict_oldest_receipts(EVICT_RECEIPTS_MAX)?;
        Ok(self.0 > 0)
    }

    fn added_bytes(&self) -> u64 {
        0
    }
}

impl Transaction<'_, '_> {
    /// Forgets receipts that were kept long enough, a few at a time; how many.
    pub(super) fn prune_receipts(&mut self, most: usize) -> Result<usize, StoreError> {
        let before = self.now.steady.saturating_sub(self.limits.keep_synced_ms);
        let (forgotten, next) = self.remove_old_receipts(before, self.state.next_receipt, most, most)?;
        self.state.next_receipt = next;
        Ok(forgotten)
    }

    /// Forgets some of the oldest receipts, however young they are; how many. None may be found although
    /// there are some: then they are further on.
    pub(super) fn evict_oldest_receipts(&mut self, most: usize) -> Result<usize, StoreError> {
        if self.state.eviction.left == 0 {
            self.state.eviction = self.find_oldest_receipts()?;
        }
        // With its own cursor: a shared one would skip the same receipts on every round.
        let ReceiptEviction { before, next, .. } = self.state.eviction;
        let (forgotten, next) = self.remove_old_receipts(before, next, most, EVICT_SCAN_RECEIPTS_MAX)?;
        self.state.eviction.next = next;
        Ok(forgotten)
    }

    /// At a settlement that left `settled` receipts: where the disk has little room, they are not to become more.
    pub(super) fn evict_for_settled(&mut self, settled: usize) -> Result<(), StoreError> {
        if self.is_disk_low && settled > 0 {
            self.evict_oldest_receipts(settled)?;
        }
        Ok(())
    }

    /// Forgets receipts older than `before`. The table is not in order of time, so the search is a cycle: young
    /// receipts must not hide old ones behind them. Returns how many were forgotten and where to continue.
    fn remove_old_receipts(
        &mut self,
        before: u64,
        start: u64,
        most: usize,
        scan: usize,
    ) -> Result<(usize, u64), StoreError> {
        let mut next = 0;
        let mut old = Vec::new();
        for (item, examined) in self.tables.receipts.range(start..)?.zip(1..) {
            let (position, receipt) = item?;
            if examined > scan || old.len() == most {
                next = position.value();
                break;
            }
            let (id, settled_at) = receipt.value();
            if settled_at < before {
                old.push((position.value(), id, settled_at));
            }
        }
        let found = old.len();
        for (position, id, settled_at) in old {
            self.tables.receipts.remove(position)?;
            let row =
                self.tables.manifest.remove(id)?.map(|row| codec::decode_row::<ManifestRow>(row.value()));
            if let Some(row) = row.transpose()? {
                self.state.counters.count_change(&row, Some(StoredState::Synced), None);
            }
            let eviction = &mut self.state.eviction;
            if settled_at < eviction.before {
                eviction.left = eviction.left.saturating_sub(1);
            }
        }
        debug_assert_eq!(self.tables.receipts.len()?, self.state.counters.records.synced);
        Ok((found, next))
    }

    /// The oldest quarter of all receipts.
    fn find_oldest_receipts(&self) -> Result<ReceiptEviction, StoreError> {
        let receipts = &self.tables.receipts;
        let known = usize::try_from(receipts.len()?).unwrap_or(usize::MAX).min(SAMPLED_RECEIPTS_MAX);
        let mut times = Vec::with_capacity(AGE_SAMPLES_MAX);
        for item in
            receipts.iter()?.take(SAMPLED_RECEIPTS_MAX).step_by(known.div_ceil(AGE_SAMPLES_MAX).max(1))
        {
            times.push(item?.1.value().1);
        }
        times.sort_unstable();
        let Some(youngest) = times.get(times.len() / EVICTED_SHARE_DIVISOR) else {
            return Ok(ReceiptEviction::default());
        };
        let before = youngest + 1;
        let mut left = 0;
        for item in receipts.iter()?.take(SAMPLED_RECEIPTS_MAX) {
            left += usize::from(item?.1.value().1 < before);
        }
        Ok(ReceiptEviction { before, left, next: 0 })
    }
}
