//! Reads entries, pages and payloads from a snapshot, on any thread. No commit waits for a reader, and no read scans
//! the whole manifest.

use std::sync::Arc;

use uuid::Uuid;

use super::body;
use super::changes::{ChangeCursor, ChangesRead, read_changes};
use super::codec;
use super::error::StoreError;
use super::key_space::KeySpace;
use super::lane_view::LaneView;
use super::open_batches::OpenBatches;
use super::schema::{ManifestRow, RecordHeader, Snapshot, StoredState, manifest_row};
use super::server_receipts::read_receipt;
use super::shared::SharedDatabase;
use super::unlisted::UnlistedRecords;
use crate::clock::Now;
use crate::model::{BatchId, LastError, ManifestEntry, QueuePosition, RecordId, RecordStanding, RecordState};
use crate::protocol::receipt::Receipt;

/// Records that one page examines, which takes a few milliseconds. With a rare filter, a page may end early with a
/// cursor.
pub(super) const PAGE_SCAN_RECORDS_MAX: usize = 2000;
/// Records of lanes that one page counts before it ends early with a cursor.
pub(super) const PAGE_LANE_STEPS_MAX: usize = 10_000;

/// Which records a page shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only records in this state.
    pub state: Option<RecordState>,
    /// Only records of this type.
    pub record_type: Option<String>,
    /// Only records of this user.
    pub submitter: Option<u32>,
    /// Only records behind this position.
    pub after: Option<QueuePosition>,
    /// The most entries of a page.
    pub limit: usize,
}

/// A page of the manifest, in queue order.
#[derive(Debug, Default)]
pub struct ManifestPage {
    /// The entries.
    pub entries: Vec<ManifestEntry>,
    /// Position after which the next page starts, if there may be more.
    pub next: Option<QueuePosition>,
}

/// Reads the queue from any thread.
pub struct StoreReader(Arc<SharedDatabase>);

/// The queue as of the last commit.
pub struct StoreView {
    pub(super) snapshot: Snapshot,
    pub(super) unlisted: UnlistedRecords,
    pub(super) open: Arc<OpenBatches>,
    pub(super) key_space: KeySpace,
    now: Now,
}

impl StoreReader {
    pub(super) fn new(shared: Arc<SharedDatabase>) -> Self {
        Self(shared)
    }

    /// Calls `read` with a view of the queue. Must be short: compaction waits for it.
    pub fn with_view<T>(
        &self,
        now: Now,
        read: impl FnOnce(&StoreView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.0.read_database();
        // Read before the snapshot: a batch settled in between is shown by the outcomes of its records.
        let open = self.0.open_batches();
        let snapshot = Snapshot::read_latest(database.as_ref().ok_or(StoreError::Closed)?)?;
        let unlisted = UnlistedRecords::read_from(&snapshot.meta, &snapshot.payload)?;
        read(&StoreView { snapshot, unlisted, open, key_space: self.0.key_space, now })
    }

    /// From now on, an unexpected panic of this thread makes the next start check the store.
    pub fn mark_damage_on_panic(&self) {
        super::panic_guard::mark_damage_on_panic(&self.0.marker);
    }
}

impl StoreView {
    /// The manifest row of a record.
    pub(super) fn manifest_row(&self, id: u128) -> Result<Option<ManifestRow>, StoreError> {
        Ok(manifest_row(&self.snapshot.manifest, id)?.or_else(|| self.unlisted.row_of(id)))
    }

    /// The entry of a record.
    pub fn find_entry(&self, id: RecordId) -> Result<Option<ManifestEntry>, StoreError> {
        let mut lanes = LaneView::new(&self.snapshot, &self.open, self.key_space);
        let row = self.manifest_row(id.0.as_u128())?;
        row.map(|row| self.to_entry(&mut lanes, id, row)).transpose()
    }

    /// The entries of the first of these ids, each with its id; none for an id that is not known. As many as one read
    /// may examine, and at least one.
    pub fn find_entries(
        &self,
        ids: &[RecordId],
    ) -> Result<Vec<(RecordId, Option<ManifestEntry>)>, StoreError> {
        let mut lanes = LaneView::new(&self.snapshot, &self.open, self.key_space);
        let mut found = Vec::with_capacity(ids.len().min(PAGE_SCAN_RECORDS_MAX));
        for id in ids.iter().take(PAGE_SCAN_RECORDS_MAX) {
            let row = self.manifest_row(id.0.as_u128())?;
            found.push((*id, row.map(|row| self.to_entry(&mut lanes, *id, row)).transpose()?));
            if lanes.steps_taken() >= PAGE_LANE_STEPS_MAX {
                break;
            }
        }
        Ok(found)
    }

