//! What the store's single writer shares with its readers: the database and the open batches.
//!
//! Commits and readers do not wait for each other: a reader sees the last commit before it started. Reopening,
//! compacting and closing the file wait for current readers, which are short, and keep new ones out.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::Database;

use super::key_space::KeySpace;
use super::open_batches::OpenBatches;

pub(super) struct SharedDatabase {
    /// None after an error until it is reopened, and after it was closed.
    database: RwLock<Option<Database>>,
    /// As of the last commit.
    open: RwLock<Arc<OpenBatches>>,
    /// The key space of the lanes.
    pub(super) key_space: KeySpace,
    /// Created when damage is found, so that the next start checks the store.
    pub(super) marker: PathBuf,
}

impl SharedDatabase {
    pub(super) fn new(
        database: Database,
        open: Arc<OpenBatches>,
        key_space: KeySpace,
        marker: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self { database: RwLock::new(Some(database)), open: RwLock::new(open), key_space, marker })
    }

    pub(super) fn read_database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for current readers.
    pub(super) fn lock_database(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_batches(&self) -> Arc<OpenBatches> {
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes the open batches before the commit that changed them is acknowledged.
    pub(super) fn publish_batches(&self, open: &Arc<OpenBatches>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(open);
    }
}
