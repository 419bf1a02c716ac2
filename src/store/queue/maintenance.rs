//! What the writer does while nothing else needs it: removes old receipts, and gives disk space back.

use super::Queue;
use crate::clock::{Clock, Now};
use crate::store::disk_use::{RECEIPT_BYTES_MAX, RECEIPT_BYTES_MIN};
use crate::store::error::StoreError;
use crate::store::limits::QueueLimits;
use crate::store::notes::WaitingNotes;
use crate::store::receipts::{EvictReceipts, PrunePace, PruneReceipts};
use crate::store::schema::META;
use crate::store::space;

impl Queue {
    /// Idle maintenance, one step at a time: removes old receipts, then returns unused space to the system and saves the
    /// allocator state for a quick start. Returns whether there may be more to do.
    pub fn run_idle_maintenance(
        &mut self,
        limits: QueueLimits,
        now: Now,
        notes: &mut WaitingNotes,
    ) -> Result<bool, StoreError> {
        let clock = Clock::start();
        let pace = self.prune_pace;
        let mut step = PruneReceipts { pace, notes, removed: 0 };
        let pruned = self.commit(limits, now, &mut step);
        let removed = step.removed;
        *notes = std::mem::take(notes).after_commit(matches!(pruned, Ok(true)));
        let pruned = match pruned {
            Err(StoreError::NoRoom) => return Ok(false),
            pruned => pruned?,
        };
        if removed == pace.0 {
            // There may be millions more. The rest would be done again after each of these steps.
            self.prune_pace = pace.after_full_step(clock.now());
            return Ok(true);
        }
        self.prune_pace = PrunePace::default();
        match self.compact_if_worthwhile(now).and_then(|_| self.save_allocator_state(notes)) {
            Ok(()) => Ok(pruned),
            Err(error) => {
                self.recover_from(&error)?;
                if error.is_disk_full() { Ok(pruned) } else { Err(error) }
            }
        }
    }

    /// Makes a commit with redb's allocator state, so that the next start is quick even after a crash. Notes that wait
    /// share it.
    pub fn save_allocator_state(&mut self, notes: &mut WaitingNotes) -> Result<(), StoreError> {
        let mut transaction = self.begin_write()?;
        transaction.set_quick_repair(true);
        if !self.space.is_low() && !notes.is_empty() {
            notes.write_to(&mut transaction.open_table(META)?)?;
        }
        transaction.commit()?;
        *notes = std::mem::take(notes).after_commit(true);
        Ok(())
    }

    /// Compacts the file when that is worthwhile or receipts were evicted. Waits while the planner may need the store,
    /// unless the disk is full. Returns whether the file shrank.
    fn compact_if_worthwhile(&mut self, now: Now) -> Result<bool, StoreError> {
        let medium = self.medium.as_ref();
        let worth = self.space.is_worth_compacting(medium, &self.state.counters)
            || space::is_worth_giving_back(medium, self.evicted_bytes);
        if !worth {
            return Ok(false);
        }
        self.refresh_summary()?;
        if self.state.is_busy(now.steady) && self.space.admits_records() {
            return Ok(false);
        }
        self.evicted_bytes = 0;
        self.compact_file()
    }

    /// Compacts the file.
    fn compact_file(&self) -> Result<bool, StoreError> {
        Ok(self.shared.lock_database().as_mut().ok_or(StoreError::Closed)?.compact()?)
    }

    /// Evicts the oldest receipts from a full disk, unless evicting all of them would not free enough space. One step
    /// at a time. Returns whether there may be more to do.
    pub fn evict_receipts(&mut self, limits: QueueLimits, now: Now) -> Result<bool, StoreError> {
        self.check_free_space(limits)?;
        let counters = &self.state.counters;
        let server_receipt_bytes = counters.server_receipt_bytes;
        let possible =
            self.evicted_bytes + counters.receipt_count() * RECEIPT_BYTES_MAX + server_receipt_bytes;
        if self.space.admits_records() || !self.space.may_recover_with(possible) {
            return Ok(false);
        }
        let mut step = EvictReceipts::default();
        self.commit(limits, now, &mut step)?;
        let server_receipts = server_receipt_bytes.saturating_sub(self.state.counters.server_receipt_bytes);
        self.evicted_bytes += step.0 as u64 * RECEIPT_BYTES_MIN + server_receipts;
        let enough = space::is_worth_giving_back(self.medium.as_ref(), self.evicted_bytes);
        if enough || self.state.counters.receipt_count() == 0 {
            self.evicted_bytes = 0;
            if let Err(error) = self.compact_file() {
                self.recover_from(&error)?;
                return if error.is_disk_full() { Ok(false) } else { Err(error) };
            }
            self.check_free_space(limits)?;
        }
        Ok(!self.space.admits_records() && self.state.counters.receipt_count() > 0)
    }
}
