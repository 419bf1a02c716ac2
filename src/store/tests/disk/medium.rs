//! The simulated disk as the store uses it: an open file, and its directory.

use std::io;
use std::path::PathBuf;

use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::image::FileChange;
use super::{DiskOperation, EIO, ENOSPC, SimulatedDisk, SimulatedFile};
use crate::store::error::OpenError;
use crate::store::error::StoreError;
use crate::store::medium::Medium;

/// An open file.
#[derive(Debug)]
struct FileHandle {
    disk: SimulatedDisk,
    file: u64,
    process: u64,
}

impl SimulatedDisk {
    fn handle(&self, file: u64) -> FileHandle {
        let mut state = self.state();
        state.open.insert(file);
        FileHandle { disk: self.clone(), file, process: state.process }
    }
}

impl StorageBackend for FileHandle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.begin_operation(self.process, DiskOperation::Read, None)?;
        Ok(state.file(self.file)?.visible.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin_operation(self.process, DiskOperation::Read, None)?;
        state.file(self.file)?.visible.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.state().write(self.process, self.file, FileChange::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().sync(self.process, self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.state().write(self.process, self.file, FileChange::Write(offset, data.into()))
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if self.process == state.process {
            state.open.remove(&self.file);
        }
        Ok(())
    }
}

impl Medium for SimulatedDisk {
    fn has_database(&self) -> io::Result<bool> {
        let state = self.state();
        if state.down {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state.name.is_some())
    }

    /// As on a file system: builds the file under another name, syncs it, renames it, and syncs the name.
    fn create_database(
        &mut self,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        let new = {
            let mut state = self.state();
            state.remove_unnamed_files();
            state.next_file += 1;
            let new = state.next_file;
            state.files.insert(new, SimulatedFile::default());
            new
        };
        let failed = |source| OpenError::Store { path: self.display_path(), source };
        let database = builder.create_with_backend(self.handle(new)).map_err(StoreError::from);
        let database = database.map_err(failed)?;
        fill(&database).map_err(failed)?;
        drop(database);
        let process = self.state().process;
        let synced = self.state().sync(process, new);
        let named = synced.and_then(|()| self.rename(new)).and_then(|()| self.sync_name());
        named.map_err(OpenError::io(&self.display_path()))
    }

    /// Reads see the durable content and the unsynced changes, but not what a failed sync has lost.
    fn open_database(&self, builder: &mut Builder) -> Result<Database, DatabaseError> {
        let failed = |error| DatabaseError::Storage(StorageError::Io(error));
        self.sync_name().map_err(failed)?;
        let file = {
            let mut state = self.state();
            let name = state.name.filter(|_| !state.down);
            let name = name.ok_or_else(|| failed(io::Error::from_raw_os_error(EIO)))?;
            if state.open.contains(&name) {
                return Err(DatabaseError::DatabaseAlreadyOpen);
            }
            let file = state.file(name).map_err(failed)?;
            file.visible = file.durable.clone();
            file.unsynced.iter().for_each(|change| file.visible.apply(change));
            if file.visible.len() == 0 {
                return Err(failed(io::Error::from(io::ErrorKind::InvalidData)));
            }
            name
        };
        self.state().opened = Some(file);
        builder.create_with_backend(self.handle(file))
    }

    fn is_in_place(&self) -> bool {
        let state = self.state();
        state.opened.is_none_or(|opened| state.name == Some(opened))
    }

    fn free_bytes(&self) -> Option<u64> {
        let state = self.state();
        Some(state.capacity.saturating_sub(state.used_bytes()))
    }

    fn reserve_bytes(&self) -> u64 {
        self.state().reserve
    }

    fn set_reserve(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.reserve = 0;
        if state.used_bytes() + bytes > state.capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.reserve = bytes;
        Ok(())
    }

    fn database_bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        let name = state.name.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(state.file(name)?.visible.allocated_bytes())
    }

    fn marker_path(&self) -> PathBuf {
        PathBuf::from("no such directory/suspect")
    }

    fn display_path(&self) -> PathBuf {
        PathBuf::from("a simulated disk")
    }
}
