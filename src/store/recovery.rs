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
use super::options::{Progress, StoreOptions, database_builder};
use super::panic_guard::contained;
use super::salvage::{self, Way};
use super::schema::{SCHEMA_VERSION, Tables, meta};
use super::state::State;
use crate::clock::wall_ms;
use crate::journal;
use crate::model::{Damage, DeviceId};

/// So often the tables of a damaged file are read; from then on the raw bytes alone.
const TABLE_ATTEMPTS: u32 = 2;

/// The store, opened.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) state: State,
    pub(super) device: DeviceId,
}

/// A directory of its own for the store.
pub(super) fn directory(path: &Path) -> Result<Box<dyn Medium>, OpenError> {
    Ok(Box::new(Directory::take(path)?))
}

/// Opens the store at a start: damage is met with what still reads, where the medium keeps what was there.
pub(super) fn start(medium: &mut dyn Medium, opening: &StoreOptions) -> Result<Opened, OpenError> {
    let mark = medium.mark();
    let suspect = mark.exists();
    let opened = if suspect {
        tracing::warn!("damage was met before: the whole store is read through");
        open_as(medium, opening, true)
    } else {
        open_as(medium, opening, false)
    };
    let damage = match opened {
        Ok(opened) => {
            if suspect {
                unmark(&mark);
                tracing::info!("the whole store was read through, and nothing is wrong with it");
            }
            return Ok(opened);
        }
        // A damaged number may look like a version to come; then its page does not have its checksum.
        Err(newer @ OpenError::NewerSchema { .. }) => {
            match open_once(medium, &mut verifying(&opening.progress), opening) {
                Err(damage) if damage.is_damage() => damage,
                _ => return Err(newer),
            }
        }
        Err(error) => error,
    };
    if !damage.is_damage() || medium.aside().is_none() {
        return Err(damage);
    }
    rescue(medium, opening, &damage)?;
    let opened = open(medium, opening)?;
    unmark(&mark);
    Ok(opened)
}

fn verifying(progress: &Progress) -> Builder {
    let mut builder = database_builder(progress);
    builder.set_check_integrity_on_open(true);
    builder
}

/// Sets the damaged file aside, and goes on with what reads of it.
fn rescue(medium: &mut dyn Medium, opening: &StoreOptions, damage: &OpenError) -> Result<(), OpenError> {
    let (path, mark) = (medium.describe(), medium.mark());
    let Some(kept) = medium.aside() else { return Ok(()) };
    let reason = match damage {
        OpenError::Store { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    tracing::error!(reason, "the store is damaged: what can be read of it is salvaged");
    // A tree that is damaged in an unforeseen way could end the process each time it is read.
    let attempts: u32 = fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let way = if attempts < TABLE_ATTEMPTS { Way::TablesFirst } else { Way::RawOnly };
    count_attempts(&mark, attempts + 1);
    let found_at = wall_ms();
    let counts = Cell::new((0, 0));
    let kept_as = kept.to_string_lossy().into_owned();
    let mut fill = |database: &Database| {
        let note = |salvaged, lost| {
            Some(Damage { found_at, kept_as: kept_as.clone(), reason: reason.clone(), salvaged, lost })
        };
        counts.set(salvage::salvage(&path, way, database, opening, note)?);
        Ok(())
    };
    let replaced = match medium.replace(&kept, &mut database_builder(&opening.progress), &mut fill) {
        Err(error) if error.is_disk_full() && medium.reserved() > 0 => {
            medium.reserve(0).map_err(OpenError::io(&path))?;
            medium.replace(&kept, &mut database_builder(&opening.progress), &mut fill)
        }
        replaced => replaced,
    };
    // An attempt that was seen to fail did not end the process.
    count_attempts(&mark, attempts);
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

fn count_attempts(mark: &Path, attempts: u32) {
    if let Err(error) = fs::write(mark, attempts.to_string()) {
        tracing::warn!(%error, "attempts to salvage the store cannot be counted");
    }
}

fn unmark(mark: &Path) {
    match fs::remove_file(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the next start reads the whole store through once more");
        }
        _ => {}
    }
}

/// Opens the store on a medium; makes it when it is not there. Damage is an error.
pub(super) fn open(medium: &mut dyn Medium, opening: &StoreOptions) -> Result<Opened, OpenError> {
    open_as(medium, opening, false)
}

/// `doubted`, every checksum is verified, and every row of every table is read.
fn open_as(medium: &mut dyn Medium, opening: &StoreOptions, doubted: bool) -> Result<Opened, OpenError> {
    let path = medium.describe();
    if !medium.exists().map_err(OpenError::io(&path))? {
        medium.create(&mut database_builder(&opening.progress), &mut |database| {
            initialise(database, Uuid::new_v4(), opening.key_space)
        })?;
    }
    let mut builder =
        if doubted { verifying(&opening.progress) } else { database_builder(&opening.progress) };
    let opened = match open_once(medium, &mut builder, opening) {
        // A repair writes: the reserve is for this, too.
        Err(error) if error.is_disk_full() && medium.reserved() > 0 => {
            medium.reserve(0).map_err(OpenError::io(&path))?;
            open_once(medium, &mut builder, opening)
        }
        opened => opened,
    }?;
    if doubted && let Err(source) = read(|| integrity_check::examine(&opened.database)) {
        give_up(opened.database);
        return Err(OpenError::Store { path, source });
    }
    Ok(opened)
}

fn open_once(
    medium: &dyn Medium,
    builder: &mut Builder,
    opening: &StoreOptions,
) -> Result<Opened, OpenError> {
    let path = medium.describe();
    let failed = |source| OpenError::Store { path: path.clone(), source };
    let database = contained(|| medium.open(builder))
        .map_err(|panic| failed(StoreError::Panicked(panic)))?
        .map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.clone()),
        error => failed(StoreError::from(error)),
    })?;
    let identity = read(|| identity(&database));
    let loaded = identity.and_then(|(schema, device)| {
        // A newer schema may have changed every other table.
        let known = schema <= SCHEMA_VERSION;
        let load = || {
            migration::bring_up_to_date(&database, schema, opening)?;
            State::load(&database, opening.key_space)
        };
        let state = known.then(|| read(load)).transpose()?;
        Ok((schema, device, state))
    });
    let error = match loaded {
        Ok((_, device, Some(state))) => return Ok(Opened { database, state, device }),
        Ok((found, _, None)) => OpenError::NewerSchema { path, found, known: SCHEMA_VERSION },
        Err(error) => failed(error),
    };
    give_up(database);
    Err(error)
}

/// Closes a database that may be damaged: redb may panic over that, too.
fn give_up<T>(database: T) {
    if let Err(panic) = contained(move || drop(database)) {
        tracing::debug!(panic, "the damaged store does not close");
    }
}

/// Reads what may be damaged: redb may panic on it.
fn read<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    contained(read).map_err(StoreError::Panicked)?
}

/// First entries of a new database.
pub(super) fn initialise(database: &Database, device: Uuid, key_space: KeySpace) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(meta::SCHEMA, codec::encode(&SCHEMA_VERSION)?.as_slice())?;
        tables.meta.insert(meta::DEVICE, codec::encode(&device.as_u128())?.as_slice())?;
        Counters { next_seq: 1, ..Counters::default() }.write(&mut tables.meta)?;
        migration::note_key_space(&mut tables, key_space)?;
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
