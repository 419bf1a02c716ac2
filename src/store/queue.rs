//! The queue as its one owner sees it: synchronous, and true to the disk whatever the disk does.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use redb::WriteTransaction;

use super::disk_use::{RECEIPT_BYTES_MAX, RECEIPT_BYTES_MIN};
use super::error::{OpenError, StoreError};
use super::key_space::KeySpace;
use super::limits::QueueLimits;
use super::medium::Medium;
use super::op::{Group, Transaction};
use super::open_batches::to_open_batch;
use super::options::{ProgressCallback, StoreOptions};
use super::read::StoreReader;
use super::receipts::{EvictReceipts, PruneReceipts};
use super::recovery;
use super::schema::{Snapshot, Tables};
use super::shared::SharedDatabase;
use super::space::{self, DiskSpace};
use super::state::{QueueState, SettledTotals};
use crate::clock::Now;
use crate::model::{Backlog, DeviceId, DiskState, OpenBatch, Storage};

/// The queue.
pub struct Queue {
    medium: Box<dyn Medium>,
    shared: Arc<SharedDatabase>,
    state: QueueState,
    device: DeviceId,
    space: DiskSpace,
    /// Bytes of receipts that gave way since the file was last made smaller.
    evicted_bytes: u64,
    options: StoreOptions,
    unknown: Option<UnresolvedCommit>,
}

/// A commit whose outcome is not known until the store is opened again.
struct UnresolvedCommit {
    attempted: u64,
    before: SettledTotals,
    after: SettledTotals,
}

impl Queue {
    /// Opens the queue in `dir`, mends it if need be, and says how that goes.
    pub fn open(dir: &Path, key_space: KeySpace, progress: ProgressCallback) -> Result<Self, OpenError> {
        let medium = recovery::open_directory(dir)?;
        Self::open_on(medium, StoreOptions { key_space, progress })
    }

    /// Opens the queue on a medium.
    pub(super) fn open_on(mut medium: Box<dyn Medium>, options: StoreOptions) -> Result<Self, OpenError> {
        let opened = recovery::open_at_startup(medium.as_mut(), &options)?;
        let (state, device) = (opened.state, opened.device);
        let shared = SharedDatabase::new(
            opened.database,
            Arc::clone(&state.open),
            options.key_space,
            medium.marker_path(),
        );
        let space = DiskSpace::default();
        Ok(Self { medium, shared, state, device, space, evicted_bytes: 0, options, unknown: None })
    }

    /// Runs a group of operations and commits them; whether there was anything to commit.
    ///
    /// When the disk is full, the reserve is given up and the group runs once more, without taking
    /// records in. After any other error the queue may be used again once [`Queue::revive`]
    /// succeeded. The group did not take place then; only where the file could not even be opened
    /// again to look, or is no longer in its place, it is there entirely or not at all.
    pub fn commit(
        &mut self,
        limits: QueueLimits,
        now: Now,
        group: &mut dyn Group,
    ) -> Result<bool, StoreError> {
        self.space.check_space(self.medium.as_mut(), limits.disk_reserve, group.added_bytes());
        self.ensure_open()?;
        match self.commit_or_resolve(limits, now, group) {
            Err(error) if error.is_disk_full() => match self.commit_or_resolve(limits, now, group) {
                Err(error) if error.is_disk_full() => Err(StoreError::NoRoom),
                done => done,
            },
            done => done,
        }
    }

    /// As [`Queue::attempt`]; after an error it is found out whether the commit took place all the same.
    fn commit_or_resolve(
        &mut self,
        limits: QueueLimits,
        now: Now,
        group: &mut dyn Group,
    ) -> Result<bool, StoreError> {
        let before = self.state.settled_totals();
        let attempted = self.state.counters.commits + 1;
        let error = match self.try_commit(limits, now, group) {
            Ok(changed) => return Ok(changed),
            Err(error) => error,
        };
        self.unknown = Some(UnresolvedCommit { attempted, before, after: self.state.settled_totals() });
        self.recover_from(&error)?;
        if self.state.counters.commits == attempted {
            tracing::info!(%error, "a commit took place although the disk gave an error");
            return Ok(true);
        }
        Err(error)
    }

