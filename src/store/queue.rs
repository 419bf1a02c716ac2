//! The queue as its one owner sees it: synchronous, a group of operations to a commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use redb::{Database, ReadableTable, ReadableTableMetadata, WriteTransaction};
use uuid::Uuid;

use super::StoreError;
use super::codec;
use super::holds::{HELD, Keys};
use super::recovery::{self, OpenError};
use super::schema::{BatchRow, Counters, Header, ManifestRow, Snapshot, StoredState, Tables, meta};
use crate::config::Config;
use crate::model::{Backlog, BatchId, BatchPhase, DeviceId, OpenBatch, Place};

/// Priorities, each with a cursor of its own.
const CLASSES: usize = 10;
/// Quarantined records that are passed over in search of the oldest that waits.
const OLDEST_SCAN: usize = 100;

/// What the queue takes at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records whose payload is kept.
    pub max_records: u64,
    /// Their payload bytes.
    pub max_bytes: u64,
    /// Bytes of one payload.
    pub max_record_bytes: u64,
    /// How long receipts stay, milliseconds.
    pub keep_synced_ms: u64,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            max_records: config.queue.max_records,
            max_bytes: config.queue.max_bytes.0,
            max_record_bytes: config.queue.max_record_bytes.0,
            keep_synced_ms: crate::clock::millis(config.queue.keep_synced.0),
        }
    }
}

/// Something that changes the queue. All of a group are committed together.
///
/// An operation checks before it changes: a refusal is a reply and leaves nothing behind. An
/// error is the store's own, and fails the whole group.
pub trait Op: Send + 'static {
    /// What the sender hears once the commit is done.
    type Reply: Send + 'static;

    /// Applies it.
    fn apply(self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError>;
}

/// The queue.
pub struct Queue {
    database: Database,
    state: State,
    device: DeviceId,
    _lock: File,
}

/// What is kept in memory beside the tables: it follows the open batches, never the backlog.
#[derive(Default)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) open: BTreeMap<u128, BatchRow>,
    /// Place → open batch, of every member.
    pub(super) claimed: BTreeMap<u64, u128>,
    pub(super) keys: Keys,
    pub(super) cursors: Cursors,
    /// The receipt that the next search for old ones begins at.
    pub(super) next_receipt: u64,
    pub(super) paused: bool,
    pub(super) settled_total: u64,
    pub(super) synced_total: u64,
}

/// How far the walk through the waiting records has come, by priority.
#[derive(Default)]
pub(super) struct Cursors {
    /// First place of each class that was not looked at.
    next: [u64; CLASSES],
    /// The walk passed over records that are held by their key.
    pub(super) passed_held: bool,
    /// The last walk came to the end.
    pub(super) dry: bool,
}

impl Cursors {
    /// Looks at everything again: something behind the cursors may be claimed now.
    pub(super) fn rewind(&mut self) {
        *self = Self::default();
    }

    /// The ranges that are left, highest priority first.
    pub(super) fn ranges(&self) -> [std::ops::Range<u64>; CLASSES] {
        std::array::from_fn(|class| {
            let (start, end) = ((class as u64) << 56, (class as u64 + 1) << 56);
            self.next.get(class).map_or(start, |next| start.max(*next))..end
        })
    }

    /// The walk has looked at `place`.
    pub(super) fn passed(&mut self, place: u64) {
        if let Some(next) = usize::try_from(place >> 56).ok().and_then(|class| self.next.get_mut(class)) {
            *next = place + 1;
        }
    }
}

/// A group under way.
pub struct Transaction<'q, 't> {
    pub(super) tables: Tables<'t>,
    pub(super) state: &'q mut State,
    pub(super) limits: Limits,
    pub(super) now: u64,
}

impl Queue {
    /// Opens the queue in `dir`.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = recovery::open(dir)?;
        let state = State::load(&opened.database)
            .map_err(|source| OpenError::Unreadable { path: dir.to_owned(), source })?;
        Ok(Self { database: opened.database, state, device: opened.device, _lock: opened.lock })
    }

    /// Runs a group of operations and commits them. On an error nothing of it is done for sure,
    /// and the queue must not be used any more.
    pub fn commit(
        &mut self,
        limits: Limits,
        now: u64,
        group: impl FnOnce(&mut Transaction<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        self.apply(&transaction, limits, now, group)?;
        transaction.commit()?;
        Ok(())
    }

    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        limits: Limits,
        now: u64,
        group: impl FnOnce(&mut Transaction<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let before = self.state.counters.clone();
        let tables = Tables::open(transaction)?;
        let mut session = Transaction { tables, state: &mut self.state, limits, now };
        group(&mut session)?;
        if session.state.counters != before {
            let counters = codec::encode(&session.state.counters)?;
            session.tables.meta.insert(meta::COUNTERS, counters.as_slice())?;
        }
        Ok(())
    }

    /// An empty commit that lets the next start open at once, crash or not. For when nothing goes on.
    pub fn settle_down(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.commit()?;
        Ok(())
    }

    /// Closes the file cleanly.
    pub fn close(self) -> Result<(), StoreError> {
        self.database.close().map_err(|error| StoreError::Redb(error.into()))
    }

    /// The device's id.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The batches that are open.
    pub fn open_batches(&self) -> Vec<OpenBatch> {
        self.state.open.iter().map(|(id, row)| open_batch(*id, row)).collect()
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::of(&self.database)
    }

    /// What waits, for all to see.
    pub fn backlog(&self) -> Result<Backlog, StoreError> {
        let snapshot = self.snapshot()?;
        let (state, counters) = (&self.state, &self.state.counters);
        let in_flight = || state.open.values().filter(|row| row.phase == BatchPhase::InFlight);
        let members = |failed| {
            let count = |row: &BatchRow| row.members.iter().filter(|member| member.failed == failed).count();
            in_flight().map(count).sum::<usize>() as u64
        };
        let (pending, failed) = (members(false), members(true));
        Ok(Backlog {
            pending: counters.pending.saturating_sub(pending),
            syncing: pending + failed,
            failed: counters.failed.saturating_sub(failed),
            synced: counters.synced,
            quarantined: counters.quarantined,
            bytes: counters.bytes,
            settled_total: state.settled_total,
            synced_total: state.synced_total,
            oldest_pending_at: oldest(&snapshot)?,
            next_due_at: snapshot.retry.first()?.map(|(key, _)| key.value().0).filter(|due| *due < HELD),
            claimable: !state.cursors.dry,
            paused: state.paused,
        })
    }

    /// A note that another room left with [`super::Remember`].
    pub fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot()?.meta.get(name)?.map(|value| value.value().to_vec()))
    }
}

