//! Reads the tables of a damaged file: payloads in queue order, each with its row, then the rows without a payload
//! and those of settled records.
//!
//! Manifest rows have no checksum. A state is trusted if the other tables agree: the store keeps a payload until its
//! record is settled, and a receipt from then on.

use super::damaged_tables::{DamagedTables, OpenedTables};
use super::filler::{SalvagedItem, StoreFiller, is_valid_position};
use super::notes::read_notes;
use super::table_walk::TableWalk;
use crate::model::{Damage, QueuePosition};
use crate::store::body;
use crate::store::codec;
use crate::store::counters::Counters;
use crate::store::error::StoreError;
use crate::store::options::ProgressCallback;
use crate::store::schema::{ManifestRow, NOTES_MAX, RecordHeader, StoredError, StoredState, meta, seq_of};

/// Notes of damage to keep: repeated damage must not fill the store with them.
const DAMAGE_NOTES_MAX: usize = 20;
/// Rows between two progress reports.
const PROGRESS_INTERVAL_ROWS: u64 = 1000;

/// Reads everything that can be read. Returns whether that is everything.
pub(super) fn salvage_tables(
    source: &mut DamagedTables,
    filler: &mut StoreFiller<'_>,
    progress: &ProgressCallback,
) -> Result<bool, StoreError> {
    let mut reader = TableReader { is_complete: source.is_latest, source, filler, progress, rows_read: 0 };
    reader.read_meta();
    reader.read_payloads()?;
    let all_rows_read = reader.read_manifest()?;
    let is_complete = reader.is_complete && all_rows_read;
    filler.known.all_rows_read = all_rows_read;
    Ok(is_complete)
}

/// The schema version, if it can be read.
pub(super) fn read_schema_version(source: &mut DamagedTables) -> Option<u32> {
    read_meta_value(source, meta::SCHEMA_KEY).and_then(|value| codec::decode_row(&value).ok())
}

fn read_meta_value(source: &mut DamagedTables, name: &str) -> Option<Vec<u8>> {
    let value = source.with_tables(1, |parts| {
        let Some(table) = &parts.meta else { return Ok(None) };
        Ok(table.get(name)?.map(|value| value.value().to_vec()))
    });
    // The search for a name also compares others, and one of those may be damaged. A walk from one of the ends may
    // still reach it.
    value.or_else(|()| walk_to_meta_value(source, name, false)).ok().flatten().or_else(|| {
        let walked = walk_to_meta_value(source, name, true);
        walked.ok().flatten()
    })
}

fn walk_to_meta_value(source: &mut DamagedTables, name: &str, from_end: bool) -> Result<Option<Vec<u8>>, ()> {
    source.with_tables(NOTES_MAX, |parts| {
        let Some(table) = &parts.meta else { return Ok(None) };
        let mut range = table.range::<&str>(..)?;
        for _ in 0..NOTES_MAX {
            let item = if from_end { range.next_back() } else { range.next() };
            let Some((known, value)) = item.transpose()? else { break };
            if known.value() == name {
                return Ok(Some(value.value().to_vec()));
            }
        }
        Ok(None)
    })
}

struct TableReader<'r, 'd> {
    source: &'r mut DamagedTables,
    filler: &'r mut StoreFiller<'d>,
    progress: &'r ProgressCallback,
    rows_read: u64,
    is_complete: bool,
}

impl TableReader<'_, '_> {
    fn read_meta(&mut self) {
        let known = &mut self.filler.known;
        let device = read_meta_value(self.source, meta::DEVICE_KEY);
        known.device = device.and_then(|value| codec::decode_row(&value).ok());
        known.paused = read_meta_value(self.source, meta::PAUSED_KEY).is_some();
        let counters = read_meta_value(self.source, meta::COUNTERS_KEY);
        known.counters =
            counters.and_then(|value| codec::decode_row::<Counters>(&value).ok()).unwrap_or_default();
        let damage = read_meta_value(self.source, meta::DAMAGE_KEY);
        let damage = damage.and_then(|value| serde_json::from_slice::<Vec<Damage>>(&value).ok());
        known.damage = damage.unwrap_or_default();
        known.damage.truncate(DAMAGE_NOTES_MAX);
        known.notes = read_notes(self.source);
        self.is_complete &= known.device.is_some();
    }

    fn report_progress(&mut self) {
        self.rows_read += 1;
        if self.rows_read.is_multiple_of(PROGRESS_INTERVAL_ROWS) {
            (self.progress)(0.0);
        }
    }