    /// After an error the database object is dead: it is opened anew, and memory follows the disk.
    fn recover_from(&mut self, error: &StoreError) -> Result<(), StoreError> {
        self.shared.lock_database().take();
        if error.is_damage() {
            super::panic_guard::write_damage_marker(&self.shared.marker);
        }
        if error.is_disk_full() {
            self.space.release_reserve(self.medium.as_mut());
        }
        self.reopen_database()
    }

    /// Fails when the file is gone: a running daemon never creates another one.
    fn reopen_database(&mut self) -> Result<(), StoreError> {
        self.require_in_place()?;
        let opened = recovery::open_store(self.medium.as_mut(), &self.options)?;
        let mut totals = self.state.settled_totals();
        if let Some(unknown) = self.unknown.take() {
            let took_place = opened.state.counters.commits == unknown.attempted;
            totals = if took_place { unknown.after } else { unknown.before };
        }
        self.state = opened.state;
        self.state.set_settled_totals(totals);
        self.shared.publish_batches(&self.state.open);
        *self.shared.lock_database() = Some(opened.database);
        Ok(())
    }

    fn require_in_place(&self) -> Result<(), StoreError> {
        if self.medium.is_in_place() { Ok(()) } else { Err(StoreError::FileGone(self.medium.display_path())) }
    }

    /// Proves that the store can be written, after it was opened again if need be.
    pub fn reopen_and_verify(&mut self) -> Result<(), StoreError> {
        if !self.is_open() {
            self.reopen_database()?;
        }
        let proof = self.begin_write().and_then(|transaction| Ok(transaction.commit()?));
        proof.inspect_err(|_| drop(self.shared.lock_database().take()))
    }

    fn is_open(&self) -> bool {
        self.shared.read_database().is_some()
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        Ok(self.shared.read_database().as_ref().ok_or(StoreError::Closed)?.begin_write()?)
    }

    fn try_commit(
        &mut self,
        limits: QueueLimits,
        now: Now,
        group: &mut dyn Group,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin_write()?;
        let mut session = Transaction {
            tables: Tables::open_all(&transaction)?,
            state: &mut self.state,
            limits,
            now,
            admits_records: self.space.admits_records(),
            is_disk_low: self.space.is_low(),
            is_damage_seen: Cell::new(false),
        };
        let changed = group.apply(&mut session)?;
        if changed {
            let counters = &mut session.state.counters;
            counters.commits += 1;
            counters.steady = now.steady;
            counters.write_to(&mut session.tables.meta)?;
        }
        let is_damage_seen = session.is_damage_seen.get();
        drop(session);
        if is_damage_seen {
            super::panic_guard::write_damage_marker(&self.shared.marker);
        }
        if changed {
            transaction.commit()?;
            // After the commit: an acknowledged record must be in a file that a restart finds.
            self.require_in_place()?;
            self.shared.publish_batches(&self.state.open);
        } else {
            transaction.abort()?;
        }
        Ok(changed)
    }

    /// For when nothing goes on: old receipts go, room that the file does not need goes back to the
    /// system, and an empty commit lets the next start open at once, crash or not. A step at a
    /// time; whether there may be more to do.
    pub fn run_idle_maintenance(&mut self, limits: QueueLimits, now: Now) -> Result<bool, StoreError> {
        let pruned = match self.commit(limits, now, &mut PruneReceipts) {
            Err(StoreError::NoRoom) => return Ok(false),
            pruned => pruned?,
        };
        match self.compact_if_worthwhile(now).and_then(|_| self.save_allocator_state()) {
            Ok(()) => Ok(pruned),
            Err(error) => {
                self.recover_from(&error)?;
                if error.is_disk_full() { Ok(pruned) } else { Err(error) }
            }
        }
    }

    /// An empty commit that lets the next start open at once, crash or not. For when nothing goes on.
    pub fn save_allocator_state(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.commit()?;
        Ok(())
    }

