//! Connections with the servers of a database, in a bounded number.
//!
//! - The hosts are tried one after the other, each within a time limit that covers everything up to a session that
//!   accepts writes: a server that hangs accepts connections and says nothing. The first to be tried is the host
//!   that worked last.
//! - A connection is counted until it has ended at the server, too. An operation that timed out leaves its connection
//!   behind: the statement may run or wait there, and a commit that waits for a standby must not be cancelled, because
//!   PostgreSQL then confirms it to others. So at most [`CONNECTIONS_MAX`] are open at a host, whatever hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error as DatabaseError};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_address::DatabaseAddress;
use super::operation_error::OperationError;

/// Connections with one host: the default limit of PostgreSQL, 100, has room for several gateways.
pub(super) const CONNECTIONS_MAX: usize = 16;
/// For one of several hosts, unless the URL has `connect_timeout`. Three hosts are tried within the time of an operation.
const HOST_TIMEOUT: Duration = Duration::from_secs(3);
/// For a statement that is a transaction of its own, for example one that waits for a lock. It is longer than the time
/// of an operation, and no limit for the wait of a commit for a standby.
const STATEMENT_TIMEOUT: &str = "-c statement_timeout=15000";

struct DatabaseHost {
    config: Config,
    timeout: Option<Duration>,
    /// One for each connection that may be open.
    connections: Arc<Semaphore>,
    /// A pooler may reject settings in the first message of a connection, and limits its connections itself.
    rejects_settings: AtomicBool,
}

/// Connects to the first host that accepts writes.
pub(super) struct HostConnector {
    address: DatabaseAddress,
    hosts: Vec<DatabaseHost>,
    /// Which host is tried first.
    first: AtomicUsize,
}

impl HostConnector {
    pub(super) fn new(address: DatabaseAddress) -> Self {
        let are_several = address.hosts.len() > 1;
        let hosts = address
            .hosts
            .iter()
            .map(|config| DatabaseHost {
                config: config.clone(),
                timeout: are_several.then(|| address.host_timeout.unwrap_or(HOST_TIMEOUT)),
                connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                rejects_settings: AtomicBool::new(false),
            })
            .collect();
        Self { address, hosts, first: AtomicUsize::new(0) }
    }

    pub(super) fn address(&self) -> &DatabaseAddress {
        &self.address
    }

    /// The connection ends when its client is dropped, after the response to what was sent to the server.
    pub(super) async fn connect(&self) -> Result<Client, OperationError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failure = OperationError::NoResponse;
        for (nth, host) in self.hosts.iter().enumerate().cycle().skip(first).take(self.hosts.len()) {
            let connecting = self.connect_to(host);
            let connected = match host.timeout {
                Some(limit) => timeout(limit, connecting).await.unwrap_or(Err(OperationError::NoResponse)),
                None => connecting.await,
            };
            match connected {
                Ok(client) => {
                    self.first.store(nth, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => failure = error,
            }
            // An operation that ends before all hosts were tried leaves the others to the next one.
            let next = (nth + 1) % self.hosts.len();
            let moved = self.first.compare_exchange(nth, next, Ordering::Relaxed, Ordering::Relaxed);
            let (Ok(_) | Err(_)) = moved;
        }
        Err(failure)
    }

    async fn connect_to(&self, host: &DatabaseHost) -> Result<Client, OperationError> {
        let waiting = Arc::clone(&host.connections).acquire_owned();
        let permit = waiting.await.map_err(|_| OperationError::NoResponse)?;
        let tls = || MakeRustlsConnect::new(self.address.tls.clone());
        let opened = if host.rejects_settings.load(Ordering::Relaxed) {
            host.config.connect(tls()).await
        } else {
            match with_settings(&host.config).connect(tls()).await {
                Err(error) if is_rejection(&error) => {
                    host.rejects_settings.store(true, Ordering::Relaxed);
                    host.config.connect(tls()).await
                }
                opened => opened,
            }
        };
        let (client, connection) = opened?;
        tokio::spawn(async move {
            // The operation that waits for a response gets the error, too.
            drop(connection.await);
            drop(permit);
        });
        Ok(client)
    }
}

fn with_settings(config: &Config) -> Config {
    let mut config = config.clone();
    let others = config.get_options().unwrap_or_default().to_owned();
    // The last one counts: that of the URL.
    config.options(format!("{STATEMENT_TIMEOUT} {others}").trim_end());
    config
}

fn is_rejection(error: &DatabaseError) -> bool {
    // A protocol violation, or an unknown parameter.
    error.code().map(SqlState::code).is_some_and(|code| ["08P01", "42704"].contains(&code))
}
