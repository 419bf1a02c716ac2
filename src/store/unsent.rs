//! Counts the records that are not confirmed, without opening the queue for writing: for the removal of the package.

use std::path::Path;

use redb::{ReadOnlyDatabase, ReadableDatabase as _, ReadableTableMetadata as _, TableError};

use super::error::StoreError;
use super::medium::DATABASE_FILE;
use super::schema::PAYLOAD;

/// The number of records in the queue that the server has not confirmed, those under review included. Zero if there is
/// no queue. Fails while a daemon uses it.
pub fn count_unsent(state_dir: &Path) -> Result<u64, StoreError> {
    let file = state_dir.join(DATABASE_FILE);
    if !file.exists() {
        return Ok(0);
    }
    let database = ReadOnlyDatabase::open(file)?;
    let transaction = database.begin_read()?;
    match transaction.open_table(PAYLOAD) {
        Ok(records) => Ok(records.len()?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