    /// Shrinks the file when more than half of it is free or receipts gave way. Waits while the planner may need
    /// the store, unless the disk is full. Returns whether the file shrank.
    fn compact_if_worthwhile(&mut self, now: Now) -> Result<bool, StoreError> {
        let medium = self.medium.as_ref();
        let worth = space::is_worth_compacting(medium, &self.state.counters)
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

    /// Writes the file anew, as small as it can be.
    fn compact_file(&self) -> Result<bool, StoreError> {
        Ok(self.shared.lock_database().as_mut().ok_or(StoreError::Closed)?.compact()?)
    }

    /// On a full disk receipts give way to new records, the oldest first, unless all of them would not make
    /// enough room. A step at a time; whether there may be more to do.
    pub fn evict_receipts(&mut self, limits: QueueLimits, now: Now) -> Result<bool, StoreError> {
        self.check_free_space(limits)?;
        let possible = self.evicted_bytes + self.state.counters.records.synced * RECEIPT_BYTES_MAX;
        if self.space.admits_records() || !self.space.may_recover_with(possible) {
            return Ok(false);
        }
        let mut step = EvictReceipts::default();
        self.commit(limits, now, &mut step)?;
        self.evicted_bytes += step.0 as u64 * RECEIPT_BYTES_MIN;
        let enough = space::is_worth_giving_back(self.medium.as_ref(), self.evicted_bytes);
        if enough || self.state.counters.records.synced == 0 {
            self.evicted_bytes = 0;
            if let Err(error) = self.compact_file() {
                self.recover_from(&error)?;
                return if error.is_disk_full() { Ok(false) } else { Err(error) };
            }
            self.check_free_space(limits)?;
        }
        Ok(!self.space.admits_records() && self.state.counters.records.synced > 0)
    }

    /// Closes the file cleanly.
    pub fn close(self) -> Result<(), StoreError> {
        let Some(database) = self.shared.lock_database().take() else { return Ok(()) };
        database.close().map_err(|error| StoreError::Redb(error.into()))
    }

    /// The device's id.
    pub fn device_id(&self) -> DeviceId {
        self.device
    }

    /// The batches that are open.
    pub fn open_batches(&self) -> Vec<OpenBatch> {
        self.state.open.iter().map(|(id, row)| to_open_batch(id, row)).collect()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn state(&self) -> &QueueState {
        &self.state
    }

    pub(super) fn take_snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::read_latest(self.shared.read_database().as_ref().ok_or(StoreError::Closed)?)
    }

    /// Looks at the queue from other threads.
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(Arc::clone(&self.shared))
    }

    /// A panic of this thread from now on means that the store may be damaged.
    pub fn mark_damage_on_panic(&self) {
        super::panic_guard::mark_damage_on_panic(&self.shared.marker);
    }

    /// Steady time of the last commit.
    pub fn last_steady(&self) -> u64 {
        self.state.counters.steady
    }

    /// How the disk does, as far as room goes.
    pub fn disk_state(&self) -> DiskState {
        self.space.disk_state()
    }

    /// Looks at the disk's room again. Where there was none even to open the file, and there is
    /// now, it is opened.
    pub fn check_free_space(&mut self, limits: QueueLimits) -> Result<(), StoreError> {
        self.space.check_space(self.medium.as_mut(), limits.disk_reserve, 0);
        self.ensure_open()
    }

    /// The database is open, if there is room for that.
    fn ensure_open(&mut self) -> Result<(), StoreError> {
        match self.is_open() {
            true => Ok(()),
            false if self.space.admits_records() => self.reopen_database(),
            false => Err(StoreError::NoRoom),
        }
    }

    /// What waits, for all to see.
    pub fn read_backlog(&mut self) -> Result<Backlog, StoreError> {
        self.refresh_summary()?;
        let storage = Storage {
            disk: self.space.disk_state(),
            file_bytes: self.medium.database_bytes().unwrap_or_default(),
            disk_free_bytes: self.space.free_bytes(),
            damage: self.state.damage.clone(),
        };
        Ok(Backlog { storage, ..self.state.to_backlog() })
    }

    /// What is known of holders and waits follows the tables.
    fn refresh_summary(&mut self) -> Result<(), StoreError> {
        if self.state.needs_refresh() {
            let snapshot = self.take_snapshot()?;
            self.state.refresh_summary(&snapshot)?;
        }
        Ok(())
    }

    /// A note that another room left with [`super::SaveNote`].
    pub fn read_note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.take_snapshot()?.meta.get(name)?.map(|value| value.value().to_vec()))
    }
}

/// Readers may outlive the queue; the file is let go of all the same.
impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock_database().take();
    }
}
