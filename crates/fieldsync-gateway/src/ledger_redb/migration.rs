//! Files of the layout before: its append-only table had the payloads, and rows after a cursor were to be forwarded.
//!
//! The first commit makes the file one of this layout, and notes which payloads are still needed. Then the rows move to
//! the new tables step by step, in bounded memory; a step that a crash cuts short is repeated at the next start. At the
//! end, the file is made smaller by the payloads that are gone. Later, the space of deleted rows is used again, and the
//! file keeps its size.

use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError};

use super::tables::{FORWARDS_KEY, LISTING, META, OUTBOX, OutboxColumns, SCHEMA, SCHEMA_KEY};
use crate::service_manager::report_long_start;

/// The version before.
pub(super) const SCHEMA_WITH_PAYLOADS: u64 = 1;
/// Sequence number → record, device, batch, type, key, time of application, payload.
const APPLIED: TableDefinition<'_, u64, OutboxColumns<'_>> = TableDefinition::new("applied");
/// The last entry that was forwarded; missing until then.
const FORWARDED_KEY: &str = "forwarded";
/// Rows after this one keep their payload.
const PAYLOADS_AFTER_KEY: &str = "payloads_after";
/// What one step moves at most; the row that reaches the bytes is the last one.
const STEP_ROWS: usize = 5000;
const STEP_BYTES: usize = 4 << 20;
/// systemd waits so long for the end of a step, and of the last part.
const STEP_TIME: Duration = Duration::from_mins(2);
const COMPACTION_TIME: Duration = Duration::from_hours(1);

/// Makes the file one of this layout. Payloads that were not forwarded are kept if records were ever forwarded, or are
/// now.
pub(super) fn begin_migration(database: &Database, forwards: bool) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut meta = transaction.open_table(META)?;
        let forwarded = meta.remove(FORWARDED_KEY)?.map(|seq| seq.value());
        let payloads_after = match forwarded {
            None if !forwards => {
                warn_of_payloads(transaction.open_table(APPLIED)?.len()?);
                u64::MAX
            }
            forwarded => forwarded.unwrap_or(0),
        };
        if forwarded.is_some() {
            meta.insert(FORWARDS_KEY, 1)?;
        }
        meta.insert(PAYLOADS_AFTER_KEY, payloads_after)?;
        meta.insert(SCHEMA_KEY, SCHEMA)?;
        transaction.open_table(LISTING)?;
        transaction.open_table(OUTBOX)?;
    }
    Ok(transaction.commit()?)
}

fn warn_of_payloads(records: u64) {
    if records > 0 {
        tracing::warn!(
            records,
            "payloads of records that were never forwarded are deleted, because [forward] is not configured"
        );
    }
}

/// Moves what is left in the table of the layout before, if there is one.
pub(super) fn finish_migration(database: &mut Database) -> Result<(), redb::Error> {
    let total = match database.begin_read()?.open_table(APPLIED) {
        Ok(applied) => applied.len()?,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    tracing::info!(records = total, "the ledger is brought to the layout of this version");
    let mut moved: u64 = 0;
    loop {
        report_long_start(&format!("Converting the ledger: {moved} of {total} records"), STEP_TIME);
        match move_rows(database, STEP_ROWS)? {
            0 => break,
            rows => moved += rows,
        }
    }
    report_long_start("Making the file of the ledger smaller", COMPACTION_TIME);
    if let Err(error) = database.compact() {
        tracing::warn!(%error, "the file of the ledger was not made smaller");
    }
    tracing::info!("the ledger has the layout of this version");
    Ok(())
}

/// Moves up to `max` rows, or deletes the table if there are none. Returns how many.
pub(super) fn move_rows(database: &Database, max: usize) -> Result<u64, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut rows = 0;
    {
        let mut meta = transaction.open_table(META)?;
        let payloads_after = meta.get(PAYLOADS_AFTER_KEY)?.map_or(0, |seq| seq.value());
        let mut applied = transaction.open_table(APPLIED)?;
        let (mut listing, mut outbox) = (transaction.open_table(LISTING)?, transaction.open_table(OUTBOX)?);
        let mut bytes = 0;
        while rows < max && bytes < STEP_BYTES {
            let Some((seq, columns)) = applied.pop_first()? else { break };
            let (seq, columns) = (seq.value(), columns.value());
            let (id, device, batch, record_type, key, applied_at, payload) = columns;
            listing.insert(seq, (id, device, batch, record_type, key, applied_at))?;
            if seq > payloads_after {
                outbox.insert(seq, columns)?;
            }
            rows += 1;
            bytes += payload.len();
        }
        if rows == 0 {
            meta.remove(PAYLOADS_AFTER_KEY)?;
        }
    }
    if rows == 0 {
        transaction.delete_table(APPLIED)?;
    }
    transaction.commit()?;
    Ok(u64::try_from(rows).unwrap_or(u64::MAX))
}
