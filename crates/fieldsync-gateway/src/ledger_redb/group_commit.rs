//! Group commit: writers that come while others write share a transaction, and so the two syncs of its commit.
//!
//! Each writer changes the open transaction itself, one after the other. While others wait for their turn, it leaves the
//! transaction open for them, and waits for the commit; the last one commits. If an operation fails, the transaction is
//! aborted, and the other writers of the group write once more. A lone writer commits at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use redb::{CommitError, Database, StorageError, WriteTransaction};

use crate::ledger::LedgerError;

/// Operations that share a commit at most: this bounds how long the first one waits for the others.
pub(super) const GROUP_OPERATIONS_MAX: usize = 64;

/// The reply of an operation, and whether there is anything to commit.
pub(super) enum Written<T> {
    Changed(T),
    Unchanged(T),
}

/// The turns of the writers.
#[derive(Default)]
pub(super) struct GroupCommit {
    /// Writers that wait for their turn.
    waiting: AtomicUsize,
    /// The transaction that the last writer left open for the next one.
    turn: Mutex<Option<OpenGroup>>,
}

struct OpenGroup {
    transaction: WriteTransaction,
    operations: usize,
    is_changed: bool,
    end: EndNotice,
}

/// Tells the members how their group ended; that it was aborted, if it is dropped without a word, as by a panic.
#[derive(Default)]
struct EndNotice(Arc<GroupEnd>);

/// How a group ended, once it has.
#[derive(Default)]
struct GroupEnd {
    result: Mutex<Option<GroupResult>>,
    is_known: Condvar,
}

#[derive(Clone)]
enum GroupResult {
    Committed,
    /// Another operation failed.
    Aborted,
    CommitFailed(Arc<CommitError>),
}

/// What became of an operation in its turn.
enum TurnResult<T> {
    Committed(T),
    /// Another writer ends the group.
    LeftOpen(T, Arc<GroupEnd>),
}

impl GroupCommit {
    /// Applies an operation. It is durable when this returns. The operation may be applied again if its group was aborted.
    pub(super) fn write<T>(
        &self,
        database: &Database,
        operation: impl Fn(&WriteTransaction) -> Result<Written<T>, LedgerError>,
    ) -> Result<T, LedgerError> {
        loop {
            match self.apply_in_turn(database, &operation)? {
                TurnResult::Committed(reply) => return Ok(reply),
                TurnResult::LeftOpen(reply, end) => match end.wait() {
                    GroupResult::Committed => return Ok(reply),
                    GroupResult::Aborted => {}
                    GroupResult::CommitFailed(error) => return Err(to_ledger_error(error)),
                },
            }
        }
    }

    fn apply_in_turn<T>(
        &self,
        database: &Database,
        operation: impl Fn(&WriteTransaction) -> Result<Written<T>, LedgerError>,
    ) -> Result<TurnResult<T>, LedgerError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let mut group = turn.take().map_or_else(|| OpenGroup::begin(database), Ok)?;
        let reply = match operation(&group.transaction) {
            Ok(Written::Changed(reply)) => {
                group.is_changed = true;
                reply
            }
            Ok(Written::Unchanged(reply)) => reply,
            Err(error) => {
                group.abort()?;
                return Err(error);
            }
        };
        group.operations += 1;
        // A writer that waits takes its turn next, and ends the group or leaves it to another one that waits.
        if group.operations < GROUP_OPERATIONS_MAX && self.waiting.load(Ordering::SeqCst) > 0 {
            let end = Arc::clone(&group.end.0);
            *turn = Some(group);
            return Ok(TurnResult::LeftOpen(reply, end));
        }
        group.commit()?;
        Ok(TurnResult::Committed(reply))
    }
}

impl OpenGroup {
    fn begin(database: &Database) -> Result<Self, LedgerError> {
        let mut transaction = database.begin_write()?;
        // A second sync for each commit; without it, the start after a crash reads the whole file.
        transaction.set_quick_repair(true);
        Ok(Self { transaction, operations: 0, is_changed: false, end: EndNotice::default() })
    }

    fn commit(self) -> Result<(), LedgerError> {
        if !self.is_changed {
            // Its replies are about what was committed before.
            self.end.0.publish(GroupResult::Committed);
            return Ok(self.transaction.abort()?);
        }
        let result = self.transaction.commit().map_err(Arc::new);
        self.end.0.publish(match &result {
            Ok(()) => GroupResult::Committed,
            Err(error) => GroupResult::CommitFailed(Arc::clone(error)),
        });
        result.map_err(to_ledger_error)
    }

    fn abort(self) -> Result<(), LedgerError> {
        let aborted = self.transaction.abort();
        self.end.0.publish(GroupResult::Aborted);
        Ok(aborted?)
    }
}

/// The error of a commit, which all of its group have.
fn to_ledger_error(error: Arc<CommitError>) -> LedgerError {
    match &*error {
        CommitError::Storage(StorageError::Io(_) | StorageError::PreviousIo) => {
            LedgerError::Unreachable(error.into())
        }
        _ => LedgerError::Storage(error.into()),
    }
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.publish(GroupResult::Aborted);
    }
}

impl GroupEnd {
    /// The first result counts.
    fn publish(&self, result: GroupResult) {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(result);
        self.is_known.notify_all();
    }

    fn wait(&self) -> GroupResult {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            result = self.is_known.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
