//! What is kept in memory beside the tables: it follows the open batches, never the backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{Database, ReadableTable};
use uuid::Uuid;

use super::StoreError;
use super::body;
use super::codec;
use super::key_space::KeySpace;
use super::lanes::{self, HELD, Urgent};
use super::open::OpenBatches;
use super::receipts::GivingWay;
use super::schema::{BatchRow, Counters, Header, Snapshot, StoredPhase, meta};
use super::submitters::Holding;
use crate::model::{Backlog, BatchId, Damage, Holder, OpenBatch, Place, SubmitterCounts};

/// Priorities, each with a cursor of its own.
const CLASSES: usize = 10;
/// Quarantined records that are passed over in search of the oldest that waits.
const OLDEST_SCAN: usize = 100;
/// Woken records that are remembered; with more, the walk begins anew.
const MAX_WOKEN: usize = 10_000;

/// Records settled, and records synced, since the daemon started.
pub(super) type Totals = (u64, u64);

/// Records of a batch by the user that handed them over: how many PENDING ones, how many FAILED ones.
type InFlight = BTreeMap<u32, (u64, u64)>;

/// The memory.
#[derive(Default)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) open: Arc<OpenBatches>,
    /// Among whose records a key makes an order, as the lanes are on disk.
    pub(super) key_space: KeySpace,
    /// Of each batch that is being transmitted: how many of its records each user handed over.
    in_flight: BTreeMap<u128, InFlight>,
    pub(super) cursors: Cursors,
    /// Records behind the cursors that the next claim looks at.
    pub(super) woken: BTreeSet<u64>,
    /// Held records that go before the others of their lane once it moves.
    pub(super) urgent: Urgent,
    /// The receipt that the next search for old ones begins at.
    pub(super) next_receipt: u64,
    pub(super) giving_way: GivingWay,
    pub(super) paused: bool,
    pub(super) settled_total: u64,
    pub(super) synced_total: u64,
    /// Who holds others back may have changed since it was last looked at.
    pub(super) holders_changed: bool,
    pub(super) holders: Vec<Holder>,
    /// What waits longest, and what is due first, may have changed since it was last looked at.
    pub(super) waits_changed: bool,
    pub(super) oldest_pending_at: Option<u64>,
    next_due_at: Option<u64>,
    /// Damage that nobody has acknowledged.
    pub(super) damage: Vec<Damage>,
}

/// How far the walk through the waiting records has come, by priority.
#[derive(Clone, Default)]
pub(super) struct Cursors {
    /// First place of each class that was not looked at.
    next: [u64; CLASSES],
    /// The last walk came to the end.
    pub(super) dry: bool,
}

impl Cursors {
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

    /// Whether the walk has looked at `place`.
    pub(super) fn has_passed(&self, place: u64) -> bool {
        let next = usize::try_from(place >> 56).ok().and_then(|class| self.next.get(class));
        next.is_some_and(|next| place < *next)
    }
}

impl State {
    /// As the tables say.
    pub(super) fn load(database: &Database, key_space: KeySpace) -> Result<Self, StoreError> {
        let snapshot = Snapshot::of(database)?;
        let counters = Counters::read(&snapshot.meta)?;
        let mut state =
            Self { counters, key_space, holders_changed: true, waits_changed: true, ..Self::default() };
        state.paused = snapshot.meta.get(meta::PAUSED)?.is_some();
        let damage = snapshot.meta.get(meta::DAMAGE)?;
        state.damage = damage.and_then(|note| serde_json::from_slice(note.value()).ok()).unwrap_or_default();
        for item in snapshot.batches.iter()? {
            let (id, row) = item?;
            state.open_mut().put(id.value(), codec::decode(row.value())?);
        }
        Ok(state)
    }

    /// The next claim looks at the record at this place.
    pub(super) fn wake(&mut self, place: u64) {
        self.cursors.dry = false;
        if self.cursors.has_passed(place) {
            self.woken.insert(place);
        }
        if self.woken.len() > MAX_WOKEN {
            self.woken.clear();
            self.cursors = Cursors::default();
        }
    }

    /// The open batches, to change them: readers keep what they have of them.
    pub(super) fn open_mut(&mut self) -> &mut OpenBatches {
        Arc::make_mut(&mut self.open)
    }

    /// Whether the planner may want something of the store at once: a batch is in flight, or records may
    /// be claimed or are due.
    pub(super) fn is_busy(&self, now: u64) -> bool {
        let claimed = self.open.rows().flat_map(|row| &row.members).filter(|member| !member.failed).count();
        let in_flight = self.open.rows().any(|row| row.phase == StoredPhase::InFlight);
        let claimable = !self.cursors.dry && self.counters.pending > claimed as u64;
        in_flight || claimable || self.next_due_at.is_some_and(|due| due <= now)
    }

