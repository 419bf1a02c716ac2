//! Counts the records that are not confirmed: for the removal of the package.

use std::path::Path;

use redb::{
    Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTableMetadata as _, TableError,
};

use super::error::StoreError;
use super::medium::DATABASE_FILE;
use super::schema::PAYLOAD;

/// The number of records in the queue that the server has not confirmed, those that need review included. Zero if there
/// is no queue. A queue that a killed daemon left behind is repaired first. Fails while a daemon uses it.
pub fn count_unsent(state_dir: &Path) -> Result<u64, StoreError> {
    let file = state_dir.join(DATABASE_FILE);
    if !file.exists() {
        return Ok(0);
    }
    match ReadOnlyDatabase::open(&file) {
        Ok(database) => count_payloads(&database),
        Err(DatabaseError::RepairAborted) => count_payloads(&Database::open(&file)?),
        Err(error) => Err(error.into()),
    }
}

fn count_payloads(database: &impl ReadableDatabase) -> Result<u64, StoreError> {
    match database.begin_read()?.open_table(PAYLOAD) {
        Ok(records) => Ok(records.len()?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
