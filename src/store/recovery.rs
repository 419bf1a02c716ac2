//! Opening the store: a file that is whole or not there, a schema that is known, and damage that
//! is met with what still reads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use thiserror::Error;
use uuid::Uuid;

use super::StoreError;
use super::codec;
use super::contain::contained;
use super::medium::{Directory, Medium};
use super::schema::{Counters, SCHEMA_VERSION, Tables, meta};
use super::state::State;
use crate::model::{Damage, DeviceId};

/// redb's default is 1 GiB. A transaction's dirty pages should stay below a quarter of it.
const CACHE_BYTES: usize = 8 << 20;

/// Hears how far a repair has come, from 0 to 1.
pub type Progress = Arc<dyn Fn(f64) + Send + Sync>;

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("another daemon uses the state directory {}; stop it first, or give this one its own queue.state_dir", .0.display())]
    InUse(PathBuf),
    /// The directory or the file cannot be used.
    #[error("cannot use {}: {source}. Nothing was changed; the records that it holds wait there", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}: install the newer version again. Nothing was changed", path.display())]
    NewerSchema {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It does not read.
    #[error("{} does not read: {source}. Nothing was changed; keep the file, it may hold records", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Whether the bytes are there and make no sense.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_damage())
    }

    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_disk_full())
    }
}

/// The store, opened.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) state: State,
    pub(super) device: DeviceId,
    pub(super) damage: Option<Damage>,
}

/// A directory of its own for the store.
pub(super) fn directory(path: &Path) -> Result<Box<dyn Medium>, OpenError> {
    Ok(Box::new(Directory::take(path)?))
}

/// Opens the store on a medium; makes it when it is not there.
pub(super) fn open(medium: &mut dyn Medium, progress: &Progress) -> Result<Opened, OpenError> {
    let path = medium.describe();
    if !medium.exists().map_err(OpenError::io(&path))? {
        medium.create(&mut builder(progress), &mut |database| initialise(database, Uuid::new_v4()))?;
    }
    match open_once(medium, progress) {
        // A repair writes: the reserve is for this, too.
        Err(error) if error.is_disk_full() && medium.reserved() > 0 => {
            medium.reserve(0).map_err(OpenError::io(&path))?;
            open_once(medium, progress)
        }
        opened => opened,
    }
}

fn open_once(medium: &dyn Medium, progress: &Progress) -> Result<Opened, OpenError> {
    let path = medium.describe();
    let failed = |source| OpenError::Store { path: path.clone(), source };
    let database = contained(|| medium.open(&mut builder(progress)))
        .map_err(|panic| failed(StoreError::Panicked(panic)))?
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.clone()),
            error => failed(StoreError::from(error)),
        })?;
    let (schema, device) = read(|| identity(&database)).map_err(failed)?;
    if schema > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema { path, found: schema });
    }
    let (state, damage) = read(|| Ok((State::load(&database)?, noted_damage(&database)?))).map_err(failed)?;
    Ok(Opened { database, state, device, damage })
}

/// Reads what may be damaged: redb may panic on it.
fn read<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    contained(read).map_err(StoreError::Panicked)?
}

pub(super) fn builder(progress: &Progress) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let progress = Arc::clone(progress);
    builder.set_repair_callback(move |session| progress(session.progress()));
    builder
}

/// First entries of a new database.
pub(super) fn initialise(database: &Database, device: Uuid) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(meta::SCHEMA, codec::encode(&SCHEMA_VERSION)?.as_slice())?;
        tables.meta.insert(meta::DEVICE, codec::encode(&device.as_u128())?.as_slice())?;
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

fn noted_damage(database: &Database) -> Result<Option<Damage>, StoreError> {
    let snapshot = super::schema::Snapshot::of(database)?;
    let Some(note) = snapshot.meta.get(meta::DAMAGE)? else { return Ok(None) };
    Ok(serde_json::from_slice(note.value()).ok())
}
