//! What the store's one writer shares with its readers: the database, and what is kept in memory beside it.
//!
//! A commit does not wait for readers, nor they for it: each sees the last commit before it began. Only what
//! replaces or rewrites the whole file (opening it again, compaction, the end) waits for the looks under way, which
//! are short, and keeps others out.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::Database;

use super::key_space::KeySpace;
use super::open_batches::OpenBatches;

pub(super) struct SharedDatabase {
    /// None after an error, until it is opened again, and after the end.
    database: RwLock<Option<Database>>,
    /// As of the last commit.
    open: RwLock<Arc<OpenBatches>>,
    /// Among whose records a key makes an order.
    pub(super) key_space: KeySpace,
    /// Made when damage is met, so that the next start looks for it.
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

    /// Waits for the looks that are under way.
    pub(super) fn lock_database(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_batches(&self) -> Arc<OpenBatches> {
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes the open batches, before anybody hears of the commit that made them so.
    pub(super) fn publish_batches(&self, open: &Arc<OpenBatches>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(open);
    }
}
