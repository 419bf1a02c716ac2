//! Opening the store: a file that is whole or not there, a schema that is known, and damage that
//! is met with what still reads.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;

use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use uuid::Uuid;

use super::codec;
use super::counters::Counters;
use super::error::{OpenError, StoreError};
use super::integrity_check;
use super::key_space::KeySpace;
use super::medium::{Directory, Medium};
use super::migration;
use super::options::{ProgressCallback, StoreOptions, database_builder};
use super::panic_guard::catch_panics;
use super::salvage::{self, SalvageMode};
use super::schema::{SCHEMA_VERSION, Tables, meta};
use super::state::QueueState;
use crate::clock::wall_ms;
use crate::journal;
use crate::model::{Damage, DeviceId};

/// So often the tables of a damaged file are read; from then on the raw bytes alone.
const TABLE_ATTEMPTS_MAX: u32 = 2;

/// The store, opened.
pub(super) struct OpenedStore {
    pub(super) database: Database,
    pub(super) state: QueueState,
    pub(super) device: DeviceId,
}

/// A directory of its own for the store.
pub(super) fn open_directory(path: &Path) -> Result<Box<dyn Medium>, OpenError> {
    Ok(Box::new(Directory::lock_directory(path)?))
}

/// Opens the store at a start: damage is met with what still reads, where the medium keeps what was there.
pub(super) fn open_at_startup(
    medium: &mut dyn Medium,
    options: &StoreOptions,
) -> Result<OpenedStore, OpenError> {
    let marker = medium.marker_path();
    let suspect = marker.exists();
    let opened = if suspect {
        tracing::warn!("damage was met before: the whole store is read through");
        open_verified(medium, options, true)
    } else {
        open_verified(medium, options, false)
    };
    let damage = match opened {
        Ok(opened) => {
            if suspect {
                remove_marker(&marker);
                tracing::info!("the whole store was read through, and nothing is wrong with it");
            }
            return Ok(opened);
        }
        // A damaged number may look like a version to come; then its page does not have its checksum.
        Err(newer @ OpenError::NewerSchema { .. }) => {
            match open_once(medium, &mut verifying_builder(&options.progress), options) {
                Err(damage) if damage.is_damage() => damage,
                _ => return Err(newer),
            }
        }
        Err(error) => error,
    };
    if !damage.is_damage() || medium.damaged_copy_path().is_none() {
        return Err(damage);
    }
    salvage_damaged(medium, options, &damage)?;
    let opened = open_store(medium, options)?;
    remove_marker(&marker);
    Ok(opened)
}

fn verifying_builder(progress: &ProgressCallback) -> Builder {
    let mut builder = database_builder(progress);
    builder.set_check_integrity_on_open(true);
    builder
}

/// Sets the damaged file aside, and goes on with what reads of it.
fn salvage_damaged(
    medium: &mut dyn Medium,
    options: &StoreOptions,
    damage: &OpenError,
) -> Result<(), OpenError> {
    let (path, marker) = (medium.display_path(), medium.marker_path());
    let Some(kept) = medium.damaged_copy_path() else { return Ok(()) };
    let reason = match damage {
        OpenError::Store { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    tracing::error!(reason, "the store is damaged: what can be read of it is salvaged");
    // A tree that is damaged in an unforeseen way could end the process each time it is read.
    let attempts: u32 =
        fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mode = if attempts < TABLE_ATTEMPTS_MAX { SalvageMode::TablesFirst } else { SalvageMode::RawOnly };
    save_attempts(&marker, attempts + 1);
    let found_at = wall_ms();
    let counts = Cell::new((0, 0));
    let kept_as = kept.to_string_lossy().into_owned();
    let mut fill = |database: &Database| {
        let note = |salvaged, lost| {
            Some(Damage { found_at, kept_as: kept_as.clone(), reason: reason.clone(), salvaged, lost })
        };
        counts.set(salvage::salvage_file(&path, mode, database, options, note)?);
        Ok(())
    };
    let replaced = match medium.replace_database(&kept, &mut database_builder(&options.progress), &mut fill) {
        Err(error) if error.is_disk_full() && medium.reserve_bytes() > 0 => {
            medium.set_reserve(0).map_err(OpenError::io(&path))?;
            medium.replace_database(&kept, &mut database_builder(&options.progress), &mut fill)
        }
        replaced => replaced,
    };
    // An attempt that was seen to fail did not end the process.
    save_attempts(&marker, attempts);
    replaced.map_err(|error| match error {
        OpenError::Store { source: StoreError::Redb(redb::Error::Io(source)), .. } => {
            OpenError::Io { path, source }
        }
        error => error,
    })?;
    let (salvaged, lost) = counts.get();
    tracing::error!(
        name: journal::STORE_DAMAGED,
        salvaged,
        lost,
        "the damaged store is kept as {kept_as}; {salvaged} records were read from it and are in the queue, \
         {lost} are known to be lost"
    );
    Ok(())
}

fn save_attempts(marker: &Path, attempts: u32) {
    if let Err(error) = fs::write(marker, attempts.to_string()) {
        tracing::warn!(%error, "attempts to salvage the store cannot be counted");
    }
}

fn remove_marker(marker: &Path) {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the next start reads the whole store through once more");
        }
        _ => {}
    }
}

