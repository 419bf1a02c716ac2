//! The queue as its one owner sees it: synchronous, and true to the disk whatever the disk does.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use redb::WriteTransaction;

use super::disk_use::{RECEIPT_BYTES, RECEIPT_BYTES_MAX};
use super::error::{OpenError, StoreError};
use super::key_space::KeySpace;
use super::limits::Limits;
use super::medium::Medium;
use super::op::{Group, Transaction};
use super::open_batches::open_batch;
use super::options::{Progress, StoreOptions};
use super::read::StoreReader;
use super::receipts::{GiveWay, Prune};
use super::recovery;
use super::schema::{Snapshot, Tables};
use super::shared::SharedDatabase;
use super::space::{self, Space};
use super::state::{State, Totals};
use crate::clock::Now;
use crate::model::{Backlog, DeviceId, DiskState, OpenBatch, Storage};

/// The queue.
pub struct Queue {
    medium: Box<dyn Medium>,
    shared: Arc<SharedDatabase>,
    state: State,
    device: DeviceId,
    space: Space,
    /// Bytes of receipts that gave way since the file was last made smaller.
    given_way: u64,
    opening: StoreOptions,
    unknown: Option<Unknown>,
}

/// A commit whose outcome is not known until the store is opened again.
struct Unknown {
    attempted: u64,
    before: Totals,
    after: Totals,
}

impl Queue {
    /// Opens the queue in `dir`, mends it if need be, and says how that goes.
    pub fn open(dir: &Path, key_space: KeySpace, progress: Progress) -> Result<Self, OpenError> {
        let medium = recovery::directory(dir)?;
        Self::on(medium, StoreOptions { key_space, progress })
    }

    /// Opens the queue on a medium.
    pub(super) fn on(mut medium: Box<dyn Medium>, opening: StoreOptions) -> Result<Self, OpenError> {
        let opened = recovery::start(medium.as_mut(), &opening)?;
        let (state, device) = (opened.state, opened.device);
        let shared =
            SharedDatabase::new(opened.database, Arc::clone(&state.open), opening.key_space, medium.mark());
        let space = Space::default();
        Ok(Self { medium, shared, state, device, space, given_way: 0, opening, unknown: None })
    }

    /// Runs a group of operations and commits them; whether there was anything to commit.
    ///
    /// When the disk is full, the reserve is given up and the group runs once more, without taking
    /// records in. After any other error the queue may be used again once [`Queue::revive`]
    /// succeeded. The group did not take place then; only where the file could not even be opened
    /// again to look, or is no longer in its place, it is there entirely or not at all.
    pub fn commit(&mut self, limits: Limits, now: Now, group: &mut dyn Group) -> Result<bool, StoreError> {
        self.space.look(self.medium.as_mut(), limits.disk_reserve, group.weight());
        self.ready()?;
        match self.attempt_and_know(limits, now, group) {
            Err(error) if error.is_disk_full() => match self.attempt_and_know(limits, now, group) {
                Err(error) if error.is_disk_full() => Err(StoreError::NoRoom),
                done => done,
            },
            done => done,
        }
    }

    /// As [`Queue::attempt`]; after an error it is found out whether the commit took place all the same.
    fn attempt_and_know(
        &mut self,
        limits: Limits,
        now: Now,
        group: &mut dyn Group,
    ) -> Result<bool, StoreError> {
        let before = self.state.totals();
        let attempted = self.state.counters.commits + 1;
        let error = match self.attempt(limits, now, group) {
            Ok(changed) => return Ok(changed),
            Err(error) => error,
        };
        self.unknown = Some(Unknown { attempted, before, after: self.state.totals() });
        self.recover(&error)?;
        if self.state.counters.commits == attempted {
            tracing::info!(%error, "a commit took place although the disk gave an error");
            return Ok(true);
        }
        Err(error)
    }