    /// Up to `max` changes after a cursor: the records, and the next cursor. Without a cursor, no records and the
    /// present cursor. `None` if changes after the cursor are no longer known.
    pub fn list_changes(
        &self,
        after: Option<ChangeCursor>,
        max: usize,
    ) -> Result<Option<(Vec<RecordId>, ChangeCursor)>, StoreError> {
        let read = read_changes(&self.snapshot, after, max.min(PAGE_SCAN_RECORDS_MAX))?;
        let to_id = |id: u128| RecordId(Uuid::from_u128(id));
        Ok(read.map(|ChangesRead { ids, next }| (ids.into_iter().map(to_id).collect(), next)))
    }

    /// The entry of a record, and what is known of the open batch that it is in.
    pub fn standing_of(&self, id: RecordId) -> Result<Option<RecordStanding>, StoreError> {
        let Some(entry) = self.find_entry(id)? else { return Ok(None) };
        let batch = self.open.batch_of(QueuePosition::new(entry.priority, entry.seq).0);
        let batch_phase = batch.and_then(|id| self.open.get(id)).map(|row| row.phase.into());
        Ok(Some(RecordStanding { entry, batch_phase }))
    }

    /// What the server said that a record became, if it said so.
    pub fn receipt_of(&self, entry: &ManifestEntry) -> Result<Option<Receipt>, StoreError> {
        let Some(table) =
            self.snapshot.server_receipts.as_ref().filter(|_| entry.state == RecordState::Synced)
        else {
            return Ok(None);
        };
        let receipt = read_receipt(table, QueuePosition::new(entry.priority, entry.seq).0);
        if let Err(StoreError::Codec(error)) = &receipt {
            tracing::error!(record_id = %entry.id, %error, "the server's receipt of record {} cannot be decoded", entry.id);
            return Ok(None);
        }
        receipt
    }

    /// The payload of a record that is not synced, and the user who submitted it.
    pub fn read_payload(&self, id: RecordId) -> Result<Option<(Box<str>, u32)>, StoreError> {
        let Some(row) = self.manifest_row(id.0.as_u128())? else {
            return Ok(None);
        };
        let read = body::read_payload(&self.snapshot.payload, &self.snapshot.chunks, row.position)?;
        Ok(read.map(|(_, body)| (body, row.submitter)))
    }

    /// The user who submitted a record. Known as long as the record is, even without its payload.
    pub fn submitter_of(&self, id: RecordId) -> Result<Option<u32>, StoreError> {
        Ok(self.manifest_row(id.0.as_u128())?.map(|row| row.submitter))
    }

    /// A page of the manifest.
    pub fn list_page(&self, filter: &Filter) -> Result<ManifestPage, StoreError> {
        let start = filter.after.map_or(0, |position| position.0.saturating_add(1));
        let mut page = ManifestPage::default();
        let mut walk = ManifestWalk::new(&self.snapshot, filter.state, start)?;
        let mut lanes = LaneView::new(&self.snapshot, &self.open, self.key_space);
        for _ in 0..PAGE_SCAN_RECORDS_MAX {
            let Some((position, id)) = walk.next()? else {
                page.next = None;
                return Ok(page);
            };
            if page.entries.len() == filter.limit || lanes.steps_taken() >= PAGE_LANE_STEPS_MAX {
                return Ok(page);
            }
            let Some(row) = self.manifest_row(id)? else {
                continue;
            };
            let state = visible_state(&self.open, &row);
            let wanted = filter.state.is_none_or(|wanted| wanted == state)
                && filter.record_type.as_ref().is_none_or(|record_type| *record_type == row.record_type)
                && filter.submitter.is_none_or(|submitter| submitter == row.submitter);
            if wanted {
                page.entries.push(self.to_entry(&mut lanes, RecordId(Uuid::from_u128(id)), row)?);
            }
            page.next = Some(QueuePosition(position));
        }
        Ok(page)
    }