/// Opens the store on a medium; makes it when it is not there. Damage is an error.
pub(super) fn open_store(medium: &mut dyn Medium, options: &StoreOptions) -> Result<OpenedStore, OpenError> {
    open_verified(medium, options, false)
}

/// `doubted`, every checksum is verified, and every row of every table is read.
fn open_verified(
    medium: &mut dyn Medium,
    options: &StoreOptions,
    doubted: bool,
) -> Result<OpenedStore, OpenError> {
    let path = medium.display_path();
    if !medium.has_database().map_err(OpenError::io(&path))? {
        medium.create_database(&mut database_builder(&options.progress), &mut |database| {
            initialize_tables(database, Uuid::new_v4(), options.key_space)
        })?;
    }
    let mut builder =
        if doubted { verifying_builder(&options.progress) } else { database_builder(&options.progress) };
    let opened = match open_once(medium, &mut builder, options) {
        // A repair writes: the reserve is for this, too.
        Err(error) if error.is_disk_full() && medium.reserve_bytes() > 0 => {
            medium.set_reserve(0).map_err(OpenError::io(&path))?;
            open_once(medium, &mut builder, options)
        }
        opened => opened,
    }?;
    if doubted && let Err(source) = catch_damage(|| integrity_check::check_integrity(&opened.database)) {
        close_damaged(opened.database);
        return Err(OpenError::Store { path, source });
    }
    Ok(opened)
}

fn open_once(
    medium: &dyn Medium,
    builder: &mut Builder,
    options: &StoreOptions,
) -> Result<OpenedStore, OpenError> {
    let path = medium.display_path();
    let failed = |source| OpenError::Store { path: path.clone(), source };
    let database = catch_panics(|| medium.open_database(builder))
        .map_err(|panic| failed(StoreError::Panicked(panic)))?
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.clone()),
            error => failed(StoreError::from(error)),
        })?;
    let identity = catch_damage(|| read_identity(&database));
    let loaded = identity.and_then(|(schema, device)| {
        // A newer schema may have changed every other table.
        let known = schema <= SCHEMA_VERSION;
        let load = || {
            migration::upgrade_schema(&database, schema, options)?;
            QueueState::load_from(&database, options.key_space)
        };
        let state = known.then(|| catch_damage(load)).transpose()?;
        Ok((schema, device, state))
    });
    let error = match loaded {
        Ok((_, device, Some(state))) => return Ok(OpenedStore { database, state, device }),
        Ok((found, _, None)) => OpenError::NewerSchema { path, found, known: SCHEMA_VERSION },
        Err(error) => failed(error),
    };
    close_damaged(database);
    Err(error)
}

/// Closes a database that may be damaged: redb may panic over that, too.
fn close_damaged<T>(database: T) {
    if let Err(panic) = catch_panics(move || drop(database)) {
        tracing::debug!(panic, "the damaged store does not close");
    }
}

/// Reads what may be damaged: redb may panic on it.
fn catch_damage<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_panics(read).map_err(StoreError::Panicked)?
}

/// First entries of a new database.
pub(super) fn initialize_tables(
    database: &Database,
    device: Uuid,
    key_space: KeySpace,
) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open_all(&transaction)?;
        tables.meta.insert(meta::SCHEMA, codec::encode_row(&SCHEMA_VERSION)?.as_slice())?;
        tables.meta.insert(meta::DEVICE, codec::encode_row(&device.as_u128())?.as_slice())?;
        Counters { next_seq: 1, ..Counters::default() }.write_to(&mut tables.meta)?;
        migration::save_key_space(&mut tables, key_space)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Schema version and device id; read before any other table, which a newer schema may have changed.
fn read_identity(database: &Database) -> Result<(u32, DeviceId), StoreError> {
    use redb::TableDefinition;
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let meta_table = database.begin_read()?.open_table(META)?;
    let value = |name| meta_table.get(name)?.ok_or(StoreError::Inconsistent("meta lacks its first entries"));
    let schema = codec::decode_row(value(meta::SCHEMA)?.value())?;
    let device: u128 = codec::decode_row(value(meta::DEVICE)?.value())?;
    Ok((schema, DeviceId(Uuid::from_u128(device))))
}
