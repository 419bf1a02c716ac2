//! The life of the process: opens the ledger, listens, and ends in order when a signal says so.
//!
//! At the end nothing new is taken, what is in flight has [`DRAIN`] to finish, and the ledger is
//! closed last. What is not finished by then was never applied, and is sent again.

use std::env;
use std::future::pending;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use rustls::ServerConfig;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::batch_processor::Desk;
use super::forward::Target;
use super::ledger::Ledger;
use super::ledger_postgres::{Address, PostgresLedger};
use super::ledger_redb::RedbLedger;
use super::listener::{DRAIN, plain_server, tls_server};
use super::metrics::Metrics;
use super::options::Options;
use super::routes::Service;
use super::token_file::TokenFile;
use super::{RunError, server_tls};

/// Threads that touch the ledger beside those that write.
const LEDGER_READERS: usize = 3;
/// Threads on which names may be looked up: one of a silent name server takes long.
const NAME_LOOKUPS: usize = 4;
/// How long what runs on threads may go on once the ledger is closed.
const LAST_LOOKUPS: Duration = Duration::from_millis(100);
/// The password of the database, when its URL has none: the name that all its clients use.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";
/// Serves until SIGTERM or SIGINT.
pub(super) fn serve(options: &Options) -> Result<(), RunError> {
    let tokens = options.token_file.as_deref().map(TokenFile::open).transpose()?.map(Arc::new);
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(server_tls::load(certificate, key)?),
        _ => None,
    };
    let target = options.forward.target()?;
    let (ledger, store) = open(&options.store)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(ledger.writers() + LEDGER_READERS + NAME_LOOKUPS)
        .build()
        .map_err(RunError::Start)?;
    let shared = Shared { ledger: Arc::clone(&ledger), store, tokens, tls, target };
    let served = runtime.block_on(listen_and_serve(options, shared));
    // What is still running is in time, or undone.
    let closed = ledger.close().map_err(RunError::Close);
    // A name that is still looked up must not hold up the end.
    runtime.shutdown_timeout(LAST_LOOKUPS);
    served.and(closed)
}

/// What was read and opened.
struct Shared {
    ledger: Arc<dyn Ledger>,
    /// Its name, without anything secret.
    store: String,
    tokens: Option<Arc<TokenFile>>,
    tls: Option<ServerConfig>,
    target: Option<Target>,
}

fn open(store: &str) -> Result<(Arc<dyn Ledger>, String), RunError> {
    if !Address::is_meant(store) {
        Address::refuse_if_like_one(store)?;
        return Ok((Arc::new(RedbLedger::open(Path::new(store))?), store.into()));
    }
    let password = env::var(PASSWORD_VARIABLE).ok();
    let ledger = PostgresLedger::open(Address::parse(store, password.as_deref())?)?;
    let name = ledger.name().to_owned();
    Ok((Arc::new(ledger), name))
}

async fn listen_and_serve(options: &Options, shared: Shared) -> Result<(), RunError> {
    let Shared { ledger, store, tokens, tls, target } = shared;
    let mut signal = signals(&[SIGTERM, SIGINT]).map_err(RunError::Start)?;
    let hangups = signals(&[SIGHUP]).map_err(RunError::Start)?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|source| RunError::Listen { address: options.listen, source })?;
    let address = listener.local_addr().map_err(RunError::Start)?;

    let metrics = Arc::new(Metrics::new());
    let desk = Arc::new(Desk::new(ledger, Handle::current(), options.faults.clone(), Arc::clone(&metrics)));
    let service = Arc::new(Service {
        desk: Arc::clone(&desk),
        metrics: Arc::clone(&metrics),
        faults: options.faults.clone(),
        tokens: tokens.clone(),
        max_body: options.max_body_bytes,
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let path = options.path.clone();
    let server = match tls {
        Some(tls) => tls_server(listener, tls, service, path),
        None => plain_server(listener, service, path),
    }
    .map_err(RunError::Start)?;
    let handle = server.handle();
    if tokens.is_none() && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "listening on {address} without --token-file: everyone who reaches it may hand over records in the name \
             of any device, and read the ledger"
        );
    }
    announce(scheme, address).map_err(RunError::Announce)?;
    tracing::info!(%address, scheme, store, "gateway ready");

    let forwarding = async {
        match target {
            Some(target) => options.forward.forwarder(target, Arc::clone(&desk), metrics).run().await,
            None => pending().await,
        }
    };
    let mut server = pin!(server);
    let mut first_byte = [0];
    tokio::select! {
        ended = &mut server => return ended.map_err(RunError::Serve),
        () = desk.prune(options.keep_answers) => {}
        () = forwarding => {}
        () = reload_on(hangups, tokens) => {}
        // A failing pipe could never tell of a signal again: that is as good as one.
        _ = signal.read(&mut first_byte) => {}
    }
    tracing::info!("gateway ending: requests in flight may finish");
    let stopping = handle.stop(true);
    let drained = timeout(DRAIN, join(server, desk.idle())).await;
    drop(stopping);
    if let Ok((ended, ())) = drained {
        ended.map_err(RunError::Serve)
    } else {
        tracing::warn!("requests in flight did not finish in time; they were not applied");
        Ok(())
    }
}

/// Reads the token file again with each signal, for ever.
async fn reload_on(mut hangups: UnixStream, tokens: Option<Arc<TokenFile>>) {
    let mut byte = [0];
    while hangups.read_exact(&mut byte).await.is_ok() {
        let Some(tokens) = tokens.clone() else {
            tracing::info!("there is no --token-file to read again");
            continue;
        };
        // It ends without a result only when the process does.
        spawn_blocking(move || tokens.reload()).await.ok();
    }
    pending::<()>().await;
}

/// Names the address for those who let the system choose the port.
fn announce(scheme: &str, address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {scheme}://{address}")?;
    out.flush()
}

/// A stream with a byte for each of these signals.
fn signals(signals: &[i32]) -> io::Result<UnixStream> {
    let (reader, writer) = StdUnixStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}
