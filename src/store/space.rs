//! Room on the disk: who gets the last of it, and when the file gives some back.
//!
//! redb copies on write, so that even deleting needs room: on a disk that is really full, a queue
//! could neither grow nor drain. Hence two lines of defence. New records are refused while little
//! is free. And a reserve, a file of its own, is given up when a commit finds no room all the
//! same (quotas; other programs), so that records on their way can be settled; it is taken back
//! when there is room for it again. Receipts are worth less than new records: while little is free they do
//! not become more, and when the disk is full they give way.

use std::io::ErrorKind;

use super::counters::Counters;
use super::disk_use::RECEIPT_BYTES_MIN;
use super::medium::{Medium, SMALL_FILE_BYTES};
use crate::journal;
use crate::model::DiskState;

/// New records are refused while less is free: what a settlement of the largest batch of usual size takes.
const FREE_BYTES_MIN: u64 = 4 << 20;
/// On a small disk, at least so much.
const SMALL_DISK_FREE_BYTES_MIN: u64 = 1 << 20;
/// Once it is full, a disk must have so much more before it is not: else it would be full and not
/// full by turns.
const RECOVERY_MARGIN_BYTES: u64 = 4 << 20;
/// Floor, reserve and comfort take an eighth of a disk each at most.
const DISK_SHARE_DIVISOR: u64 = 8;
/// What the pages of a commit take for each byte that is added, at most.
const WRITTEN_BYTES_PER_ADDED_BYTE: u64 = 4;

/// What is known of the disk's room.
#[derive(Debug, Default)]
pub(super) struct DiskSpace {
    is_full: bool,
    /// Not full, but no longer roomy.
    is_low: bool,
    /// What must become free until it is roomy.
    missing_bytes: u64,
    free: Option<u64>,
    /// A commit found no room, on a system that does not say how much there is.
    is_exhausted: bool,
}

impl DiskSpace {
    /// Asks the system, before `weight` bytes are added. Keeps the reserve at `reserve` bytes
    /// where there is room for it.
    pub(super) fn check_space(&mut self, medium: &mut dyn Medium, reserve: u64, weight: u64) {
        self.free = medium.free_bytes();
        let Some(free) = self.free else {
            // A system that does not say is asked by trying, now and then.
            self.is_full = self.is_exhausted;
            self.is_exhausted &= weight > 0;
            return;
        };
        let capacity = medium.capacity_bytes();
        let at_most = |bytes: u64| capacity.map_or(bytes, |all| bytes.min(all / DISK_SHARE_DIVISOR));
        let reserve = at_most(reserve);
        let missing = reserve.saturating_sub(medium.reserve_bytes());
        let pages = weight.saturating_mul(WRITTEN_BYTES_PER_ADDED_BYTE);
        let needed = if self.is_full { pages.max(at_most(RECOVERY_MARGIN_BYTES)) } else { pages };
        let occupied = at_most(FREE_BYTES_MIN).max(SMALL_DISK_FREE_BYTES_MIN) + missing;
        let roomy = free >= occupied + needed;
        let mut is_full = !roomy;
        self.missing_bytes = (occupied + needed).saturating_sub(free);
        self.is_low = free < occupied + pages + at_most(RECOVERY_MARGIN_BYTES);
        if roomy
            && medium.reserve_bytes() != reserve
            && let Err(error) = medium.set_reserve(reserve)
        {
            // A quota, perhaps. A system that cannot reserve has none, and goes without.
            is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            tracing::debug!(%error, "the reserve cannot be taken");
        }
        self.set_full(is_full);
    }

    /// A commit found no room: the reserve is given up.
    pub(super) fn release_reserve(&mut self, medium: &mut dyn Medium) {
        self.is_exhausted = true;
        if let Err(error) = medium.set_reserve(0) {
            tracing::error!(%error, "the reserve cannot be given up");
        }
        self.set_full(true);
    }

    fn set_full(&mut self, is_full: bool) {
        if is_full && !self.is_full {
            tracing::error!(
                name: journal::DISK_FULL,
                free_bytes = self.free,
                "the disk is full: new records are refused until there is room; those that wait are sent"
            );
        } else if self.is_full && !is_full {
            tracing::info!(name: journal::DISK_ROOMY, "the disk has room again: records are taken in");
        }
        self.is_full = is_full;
    }

    pub(super) fn admits_records(&self) -> bool {
        !self.is_full
    }

    /// Whether receipts are not to become more.
    pub(super) fn is_low(&self) -> bool {
        self.is_full || self.is_low
    }

    /// Whether so many bytes may be enough to make it roomy.
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

/// Whether more than half of the file holds nothing any more.
pub(super) fn is_worth_compacting(medium: &dyn Medium, counters: &Counters) -> bool {
    let live = counters.submitters.disk_bytes() + counters.records.synced * RECEIPT_BYTES_MIN;
    medium.database_bytes().is_ok_and(|size| size > SMALL_FILE_BYTES && size / 2 > live)
}

/// Whether so many bytes are enough of the file to give them back.
pub(super) fn is_worth_giving_back(medium: &dyn Medium, freed: u64) -> bool {
    medium.database_bytes().is_ok_and(|size| freed > 0 && freed >= size / DISK_SHARE_DIVISOR)
}