    fn read_payloads(&mut self) -> Result<(), StoreError> {
        let mut walk = TableWalk::new(self.source, |parts: &OpenedTables| parts.payload.as_ref());
        let mut all_read = true;
        while let Some((position, sealed)) = walk.next(self.source) {
            self.report_progress();
            let Ok(header) = codec::unseal_row::<RecordHeader>(&sealed).map(|row| row.header) else {
                all_read = false;
                continue;
            };
            let is_unlisted = seq_of(position) >= self.filler.known.first_unlisted_seq();
            let unlisted = is_unlisted.then(|| ManifestRow::new_pending(header.clone()));
            let row = self.read_row(header.id).or(unlisted);
            let entries = header.bytes as usize / 1000;
            let read = self.source.with_tables(entries, |parts| {
                let (Some(payload), Some(chunks)) = (&parts.payload, &parts.chunks) else { return Ok(None) };
                body::read_payload(payload, chunks, position)
            });
            let read = read.ok().flatten().filter(|_| header.position == position);
            all_read &= read.is_some();
            self.is_complete &= row.is_some();
            let Some((header, body)) = read else { continue };
            let row = match row {
                Some(row) => Some(self.with_confirmed_state(header.id, row)),
                None => self.row_of_quarantined(&header),
            };
            self.filler.add_item(SalvagedItem::Record { header, body, row })?;
        }
        all_read &= walk.is_complete;
        self.is_complete &= all_read;
        self.filler.known.all_payloads_read = all_read;
        Ok(())
    }

    fn read_row(&mut self, id: u128) -> Option<ManifestRow> {
        let row = self.source.with_tables(1, |parts| {
            let Some(manifest) = &parts.manifest else { return Ok(None) };
            let row = manifest.get(id)?;
            Ok(row.map(|row| codec::decode_row(row.value())).transpose()?)
        });
        row.ok().flatten()
    }

    /// The id in the quarantine table at this position.
    fn quarantined_id_at(&mut self, position: u64) -> Result<Option<u128>, ()> {
        self.source.with_tables(1, |parts| match &parts.quarantine {
            Some(table) => Ok(table.get(position)?.map(|id| id.value())),
            None => Err(StoreError::Inconsistent("the table is missing")),
        })
    }

    /// The row as PENDING or QUARANTINED.
    fn with_confirmed_state(&mut self, id: u128, mut row: ManifestRow) -> ManifestRow {
        let quarantined = row.state == StoredState::Quarantined;
        // A quarantined record has an error and no due time.
        let looks_quarantined = quarantined && row.error.is_some() && row.due_at.is_none();
        let is_quarantined = match self.quarantined_id_at(row.position) {
            Ok(Some(listed)) => listed == id || looks_quarantined,
            Ok(None) | Err(()) => looks_quarantined,
        };
        self.is_complete &= is_quarantined == quarantined;
        row.state = if is_quarantined { StoredState::Quarantined } else { StoredState::Pending };
        if is_quarantined && row.error.is_none() {
            row.error = Some(unknown_review_reason(row.updated_at));
        }
        row.due_at = None;
        row
    }

    /// The row of a record without one, if the quarantine table lists it.
    fn row_of_quarantined(&mut self, header: &RecordHeader) -> Option<ManifestRow> {
        if self.quarantined_id_at(header.position) != Ok(Some(header.id)) {
            return None;
        }
        Some(ManifestRow {
            state: StoredState::Quarantined,
            attempts: 1,
            error: Some(unknown_review_reason(header.created_at)),
            ..ManifestRow::new_pending(header.clone())
        })
    }

    /// Reads the manifest. Returns whether every row was read.
    fn read_manifest(&mut self) -> Result<bool, StoreError> {
        let mut walk = TableWalk::new(self.source, |parts: &OpenedTables| parts.manifest.as_ref());
        let (mut decoded, mut listed_seq_end) = (self.source.is_latest, 0);
        while let Some((id, value)) = walk.next(self.source) {
            self.report_progress();
            let Ok(row) = codec::decode_row::<ManifestRow>(&value) else {
                decoded = false;
                continue;
            };
            let position = row.position;
            if is_valid_position(QueuePosition(position)) {
                listed_seq_end = listed_seq_end.max(seq_of(position) + 1);
            }
            let payload = self.source.with_tables(1, |parts| match &parts.payload {
                Some(table) => Ok(Some(table.get(position)?.is_some())),
                None => Ok(None),
            });
            let receipt = self.source.receipt_at(position).filter(|(listed, _)| *listed == id);
            let settled = !row.state.is_unsettled() || receipt.is_some();
            let found = if settled && payload != Ok(Some(true)) {
                let settled_at = receipt.map_or(self.filler.known.counters.steady, |(_, at)| at);
                let server_receipt = self.source.server_receipt_at(position);
                SalvagedItem::Receipt { id, row, settled_at, server_receipt }
            } else {
                let row = self.with_confirmed_state(id, row);
                SalvagedItem::MissingPayload { id, row }
            };
            self.filler.add_item(found)?;
        }
        self.filler.known.listed_seq_end = Some(listed_seq_end);
        Ok(decoded && walk.is_complete)
    }
}

/// For a record that was under review for an unknown reason.
fn unknown_review_reason(at: u64) -> StoredError {
    StoredError {
        class: "damaged".into(),
        http_status: None,
        code: None,
        message: "it needed review when the store on this device's disk was damaged, and the reason is lost: retry it, replace its payload, or discard it".into(),
        at,
        field: None,
    }
}
