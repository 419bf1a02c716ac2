//! Salvages a damaged file: puts everything that can be read into a new database. The damaged file is not changed.
//!
//! The tables are read first, entry by entry. If they are incomplete, the raw bytes are searched. A record that is
//! not in the tables may have been settled long ago without being overwritten. It is taken only if some manifest rows
//! could not be read and no receipt names it, or if it is newer than the counters on disk. The server recognizes
//! duplicates by their id. The digest in the row tells a replaced payload from the one before.
//!
//! Memory use does not depend on the size of the file: it is a block, a payload and 2 MiB of items. What has been
//! seen is looked up in the new database.

mod carve;
mod damaged_tables;
mod filler;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod notes;
mod raw_file;
mod salvaged_meta;
mod table_walk;
mod tables;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase};
use thiserror::Error;
use uuid::Uuid;

use super::body;
use super::error::StoreError;
use super::key_space::KeySpace;
use super::options::{StoreOptions, database_builder};
use super::schema::{SCHEMA_VERSION, Snapshot};
use crate::model::{Damage, NewRecord, QueuePosition, RecordId};
use damaged_tables::DamagedTables;
use filler::StoreFiller;
use raw_file::RawFile;
use salvaged_meta::SalvagedMeta;

/// How to read a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SalvageMode {
    /// The tables, then the raw bytes if necessary.
    TablesFirst,
    /// The raw bytes only, because reading the tables ended the process before.
    RawOnly,
}

/// Puts everything that can be read of the file at `path` into a new database. Returns how many unsettled records were
/// salvaged and how many are known to be lost.
pub(super) fn salvage_file(
    path: &Path,
    mode: SalvageMode,
    database: &Database,
    options: &StoreOptions,
    note: impl FnOnce(u64, u64) -> Option<Damage>,
) -> Result<(u64, u64), StoreError> {
    let raw = Arc::new(RawFile::open(path).map_err(|error| StoreError::Redb(redb::Error::Io(error)))?);
    let StoreOptions { key_space, progress } = options;
    let mut filler = StoreFiller::new(database, *key_space)?;
    let mut source = (mode == SalvageMode::TablesFirst).then(|| DamagedTables::open_best_commit(&raw));
    let is_complete = match &mut source {
        Some(source) => tables::salvage_tables(source, &mut filler, progress)?,
        None => false,
    };
    let SalvagedMeta { all_rows_read, all_payloads_read, .. } = filler.known;
    if !is_complete && (!all_rows_read || !all_payloads_read || filler.has_missing_payloads()?) {
        carve::carve_file(&raw, source, &mut filler, progress)?;
    }
    filler.finish_store(note)
}

/// The result of salvaging a file by hand.
pub struct Salvage {
    database: Database,
    /// Records that were salvaged.
    pub salvaged: u64,
    /// Records that are known to be lost.
    pub lost: u64,
}

/// Why a file cannot be salvaged.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// Its bytes cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}: use the newer version", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
    },
    /// There is no room for the salvaged records.
    #[error("cannot store the salvaged records in {}: {source}. They need about as much room as in the damaged file", path.display())]
    NoRoom {
        /// The directory for them.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The salvaged records cannot be stored or read back.
    #[error("the salvaged records cannot be stored: {0}")]
    Store(#[from] StoreError),
}

impl Salvage {
    /// Reads a file without changing it. Puts the salvaged records into an unnamed temporary file in `scratch`, which
    /// exists as long as this value.
    pub fn read_file(path: &Path, scratch: &Path) -> Result<Self, SalvageError> {
        let unreadable = |source| SalvageError::Unreadable { path: path.to_owned(), source };
        let no_room = |source| SalvageError::NoRoom { path: scratch.to_owned(), source };
        let raw = Arc::new(RawFile::open(path).map_err(unreadable)?);
        let mut first = [0];
        std::fs::File::open(path)
            .and_then(|mut file| io::Read::read(&mut file, &mut first))
            .map_err(unreadable)?;
        if let Some(found) = tables::read_schema_version(&mut DamagedTables::open_best_commit(&raw))
            .filter(|found| *found > SCHEMA_VERSION)
        {
            return Err(SalvageError::NewerSchema { path: path.to_owned(), found });
        }
        // Without a name, so that no other process can read or replace it.
        let found = tempfile::tempfile_in(scratch).map_err(no_room)?;
        let options = StoreOptions { key_space: KeySpace::default(), progress: Arc::new(|_| ()) };
        let found = FileBackend::new(found).map_err(StoreError::from)?;
        let database =
            database_builder(&options.progress).create_with_backend(found).map_err(StoreError::from)?;
        let (salvaged, lost) =
            match salvage_file(path, SalvageMode::TablesFirst, &database, &options, |_, _| None) {
                Err(StoreError::Redb(redb::Error::Io(source))) => return Err(no_room(source)),
                done => done?,
            };
        Ok(Self { database, salvaged, lost })
    }

    /// The records in order of arrival.
    pub fn list_records(&self) -> Result<impl Iterator<Item = Result<NewRecord, StoreError>>, StoreError> {
        let tables = Snapshot::open_all(&self.database.begin_read()?)?;
        let mut classes = Vec::new();
        for range in super::state::Cursors::default().remaining_ranges() {
            classes.push(tables.payload.range(range)?.peekable());
        }
        Ok(std::iter::from_fn(move || {
            let heads = classes.iter_mut().enumerate();
            let heads = heads
                .filter_map(|(class, walk)| Some((class, walk.peek()?.as_ref().map(|head| head.0.value()))));
            let (class, _) = heads.min_by_key(|(_, position)| {
                position.as_ref().map_or(0, |position| QueuePosition(*position).seq())
            })?;
            let position = match classes.get_mut(class)?.next()? {
                Ok((position, _)) => position.value(),
                Err(error) => return Some(Err(error.into())),
            };
            Some(read_record(&tables, position))
        }))
    }
}

fn read_record(tables: &Snapshot, position: u64) -> Result<NewRecord, StoreError> {
    let read = body::read_payload(&tables.payload, &tables.chunks, position)?;
    let (header, payload) = read.ok_or(StoreError::Inconsistent("a salvaged record has disappeared"))?;
    Ok(NewRecord {
        id: RecordId(Uuid::from_u128(header.id)),
        record_type: header.record_type,
        key: header.key,
        priority: QueuePosition(position).priority(),
        payload,
    })
}
