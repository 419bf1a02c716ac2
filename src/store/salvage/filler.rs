//! Fills a new database with salvaged items. The database also holds what has been seen, so that memory use does not
//! depend on the size of the damaged file. Tables that only the salvage needs are dropped at the end.

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::salvaged_meta::SalvagedMeta;
use crate::journal;
use crate::model::{Damage, QueuePosition};
use crate::protocol::receipt::Receipt;
use crate::store::body;
use crate::store::codec;
use crate::store::counters::{Counters, LastChange};
use crate::store::error::StoreError;
use crate::store::key_space::KeySpace;
use crate::store::migration::save_key_space;
use crate::store::schema::{ManifestRow, RecordHeader, SCHEMA_VERSION, StoredState, Tables, meta, seq_of};
use crate::store::server_receipts::insert_receipt;

/// Record id → row of an unsettled record whose payload has not been found.
const MISSING_PAYLOADS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("salvage_wanted");
/// (Record id, digest) → offset in the damaged file of a row whose chunks have not been assembled.
const PARTIAL_ROWS: TableDefinition<'_, (u128, u128), u64> = TableDefinition::new("salvage_partial");
/// (Digest, index) → offset in the damaged file of a chunk.
const CHUNK_OFFSETS: TableDefinition<'_, (u128, u32), u64> = TableDefinition::new("salvage_pieces");

/// Bytes that one commit adds, approximately: a quarter of the store's cache.
const COMMIT_BYTES_MAX: usize = 2 << 20;
/// Size of an item besides its payload, approximately.
const ITEM_OVERHEAD_BYTES: usize = 512;
/// No store assigns such a number. A larger one is damaged.
const SEQ_LIMIT: u64 = 1 << 48;
/// Some thousand years. A later steady time is damaged, and the clock would continue from it.
const STEADY_LIMIT_MS: u64 = 1 << 48;
/// Lost records to name in the journal.
const LOGGED_LOST_RECORDS_MAX: usize = 100;

/// Something to put into the new database.
pub(super) enum SalvagedItem {
    /// A record with its payload, and its row if that could be read. The row has the state to restore.
    Record { header: RecordHeader, body: Box<str>, row: Option<ManifestRow> },
    /// A record that the server has confirmed, or that was discarded.
    Receipt { id: u128, row: ManifestRow, settled_at: u64, server_receipt: Option<Receipt> },
    /// An unsettled record whose payload was not found at its position.
    MissingPayload { id: u128, row: ManifestRow },
    /// A record in the raw file. It may have been settled long ago.
    Carved { header: RecordHeader, body: Box<str> },
    /// The row of a record in the raw file that needs chunks.
    PartialRow { id: u128, digest: u128, offset: u64 },
    /// A chunk in the raw file.
    Chunk { digest: u128, index: u32, offset: u64 },
}

pub(super) struct StoreFiller<'d> {
    database: &'d Database,
    found: Vec<SalvagedItem>,
    bytes: usize,
    counters: Counters,
    key_space: KeySpace,
    pub(super) known: SalvagedMeta,
}

impl<'d> StoreFiller<'d> {
    pub(super) fn new(database: &'d Database, key_space: KeySpace) -> Result<Self, StoreError> {
        let transaction = database.begin_write()?;
        drop(Tables::open_all(&transaction)?);
        transaction.open_table(MISSING_PAYLOADS)?;
        transaction.open_table(PARTIAL_ROWS)?;
        transaction.open_table(CHUNK_OFFSETS)?;
        transaction.commit()?;
        Ok(Self {
            database,
            found: Vec::new(),
            bytes: 0,
            counters: Counters { next_seq: 1, ..Counters::default() },
            key_space,
            known: SalvagedMeta::default(),
        })
    }

    pub(super) fn add_item(&mut self, found: SalvagedItem) -> Result<(), StoreError> {
        let body = match &found {
            SalvagedItem::Record { body, .. } | SalvagedItem::Carved { body, .. } => body.len(),
            _ => 0,
        };
        self.bytes += body + ITEM_OVERHEAD_BYTES;
        self.found.push(found);
        if self.bytes < COMMIT_BYTES_MAX { Ok(()) } else { self.commit_items() }
    }