    pub(super) fn to_entry(
        &self,
        lanes: &mut LaneView<'_>,
        id: RecordId,
        row: ManifestRow,
    ) -> Result<ManifestEntry, StoreError> {
        let open = self.open.batch_of(row.position);
        let position = QueuePosition(row.position);
        let stuck = matches!(row.state, StoredState::Failed | StoredState::Quarantined);
        let blocked_count = if stuck { lanes.blocked_count(&row)? } else { 0 };
        let held_by = match row.state {
            StoredState::Synced | StoredState::Discarded => None,
            _ => lanes.blocked_by(&row)?,
        };
        let shown = visible_state(&self.open, &row);
        let sent = open.and_then(|batch| self.open.get(batch)).map_or(0, |batch| batch.attempt);
        Ok(ManifestEntry {
            id,
            seq: position.seq(),
            record_type: row.record_type,
            key: row.key,
            priority: position.priority(),
            state: shown,
            attempts: row.attempts,
            sends: row.attempts.max(sent),
            payload_bytes: u64::from(row.payload_bytes),
            submitter: row.submitter,
            created_at: row.created_at,
            updated_at: row.updated_at,
            next_attempt_at: row.due_at.filter(|_| open.is_none()).map(|due| self.now.to_wall_ms(due)),
            batch_id: open.or(row.batch).map(|batch| BatchId(Uuid::from_u128(batch))),
            last_error: row.error.map(LastError::from),
            discarded_by: row.discarded_by,
            blocked_by: held_by,
            blocked_count,
        })
    }
}

pub(super) type PayloadRange<'s> = redb::Range<'s, u64, &'static [u8]>;
pub(super) type ReceiptRange<'s> = redb::Range<'s, u64, (u128, u64)>;
pub(super) type IdRange<'s> = redb::Range<'s, u64, u128>;

/// Walks positions and ids in queue order, over the fewest tables that contain every record of a state.
struct ManifestWalk<'s> {
    payloads: Option<PayloadRange<'s>>,
    receipts: Option<ReceiptRange<'s>>,
    /// Of the only table to walk, if that lists the records of the state.
    listed: Option<IdRange<'s>>,
    /// The next entry of each of the first two ranges, to merge them.
    waiting: [Option<(u64, u128)>; 2],
}

impl<'s> ManifestWalk<'s> {
    fn new(snapshot: &'s Snapshot, state: Option<RecordState>, start: u64) -> Result<Self, StoreError> {
        let wanted = |states: &[RecordState]| state.is_none_or(|state| states.contains(&state));
        let mut walk = Self { payloads: None, receipts: None, listed: None, waiting: [None; 2] };
        if state == Some(RecordState::Quarantined) {
            walk.listed = Some(snapshot.quarantine.range(start..)?);
            return Ok(walk);
        }
        if state == Some(RecordState::Discarded) {
            walk.listed = snapshot.discarded.as_ref().map(|table| table.range(start..)).transpose()?;
            return Ok(walk);
        }
        if wanted(&[RecordState::Pending, RecordState::Syncing, RecordState::Failed]) {
            walk.payloads = Some(snapshot.payload.range(start..)?);
        }
        if wanted(&[RecordState::Synced]) {
            walk.receipts = Some(snapshot.receipts.range(start..)?);
        }
        Ok(walk)
    }

    fn next(&mut self) -> Result<Option<(u64, u128)>, StoreError> {
        if let Some(range) = &mut self.listed {
            let item = range.next().transpose()?;
            return Ok(item.map(|(position, id)| (position.value(), id.value())));
        }
        let [payload, receipt] = &mut self.waiting;
        if payload.is_none()
            && let Some(range) = &mut self.payloads
        {
            *payload = next_readable(range)?;
        }
        if receipt.is_none()
            && let Some(range) = &mut self.receipts
        {
            let item = range.next().transpose()?;
            *receipt = item.map(|(position, value)| (position.value(), value.value().0));
        }
        Ok(match (&payload, &receipt) {
            (Some(first), Some(second)) if second.0 < first.0 => receipt.take(),
            (Some(_), _) => payload.take(),
            (None, _) => receipt.take(),
        })
    }
}

fn next_readable(range: &mut PayloadRange<'_>) -> Result<Option<(u64, u128)>, StoreError> {
    for item in range {
        let (position, sealed) = item?;
        if let Ok(row) = codec::unseal_row::<RecordHeader>(sealed.value()) {
            return Ok(Some((position.value(), row.header.id)));
        }
    }
    Ok(None)
}

/// The state of a record as people see it.
pub(super) fn visible_state(open: &OpenBatches, row: &ManifestRow) -> RecordState {
    match row.state {
        StoredState::Pending | StoredState::Failed if open.is_in_flight(row.position) => RecordState::Syncing,
        StoredState::Pending => RecordState::Pending,
        StoredState::Failed => RecordState::Failed,
        StoredState::Synced => RecordState::Synced,
        StoredState::Quarantined => RecordState::Quarantined,
        StoredState::Discarded => RecordState::Discarded,
    }
}
