//! Sessions with the database: how they are made, kept, bounded in time, and given up.
//!
//! - Every operation ends within its limit, whatever the server or the way to it does: past it the
//!   session is dropped, and the server, which has the same limit, undoes what was not committed.
//! - An operation that failed for no fault of its own is done again, [`TRIES`] times at most: after a
//!   conflict with another gateway in the same session, after a lost connection in a new one. So every
//!   operation must be one that may have been done before.
//! - There are as many sessions as threads that use them, and two more.
//! - A thread of its own drives them all the time, so that one that is given up ends at once, and with it
//!   whatever it holds that other gateways wait for.
//! - Each new session looks at the layout of the tables: another release may have changed it meanwhile.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error as DatabaseError};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_address::Address;
use super::schema::{self, SCHEMA};
use crate::causes::with_causes;
use crate::ledger::LedgerError;

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
    /// The server takes nothing to write: another one may, or this one later.
    ReadsOnly,
    /// The tables have another layout by now.
    Schema(i64),
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
            Self::ReadsOnly => Remedy::Anew,
            Self::Schema(_) => Remedy::Later,
            Self::Answer(_) => Remedy::None,
            Self::Database(error) => match error.code() {
                Some(state) => remedy(state),
                None if error.is_closed() || is_io(error) => Remedy::Anew,
                None => Remedy::None,
            },
        }
    }

    /// That of an operation that did not begin: without a session, nothing is known of the ledger.
    fn unreachable(self) -> LedgerError {
        match self.into_error() {
            LedgerError::Storage(cause) => LedgerError::Unreachable(cause),
            error => error,
        }
    }

    fn into_error(self) -> LedgerError {
        let remedy = self.remedy();
        let cause: Box<dyn Error + Send + Sync> = match self {
            Self::Answer(error) => return error.into(),
            Self::Database(error) => Said::by(&error).into(),
            Self::Overtaken => "other gateways were faster every time".into(),
            Self::ReadsOnly => "the database only reads".into(),
            Self::Schema(found) => {
                format!("it has schema {found} by now; this program knows schema {SCHEMA}").into()
            }
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
        // Tables, rights or disks that somebody is to put right. No record is at fault.
        code if ["42", "3F", "58", "XX"].iter().any(|class| code.starts_with(class)) => Remedy::Later,
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

/// Drives the sessions until it is dropped.
struct Driver {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Driver {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("database".into()).spawn(move || {
            drop(runtime.block_on(ended));
            // A name that is still looked up is of no interest any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            drop(thread.join());
        }
    }
}

/// All sessions with one database.
pub(super) struct Sessions {
    /// None once it is closed.
    driver: RwLock<Option<Driver>>,
    closing: watch::Sender<bool>,
    address: Address,
    idle: Mutex<Vec<Session>>,
    /// The tables are there, and of a layout that is known.
    is_prepared: AtomicBool,
}

impl Sessions {
    pub(super) fn new(address: Address) -> io::Result<Self> {
        Ok(Self {
            driver: RwLock::new(Some(Driver::start()?)),
            closing: watch::Sender::new(false),
            address,
            idle: Mutex::default(),
            is_prepared: AtomicBool::new(false),
        })
    }

    /// From now on, each new session makes sure that the tables are as they were.
    pub(super) fn prepared(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
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

    /// Ends all. What still runs is given up: the server undoes it, unless it was committed.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        let driver = self.driver.write().unwrap_or_else(PoisonError::into_inner).take();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(driver);
    }

    fn within<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let driver = self.driver.read().unwrap_or_else(PoisonError::into_inner);
        let driver = driver.as_ref().ok_or(LedgerError::Closed)?;
        let mut closing = self.closing.subscribe();
        driver.handle.block_on(async {
            tokio::select! {
                biased;
                result = timeout(limit, operation) => {
                    result.unwrap_or_else(|elapsed| Err(LedgerError::Unreachable(elapsed.into())))
                }
                _ = closing.wait_for(|closing| *closing) => Err(LedgerError::Closed),
            }
        })
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
                None => self.connect().await.map_err(Failure::unreachable)?,
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

    async fn connect(&self) -> Result<Session, Failure> {
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
        if self.is_prepared.load(Ordering::Relaxed) {
            match schema::of(&session.client).await? {
                SCHEMA => {}
                other => return Err(Failure::Schema(other)),
            }
        }
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::SqlState;

    use super::{Failure, Remedy, remedy};
    use crate::ledger::LedgerError;

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
            (SqlState::UNDEFINED_TABLE, Remedy::Later),
            (SqlState::INSUFFICIENT_PRIVILEGE, Remedy::Later),
            (SqlState::INVALID_SCHEMA_NAME, Remedy::Later),
            (SqlState::IO_ERROR, Remedy::Later),
            (SqlState::INDEX_CORRUPTED, Remedy::Later),
            (SqlState::CHECK_VIOLATION, Remedy::None),
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
