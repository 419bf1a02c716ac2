//! Verifies a whole database that may be damaged.

use redb::{Database, Key, ReadOnlyTable, ReadableTableMetadata, Value};

use super::body;
use super::codec;
use super::counters::Counters;
use super::disk_use::estimate_server_receipt_bytes;
use super::error::StoreError;
use super::schema::{BatchRow, ManifestRow, Snapshot, StoredState, manifest_row};
use super::server_receipts::decode_receipt;
use super::unlisted::UnlistedRecords;

/// Fails when a value cannot be decoded or tables contradict each other. redb may panic over damage.
pub(super) fn check_integrity(database: &Database) -> Result<(), StoreError> {
    let tables = Snapshot::read_latest(database)?;
    let mut counted = Counters::read_from(&tables.meta)?;
    let unlisted = UnlistedRecords::read_from(&tables.meta, &tables.payload)?;
    unlisted.count_into(&mut counted)?;
    let mut found = Counters { submitters: counted.submitters.to_zeroed(), ..Counters::default() };
    let (mut bytes, mut chunks) = (0, 0);
    for item in tables.payload.range::<u64>(..)? {
        let position = item?.0.value();
        let read = body::read_payload(&tables.payload, &tables.chunks, position)?;
        let (header, body) =
            read.ok_or(StoreError::Inconsistent("a payload is not found at its position"))?;
        let listed = manifest_row(&tables.manifest, header.id)?;
        let is_listed = listed.is_some();
        let row = listed.or_else(|| unlisted.row_of(header.id));
        let row = row.ok_or(StoreError::Inconsistent("a payload has no manifest entry"))?;
        if !is_listed {
            found.count_change(&row, None, Some(row.state));
        }
        let same = row.position == position && header.position == position && row.digest == header.digest;
        if !same || !row.state.is_unsettled() {
            return Err(StoreError::Inconsistent("a payload and its manifest entry contradict each other"));
        }
        if (row.state == StoredState::Quarantined) != tables.quarantine.get(position)?.is_some() {
            return Err(StoreError::Inconsistent("the list of quarantined records contradicts the manifest"));
        }
        bytes += body.len() as u64;
        chunks += tables.chunks.range((position, 0)..=(position, u32::MAX))?.count() as u64;
    }
    for item in tables.manifest.range::<u128>(..)? {
        let row: ManifestRow = codec::decode_row(item?.1.value())?;
        if !row.state.is_unsettled() && tables.receipts.get(row.position)?.is_none() {
            return Err(StoreError::Inconsistent("a settled record has no receipt"));
        }
        let discarded = tables.discarded.as_ref().map(|table| table.get(row.position)).transpose()?;
        if (row.state == StoredState::Discarded) != discarded.flatten().is_some() {
            return Err(StoreError::Inconsistent("the list of discarded records contradicts the manifest"));
        }
        found.count_change(&row, None, Some(row.state));
    }
    for item in tables.batches.range::<u128>(..)? {
        codec::decode_row::<BatchRow>(item?.1.value())?;
    }
    if let Some(table) = &tables.server_receipts {
        for item in table.range::<u64>(..)? {
            let (_, row) = item?;
            decode_receipt(row.value())?;
            found.server_receipt_bytes += estimate_server_receipt_bytes(row.value().len());
        }
        if count_entries(table)? != table.len()? {
            return Err(StoreError::Inconsistent("the number of the server's receipts is wrong"));
        }
    }
    if let Some(table) = &tables.changes
        && count_entries(table)? != table.len()?
    {
        return Err(StoreError::Inconsistent("the number of changes is wrong"));
    }
    let discarded = tables.discarded.as_ref().map(count_entries).transpose()?.unwrap_or_default();
    let of = |counters: &Counters| {
        let Counters { records, server_receipt_bytes, discarded, .. } = *counters;
        (records, counters.submitters.clone(), server_receipt_bytes, discarded)
    };
    let lengths = [
        (count_entries(&tables.payload)?, found.records.unsettled_count()),
        (count_entries(&tables.chunks)?, chunks),
        (count_entries(&tables.quarantine)?, found.records.quarantined),
        (count_entries(&tables.receipts)?, found.receipt_count()),
        (discarded, found.discarded),
        (count_entries(&tables.retry)?, tables.retry.len()?),
        (count_entries(&tables.lanes)?, tables.lanes.len()?),
        (count_entries(&tables.meta)?, tables.meta.len()?),
    ];
    if of(&counted) != of(&found)
        || counted.records.bytes != bytes
        || lengths.iter().any(|(walked, counted)| walked != counted)
    {
        return Err(StoreError::Inconsistent("the counters contradict the records"));
    }
    Ok(())
}

/// Reads and counts all entries of a table.
fn count_entries<K: Key + 'static, V: Value + 'static>(
    table: &ReadOnlyTable<K, V>,
) -> Result<u64, StoreError> {
    let mut entries = 0;
    for item in redb::ReadableTable::iter(table)? {
        let (key, value) = item?;
        let _entry = (key.value(), value.value());
        entries += 1;
    }
    Ok(entries)
}
