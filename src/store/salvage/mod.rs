//! What still reads of a damaged file, put into a new database. The damaged file is not changed.
//!
//! First the tables, entry by entry; then, when these did not give everything, the raw bytes. A
//! record that the tables do not know may be one that was settled long ago and not overwritten yet.
//! It is taken only when the rows of the manifest could not all be read, and no receipt names it; the
//! server knows doubles by their id. A payload that was mended is told from the one before by the digest in its row.
//!
//! Memory does not follow the file: blocks and one payload at a time, 2 MiB of findings, and what was
//! seen is looked up in the new database.

mod carve;
mod fill;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod raw;
mod source;
mod tables;
mod walk;

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
use fill::StoreFiller;
use raw::RawFile;
use source::DamagedTables;

/// How a damaged file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SalvageMode {
    /// The tables, then the raw bytes if need be.
    TablesFirst,
    /// The tables ended the process before: the raw bytes only.
    RawOnly,
}

/// Puts what reads of the file at `path` into a new database; how many unsettled records that is,
/// and how many are known to be lost.
pub(super) fn salvage_file(
    path: &Path,
    mode: SalvageMode,
    database: &Database,
    options: &StoreOptions,
    note: impl FnOnce(u64, u64) -> Option<Damage>,
) -> Result<(u64, u64), StoreError> {
    let raw = Arc::new(RawFile::open(path).map_err(|error| StoreError::Redb(redb::Error::Io(error)))?);
    let StoreOptions { key_space, progress } = options;
    let mut fill = StoreFiller::new(database, *key_space)?;
    let mut source = (mode == SalvageMode::TablesFirst).then(|| DamagedTables::open_best_commit(&raw));
    let is_complete = match &mut source {
        Some(source) => tables::salvage_tables(source, &mut fill, progress)?,
        None => false,
    };
    if !is_complete && (!fill.known.all_rows_read || fill.has_missing_payloads()?) {
        carve::carve_file(&raw, source, &mut fill, progress)?;
    }
    fill.finish_store(note)
}

/// What was salvaged of a file by hand.
pub struct Salvage {
    database: Database,
    /// Records that read.
    pub salvaged: u64,
    /// Records that are known to have been there and do not read.
    pub lost: u64,
}

/// Why a file cannot be salvaged.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// Not even its bytes can be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}: use the newer version", path.display())]
    NewerSchema {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no room for what was found.
    #[error("cannot store the salvaged records in {}: {source}. They need about as much room as in the damaged file", path.display())]
    NoRoom {
        /// The directory for it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was found cannot be kept or read back.
    #[error("the salvaged records cannot be stored: {0}")]
    Store(#[from] StoreError),
}

impl Salvage {
    /// Reads a file and changes nothing of it. What is found is put in order in a file without
    /// a name in `scratch`, which goes when this does.
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
        // Without a name, so that nobody else can read it or put another file in its place.
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
