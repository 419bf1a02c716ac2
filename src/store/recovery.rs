//! Opens the store: creates it completely or not at all, upgrades its schema, and salvages a damaged one.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;

use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use uuid::Uuid;

use super::codec;
use super::counters::{Counters, LastChange};
use super::error::{OpenError, StoreError};
use super::integrity_check;
use super::key_space::KeySpace;
use super::medium::{Directory, Medium};
use super::migration;
use super::options::{ProgressCallback, StoreOptions, database_builder};
use super::panic_guard::catch_panics;
use super::salvage::{self, SalvageMode};
use super::schema::{META, SCHEMA_VERSION, Tables, meta};
use super::state::QueueState;
use crate::clock::wall_ms;
use crate::journal;
use crate::model::{Damage, DeviceId};

/// How often the tables of a damaged file are read. After that, only its raw bytes are.
const TABLE_ATTEMPTS_MAX: u32 = 2;

/// An opened store.
pub(super) struct OpenedStore {
    pub(super) database: Database,
    pub(super) state: QueueState,
    pub(super) device: DeviceId,
}

/// Locks the directory of a store.
pub(super) fn open_directory(path: &Path) -> Result<Box<dyn Medium>, OpenError> {
    Ok(Box::new(Directory::lock_directory(path)?))
}

/// Opens the store at startup. Salvages a damaged one if the medium keeps damaged files.
pub(super) fn open_at_startup(
    medium: &mut dyn Medium,
    options: &StoreOptions,
) -> Result<OpenedStore, OpenError> {
    let marker = medium.marker_path();
    let is_suspect = marker.exists();
    let opened = if is_suspect {
        tracing::warn!("damage was found before: checking the whole store");
        open_or_create(medium, options, true)
    } else {
        open_or_create(medium, options, false)
    };
    let damage = match opened {
        Ok(opened) => {
            if is_suspect {
                remove_marker(&marker);
                tracing::info!("the whole store was checked: it is not damaged");
            }
            return Ok(opened);
        }
        // A damaged version number may look like a newer schema. Then the checksum of its page is wrong.
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

/// Keeps the damaged file and builds a new store from what can be read of it.
fn salvage_damaged(
    medium: &mut dyn Medium,
    options: &StoreOptions,
    damage: &OpenError,
) -> Result<(), OpenError> {
    let (path, marker) = (medium.display_path(), medium.marker_path());
    let Some(damaged_copy) = medium.damaged_copy_path() else { return Ok(()) };
    let reason = match damage {
        OpenError::Store { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    tracing::error!(reason, "the store is damaged: salvaging the records that can be read");
    // An unforeseen kind of damage could end the process each time that the tables are read.
    let attempts: u32 =
        fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mode = if attempts < TABLE_ATTEMPTS_MAX { SalvageMode::TablesFirst } else { SalvageMode::RawOnly };
    save_attempts(&marker, attempts + 1);
    let found_at = wall_ms();
    let counts = Cell::new((0, 0));
    let kept_as = damaged_copy.to_string_lossy().into_owned();
    let mut fill = |database: &Database| {
        let note = |salvaged, lost| {
            Some(Damage { found_at, kept_as: kept_as.clone(), reason: reason.clone(), salvaged, lost })
        };
        counts.set(salvage::salvage_file(&path, mode, database, options, note)?);
        Ok(())
    };
    let replaced =
        match medium.replace_database(&damaged_copy, &mut database_builder(&options.progress), &mut fill) {
            Err(error) if error.is_disk_full() && medium.reserve_bytes() > 0 => {
                medium.set_reserve(0).map_err(OpenError::io(&path))?;
                medium.replace_database(&damaged_copy, &mut database_builder(&options.progress), &mut fill)
            }
            replaced => replaced,
        };
    // This attempt failed without ending the process.
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
        tracing::warn!(%error, "the number of salvage attempts cannot be saved");
    }
}

fn remove_marker(marker: &Path) {
    match fs::remove_file(marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the damage marker cannot be removed: the next start checks the whole store again");
        }
        _ => {}
    }
}

/// Opens the store on a medium, or creates it. Damage is an error.
pub(super) fn open_store(medium: &mut dyn Medium, options: &StoreOptions) -> Result<OpenedStore, OpenError> {
    open_or_create(medium, options, false)
}

/// As [`open_store`]. With `verify`, checks every checksum and decodes every row.
fn open_or_create(
    medium: &mut dyn Medium,
    options: &StoreOptions,
    verify: bool,
) -> Result<OpenedStore, OpenError> {
    let path = medium.display_path();
    if !medium.has_database().map_err(OpenError::io(&path))? {
        medium.create_database(&mut database_builder(&options.progress), &mut |database| {
            initialize_tables(database, Uuid::new_v4(), options.key_space)
        })?;
    }
    let mut builder =
        if verify { verifying_builder(&options.progress) } else { database_builder(&options.progress) };
    let opened = match open_once(medium, &mut builder, options) {
        // A repair writes, and may need the space of the reserve.
        Err(error) if error.is_disk_full() && medium.reserve_bytes() > 0 => {
            medium.set_reserve(0).map_err(OpenError::io(&path))?;
            open_once(medium, &mut builder, options)
        }
        opened => opened,
    }?;
    if verify && let Err(source) = catch_damage(|| integrity_check::check_integrity(&opened.database)) {
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

/// Closes a database that may be damaged. redb may panic over that.
fn close_damaged<T>(database: T) {
    if let Err(panic) = catch_panics(move || drop(database)) {
        tracing::debug!(panic, "the damaged store cannot be closed");
    }
}

/// Reads what may be damaged. redb may panic over that.
fn catch_damage<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_panics(read).map_err(StoreError::Panicked)?
}

/// Writes the first entries of a new database.
pub(super) fn initialize_tables(
    database: &Database,
    device: Uuid,
    key_space: KeySpace,
) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open_all(&transaction)?;
        tables.meta.insert(meta::SCHEMA_KEY, codec::encode_row(&SCHEMA_VERSION)?.as_slice())?;
        tables.meta.insert(meta::DEVICE_KEY, codec::encode_row(&device.as_u128())?.as_slice())?;
        let last_change = Some(LastChange::new_history());
        Counters { next_seq: 1, last_change, ..Counters::default() }.write_to(&mut tables.meta)?;
        migration::save_key_space(&mut tables, key_space)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Reads schema version and device id before any other table, which a newer schema may have changed.
fn read_identity(database: &Database) -> Result<(u32, DeviceId), StoreError> {
    let meta_table = database.begin_read()?.open_table(META)?;
    let value = |name| {
        meta_table
            .get(name)?
            .ok_or(StoreError::Inconsistent("the schema version or the device id is missing"))
    };
    let schema = codec::decode_row(value(meta::SCHEMA_KEY)?.value())?;
    let device: u128 = codec::decode_row(value(meta::DEVICE_KEY)?.value())?;
    Ok((schema, DeviceId(Uuid::from_u128(device))))
}
