//! The tables of the lanes: what is in them, and who else may look at them.

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTableMetadata, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::tables::OutboxColumns;
use crate::ledger::LedgerError;

/// Lane → first record, its id, when it is due (`None`: refused), attempts, time of the verdict, and its words.
pub(super) const LANES: TableDefinition<'_, u128, LaneColumns<'_>> = TableDefinition::new("forward_lanes");
/// Lane and sequence number → the record. Holds all records of blocked lanes.
pub(super) const PARKED: TableDefinition<'_, (u128, u64), OutboxColumns<'_>> =
    TableDefinition::new("forward_parked");
/// When a lane is due, and the lane.
pub(super) const DUE: TableDefinition<'_, (u64, u128), ()> = TableDefinition::new("forward_due");
/// Id of a refused record → its lane.
pub(super) const REFUSED: TableDefinition<'_, u128, u128> = TableDefinition::new("forward_refused");

/// [`PARKED`], open for writing.
pub(super) type ParkedTable<'t> = Table<'t, (u128, u64), OutboxColumns<'static>>;

pub(super) type LaneColumns<'a> =
    (u64, u128, Option<u64>, u32, u64, (Option<&'a str>, Option<&'a str>, Option<&'a str>));

/// Creates the tables unless they exist: ledgers of older gateways lack them.
pub(super) fn create_lane_tables(database: &Database) -> Result<(), redb::Error> {
    match database.begin_read()?.open_table(LANES) {
        Ok(_) => return Ok(()),
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(LANES)?;
    transaction.open_table(PARKED)?;
    transaction.open_table(DUE)?;
    transaction.open_table(REFUSED)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
pub(super) fn delete_lane_tables(transaction: &WriteTransaction) -> Result<(), LedgerError> {
    transaction.delete_table(LANES)?;
    transaction.delete_table(PARKED)?;
    transaction.delete_table(DUE)?;
    transaction.delete_table(REFUSED)?;
    Ok(())
}

/// The parked records, open for writing.
pub(super) fn open_parked(transaction: &WriteTransaction) -> Result<ParkedTable<'_>, LedgerError> {
    Ok(transaction.open_table(PARKED)?)
}

/// How many records are in lanes.
pub(super) fn count_parked(transaction: &ReadTransaction) -> Result<u64, LedgerError> {
    Ok(transaction.open_table(PARKED)?.len()?)
}
