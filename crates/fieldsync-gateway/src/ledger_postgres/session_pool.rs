//! Sessions with the database: created, reused, limited in time, and dropped.
//!
//! - Every operation ends within its time limit, whatever the server or the network does. After the limit the
//!   session is given up, and the server rolls back what was not committed. Its connection counts until it has ended,
//!   see [`super::host_connector`].
//! - An operation that failed for an external cause is repeated, [`ATTEMPTS_MAX`] times in all: after a conflict
//!   with another gateway in the same session, after a lost connection in a new one. So every operation must
//!   allow for having been executed before, also after a commit whose response was lost.
//! - At most [`CONNECTIONS_MAX`] operations run; another one waits within its time limit. None of them has a state between two transactions, so
//!   that a pooler may run each transaction in another session of the server: no settings, no locks, and unless the
//!   URL allows it, no statements with a name.
//! - A thread of their own drives all sessions all the time. So a session that is dropped ends as soon as the server
//!   has responded to its last statement, and releases the rows that other gateways wait for.
//! - Each new session checks the layout of the tables: another release may have changed it meanwhile.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::database_address::DatabaseAddress;
use super::host_connector::{CONNECTIONS_MAX, HostConnector};
use super::operation_error::{OperationError, RetryAdvice};
use super::schema::{self, SCHEMA};
use crate::ledger::LedgerError;

/// No operation takes longer.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 5;
/// How long preparing the tables may take: a migration copies every record of the ledger.
const PREPARATION_TIMEOUT: Duration = Duration::from_hours(6);

/// One session; dropping it ends it.
pub(super) struct DbSession {
    pub(super) client: Client,
    /// Since an operation began a transaction, and until it ended it.
    pub(super) is_in_transaction: bool,
    prepares_statements: bool,
    /// By their text.
    prepared: HashMap<String, Statement>,
}

impl DbSession {
    /// A statement that is parsed once in each session. `None` if sessions may be those of a pooler.
    pub(super) async fn prepare(
        &mut self,
        text: &str,
        types: &[Type],
    ) -> Result<Option<Statement>, OperationError> {
        if !self.prepares_statements {
            return Ok(None);
        }
        if let Some(statement) = self.prepared.get(text) {
            return Ok(Some(statement.clone()));
        }
        let statement = self.client.prepare_typed(text, types).await?;
        self.prepared.insert(text.to_owned(), statement.clone());
        Ok(Some(statement))
    }
}

/// The thread that drives the sessions until it is dropped.
struct SessionThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SessionThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("database".into()).spawn(move || {
            drop(runtime.block_on(stopped));
            // Without waiting for a name lookup that still runs.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SessionThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread returns nothing.
            drop(thread.join());
        }
    }
}

/// All sessions with one database.
pub(super) struct SessionPool {
    /// `None` once the pool is closed.
    thread: RwLock<Option<SessionThread>>,
    closing: watch::Sender<bool>,
    connector: HostConnector,
    /// One for each operation that may run.
    turns: Semaphore,
    idle: Mutex<Vec<DbSession>>,
    /// The tables exist and have a known layout.
    is_prepared: AtomicBool,
}

impl SessionPool {
    pub(super) fn new(address: DatabaseAddress) -> io::Result<Self> {
        Ok(Self {
            thread: RwLock::new(Some(SessionThread::start()?)),
            closing: watch::Sender::new(false),
            connector: HostConnector::new(address),
            turns: Semaphore::new(CONNECTIONS_MAX),
            idle: Mutex::default(),
            is_prepared: AtomicBool::new(false),
        })
    }

    /// From now on, each new session checks that the tables still have the known layout.
    pub(super) fn mark_prepared(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
    }

    /// Where the database is, for people.
    pub(super) fn database_name(&self) -> &str {
        &self.connector.address().name
    }

    /// Runs an operation in any session.
    pub(super) fn run_in_any<T>(
        &self,
        operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        self.run_within(OPERATION_TIMEOUT, operation)
    }

    /// Runs the operation that prepares the tables.
    pub(super) fn run_preparation<T>(
        &self,
        operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        self.run_within(PREPARATION_TIMEOUT, operation)
    }

    fn run_within<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        self.block_on(limit, async {
            let _turn = self.turns.acquire().await.map_err(|_| LedgerError::Closed)?;
            let mut session = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let result = self.run_with_retries(&mut session, operation).await;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(session);
            result
        })
    }

    /// Ends all sessions. The server rolls back what still runs, unless it was committed.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        let thread = self.thread.write().unwrap_or_else(PoisonError::into_inner).take();
        self.drop_idle_sessions();
        drop(thread);
    }

    fn drop_idle_sessions(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn block_on<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let thread = self.thread.read().unwrap_or_else(PoisonError::into_inner);
        let thread = thread.as_ref().ok_or(LedgerError::Closed)?;
        let mut closing = self.closing.subscribe();
        thread.handle.block_on(async {
            tokio::select! {
                biased;
                result = timeout(limit, operation) => {
                    result.unwrap_or_else(|elapsed| {
                        // Their server may be the one that does not respond.
                        self.drop_idle_sessions();
                        Err(LedgerError::Unreachable(elapsed.into()))
                    })
                }
                _ = closing.wait_for(|closing| *closing) => Err(LedgerError::Closed),
            }
        })
    }

    async fn run_with_retries<T>(
        &self,
        slot: &mut Option<DbSession>,
        mut operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        let mut attempts = 1;
        loop {
            let is_reused = slot.is_some();
            // Taken out of its slot, so that a time-out drops the session.
            let mut session = match slot.take() {
                Some(session) => session,
                None => self.connect_session().await.map_err(OperationError::into_unreachable)?,
            };
            let error = match operation(&mut session).await {
                Ok(value) => {
                    *slot = session.recover().await.then_some(session);
                    return Ok(value);
                }
                Err(error) => error,
            };
            match error.retry_advice() {
                RetryAdvice::Retry if attempts < ATTEMPTS_MAX => {
                    *slot = session.recover().await.then_some(session);
                }
                RetryAdvice::Reconnect if is_reused && attempts < ATTEMPTS_MAX => drop(session),
                _ => return Err(error.into_ledger_error()),
            }
            attempts += 1;
        }
    }

    async fn connect_session(&self) -> Result<DbSession, OperationError> {
        let session = DbSession {
            client: self.connector.connect().await?,
            is_in_transaction: false,
            prepares_statements: self.connector.address().prepares_statements,
            prepared: HashMap::new(),
        };
        if self.is_prepared.load(Ordering::Relaxed) {
            match schema::read_version(&session.client).await? {
                SCHEMA => {}
                other => return Err(OperationError::SchemaChanged(other)),
            }
        }
        Ok(session)
    }
}
