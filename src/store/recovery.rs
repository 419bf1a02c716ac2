//! Opening the store: one owner, a file that is whole or not there, and a schema that is known.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use thiserror::Error;
use uuid::Uuid;

use super::StoreError;
use super::codec;
use super::schema::{Counters, SCHEMA_VERSION, Tables, meta};
use crate::model::DeviceId;

const FILE: &str = "queue.redb";
const NEW_FILE: &str = "queue.redb.new";
const LOCK_FILE: &str = "lock";

/// redb's default is 1 GiB. A transaction's dirty pages should stay below a quarter of it.
const CACHE_BYTES: usize = 8 << 20;

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("another daemon uses the state directory {}; stop it first, or give this one its own queue.state_dir", .0.display())]
    InUse(PathBuf),
    /// The directory or the file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// redb cannot open the file.
    #[error("{} cannot be opened as a store: {source}. Nothing was changed; keep the file, it may hold records", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<DatabaseError>,
    },
    /// A newer version wrote it.
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}: install the newer version again. Nothing was changed", path.display())]
    NewerSchema {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It opens, but does not read.
    #[error("{} does not read: {source}. Nothing was changed; keep the file, it may hold records", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// The store's file, opened, and the lock that keeps others out for as long as it is held.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) device: DeviceId,
    pub(super) lock: File,
}

/// Opens the store in `dir`, which is made when it is not there.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
    let lock_path = dir.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io_error(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::Io { path: lock_path, source });
        }
    }

    let path = dir.join(FILE);
    if !path.try_exists().map_err(io_error(&path))? {
        create(dir, &path)?;
    }
    let database = builder().open(&path).map_err(|source| match source {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(dir.to_owned()),
        source => OpenError::Database { path: path.clone(), source: Box::new(source) },
    })?;
    let unreadable = |source| OpenError::Unreadable { path: path.clone(), source };
    let (schema, device) = identity(&database).map_err(unreadable)?;
    if schema > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema { path, found: schema });
    }
    Ok(Opened { database, device, lock })
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_repair_callback(|session| {
        tracing::info!(percent = session.progress() * 100.0, "the store was not closed cleanly: repairing");
    });
    builder
}

/// A cut in the making leaves a file of the other name at most, which the next start overwrites.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let new = dir.join(NEW_FILE);
    let io_error = |source| OpenError::Io { path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(io_error)?;
    let database = builder()
        .create(&new)
        .map_err(|source| OpenError::Database { path: new.clone(), source: Box::new(source) })?;
    initialise(&database).map_err(|source| OpenError::Unreadable { path: new.clone(), source })?;
    drop(database);
    File::open(&new).and_then(|file| file.sync_all()).map_err(io_error)?;
    fs::rename(&new, path).map_err(io_error)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error)
}

fn initialise(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(meta::SCHEMA, codec::encode(&SCHEMA_VERSION)?.as_slice())?;
        tables.meta.insert(meta::DEVICE, codec::encode(&Uuid::new_v4().as_u128())?.as_slice())?;
        let counters = Counters { next_seq: 1, ..Counters::default() };
        tables.meta.insert(meta::COUNTERS, codec::encode(&counters)?.as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Schema version and device id; read before any other table, which a newer schema may have changed.
fn identity(database: &Database) -> Result<(u32, DeviceId), StoreError> {
    use redb::TableDefinition;
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let meta_table = database.begin_read()?.open_table(META)?;
    let value = |name| meta_table.get(name)?.ok_or(StoreError::Inconsistent("meta lacks its first entries"));
    let schema = codec::decode(value(meta::SCHEMA)?.value())?;
    let device: u128 = codec::decode(value(meta::DEVICE)?.value())?;
    Ok((schema, DeviceId(Uuid::from_u128(device))))
}
