//! Keeps receipts for a time, so that a repeated record is recognized, and evicts the oldest when the disk is low on
//! space.
//!
//! Receipts are in queue order: an index by time would cost flash in every settlement. The oldest ones are found by
//! age: a sample tells which age a quarter of them exceeds, and a cyclic walk removes those.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata};

use super::codec;
use super::error::StoreError;
use super::notes::WaitingNotes;
use super::op::{Group, Transaction};
use super::schema::ManifestRow;
use super::server_receipts::remove_receipt;
use super::state::ReceiptEviction;

/// Receipts that one commit removes besides other work, at least.
const PRUNE_RECEIPTS_MIN: usize = 100;
/// Receipts that one commit removes while the daemon is idle, at first and at most.
const IDLE_PRUNE_RECEIPTS_MIN: usize = 1000;
const IDLE_PRUNE_RECEIPTS_MAX: usize = 16_000;
/// A commit that removes more than the minimum should take at most about this time, because callers wait for it. Tests
/// run without optimization on busy machines.
const IDLE_PRUNE_TIME: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 40 });
/// Receipts that one commit evicts: few enough for a full disk.
const EVICT_RECEIPTS_MAX: usize = 400;
/// Receipts that one commit examines for eviction.
const EVICT_SCAN_RECEIPTS_MAX: usize = 20_000;
/// Times to compare to find the oldest quarter.
const AGE_SAMPLES_MAX: usize = 4096;
/// Receipts to take samples of. If there are more, the oldest among these go first.
const SAMPLED_RECEIPTS_MAX: usize = 1_000_000;
/// This part of the receipts is evicted before the age is determined again.
const EVICTED_SHARE_DIVISOR: usize = 4;

/// How many expired receipts the next step of idle maintenance removes.
///
/// It grows while there are more of them and a step is quick: after millions of records expired at once, small steps
/// would take hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrunePace(pub(super) usize);

impl Default for PrunePace {
    fn default() -> Self {
        Self(IDLE_PRUNE_RECEIPTS_MIN)
    }
}

impl PrunePace {
    /// The pace after a step that found as many receipts as it might remove, and took this long.
    pub(super) fn after_full_step(self, took: Duration) -> Self {
        let fitting = self.0 as u128 * IDLE_PRUNE_TIME.as_micros() / took.as_micros().max(1);
        let next = usize::try_from(fitting).unwrap_or(usize::MAX).min(2 * self.0);
        Self(next.clamp(IDLE_PRUNE_RECEIPTS_MIN, IDLE_PRUNE_RECEIPTS_MAX))
    }
}

/// Removes some expired receipts. Tells whether there were any. Notes that wait share the commit.
pub(super) struct PruneReceipts<'a> {
    pub(super) pace: PrunePace,
    pub(super) notes: &'a mut WaitingNotes,
    pub(super) removed: usize,
}

impl Group for PruneReceipts<'_> {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        self.removed = transaction.prune_receipts(self.pace.0)?;
        if self.removed > 0 {
            self.notes.join_transaction(transaction)?;
        }
        Ok(self.removed > 0)
    }

    fn added_bytes(&self) -> u64 {
        0
    }
}

/// Evicts some of the oldest receipts, whatever their age. Holds how many.
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
    /// Removes up to `max_count` expired receipts. Returns how many.
    fn prune_receipts(&mut self, max_count: usize) -> Result<usize, StoreError> {
        let before = self.now.steady.saturating_sub(self.limits.keep_synced_ms);
        let start = self.state.next_receipt;
        let (mut removed, mut next) = self.remove_old_receipts(before, start, max_count, max_count)?;
        if next == 0 && start > 0 {
            // At the end of the table: the rest is at its beginning.
            let left = max_count - removed;
            let more;
            (more, next) = self.remove_old_receipts(before, 0, left, left)?;
            removed += more;
        }
        self.state.next_receipt = next;
        Ok(removed)
    }

    /// Evicts some of the oldest receipts, whatever their age. Returns how many. May find none in one part of the table
    /// although there are some in another.
    pub(super) fn evict_oldest_receipts(&mut self, max_count: usize) -> Result<usize, StoreError> {
        if self.state.eviction.left == 0 {
            self.state.eviction = self.find_oldest_receipts()?;
        }
        // A separate cursor: with a shared one, each round would skip the same receipts.
        let ReceiptEviction { before, next, .. } = self.state.eviction;
        let (removed, next) = self.remove_old_receipts(before, next, max_count, EVICT_SCAN_RECEIPTS_MAX)?;
        self.state.eviction.next = next;
        Ok(removed)
    }

    /// After a settlement or a review that added `added` receipts: removes twice as many that are expired, so that
    /// they cannot accumulate, and keeps their number from growing while the disk is low on space.
    pub(super) fn make_room_for_receipts(&mut self, added: usize) -> Result<(), StoreError> {
        self.prune_receipts(PRUNE_RECEIPTS_MIN.max(2 * added))?;
        if self.is_disk_low && added > 0 {
            self.evict_oldest_receipts(added)?;
        }
        Ok(())
    }

    /// Removes receipts older than `before`. The table is not ordered by time, so the search is cyclic: new receipts
    /// must not hide old ones behind them. Returns how many were removed and where to continue.
    fn remove_old_receipts(
        &mut self,
        before: u64,
        start: u64,
        max_count: usize,
        scan: usize,
    ) -> Result<(usize, u64), StoreError> {
        let mut next = 0;
        let mut old = Vec::new();
        for (item, examined) in self.tables.receipts.range(start..)?.zip(1..) {
            let (position, receipt) = item?;
            if examined > scan || old.len() == max_count {
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
            remove_receipt(&mut self.tables.server_receipts, &mut self.state.counters, position)?;
            self.tables.discarded.remove(position)?;
            let row =
                self.tables.manifest.remove(id)?.map(|row| codec::decode_row::<ManifestRow>(row.value()));
            if let Some(row) = row.transpose()? {
                self.state.counters.count_change(&row, Some(row.state), None);
            }
            let eviction = &mut self.state.eviction;
            if settled_at < eviction.before {
                eviction.left = eviction.left.saturating_sub(1);
            }
        }
        debug_assert_eq!(self.tables.receipts.len()?, self.state.counters.receipt_count());
        Ok((found, next))
    }

    /// Determines the oldest quarter of all receipts.
    fn find_oldest_receipts(&self) -> Result<ReceiptEviction, StoreError> {
        let receipts = &self.tables.receipts;
        let sampled = usize::try_from(receipts.len()?).unwrap_or(usize::MAX).min(SAMPLED_RECEIPTS_MAX);
        let mut times = Vec::with_capacity(AGE_SAMPLES_MAX);
        for item in
            receipts.iter()?.take(SAMPLED_RECEIPTS_MAX).step_by(sampled.div_ceil(AGE_SAMPLES_MAX).max(1))
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
