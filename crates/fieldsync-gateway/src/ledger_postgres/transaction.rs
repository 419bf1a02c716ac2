//! Transactions of the shared ledger.
//!
//! A transaction brings all its settings with it: behind a pooler, the next one may run in another session of the
//! server. They are sent together with its beginning, in one round trip.

use std::ops::Deref;

use tokio_postgres::Client;

use super::operation_error::OperationError;
use super::session_pool::DbSession;

/// - A confirmed commit is on disk. Where the database waits for standbys, too, that stays so.
/// - A gateway that has ended does not block the others. The limits are longer than
///   [`super::session_pool::OPERATION_TIMEOUT`]: a server that gives up the wait for a standby confirms the commit,
///   and by then this gateway has given up the operation.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = 15000;
    SET LOCAL idle_in_transaction_session_timeout = 15000;
    SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
        THEN set_config('synchronous_commit', 'on', true) END;
";
/// For the migration of a large ledger.
const LIFT_TIME_LIMIT: &str = "SET LOCAL statement_timeout = 0";
/// The same as in [`BEGIN`], for a statement that is a transaction of its own. The value of `setting` has to be used
/// before the first row is written.
pub(super) const DURABLE_COMMIT: &str = "
    durable AS (
        SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
            THEN set_config('synchronous_commit', 'on', true) ELSE '' END AS setting
    )";

/// A transaction. Without a commit, its session is given up.
pub(super) struct DbTransaction<'s>(&'s mut DbSession);

impl Deref for DbTransaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.client
    }
}

impl DbTransaction<'_> {
    pub(super) async fn commit(self) -> Result<(), OperationError> {
        self.0.end_transaction("COMMIT").await
    }

    pub(super) async fn roll_back(self) -> Result<(), OperationError> {
        self.0.end_transaction("ROLLBACK").await
    }

    /// Lets a statement take as long as it needs.
    pub(super) async fn lift_time_limit(&self) -> Result<(), OperationError> {
        Ok(self.0.client.batch_execute(LIFT_TIME_LIMIT).await?)
    }
}

impl DbSession {
    pub(super) async fn begin(&mut self) -> Result<DbTransaction<'_>, OperationError> {
        self.is_in_transaction = true;
        self.client.batch_execute(BEGIN).await?;
        Ok(DbTransaction(self))
    }

    async fn end_transaction(&mut self, statement: &str) -> Result<(), OperationError> {
        self.client.batch_execute(statement).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Ends a transaction that an error has left open. Returns false if the session is of no use any more.
    pub(super) async fn recover(&mut self) -> bool {
        !self.is_in_transaction || self.end_transaction("ROLLBACK").await.is_ok()
    }
}