    /// Whether something that is not counted may have changed. Appends, which are the many, change
    /// nothing of the kind.
    pub(super) fn is_out_of_date(&self) -> bool {
        self.holders_changed || self.waits_changed
    }

    /// Reads it again.
    pub(super) fn look_around(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        if self.holders_changed {
            let stuck = self.counters.failed + self.counters.quarantined;
            self.holders =
                if stuck > 0 { lanes::holders(snapshot, &self.open, self.key_space)? } else { Vec::new() };
            self.holders_changed = false;
        }
        if self.waits_changed {
            self.oldest_pending_at = oldest(snapshot)?;
            let first = snapshot.retry.first()?;
            self.next_due_at = first.map(|(key, _)| key.value().0).filter(|due| *due < HELD);
            self.count_in_flight(snapshot);
            self.waits_changed = false;
        }
        Ok(())
    }

    /// The batch changes: whose records it has is looked at again.
    pub(super) fn forget_in_flight(&mut self, id: u128) {
        self.in_flight.remove(&id);
    }

    /// Whose records are being transmitted: each batch is looked at once a send.
    fn count_in_flight(&mut self, snapshot: &Snapshot) {
        let open = Arc::clone(&self.open);
        let is_in_flight = |row: &BatchRow| row.phase == StoredPhase::InFlight;
        self.in_flight.retain(|id, _| open.get(*id).is_some_and(is_in_flight));
        for (id, row) in open.iter().filter(|(_, row)| is_in_flight(row)) {
            if self.in_flight.contains_key(&id) {
                continue;
            }
            let mut of_batch = InFlight::new();
            for member in &row.members {
                let Ok(Some(header)) = body::header(&snapshot.payload, member.place) else { continue };
                let (pending, failed) = of_batch.entry(header.submitter).or_default();
                *(if member.failed { failed } else { pending }) += 1;
            }
            self.in_flight.insert(id, of_batch);
        }
    }

    /// What the store holds, by user.
    fn by_submitter(&self) -> BTreeMap<u32, SubmitterCounts> {
        let submitters = &self.counters.submitters;
        let counts = submitters.iter().map(|(submitter, holding)| {
            let Holding { pending, failed, synced, quarantined, bytes, disk_bytes } = holding;
            let counts =
                SubmitterCounts { pending, failed, synced, quarantined, bytes, disk_bytes, syncing: 0 };
            (submitter, counts)
        });
        let mut counts: BTreeMap<u32, SubmitterCounts> = counts.collect();
        for (submitter, (pending, failed)) in self.in_flight.values().flatten() {
            if let Some(counts) = counts.get_mut(&submitters.entry_of(*submitter)) {
                counts.pending = counts.pending.saturating_sub(*pending);
                counts.failed = counts.failed.saturating_sub(*failed);
                counts.syncing += pending + failed;
            }
        }
        counts
    }

    /// What waits, as far as memory goes.
    pub(super) fn backlog(&self) -> Backlog {
        let members = |failed| {
            let in_flight = self.open.rows().filter(|row| row.phase == StoredPhase::InFlight);
            let count = |row: &BatchRow| row.members.iter().filter(|member| member.failed == failed).count();
            in_flight.map(count).sum::<usize>() as u64
        };
        let (pending, failed) = (members(false), members(true));
        let counters = &self.counters;
        Backlog {
            pending: counters.pending.saturating_sub(pending),
            syncing: pending + failed,
            failed: counters.failed.saturating_sub(failed),
            synced: counters.synced,
            quarantined: counters.quarantined,
            bytes: counters.bytes,
            disk_bytes: counters.submitters.disk_bytes(),
            by_submitter: Arc::new(self.by_submitter()),
            settled_total: self.settled_total,
            synced_total: self.synced_total,
            oldest_pending_at: self.oldest_pending_at,
            next_due_at: self.next_due_at,
            claimable: !self.cursors.dry,
            paused: self.paused,
            holders: self.holders.clone(),
            ..Backlog::default()
        }
    }

    /// Of this life, and not in the tables.
    pub(super) fn totals(&self) -> Totals {
        (self.settled_total, self.synced_total)
    }

    pub(super) fn set_totals(&mut self, (settled, synced): Totals) {
        (self.settled_total, self.synced_total) = (settled, synced);
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
            let Ok(row) = codec::unseal::<Header>(sealed.value()) else {
                continue;
            };
            let header = row.header;
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
        stage: row.stage.into(),
        rule: row.rule.into(),
        place: Place(row.members.first().map_or(0, |member| member.place)),
        records: row.members.len(),
        bytes: row.bytes,
        attempt: row.attempt,
        lone_failures: row.lone_failures,
        phase: row.phase.into(),
    }
}