    /// After an error the database object is dead: it is opened anew, and memory follows the disk.
    fn recover(&mut self, error: &StoreError) -> Result<(), StoreError> {
        self.shared.database_mut().take();
        if error.is_damage() {
            super::panic_guard::mark(&self.shared.mark);
        }
        if error.is_disk_full() {
            self.space.ran_out(self.medium.as_mut());
        }
        self.reopen()
    }

    /// Fails when the file is gone: a running daemon never creates another one.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.require_in_place()?;
        let opened = recovery::open(self.medium.as_mut(), &self.opening)?;
        let mut totals = self.state.totals();
        if let Some(unknown) = self.unknown.take() {
            let took_place = opened.state.counters.commits == unknown.attempted;
            totals = if took_place { unknown.after } else { unknown.before };
        }
        self.state = opened.state;
        self.state.set_totals(totals);
        self.shared.publish(&self.state.open);
        *self.shared.database_mut() = Some(opened.database);
        Ok(())
    }

    fn require_in_place(&self) -> Result<(), StoreError> {
        if self.medium.is_in_place() { Ok(()) } else { Err(StoreError::FileGone(self.medium.describe())) }
    }

    /// Proves that the store can be written, after it was opened again if need be.
    pub fn revive(&mut self) -> Result<(), StoreError> {
        if !self.is_open() {
            self.reopen()?;
        }
        let proof = self.begin_write().and_then(|transaction| Ok(transaction.commit()?));
        proof.inspect_err(|_| drop(self.shared.database_mut().take()))
    }

    fn is_open(&self) -> bool {
        self.shared.database().is_some()
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        Ok(self.shared.database().as_ref().ok_or(StoreError::Closed)?.begin_write()?)
    }

    fn attempt(&mut self, limits: Limits, now: Now, group: &mut dyn Group) -> Result<bool, StoreError> {
        let transaction = self.begin_write()?;
        let mut session = Transaction {
            tables: Tables::open(&transaction)?,
            state: &mut self.state,
            limits,
            now,
            admits: self.space.admits(),
            is_tight: self.space.is_tight(),
            damage_seen: Cell::new(false),
        };
        let changed = group.apply(&mut session)?;
        if changed {
            let counters = &mut session.state.counters;
            counters.commits += 1;
            counters.steady = now.steady;
            counters.write(&mut session.tables.meta)?;
        }
        let damage_seen = session.damage_seen.get();
        drop(session);
        if damage_seen {
            super::panic_guard::mark(&self.shared.mark);
        }
        if changed {
            transaction.commit()?;
            // After the commit: an acknowledged record must be in a file that a restart finds.
            self.require_in_place()?;
            self.shared.publish(&self.state.open);
        } else {
            transaction.abort()?;
        }
        Ok(changed)
    }

    /// For when nothing goes on: old receipts go, room that the file does not need goes back to the
    /// system, and an empty commit lets the next start open at once, crash or not. A step at a
    /// time; whether there may be more to do.
    pub fn rest(&mut self, limits: Limits, now: Now) -> Result<bool, StoreError> {
        let pruned = match self.commit(limits, now, &mut Prune) {
            Err(StoreError::NoRoom) => return Ok(false),
            pruned => pruned?,
        };
        match self.compact(now).and_then(|_| self.settle_down()) {
            Ok(()) => Ok(pruned),
            Err(error) => {
                self.recover(&error)?;
                if error.is_disk_full() { Ok(pruned) } else { Err(error) }
            }
        }
    }

    /// An empty commit that lets the next start open at once, crash or not. For when nothing goes on.
    pub fn settle_down(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.commit()?;
        Ok(())
    }

    /// Shrinks the file when more than half of it is free or receipts gave way. Waits while the planner may need
    /// the store, unless the disk is full. Returns whether the file shrank.
    fn compact(&mut self, now: Now) -> Result<bool, StoreError> {
        let medium = self.medium.as_ref();
        let worth = space::is_worth_compacting(medium, &self.state.counters)
            || space::is_worth_giving_back(medium, self.given_way);
        if !worth {
            return Ok(false);
        }
        self.refresh()?;
        if self.state.is_busy(now.steady) && self.space.admits() {
            return Ok(false);
        }
        self.given_way = 0;
        self.rewrite()
    }

    /// Writes the file anew, as small as it can be.
    fn rewrite(&self) -> Result<bool, StoreError> {
        Ok(self.shared.database_mut().as_mut().ok_or(StoreError::Closed)?.compact()?)
    }

    /// On a full disk receipts give way to new records, the oldest first, unless all of them would not make
    /// enough room. A step at a time; whether there may be more to do.
    pub fn make_room(&mut self, limits: Limits, now: Now) -> Result<bool, StoreError> {
        self.look_for_room(limits)?;
        let possible = self.given_way + self.state.counters.records.synced * RECEIPT_BYTES_MAX;
        if self.space.admits() || !self.space.is_helped_by(possible) {
            return Ok(false);
        }
        let mut step = GiveWay::default();
        self.commit(limits, now, &mut step)?;
        self.given_way += step.0 as u64 * RECEIPT_BYTES;
        let enough = space::is_worth_giving_back(self.medium.as_ref(), self.given_way);
        if enough || self.state.counters.records.synced == 0 {
            self.given_way = 0;
            if let Err(error) = self.rewrite() {
                self.recover(&error)?;
                return if error.is_disk_full() { Ok(false) } else { Err(error) };
            }
            self.look_for_room(limits)?;
        }
        Ok(!self.space.admits() && self.state.counters.records.synced > 0)
    }

    /// Closes the file cleanly.
    pub fn close(self) -> Result<(), StoreError> {
        let Some(database) = self.shared.database_mut().take() else { return Ok(()) };
        database.close().map_err(|error| StoreError::Redb(error.into()))
    }

    /// The device's id.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The batches that are open.
    pub fn open_batches(&self) -> Vec<OpenBatch> {
        self.state.open.iter().map(|(id, row)| open_batch(id, row)).collect()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::of(self.shared.database().as_ref().ok_or(StoreError::Closed)?)
    }

    /// Looks at the queue from other threads.
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(Arc::clone(&self.shared))
    }

    /// A panic of this thread from now on means that the store may be damaged.
    pub fn mark_panics(&self) {
        super::panic_guard::mark_panics(&self.shared.mark);
    }

    /// Steady time of the last commit.
    pub fn last_steady(&self) -> u64 {
        self.state.counters.steady
    }

    /// How the disk does, as far as room goes.
    pub fn disk(&self) -> DiskState {
        self.space.state()
    }

    /// Looks at the disk's room again. Where there was none even to open the file, and there is
    /// now, it is opened.
    pub fn look_for_room(&mut self, limits: Limits) -> Result<(), StoreError> {
        self.space.look(self.medium.as_mut(), limits.disk_reserve, 0);
        self.ready()
    }

    /// The database is open, if there is room for that.
    fn ready(&mut self) -> Result<(), StoreError> {
        match self.is_open() {
            true => Ok(()),
            false if self.space.admits() => self.reopen(),
            false => Err(StoreError::NoRoom),
        }
    }

    /// What waits, for all to see.
    pub fn backlog(&mut self) -> Result<Backlog, StoreError> {
        self.refresh()?;
        let storage = Storage {
            disk: self.space.state(),
            file_bytes: self.medium.size().unwrap_or_default(),
            disk_free_bytes: self.space.free(),
            damage: self.state.damage.clone(),
        };
        Ok(Backlog { storage, ..self.state.backlog() })
    }

    /// What is known of holders and waits follows the tables.
    fn refresh(&mut self) -> Result<(), StoreError> {
        if self.state.is_out_of_date() {
            let snapshot = self.snapshot()?;
            self.state.look_around(&snapshot)?;
        }
        Ok(())
    }

    /// A note that another room left with [`super::Remember`].
    pub fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot()?.meta.get(name)?.map(|value| value.value().to_vec()))
    }
}

/// Readers may outlive the queue; the file is let go of all the same.
impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.database_mut().take();
    }
}
