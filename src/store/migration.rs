//! Upgrades stores of earlier schema versions and stores for another `queue.shared_keys`.
//!
//! For version 1 and for another key space, it rebuilds the lanes and the counters by user from the manifest. Version 2
//! has no unlisted records, which version 3 reads as well: only the number changes.
//!
//! The upgrade is one transaction, so the file always holds either the old or the new store.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

use super::body;
use super::codec;
use super::counters::{Counters, LastChange, SubmitterCounters};
use super::error::StoreError;
use super::key_space::KeySpace;
use super::options::StoreOptions;
use super::schema::{
    DUE_WHEN_UNBLOCKED, LANES, LANES_OF_VERSION_1, META, ManifestRow, SCHEMA_VERSION, StoredState, Tables,
    meta, seq_of,
};
use super::unlisted::UnlistedRecords;

/// The first version with lanes by user.
const FIRST_VERSION_WITH_OWNED_LANES: u32 = 2;
/// Records between two progress reports.
const PROGRESS_INTERVAL_RECORDS: u64 = 1000;

/// Upgrades the store to this schema version and key space.
pub(super) fn upgrade_schema(
    database: &Database,
    schema: u32,
    options: &StoreOptions,
) -> Result<(), StoreError> {
    let key_space = options.key_space;
    if schema >= FIRST_VERSION_WITH_OWNED_LANES && has_lanes_of(database, key_space)? {
        return if schema == SCHEMA_VERSION { Ok(()) } else { save_schema_version(database) };
    }
    tracing::info!(schema, ?key_space, "rebuilding the order within keys from all records");
    let transaction = database.begin_write()?;
    transaction.delete_table(LANES_OF_VERSION_1)?;
    transaction.delete_table(LANES)?;
    {
        let mut tables = Tables::open_all(&transaction)?;
        let mut counters = Counters::read_totals(&tables.meta)?;
        let mut unlisted = UnlistedRecords::read_from(&tables.meta, &tables.payload)?;
        unlisted.count_into(&mut counters)?;
        unlisted.write_rows(&mut tables.manifest)?;
        let submitters = rebuild_lanes(&mut tables, options)?;
        wake_blocked(&mut tables, counters.steady)?;
        let last_change = counters.last_change.or_else(|| Some(LastChange::new_history()));
        Counters { submitters, last_change, ..counters }.write_to(&mut tables.meta)?;
        tables.meta.insert(meta::SCHEMA_KEY, codec::encode_row(&SCHEMA_VERSION)?.as_slice())?;
        save_key_space(&mut tables, key_space)?;
    }
    transaction.commit()?;
    Ok(())
}

fn save_schema_version(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(meta::SCHEMA_KEY, codec::encode_row(&SCHEMA_VERSION)?.as_slice())?;
    transaction.commit()?;
    Ok(())
}

/// Whether the lanes were built for this key space.
fn has_lanes_of(database: &Database, key_space: KeySpace) -> Result<bool, StoreError> {
    let table = database.begin_read()?.open_table(META)?;
    let shared = table.get(meta::SHARED_KEYS)?;
    let missing = StoreError::Inconsistent("it is unknown whether the lanes were built for shared keys");
    let shared: bool = codec::decode_row(shared.ok_or(missing)?.value())?;
    Ok(shared == (key_space == KeySpace::Shared))
}

/// Saves the key space that the lanes were built for.
pub(super) fn save_key_space(tables: &mut Tables<'_>, key_space: KeySpace) -> Result<(), StoreError> {
    let shared = codec::encode_row(&(key_space == KeySpace::Shared))?;
    tables.meta.insert(meta::SHARED_KEYS, shared.as_slice())?;
    Ok(())
}

/// Puts every unsettled record with a key into its lane, and counts all records by user.
fn rebuild_lanes(tables: &mut Tables<'_>, options: &StoreOptions) -> Result<SubmitterCounters, StoreError> {
    let mut submitters = SubmitterCounters::default();
    let records = tables.manifest.len()?;
    for (item, seen) in tables.manifest.range::<u128>(..)?.zip(1..) {
        let row: ManifestRow = codec::decode_row(item?.1.value())?;
        submitters.count_change(&row, None, Some(row.state));
        if row.state.is_unsettled()
            && let Some(lane) = row.lane_in(options.key_space)
        {
            tables.lanes.insert(lane.position_of(seq_of(row.position)), row.position)?;
        }
        if seen % PROGRESS_INTERVAL_RECORDS == 0 {
            #[expect(clippy::cast_precision_loss, reason = "how far it has come, for people")]
            (options.progress)(seen as f64 / records as f64);
        }
    }
    Ok(submitters)
}

/// Makes blocked FAILED records due now: in its new lane, a record may have no predecessor that would wake it. The next
/// claim puts those back that are still blocked.
fn wake_blocked(tables: &mut Tables<'_>, now: u64) -> Result<(), StoreError> {
    let mut next = Some(0);
    while let Some(from) = next {
        let first = tables.retry.range((DUE_WHEN_UNBLOCKED, from)..)?.next().transpose()?;
        let Some(position) = first.map(|(waiting, _)| waiting.value().1) else { break };
        next = position.checked_add(1);
        let Ok(Some(header)) = body::read_header(&tables.payload, position) else { continue };
        let row = tables.manifest.get(header.id)?.map(|row| codec::decode_row::<ManifestRow>(row.value()));
        let Some(row) = row.transpose()?.filter(|row| row.state == StoredState::Failed) else { continue };
        tables.retry.remove((DUE_WHEN_UNBLOCKED, position))?;
        tables.retry.insert((now, position), ())?;
        let row = ManifestRow { due_at: Some(now), ..row };
        tables.manifest.insert(header.id, codec::encode_row(&row)?.as_slice())?;
    }
    Ok(())
}