    /// The items that were not committed.
    #[cfg(fuzzing)]
    pub(super) fn take_found(&mut self) -> Vec<SalvagedItem> {
        self.bytes = 0;
        std::mem::take(&mut self.found)
    }

    pub(super) fn commit_items(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let transaction = self.database.begin_write()?;
        let mut counters = self.counters.clone();
        let mut put = FillTransaction {
            tables: Tables::open_all(&transaction)?,
            transaction: &transaction,
            counters: &mut counters,
            key_space: self.key_space,
            all_rows_read: self.known.all_rows_read,
            first_unlisted_seq: self.known.first_unlisted_seq(),
        };
        for found in self.found.drain(..) {
            put.put_item(found)?;
        }
        drop(put);
        transaction.commit()?;
        self.counters = counters;
        Ok(())
    }

    /// Whether payloads are missing.
    pub(super) fn has_missing_payloads(&mut self) -> Result<bool, StoreError> {
        self.commit_items()?;
        Ok(!self.database.begin_read()?.open_table(MISSING_PAYLOADS)?.is_empty()?)
    }

    /// The next partial row: id, digest, and its offset.
    pub(super) fn next_partial(
        &self,
        after: Option<(u128, u128)>,
    ) -> Result<Option<(u128, u128, u64)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = self.database.begin_read()?.open_table(PARTIAL_ROWS)?;
        let mut range = table.range((after.map_or(Unbounded, Excluded), Unbounded))?;
        let Some((key, offset)) = range.next().transpose()? else { return Ok(None) };
        let (id, digest) = key.value();
        Ok(Some((id, digest, offset.value())))
    }

    /// The offset of a chunk.
    pub(super) fn find_chunk(&self, digest: u128, index: u32) -> Result<Option<u64>, StoreError> {
        let table = self.database.begin_read()?.open_table(CHUNK_OFFSETS)?;
        Ok(table.get((digest, index))?.map(|offset| offset.value()))
    }

    /// Completes the store. Returns how many unsettled records it has, and how many are known to be lost. `note`
    /// makes the note of damage from both.
    pub(super) fn finish_store(
        mut self,
        note: impl FnOnce(u64, u64) -> Option<Damage>,
    ) -> Result<(u64, u64), StoreError> {
        self.commit_items()?;
        let transaction = self.database.begin_write()?;
        let lost = {
            let wanted = transaction.open_table(MISSING_PAYLOADS)?;
            for item in wanted.iter()?.take(LOGGED_LOST_RECORDS_MAX) {
                let id = Uuid::from_u128(item?.0.value());
                tracing::error!(
                    name: journal::RECORD_LOST,
                    record_id = %id,
                    "record {id} was accepted and is lost: its payload cannot be read"
                );
            }
            wanted.len()?
        };
        transaction.delete_table(MISSING_PAYLOADS)?;
        transaction.delete_table(PARTIAL_ROWS)?;
        transaction.delete_table(CHUNK_OFFSETS)?;
        let next_seq = Some(self.known.counters.next_seq).filter(|seq| *seq < SEQ_LIMIT);
        let steady = Some(self.known.counters.steady).filter(|steady| *steady < STEADY_LIMIT_MS);
        let counters = Counters {
            next_seq: self.counters.next_seq.max(next_seq.unwrap_or(1)),
            commits: self.known.counters.commits,
            last_change: Some(LastChange::new_history()),
            steady: self.counters.steady.max(steady.unwrap_or_default()),
            ..self.counters.clone()
        };
        let salvaged = counters.records.unsettled_count();
        let mut damage = std::mem::take(&mut self.known.damage);
        damage.extend(note(salvaged, lost));
        {
            let mut tables = Tables::open_all(&transaction)?;
            for (name, value) in &self.known.notes {
                tables.meta.insert(name.as_str(), value.as_slice())?;
            }
            let device = self.known.device.unwrap_or_else(|| Uuid::new_v4().as_u128());
            tables.meta.insert(meta::SCHEMA_KEY, codec::encode_row(&SCHEMA_VERSION)?.as_slice())?;
            tables.meta.insert(meta::DEVICE_KEY, codec::encode_row(&device)?.as_slice())?;
            counters.write_to(&mut tables.meta)?;
            save_key_space(&mut tables, self.key_space)?;
            if self.known.paused {
                tables.meta.insert(meta::PAUSED_KEY, codec::encode_row(&true)?.as_slice())?;
            }
            if !damage.is_empty() {
                let note = serde_json::to_vec(&damage)
                    .map_err(|_| StoreError::Inconsistent("a note of damage cannot be encoded"))?;
                tables.meta.insert(meta::DAMAGE_KEY, note.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok((salvaged, lost))
    }
}

/// A commit in progress.
struct FillTransaction<'t, 'c> {
    tables: Tables<'t>,
    transaction: &'t WriteTransaction,
    counters: &'c mut Counters,
    key_space: KeySpace,
    all_rows_read: bool,
    first_unlisted_seq: u64,
}

impl FillTransaction<'_, '_> {
    fn put_item(&mut self, found: SalvagedItem) -> Result<(), StoreError> {
        match found {
            SalvagedItem::Record { header, body, row } => {
                if self.tables.manifest.get(header.id)?.is_none() {
                    self.put_record(header, &body, row)?;
                }
                Ok(())
            }
            SalvagedItem::Receipt { id, row, settled_at, server_receipt } => {
                self.put_receipt(id, row, settled_at, server_receipt.as_ref())
            }
            SalvagedItem::MissingPayload { id, row } => self.put_missing(id, row),
            SalvagedItem::Carved { header, body } => self.put_carved(header, &body),
            SalvagedItem::PartialRow { id, digest, offset } => {
                if self.tables.manifest.get(id)?.is_none() {
                    self.transaction.open_table(PARTIAL_ROWS)?.insert((id, digest), offset)?;
                }
                Ok(())
            }
            SalvagedItem::Chunk { digest, index, offset } => {
                self.transaction.open_table(CHUNK_OFFSETS)?.insert((digest, index), offset)?;
                Ok(())
            }
        }
    }

    fn put_record(
        &mut self,
        mut header: RecordHeader,
        body: &str,
        row: Option<ManifestRow>,
    ) -> Result<(), StoreError> {
        if !is_valid_position(QueuePosition(header.position))
            || self.is_taken(header.position)?
            || self.is_in_lane(&header)?
        {
            // The position is occupied, or no claim examines it. The record goes behind all that may still be salvaged.
            let seq = self.counters.next_seq.max(SEQ_LIMIT);
            header.position = QueuePosition::new(QueuePosition(header.position).priority(), seq).0;
        }
        let seq = QueuePosition(header.position).seq();
        self.counters.next_seq = self.counters.next_seq.max(seq + 1);
        let quarantined = row.as_ref().is_some_and(|row| row.state == StoredState::Quarantined);
        let id = header.id;
        let Tables { payload, chunks, .. } = &mut self.tables;
        body::write_payload(payload, chunks, &header, body)?;
        let row = ManifestRow {
            state: if quarantined { StoredState::Quarantined } else { StoredState::Pending },
            attempts: row.as_ref().map_or(0, |row| row.attempts),
            updated_at: row.as_ref().map_or(header.created_at, |row| row.updated_at),
            batch: row.as_ref().and_then(|row| row.batch),
            error: row.and_then(|row| row.error),
            ..ManifestRow::new_pending(header)
        };
        if let Some(lane) = row.lane_in(self.key_space) {
            self.tables.lanes.insert(lane.position_of(seq), row.position)?;
        }
        self.insert_row(id, &row)
    }

    fn insert_row(&mut self, id: u128, row: &ManifestRow) -> Result<(), StoreError> {
        if row.state == StoredState::Quarantined {
            self.tables.quarantine.insert(row.position, id)?;
        }
        if row.state == StoredState::Discarded {
            self.tables.discarded.insert(row.position, id)?;
        }
        self.counters.count_change(row, None, Some(row.state));
        self.tables.manifest.insert(id, codec::encode_row(row)?.as_slice())?;
        Ok(())
    }

    fn is_taken(&self, position: u64) -> Result<bool, StoreError> {
        Ok(self.tables.payload.get(position)?.is_some() || self.tables.receipts.get(position)?.is_some())
    }

    /// Whether the lane has a record with the same order of arrival, under another priority.
    fn is_in_lane(&self, header: &RecordHeader) -> Result<bool, StoreError> {
        let Some(lane) = header.lane_in(self.key_space) else { return Ok(false) };
        Ok(self.tables.lanes.get(lane.position_of(QueuePosition(header.position).seq()))?.is_some())
    }

    fn put_receipt(
        &mut self,
        id: u128,
        row: ManifestRow,
        settled_at: u64,
        server_receipt: Option<&Receipt>,
    ) -> Result<(), StoreError> {
        let is_plausible = is_plausible(&row.record_type, row.key.as_deref());
        if !is_plausible || self.tables.manifest.get(id)?.is_some() || self.is_taken(row.position)? {
            return Ok(());
        }
        let seq = QueuePosition(row.position).seq();
        if seq < SEQ_LIMIT {
            self.counters.next_seq = self.counters.next_seq.max(seq + 1);
        }
        let settled_at = Some(settled_at).filter(|at| *at < STEADY_LIMIT_MS).unwrap_or(self.counters.steady);
        self.counters.steady = self.counters.steady.max(settled_at);
        self.tables.receipts.insert(row.position, (id, settled_at))?;
        if let Some(receipt) = server_receipt {
            insert_receipt(&mut self.tables.server_receipts, self.counters, row.position, receipt)?;
        }
        let is_discarded = row.state == StoredState::Discarded;
        let state = if is_discarded { row.state } else { StoredState::Synced };
        self.insert_row(id, &ManifestRow { state, due_at: None, ..row })
    }

    fn put_missing(&mut self, id: u128, row: ManifestRow) -> Result<(), StoreError> {
        let known = self
            .tables
            .manifest
            .get(id)?
            .map(|value| codec::decode_row::<ManifestRow>(value.value()))
            .transpose()?;
        let Some(known) = known else {
            // A record at this position is the same one: damage changed its id.
            if self.tables.payload.get(row.position)?.is_none() {
                self.transaction
                    .open_table(MISSING_PAYLOADS)?
                    .insert(id, codec::encode_row(&row)?.as_slice())?;
            }
            return Ok(());
        };
        // The payload was found without its row.
        let is_unknown_row =
            known.state == StoredState::Pending && known.attempts == 0 && known.error.is_none();
        if is_unknown_row && known.digest == row.digest && (row.attempts > 0 || row.error.is_some()) {
            self.counters.count_change(&known, Some(known.state), None);
            let row = ManifestRow {
                state: row.state,
                attempts: row.attempts,
                updated_at: row.updated_at,
                batch: row.batch,
                error: row.error,
                ..known
            };
            self.insert_row(id, &row)?;
        }
        Ok(())
    }

    fn put_carved(&mut self, header: RecordHeader, body: &str) -> Result<(), StoreError> {
        if self.tables.manifest.get(header.id)?.is_some() {
            return Ok(());
        }
        let mut wanted = self.transaction.open_table(MISSING_PAYLOADS)?;
        let row =
            wanted.remove(header.id)?.map(|row| codec::decode_row::<ManifestRow>(row.value())).transpose()?;
        drop(wanted);
        match row {
            Some(row) if row.digest == header.digest => self.put_record(header, body, Some(row)),
            // A payload that the record had before it was replaced.
            Some(row) => self.put_missing(header.id, row),
            None if self.all_rows_read && seq_of(header.position) < self.first_unlisted_seq => Ok(()),
            // Without any other trace of it, this may be part of a text that an application submitted.
            None if !is_plausible(&header.record_type, header.key.as_deref()) => Ok(()),
            None => self.put_record(header, body, None),
        }
    }
}

/// Whether a store assigns this position, so that claims examine it and later records follow it.
pub(super) fn is_valid_position(position: QueuePosition) -> bool {
    QueuePosition::new(position.priority(), position.seq()) == position && position.seq() < 2 * SEQ_LIMIT
}

/// Whether a record may have this type and key. The server accepts no control characters.
pub(super) fn is_plausible(record_type: &str, key: Option<&str>) -> bool {
    !record_type.is_empty()
        && !record_type.chars().chain(key.unwrap_or_default().chars()).any(char::is_control)
}