impl State {
    fn load(database: &Database) -> Result<Self, StoreError> {
        let snapshot = Snapshot::of(database)?;
        let lacking = StoreError::Inconsistent("the counters are missing");
        let counters = codec::decode(snapshot.meta.get(meta::COUNTERS)?.ok_or(lacking)?.value())?;
        let mut state = Self { counters, ..Self::default() };
        state.paused = snapshot.meta.get(meta::PAUSED)?.is_some();
        for item in snapshot.batches.iter()? {
            let (id, row) = item?;
            let (id, row): (u128, BatchRow) = (id.value(), codec::decode(row.value())?);
            for member in &row.members {
                state.claimed.insert(member.place, id);
                let sealed = snapshot.payload.get(member.place)?;
                let sealed =
                    sealed.ok_or(StoreError::Inconsistent("a batch names a record without payload"))?;
                let (header, _): (Header, _) = codec::unseal(sealed.value())?;
                state.keys.claim(header.key.as_deref(), member.place);
            }
            state.open.insert(id, row);
        }
        Ok(state)
    }
}

/// When the oldest record that is neither settled nor under review was accepted.
fn oldest(snapshot: &Snapshot) -> Result<Option<u64>, StoreError> {
    let mut oldest = None;
    for range in Cursors::default().ranges() {
        for item in snapshot.payload.range(range)?.take(OLDEST_SCAN) {
            let (place, sealed) = item?;
            if snapshot.quarantine.get(place.value())?.is_some() {
                continue;
            }
            let Ok((header, _)) = codec::unseal::<Header>(sealed.value()) else {
                continue;
            };
            oldest = Some(oldest.map_or(header.created_at, |known: u64| known.min(header.created_at)));
            break;
        }
    }
    Ok(oldest)
}

/// What the planner needs to know of a row.
pub(super) fn open_batch(id: u128, row: &BatchRow) -> OpenBatch {
    OpenBatch {
        id: BatchId(Uuid::from_u128(id)),
        parent: row.parent.map(|parent| BatchId(Uuid::from_u128(parent))),
        stage: row.stage,
        rule: row.rule,
        place: Place(row.members.first().map_or(0, |member| member.place)),
        records: row.members.len(),
        bytes: row.bytes,
        attempt: row.attempt,
        lone_failures: row.lone_failures,
        phase: row.phase,
    }
}

impl Transaction<'_, '_> {
    /// The manifest's row of a record.
    pub(super) fn manifest_row(&self, id: u128) -> Result<Option<ManifestRow>, StoreError> {
        let value = self.tables.manifest.get(id)?;
        value.map(|value| codec::decode(value.value())).transpose().map_err(StoreError::from)
    }

    /// Writes a row, and counts the change of state.
    pub(super) fn put_row(
        &mut self,
        id: u128,
        row: &ManifestRow,
        was: Option<StoredState>,
    ) -> Result<(), StoreError> {
        self.count(was, Some(row.state));
        self.tables.manifest.insert(id, codec::encode(row)?.as_slice())?;
        Ok(())
    }

    /// Counts a change of state; none is "not there".
    pub(super) fn count(&mut self, was: Option<StoredState>, is: Option<StoredState>) {
        if let Some(state) = was {
            let count = self.state.counters.of(state);
            *count = count.saturating_sub(1);
        }
        if let Some(state) = is {
            *self.state.counters.of(state) += 1;
        }
    }

    /// Removes a payload, for good.
    pub(super) fn drop_payload(&mut self, place: u64, bytes: u32) -> Result<(), StoreError> {
        self.tables.payload.remove(place)?;
        self.state.counters.bytes = self.state.counters.bytes.saturating_sub(u64::from(bytes));
        Ok(())
    }

    /// Forgets receipts that were kept long enough, a few at a time. They are not in order of
    /// time, so the search goes round: young ones in front must not shield the old ones behind.
    pub(super) fn prune_receipts(&mut self, most: usize) -> Result<(), StoreError> {
        let before = self.now.saturating_sub(self.limits.keep_synced_ms);
        let start = std::mem::take(&mut self.state.next_receipt);
        let mut old = Vec::new();
        for (item, looked_at) in self.tables.receipts.range(start..)?.zip(1..) {
            let (place, receipt) = item?;
            if looked_at > most {
                self.state.next_receipt = place.value();
                break;
            }
            let (id, settled_at) = receipt.value();
            if settled_at < before {
                old.push((place.value(), id));
            }
        }
        for (place, id) in old {
            self.tables.receipts.remove(place)?;
            self.tables.manifest.remove(id)?;
            self.count(Some(StoredState::Synced), None);
        }
        debug_assert_eq!(self.tables.receipts.len()?, self.state.counters.synced);
        Ok(())
    }
}
