//! The file of the ledger: created whole, opened, and checked.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableError, TableHandle,
    WriteTransaction,
};

use super::devices::create_device_tables;
use super::lane_tables::create_lane_tables;
use super::migration::{SCHEMA_WITH_PAYLOADS, begin_migration, finish_migration};
use super::tables::{
    ANSWERED, BATCHES, FORWARDS_KEY, LISTING, META, OUTBOX, RECORD_DEVICES, RECORD_RECEIPTS, RECORDS, SCHEMA,
    SCHEMA_KEY, SENT, TOKEN_REQUESTS,
};
use crate::ledger::LedgerOpenError;

/// The engine's default of 1 GiB would suit a dedicated database server.
const CACHE_BYTES: usize = 8 << 20;
const NEW_FILE_PREFIX: &str = ".fieldsync-ledger-";

/// Opens the ledger, creates it if there is none, and brings a file of the version before to the present layout.
/// `forwards`: whether this gateway forwards records.
pub(super) fn open_or_create(path: &Path, forwards: bool) -> Result<Database, LedgerOpenError> {
    let file_error = |source| LedgerOpenError::File { path: path.into(), source };
    if !path.try_exists().map_err(file_error)? {
        create_file(path)?;
    }
    let mut database = database_builder().open(path).map_err(|error| open_error(path, error))?;
    let schema = check_schema(path, &database)?;
    let begun = if schema == SCHEMA { Ok(()) } else { begin_migration(&database, forwards) };
    begun
        .and_then(|()| add_missing_tables(&database))
        .and_then(|()| create_lane_tables(&database))
        .and_then(|()| create_device_tables(&database))
        .and_then(|()| finish_migration(&mut database))
        .and_then(|()| note_forwarding(&database, forwards))
        .map(warn_of_forwarding)
        .map_err(|error| LedgerOpenError::Engine { path: path.into(), source: error.into() })?;
    Ok(database)
}

/// Notes that a gateway forwards. Returns whether one did before, and this one does not.
pub(super) fn note_forwarding(database: &Database, forwards: bool) -> Result<bool, redb::Error> {
    let forwarded = database.begin_read()?.open_table(META)?.get(FORWARDS_KEY)?.is_some();
    if forwards && !forwarded {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(META)?.insert(FORWARDS_KEY, 1)?;
        transaction.commit()?;
    }
    Ok(forwarded && !forwards)
}

fn warn_of_forwarding(is_switched_off: bool) {
    if is_switched_off {
        tracing::warn!(
            "[forward] was configured for this ledger before: records that are applied without it are not forwarded, \
             also not when it is configured again; what waits, waits until then"
        );
    }
}

pub(super) fn database_builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Creates an empty ledger. If another process was faster, its ledger stays.
fn create_file(path: &Path) -> Result<(), LedgerOpenError> {
    let file_error = |source| LedgerOpenError::File { path: path.into(), source };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let new = tempfile::Builder::new().prefix(NEW_FILE_PREFIX).tempfile_in(&directory).map_err(file_error)?;
    create_tables(new.path())
        .map_err(|error| LedgerOpenError::Engine { path: path.into(), source: error.into() })?;
    new.as_file().sync_all().map_err(file_error)?;
    match new.persist_noclobber(path) {
        Ok(_) => {}
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(failed) => return Err(file_error(failed.error)),
    }
    let directory = File::open(&directory).map_err(file_error)?;
    directory.sync_all().map_err(file_error)
}

fn create_tables(path: &Path) -> Result<(), redb::Error> {
    let database = database_builder().create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(LISTING)?;
    transaction.open_table(OUTBOX)?;
    transaction.open_table(BATCHES)?;
    transaction.open_table(ANSWERED)?;
    open_later_tables(&transaction)?;
    transaction.commit()?;
    Ok(database.close()?)
}

/// Tables that files of older gateways lack. Older gateways ignore them, so that they can open the file again.
fn open_later_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORD_DEVICES)?;
    transaction.open_table(RECORD_RECEIPTS)?;
    transaction.open_table(SENT)?;
    transaction.open_table(TOKEN_REQUESTS)?;
    Ok(())
}

fn add_missing_tables(database: &Database) -> Result<(), redb::Error> {
    let present: Vec<String> =
        database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
    let later = [RECORD_DEVICES.name(), RECORD_RECEIPTS.name(), SENT.name(), TOKEN_REQUESTS.name()];
    if later.iter().all(|name| present.iter().any(|present| present == name)) {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    open_later_tables(&transaction)?;
    Ok(transaction.commit()?)
}

/// The version of the file, if it is this one or the one before.
fn check_schema(path: &Path, database: &Database) -> Result<u64, LedgerOpenError> {
    match read_schema(database) {
        Ok(Some(schema @ (SCHEMA_WITH_PAYLOADS | SCHEMA))) => Ok(schema),
        Ok(Some(found)) => {
            Err(LedgerOpenError::Schema { store: path.display().to_string(), found, known: SCHEMA })
        }
        Ok(None) => Err(LedgerOpenError::Foreign { path: path.into(), source: None }),
        Err(error) => Err(LedgerOpenError::Engine { path: path.into(), source: error.into() }),
    }
}

fn read_schema(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(SCHEMA_KEY)?.map(|schema| schema.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> LedgerOpenError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerOpenError::Locked { path },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            LedgerOpenError::Foreign { path, source: Some(source.into()) }
        }
        DatabaseError::Storage(StorageError::Io(source)) => LedgerOpenError::File { path, source },
        error => LedgerOpenError::Engine { path, source: error.into() },
    }
}
