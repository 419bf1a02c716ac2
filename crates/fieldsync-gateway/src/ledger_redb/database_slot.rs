//! The open database, closed and opened again after its disk failed.
//!
//! After an I/O error, redb refuses everything until the file is opened again. The operation that met the error marks
//! the database as failed. Later ones fail as if the ledger could not be reached; the first of them after a pause opens the
//! file again, and writes a row to see whether there is room. So a health check fails for as long as the disk does, and
//! the ledger works again without a restart.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, TableDefinition};

use crate::causes::with_causes;
use crate::clock::Clock;
use crate::ledger::LedgerError;

/// Pause between two attempts to open a file whose disk has failed.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// Room that a disk must have for batches to be accepted again.
const PROBE_BYTES: usize = 1 << 20;
/// One row, in the file only while a disk is tried.
const PROBE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("probe");

pub(super) type OpenDatabase = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// The database, while there is one.
pub(super) struct DatabaseSlot {
    state: RwLock<SlotState>,
    /// When the database failed, or could not be opened again.
    failed_at: Mutex<Option<Duration>>,
    reopen: OpenDatabase,
    clock: Clock,
}

enum SlotState {
    Open(Database),
    /// It has failed, and could not be opened again so far.
    Failed,
    Closed,
}

impl DatabaseSlot {
    /// `reopen`: opens the same database once this one was closed.
    pub(super) fn new(database: Database, clock: Clock, reopen: OpenDatabase) -> Self {
        Self { state: RwLock::new(SlotState::Open(database)), failed_at: Mutex::default(), reopen, clock }
    }

    pub(super) fn with_database<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.reopen_if_failed()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let database = match &*state {
            SlotState::Open(database) => database,
            SlotState::Failed => return Err(has_failed()),
            SlotState::Closed => return Err(LedgerError::Closed),
        };
        let result = operation(database);
        // While the state is locked: the database that failed is not yet replaced by another.
        if let Err(error @ LedgerError::Unreachable(_)) = &result {
            let mut failed_at = self.failed_at();
            if failed_at.is_none() {
                tracing::error!(error = with_causes(error), "the disk of the ledger has failed");
                *failed_at = Some(self.clock.now());
            }
        }
        result
    }

    /// Closes the database after the running operations; later ones fail.
    pub(super) fn close(&self) -> Result<(), LedgerError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_failed = self.failed_at().is_some();
        match std::mem::replace(&mut *state, SlotState::Closed) {
            // What was confirmed is in the file. The next start repairs the rest.
            SlotState::Open(_) if is_failed => Ok(()),
            SlotState::Open(database) => Ok(database.close()?),
            SlotState::Failed | SlotState::Closed => Ok(()),
        }
    }

    fn reopen_if_failed(&self) -> Result<(), LedgerError> {
        if !self.is_reopen_due()? {
            return Ok(());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Another operation may have been faster.
        if matches!(*state, SlotState::Closed) || !self.is_reopen_due()? {
            return Ok(());
        }
        // Closes it: its file is locked until then.
        *state = SlotState::Failed;
        let opened = (self.reopen)().and_then(|database| {
            probe_disk(&database)?;
            Ok(database)
        });
        let mut failed_at = self.failed_at();
        match opened {
            Ok(database) => {
                *state = SlotState::Open(database);
                *failed_at = None;
                tracing::info!("the disk of the ledger works again");
                Ok(())
            }
            Err(error) => {
                *failed_at = Some(self.clock.now());
                Err(LedgerError::Unreachable(error.into()))
            }
        }
    }

    /// Whether the database has failed long enough ago. Fails while it has failed only just now.
    fn is_reopen_due(&self) -> Result<bool, LedgerError> {
        match *self.failed_at() {
            None => Ok(false),
            Some(at) if self.clock.now() < at + REOPEN_PAUSE => Err(has_failed()),
            Some(_) => Ok(true),
        }
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Duration>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_failed() -> LedgerError {
    LedgerError::Unreachable("the disk of the ledger has failed".into())
}

/// Writes and deletes a row: the space of the file may suffice for a small one without any room on the disk.
fn probe_disk(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(PROBE)?.insert(0, vec![0xA5; PROBE_BYTES].as_slice())?;
    transaction.commit()?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.delete_table(PROBE)?;
    Ok(transaction.commit()?)
}
