//! Sessions with the database: how they are made, kept, bounded in time, and given up.
//!
//! - Every operation ends within its limit, whatever the server or the way to it does: past it the
//!   session is dropped, and the server, which has the same limit, undoes what was not committed.
//! - An operation that failed for no fault of its own is done again, [`TRIES`] times at most: after a
//!   conflict with another gateway in the same session, after a lost connection in a new one. So every
//!   operation must be one that may have been done before.
//! - There are as many sessions as threads that use them, and two more.

use std::error::Error;
use std::io;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error as DatabaseError};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use crate::gateway::ledger::LedgerError;
use crate::gateway::with_causes;

/// No operation takes longer.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
/// What each session is told, after [`LIMIT`]: nothing that is confirmed may be on its way to the disk
/// still, and nothing of a gateway that is gone may hold up the others.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SET default_transaction_isolation = 'read committed';
    SET tcp_keepalives_idle = 15;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
";

/// Why an operation did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    Database(DatabaseError),
    Answer(serde_json::Error),
    /// Another gateway was faster: whoever looks again will see.
    Overtaken,
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Answer(error)
    }
}

/// What helps after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Doing the same again.
    Again,
    /// Doing the same in a new session.
    Anew,
    /// Time.
    Later,
    /// Nothing that this program knows.
    None,
}

impl Failure {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Overtaken => Remedy::Again,
            Self::Answer(_) => Remedy::None,
            Self::Database(error) => match error.code() {
                Some(state) => remedy(state),
                None if error.is_closed() || is_io(error) => Remedy::Anew,
                None => Remedy::None,
            },
        }
    }

    fn into_error(self) -> LedgerError {
        let remedy = self.remedy();
        let cause: Box<dyn Error + Send + Sync> = match self {
            Self::Answer(error) => return error.into(),
            Self::Database(error) => Said::by(&error).into(),
            Self::Overtaken => "other gateways were faster every time".into(),
        };
        if remedy == Remedy::None { LedgerError::Storage(cause) } else { LedgerError::Unreachable(cause) }
    }
}

fn remedy(state: &SqlState) -> Remedy {
    match state.code() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Remedy::Again,
        // The server ends or starts, or became one that only reads.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" => Remedy::Anew,
        // It took too long: for the statement, for a lock, or between statements.
        "57014" | "55P03" | "25P03" => Remedy::Later,
        code if code.starts_with("08") => Remedy::Anew,
        // No room, no memory, no connections.
        code if code.starts_with("53") => Remedy::Later,
        _ => Remedy::None,
    }
}

/// What went wrong, in words that hold nothing of any record: the details that a server adds may quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Said {
    text: String,
    /// Authorization, an unknown database, rights, names in the way, no password: neither time nor a restart helps.
    pub(super) needs_a_person: bool,
}

impl Said {
    fn unreachable(self) -> LedgerError {
        LedgerError::Unreachable(self.into())
    }

    fn by(error: &DatabaseError) -> Self {
        match error.as_db_error() {
            Some(said) => Self {
                text: format!("{} (SQLSTATE {})", said.message(), said.code().code()),
                needs_a_person: ["28", "3D", "42"].iter().any(|class| said.code().code().starts_with(class)),
            },
            None => Self { text: with_causes(error), needs_a_person: !error.is_closed() && !is_io(error) },
        }
    }
}

fn is_io(error: &DatabaseError) -> bool {
    error.source().is_some_and(<dyn Error>::is::<io::Error>)
}

/// One session; dropping it ends it at once.
pub(super) struct Session {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    /// It is the one that hands records on.
    pub(super) forwards: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where a session stays that must be the same each time.
pub(super) type Place = tokio::sync::Mutex<Option<Session>>;

/// All sessions with one database.
pub(super) struct Sessions {
    /// It drives the sessions while an operation runs, and only then. None once it is closed.
    runtime: RwLock<Option<Runtime>>,
    address: Address,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    pub(super) fn new(address: Address) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime: RwLock::new(Some(runtime)), address, idle: Mutex::default() })
    }

    /// Where the database is, for people.
    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    /// Does an operation in any session.
    pub(super) fn run<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        self.within(limit, async {
            let mut kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let result = self.tries(&mut kept, operation).await;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
            result
        })
    }

    /// Does an operation in the session that stays at `place`.
    pub(super) fn run_at<T>(
        &self,
        place: &Place,
        limit: Duration,
        operation: impl AsyncFnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        self.within(limit, async { self.tries(&mut *place.lock().await, operation).await })
    }

    /// Ends all once what runs is through.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(self.runtime.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn within<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let runtime = self.runtime.read().unwrap_or_else(PoisonError::into_inner);
        let runtime = runtime.as_ref().ok_or(LedgerError::Closed)?;
        runtime
            .block_on(async { timeout(limit, operation).await })
            .unwrap_or_else(|elapsed| Err(LedgerError::Unreachable(elapsed.into())))
    }

    async fn tries<T>(
        &self,
        kept: &mut Option<Session>,
        mut operation: impl AsyncFnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        let mut tries = 1;
        loop {
            let was_kept = kept.is_some();
            // Out of its place: should the time be up in the middle, the session is dropped.
            let mut session = match kept.take() {
                Some(session) => session,
                None => self.connect().await.map_err(|error| Said::by(&error).unreachable())?,
            };
            let failure = match operation(&mut session).await {
                Ok(value) => {
                    *kept = Some(session);
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            match failure.remedy() {
                Remedy::Again if tries < TRIES => *kept = Some(session),
                Remedy::Anew if was_kept && tries < TRIES => drop(session),
                _ => return Err(failure.into_error()),
            }
            tries += 1;
        }
    }

    async fn connect(&self) -> Result<Session, DatabaseError> {
        let tls = MakeRustlsConnect::new(self.address.tls.clone());
        let (client, connection) = self.address.config.connect(tls).await?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer hears of it.
            drop(connection.await);
        });
        let session = Session { client, driver, forwards: false };
        let limit = LIMIT.as_millis();
        let limits = format!(
            "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; {SETTINGS}"
        );
        session.client.batch_execute(&limits).await?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::SqlState;

    use super::{Failure, Remedy, remedy};
    use crate::gateway::ledger::LedgerError;

    #[test]
    fn what_helps_follows_from_the_state_that_the_server_names() {
        let cases = [
            (SqlState::T_R_DEADLOCK_DETECTED, Remedy::Again),
            (SqlState::T_R_SERIALIZATION_FAILURE, Remedy::Again),
            (SqlState::ADMIN_SHUTDOWN, Remedy::Anew),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Remedy::Anew),
            (SqlState::CONNECTION_FAILURE, Remedy::Anew),
            (SqlState::QUERY_CANCELED, Remedy::Later),
            (SqlState::DISK_FULL, Remedy::Later),
            (SqlState::TOO_MANY_CONNECTIONS, Remedy::Later),
            (SqlState::UNDEFINED_TABLE, Remedy::None),
        ];
        for (state, expected) in cases {
            assert_eq!(remedy(&state), expected, "{}", state.code());
        }
    }

    #[test]
    fn a_race_that_is_lost_every_time_is_for_later() {
        assert!(matches!(Failure::Overtaken.into_error(), LedgerError::Unreachable(_)));
    }
}
