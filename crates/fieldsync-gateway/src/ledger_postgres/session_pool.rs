//! Sessions with the database: created, reused, limited in time, and dropped.
//!
//! - Every operation ends within its time limit, whatever the server or the network does. After the limit the
//!   session is dropped, and the server, which has the same limit, rolls back what was not committed.
//! - An operation that failed for an external cause is repeated, [`ATTEMPTS_MAX`] times in all: after a conflict
//!   with another gateway in the same session, after a lost connection in a new one. So every operation must
//!   allow for having been executed before.
//! - There are as many sessions as threads that use them, and two more.
//! - A thread of their own drives all sessions all the time. So a dropped session ends at once, and releases
//!   the locks that other gateways wait for.
//! - Each new session checks the layout of the tables: another release may have changed it meanwhile.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_address::DatabaseAddress;
use super::operation_error::{OperationError, RetryAdvice};
use super::schema::{self, SCHEMA};
use crate::ledger::LedgerError;

/// No operation takes longer.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 5;
/// Set in each session besides [`OPERATION_TIMEOUT`]: a confirmed commit is on disk, and a gateway that has
/// ended does not block the others.
const SESSION_SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SET default_transaction_isolation = 'read committed';
    SET tcp_keepalives_idle = 15;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
";

/// One session; dropping it ends it at once.
pub(super) struct DbSession {
    pub(super) client: Client,
    connection: JoinHandle<()>,
    /// It holds the lock of the gateway that forwards records.
    pub(super) is_forwarding: bool,
}

impl Drop for DbSession {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Holds a session for operations that always need the same one.
pub(super) type PinnedSession = tokio::sync::Mutex<Option<DbSession>>;

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
    address: DatabaseAddress,
    idle: Mutex<Vec<DbSession>>,
    /// The tables exist and have a known layout.
    is_prepared: AtomicBool,
}

impl SessionPool {
    pub(super) fn new(address: DatabaseAddress) -> io::Result<Self> {
        Ok(Self {
            thread: RwLock::new(Some(SessionThread::start()?)),
            closing: watch::Sender::new(false),
            address,
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
        &self.address.name
    }

    /// Runs an operation in any session.
    pub(super) fn run_in_any<T>(
        &self,
        operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        self.block_on(async {
            let mut session = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let result = self.run_with_retries(&mut session, operation).await;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(session);
            result
        })
    }

    /// Runs an operation in a pinned session.
    pub(super) fn run_in_pinned<T>(
        &self,
        pinned: &PinnedSession,
        operation: impl AsyncFnMut(&mut DbSession) -> Result<T, OperationError>,
    ) -> Result<T, LedgerError> {
        self.block_on(async { self.run_with_retries(&mut *pinned.lock().await, operation).await })
    }

    /// Ends all sessions. The server rolls back what still runs, unless it was committed.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        let thread = self.thread.write().unwrap_or_else(PoisonError::into_inner).take();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(thread);
    }

    fn block_on<T>(&self, operation: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
        let thread = self.thread.read().unwrap_or_else(PoisonError::into_inner);
        let thread = thread.as_ref().ok_or(LedgerError::Closed)?;
        let mut closing = self.closing.subscribe();
        thread.handle.block_on(async {
            tokio::select! {
                biased;
                result = timeout(OPERATION_TIMEOUT, operation) => {
                    result.unwrap_or_else(|elapsed| Err(LedgerError::Unreachable(elapsed.into())))
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
                    *slot = Some(session);
                    return Ok(value);
                }
                Err(error) => error,
            };
            match error.retry_advice() {
                RetryAdvice::Retry if attempts < ATTEMPTS_MAX => *slot = Some(session),
                RetryAdvice::Reconnect if is_reused && attempts < ATTEMPTS_MAX => drop(session),
                _ => return Err(error.into_ledger_error()),
            }
            attempts += 1;
        }
    }

    async fn connect_session(&self) -> Result<DbSession, OperationError> {
        let tls = MakeRustlsConnect::new(self.address.tls.clone());
        let (client, connection) = self.address.config.connect(tls).await?;
        let connection = tokio::spawn(async move {
            // The operation that waits for a response gets the error, too.
            drop(connection.await);
        });
        let session = DbSession { client, connection, is_forwarding: false };
        let limit_ms = OPERATION_TIMEOUT.as_millis();
        let settings = format!(
            "SET statement_timeout = {limit_ms}; SET idle_in_transaction_session_timeout = {limit_ms}; {SESSION_SETTINGS}"
        );
        session.client.batch_execute(&settings).await?;
        if self.is_prepared.load(Ordering::Relaxed) {
            match schema::read_version(&session.client).await? {
                SCHEMA => {}
                other => return Err(OperationError::SchemaChanged(other)),
            }
        }
        Ok(session)
    }
}
