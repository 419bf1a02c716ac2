//! Free space on the disk: reserves it for settlements, and decides when the file is compacted.
//!
//! redb copies on write, so even deleting needs space: on a completely full disk, a queue could neither grow nor drain.
//! There are two precautions. New records are refused while little space is free. And a reserve, a separate file, is
//! released when a commit finds no space nevertheless (quotas, other programs), so that records being sent can be
//! settled. It is allocated again when there is space. Receipts are worth less than new records: their number does not
//! grow while little space is free, and they are evicted when the disk is full.

use std::io::ErrorKind;

use super::changes::CHANGES_MAX;
use super::counters::Counters;
use super::disk_use::{CHANGE_BYTES_MAX, RECEIPT_BYTES_MIN};
use super::medium::{Medium, SMALL_FILE_BYTES};
use crate::journal;
use crate::model::DiskState;

/// New records are refused while less is free: what it takes to settle a large batch.
const FREE_BYTES_MIN: u64 = 4 << 20;
/// The same on a small disk, at least.
const SMALL_DISK_FREE_BYTES_MIN: u64 = 1 << 20;
/// A full disk must have this much more space before it counts as not full. Prevents it from alternating.
const RECOVERY_MARGIN_BYTES: u64 = 4 << 20;
/// Required free space, reserve and margin each take at most an eighth of the disk. Compaction must free an eighth of
/// the file.
const DISK_SHARE_DIVISOR: u64 = 8;
/// Bytes in use, as estimated, above which a file is compacted only if the disk is low on space. redb compacts all of a
/// file in one call: it lists and moves every page in use, while nothing is stored or sent.
const COMPACTED_BYTES_MAX: u64 = if cfg!(test) { 2 << 20 } else { 16 << 20 };
/// Bytes that a commit writes for each added byte, at most.
const WRITTEN_BYTES_PER_ADDED_BYTE: u64 = 4;

/// What is known of the free space.
#[derive(Debug, Default)]
pub(super) struct DiskSpace {
    is_full: bool,
    /// Not full, but less free than the recovery margin.
    is_low: bool,
    /// Bytes to free until the disk is not full.
    missing_bytes: u64,
    free: Option<u64>,
    /// A commit found no space, on a system that does not tell how much is free.
    is_exhausted: bool,
}

impl DiskSpace {
    /// Determines the free space, before `added_bytes` are added. Keeps the reserve at `reserve` bytes if there is
    /// space.
    pub(super) fn check_space(&mut self, medium: &mut dyn Medium, reserve: u64, added_bytes: u64) {
        self.free = medium.free_bytes();
        let Some(free) = self.free else {
            // Without information, the next commit is the test.
            self.is_full = self.is_exhausted;
            self.is_exhausted &= added_bytes > 0;
            return;
        };
        let capacity = medium.capacity_bytes();
        let capped = |bytes: u64| capacity.map_or(bytes, |all| bytes.min(all / DISK_SHARE_DIVISOR));
        let reserve = capped(reserve);
        let missing = reserve.saturating_sub(medium.reserve_bytes());
        let pages = added_bytes.saturating_mul(WRITTEN_BYTES_PER_ADDED_BYTE);
        let needed = if self.is_full { pages.max(capped(RECOVERY_MARGIN_BYTES)) } else { pages };
        let required = capped(FREE_BYTES_MIN).max(SMALL_DISK_FREE_BYTES_MIN) + missing;
        let has_room = free >= required + needed;
        let mut is_full = !has_room;
        self.missing_bytes = (required + needed).saturating_sub(free);
        self.is_low = free < required + pages + capped(RECOVERY_MARGIN_BYTES);
        if has_room
            && medium.reserve_bytes() != reserve
            && let Err(error) = medium.set_reserve(reserve)
        {
            // Perhaps a quota. A system that cannot allocate a reserve does without one.
            is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            tracing::debug!(%error, "the reserve cannot be allocated");
        }
        self.set_full(is_full);
    }

    /// Releases the reserve after a commit found no space.
    pub(super) fn release_reserve(&mut self, medium: &mut dyn Medium) {
        self.is_exhausted = true;
        if let Err(error) = medium.set_reserve(0) {
            tracing::error!(%error, "the reserve cannot be released");
        }
        self.set_full(true);
    }

    fn set_full(&mut self, is_full: bool) {
        if is_full && !self.is_full {
            tracing::error!(
                name: journal::DISK_FULL,
                free_bytes = self.free,
                "the disk is full: new records are refused until there is room; stored records are still sent"
            );
        } else if self.is_full && !is_full {
            tracing::info!(name: journal::DISK_SPACE_RECOVERED, "the disk has room again: new records are accepted");
        }
        self.is_full = is_full;
    }

    pub(super) fn admits_records(&self) -> bool {
        !self.is_full
    }

    /// Whether the number of receipts must not grow.
    pub(super) fn is_low(&self) -> bool {
        self.is_full || self.is_low
    }

    /// Whether more than half of the file is unused, and either compacting it is quick or the disk needs the space.
    ///
    /// Otherwise, its free pages are used again, and each commit cuts off free pages at its end.
    pub(super) fn is_worth_compacting(&self, medium: &dyn Medium, counters: &Counters) -> bool {
        let receipts = counters.receipt_count() * RECEIPT_BYTES_MIN + counters.server_receipt_bytes;
        let changes = counters.last_change.map_or(0, |last| last.seq.min(CHANGES_MAX) * CHANGE_BYTES_MAX);
        let live = counters.submitters.disk_bytes() + receipts + changes;
        let is_mostly_unused =
            medium.database_bytes().is_ok_and(|size| size > SMALL_FILE_BYTES && size / 2 > live);
        is_mostly_unused && (live <= COMPACTED_BYTES_MAX || self.is_low())
    }

    /// Whether freeing this many bytes may be enough for new records.
    pub(super) fn may_recover_with(&self, bytes: u64) -> bool {
        bytes > 0 && bytes >= self.missing_bytes
    }

    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.free
    }

    pub(super) fn disk_state(&self) -> DiskState {
        if self.is_full { DiskState::Full } else { DiskState::Ok }
    }
}

/// Whether this many freed bytes are worth compacting the file.
pub(super) fn is_worth_giving_back(medium: &dyn Medium, freed: u64) -> bool {
    medium.database_bytes().is_ok_and(|size| freed > 0 && freed >= size / DISK_SHARE_DIVISOR)
}
