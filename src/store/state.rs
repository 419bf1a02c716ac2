//! The state in memory besides the tables. Its size depends on the open batches, never on the backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{Database, ReadableTable};

use super::codec;
use super::counters::{Counters, LastChange};
use super::error::StoreError;
use super::key_space::KeySpace;
use super::open_batches::OpenBatches;
use super::schema::{Snapshot, StoredPhase, meta};
use super::unlisted::UnlistedRecords;
use super::urgent::UrgentRecords;
use crate::model::{Blocker, Damage, Pause};

/// Priorities, each with its own cursor.
const PRIORITY_CLASSES: usize = 10;
/// Woken records to remember. Beyond this number, the walk starts over.
const WOKEN_RECORDS_MAX: usize = 10_000;

/// Records since the daemon started, by what happened to them. These counts are not in the tables.
#[derive(Clone, Copy, Default)]
pub(super) struct RunTotals {
    pub(super) accepted: u64,
    /// Synced, quarantined or discarded.
    pub(super) settled: u64,
    pub(super) synced: u64,
    pub(super) quarantined: u64,
    pub(super) discarded: u64,
}

/// PENDING and FAILED records of a batch, by user.
pub(super) type InFlight = BTreeMap<u32, (u64, u64)>;

/// The state in memory.
#[derive(Default)]
pub(super) struct QueueState {
    pub(super) counters: Counters,
    pub(super) unlisted: UnlistedRecords,
    pub(super) open: Arc<OpenBatches>,
    /// The key space that the lanes were built for.
    pub(super) key_space: KeySpace,
    /// Records of each batch that is being sent, by user.
    pub(super) in_flight: BTreeMap<u128, InFlight>,
    pub(super) cursors: Cursors,
    /// Records behind the cursors that the next claim must examine.
    pub(super) woken: BTreeSet<u64>,
    /// Blocked records that go first when their lane moves.
    pub(super) urgent: UrgentRecords,
    /// Where the next search for expired receipts starts.
    pub(super) next_receipt: u64,
    pub(super) eviction: ReceiptEviction,
    pub(super) paused: bool,
    /// Who paused it and when, if that is known.
    pub(super) pause: Option<Pause>,
    pub(super) totals: RunTotals,
    /// The blocking records may have changed since they were last read.
    pub(super) blockers_changed: bool,
    pub(super) blockers: Vec<Blocker>,
    /// The oldest waiting record and the next due time may have changed since they were last read.
    pub(super) waits_changed: bool,
    pub(super) oldest_pending_at: Option<u64>,
    pub(super) next_due_at: Option<u64>,
    /// Damage that was not acknowledged.
    pub(super) damage: Vec<Damage>,
}

/// Which receipts to evict: those settled before a time.
#[derive(Default)]
pub(super) struct ReceiptEviction {
    pub(super) before: u64,
    /// How many of them are left.
    pub(super) left: usize,
    /// Where the next search for them starts.
    pub(super) next: u64,
}

/// Progress of the walk through the waiting records, by priority.
#[derive(Clone, Default)]
pub(super) struct Cursors {
    /// The first position of each priority that was not examined.
    next: [u64; PRIORITY_CLASSES],
    /// Whether the last walk reached the end.
    pub(super) dry: bool,
}

impl Cursors {
    /// The ranges not yet examined, highest priority first.
    pub(super) fn remaining_ranges(&self) -> [std::ops::Range<u64>; PRIORITY_CLASSES] {
        std::array::from_fn(|class| {
            let (start, end) = ((class as u64) << 56, (class as u64 + 1) << 56);
            self.next.get(class).map_or(start, |next| start.max(*next))..end
        })
    }

    /// Notes that the walk has examined `position`.
    pub(super) fn mark_passed(&mut self, position: u64) {
        if let Some(next) = usize::try_from(position >> 56).ok().and_then(|class| self.next.get_mut(class)) {
            *next = position + 1;
        }
    }

    /// Whether the walk has examined `position`.
    pub(super) fn has_passed(&self, position: u64) -> bool {
        let next = usize::try_from(position >> 56).ok().and_then(|class| self.next.get(class));
        next.is_some_and(|next| position < *next)
    }
}

impl QueueState {
    /// Loads the state from the tables.
    pub(super) fn load_from(database: &Database, key_space: KeySpace) -> Result<Self, StoreError> {
        let snapshot = Snapshot::read_latest(database)?;
        let mut counters = Counters::read_from(&snapshot.meta)?;
        counters.last_change.get_or_insert_with(LastChange::new_history);
        let unlisted = UnlistedRecords::read_from(&snapshot.meta, &snapshot.payload)?;
        unlisted.count_into(&mut counters)?;
        let mut state = Self {
            counters,
            unlisted,
            key_space,
            blockers_changed: true,
            waits_changed: true,
            ..Self::default()
        };
        state.paused = snapshot.meta.get(meta::PAUSED_KEY)?.is_some();
        let pause = snapshot.meta.get(meta::PAUSE_KEY)?.filter(|_| state.paused);
        state.pause = pause.and_then(|note| serde_json::from_slice(note.value()).ok());
        let damage = snapshot.meta.get(meta::DAMAGE_KEY)?;
        state.damage = damage.and_then(|note| serde_json::from_slice(note.value()).ok()).unwrap_or_default();
        for item in snapshot.batches.iter()? {
            let (id, row) = item?;
            state.open_mut().insert_batch(id.value(), codec::decode_row(row.value())?);
        }
        Ok(state)
    }

    /// Lets the next claim examine the record at this position.
    pub(super) fn wake_record(&mut self, position: u64) {
        self.cursors.dry = false;
        if self.cursors.has_passed(position) {
            self.woken.insert(position);
        }
        if self.woken.len() > WOKEN_RECORDS_MAX {
            self.woken.clear();
            self.cursors = Cursors::default();
        }
    }

    /// The open batches for a change. Readers keep their copy.
    pub(super) fn open_mut(&mut self) -> &mut OpenBatches {
        Arc::make_mut(&mut self.open)
    }

    /// Whether the planner may need the store soon: a batch is in flight, or records can be claimed or are due.
    pub(super) fn is_busy(&self, now: u64) -> bool {
        let claimed =
            self.open.batch_rows().flat_map(|row| &row.members).filter(|member| !member.failed).count();
        let in_flight = self.open.batch_rows().any(|row| row.phase == StoredPhase::InFlight);
        let claimable = !self.cursors.dry && self.counters.records.pending > claimed as u64;
        in_flight || claimable || self.next_due_at.is_some_and(|due| due <= now)
    }

    /// Forgets the users of a batch that changes.
    pub(super) fn forget_in_flight(&mut self, id: u128) {
        self.in_flight.remove(&id);
    }
}
