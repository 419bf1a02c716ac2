//! The queue for its single writer: synchronous, and consistent with the disk even when the disk fails.

mod maintenance;

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use redb::WriteTransaction;

use super::error::{OpenError, StoreError};
use super::key_space::KeySpace;
use super::limits::QueueLimits;
use super::medium::Medium;
use super::op::{Group, Transaction};
use super::open_batches::to_open_batch;
use super::options::{ProgressCallback, StoreOptions};
use super::read::StoreReader;
use super::receipts::PrunePace;
use super::recovery;
use super::schema::{NOTES_MAX, Snapshot, Tables};
use super::shared::SharedDatabase;
use super::space::DiskSpace;
use super::state::{QueueState, RunTotals};
use crate::clock::Now;
use crate::model::{Backlog, DeviceId, DiskState, OpenBatch, Storage};

/// The queue.
pub struct Queue {
    medium: Box<dyn Medium>,
    shared: Arc<SharedDatabase>,
    state: QueueState,
    device: DeviceId,
    space: DiskSpace,
    /// Estimated bytes of receipts that were evicted since the file was last compacted.
    evicted_bytes: u64,
    prune_pace: PrunePace,
    options: StoreOptions,
    unresolved: Option<UnresolvedCommit>,
}

/// A commit whose outcome is unknown until the store is opened again.
struct UnresolvedCommit {
    attempted: u64,
    before: RunTotals,
    after: RunTotals,
}

impl Queue {
    /// Opens the queue in `dir`, repairs it if necessary, and reports progress.
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
        Ok(Self {
            medium,
            shared,
            state,
            device,
            space: DiskSpace::default(),
            evicted_bytes: 0,
            prune_pace: PrunePace::default(),
            options,
            unresolved: None,
        })
    }

    /// Applies a group of operations and commits it. Returns whether there was anything to commit.
    ///
    /// If the disk is full, releases the reserve and applies the group once more, without accepting new records.
    /// After any other error, the queue can be used again once [`Queue::reopen_and_verify`] succeeds. After an error
    /// the group has not taken place. The exception is a file that could not be opened again or lost its name: then
    /// the group is in it completely or not at all.
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

    /// As [`Queue::try_commit`]. After an error, finds out whether the commit took place.
    fn commit_or_resolve(
        &mut self,
        limits: QueueLimits,
        now: Now,
        group: &mut dyn Group,
    ) -> Result<bool, StoreError> {
        let before = self.state.totals;
        let attempted = self.state.counters.commits + 1;
        let error = match self.try_commit(limits, now, group) {
            Ok(changed) => return Ok(changed),
            Err(error) => error,
        };
        self.unresolved = Some(UnresolvedCommit { attempted, before, after: self.state.totals });
        self.recover_from(&error)?;
        if self.state.counters.commits == attempted {
            tracing::info!(%error, "a commit took place although the disk gave an error");
            return Ok(true);
        }
        Err(error)
    }

    /// Opens the database again after an error, which makes the database object unusable. Loads the state from disk.
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

    /// Fails if the file is gone: a running daemon never creates another one.
    fn reopen_database(&mut self) -> Result<(), StoreError> {
        self.require_in_place()?;
        let opened = recovery::open_store(self.medium.as_mut(), &self.options)?;
        let mut totals = self.state.totals;
        if let Some(commit) = self.unresolved.take() {
            let took_place = opened.state.counters.commits == commit.attempted;
            totals = if took_place { commit.after } else { commit.before };
        }
        self.state = opened.state;
        self.state.totals = totals;
        self.shared.publish_batches(&self.state.open);
        *self.shared.lock_database() = Some(opened.database);
        Ok(())
    }

    fn require_in_place(&self) -> Result<(), StoreError> {
        if self.medium.is_in_place() { Ok(()) } else { Err(StoreError::FileGone(self.medium.display_path())) }
    }

    /// Opens the store again if necessary, and verifies that it can be written.
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
            appended_count: 0,
            noted_changes: 0,
            needs_all_rows: false,
        };
        let unlisted_before = session.state.unlisted.len();
        let counters_before = cfg!(debug_assertions).then(|| session.state.counters.clone());
        let has_changes = group.apply(&mut session)?;
        // Records may have been listed for an operation that then had nothing to do.
        let changed = has_changes || session.state.unlisted.len() != unlisted_before;
        if changed {
            session.complete_commit()?;
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
            debug_assert!(
                counters_before.is_none_or(|before| before == self.state.counters),
                "an operation that changed nothing counted something"
            );
            transaction.abort()?;
        }
        Ok(changed)
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

    /// The open batches.
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

    /// A reader for other threads.
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(Arc::clone(&self.shared))
    }

    /// From now on, an unexpected panic of this thread makes the next start check the store.
    pub fn mark_damage_on_panic(&self) {
        super::panic_guard::mark_damage_on_panic(&self.shared.marker);
    }

    /// Steady time of the last commit that wrote the counters.
    pub fn last_steady(&self) -> u64 {
        self.state.counters.steady
    }

    /// The state of the disk as far as space is concerned.
    pub fn disk_state(&self) -> DiskState {
        self.space.disk_state()
    }

    /// The free space of the disk when it was last measured.
    pub fn free_bytes(&self) -> Option<u64> {
        self.space.free_bytes()
    }

    /// Checks the free space of the disk. Opens the store if there was too little space to open it before.
    pub fn check_free_space(&mut self, limits: QueueLimits) -> Result<(), StoreError> {
        self.space.check_space(self.medium.as_mut(), limits.disk_reserve, 0);
        self.ensure_open()
    }

    /// Opens the store if it is closed and there is space.
    fn ensure_open(&mut self) -> Result<(), StoreError> {
        match self.is_open() {
            true => Ok(()),
            false if self.space.admits_records() => self.reopen_database(),
            false => Err(StoreError::NoRoom),
        }
    }

    /// The current backlog.
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

    /// Updates the summary of blocking records and due times from the tables.
    fn refresh_summary(&mut self) -> Result<(), StoreError> {
        if self.state.needs_refresh() {
            let snapshot = self.take_snapshot()?;
            self.state.refresh_summary(&snapshot)?;
        }
        Ok(())
    }

    /// Reads a note of another component that [`super::SaveNote`] saved.
    pub fn read_note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.take_snapshot()?.meta.get(name)?.map(|value| value.value().to_vec()))
    }

    /// Reads the notes whose names begin with `prefix`.
    pub fn read_notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut notes = Vec::new();
        for item in self.take_snapshot()?.meta.range(prefix..)?.take(NOTES_MAX) {
            let (name, value) = item?;
            if !name.value().starts_with(prefix) {
                break;
            }
            notes.push((name.value().to_owned(), value.value().to_vec()));
        }
        Ok(notes)
    }
}

/// Readers may outlive the queue. The file is closed nevertheless.
impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock_database().take();
    }
}
