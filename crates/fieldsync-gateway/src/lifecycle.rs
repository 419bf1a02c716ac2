//! The life of the process: opens the ledger, serves requests, and shuts down in order on a signal.
//!
//! On shutdown the gateway accepts no new batch, gives those that it accepted [`DRAIN_TIMEOUT`] to finish, and
//! closes the ledger last. Until they have finished it still listens: `/readyz` is 503, and new batches get 503. A batch that did not finish by then is sent again by its device. Without a destination,
//! nothing of it was applied.

use std::env;
use std::future::pending;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use futures_util::future::join;
use rustls::ServerConfig;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::admin::AdminState;
use super::batch_processor::BatchProcessor;
use super::config_file::LoadedConfig;
use super::connection_places::ConnectionPlaces;
use super::destination::{CALLS_IN_FLIGHT_MAX, DestinationLink, DestinationSlot, ReloadCache};
use super::device_limit::DeviceLimit;
use super::fleet::Fleet;
use super::forward::{ForwardTarget, Forwarder};
use super::forward_control::ForwardControl;
use super::gateway_config::GatewayConfig;
use super::ledger::Ledger;
use super::ledger_postgres::{DatabaseAddress, PostgresLedger};
use super::ledger_redb::RedbLedger;
use super::ledger_token_budget::LedgerTokenBudget;
use super::listener::{DRAIN_TIMEOUT, prepare_for_connections, start_plain_server, start_tls_server};
use super::load_control::LoadLimits;
use super::metrics::Metrics;
use super::options::GatewayOptions;
use super::reload::{Reloader, report_files};
use super::routes::{BodyMemory, GatewayState};
use super::startup::{ConfiguredParts, find_warnings, read_destination};
use super::token_file::TokenFile;
use super::{RunError, service_manager};
use crate::clock::millis;

/// Threads for ledger operations that do not write.
const LEDGER_READER_THREADS: usize = 3;
/// Threads for name resolution, which takes long while a name server does not respond: one for each call to the
/// destination, and some for tokens, forwarding and the database.
const NAME_LOOKUP_THREADS: usize = CALLS_IN_FLIGHT_MAX + 4;
/// How long deliveries that are cut short may take to store what is known of them.
const DELIVERY_END_TIME: Duration = Duration::from_secs(2);
/// How long blocking threads may continue after the ledger was closed.
const THREAD_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);
/// The database password if the URL has none; the variable is that of libpq.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// Serves until SIGTERM or SIGINT.
pub(super) fn run_until_signal(options: &GatewayOptions, loaded: LoadedConfig) -> Result<(), RunError> {
    let ConfiguredParts { tokens, admin_tokens, tls, certificate, target } = ConfiguredParts::read(&loaded)?;
    for warning in find_warnings(&loaded)? {
        tracing::warn!("{warning}");
    }
    let (ledger, store_name) = open_ledger(&loaded.config.gateway.store, target.is_some())?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(ledger.writers_max() + LEDGER_READER_THREADS + NAME_LOOKUP_THREADS)
        .build()
        .map_err(RunError::Start)?;
    let budget = LedgerTokenBudget::new(Arc::clone(&ledger), runtime.handle().clone());
    let cache = ReloadCache::new(Arc::new(budget));
    let link = read_destination(&loaded, &cache)?.map(|destination| DestinationLink {
        slot: Arc::new(DestinationSlot::new(destination)),
        time_budget: loaded.config.destination.time_budget.0,
    });
    let config = loaded.config.clone();
    let metrics = Arc::new(Metrics::new(certificate.is_some()));
    report_files(&metrics, tokens.as_deref(), admin_tokens.as_deref(), certificate.as_deref());
    let forward_control = Arc::new(ForwardControl::default());
    let reloader = Reloader {
        options: options.clone(),
        loaded,
        tokens: tokens.clone(),
        admin_tokens: admin_tokens.clone(),
        forward_control: Arc::clone(&forward_control),
        certificate,
        destination: link.as_ref().map(|link| Arc::clone(&link.slot)),
        cache,
        metrics: Arc::clone(&metrics),
        status: String::new(),
    };
    let parts = StartupParts {
        ledger: Arc::clone(&ledger),
        store_name,
        tokens,
        admin_tokens,
        tls,
        target,
        forward_control,
        link,
        metrics,
        reloader,
    };
    let served = runtime.block_on(listen_and_serve(&config, parts));
    // Operations that still run complete before the close, or are rolled back.
    let closed = ledger.close().map_err(RunError::Close);
    // A name lookup that still runs must not delay the end.
    runtime.shutdown_timeout(THREAD_SHUTDOWN_TIMEOUT);
    served.and(closed)
}

/// What was read and opened at the start.
struct StartupParts {
    ledger: Arc<dyn Ledger>,
    /// The name of the ledger, without secrets.
    store_name: String,
    tokens: Option<Arc<TokenFile>>,
    admin_tokens: Option<Arc<TokenFile>>,
    tls: Option<ServerConfig>,
    target: Option<ForwardTarget>,
    forward_control: Arc<ForwardControl>,
    link: Option<DestinationLink>,
    metrics: Arc<Metrics>,
    reloader: Reloader,
}

fn open_ledger(store: &str, forwards: bool) -> Result<(Arc<dyn Ledger>, String), RunError> {
    if !DatabaseAddress::is_database_url(store) {
        DatabaseAddress::reject_lookalike(store)?;
        return Ok((Arc::new(RedbLedger::open(Path::new(store), forwards)?), store.into()));
    }
    let password = env::var(PASSWORD_VARIABLE).ok();
    let ledger = PostgresLedger::open(DatabaseAddress::parse(store, password.as_deref())?, forwards)?;
    let name = ledger.database_name().to_owned();
    Ok((Arc::new(ledger), name))
}

async fn listen_and_serve(config: &GatewayConfig, parts: StartupParts) -> Result<(), RunError> {
    let StartupParts {
        ledger,
        store_name,
        tokens,
        admin_tokens,
        tls,
        target,
        forward_control,
        link,
        metrics,
        mut reloader,
    } = parts;
    let options = &config.gateway;
    let mut signal = open_signal_stream(&[SIGTERM, SIGINT]).map_err(RunError::Start)?;
    let hangups = open_signal_stream(&[SIGHUP]).map_err(RunError::Start)?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|source| RunError::Listen { address: options.listen, source })?;
    let address = listener.local_addr().map_err(RunError::Start)?;
    prepare_for_connections(&listener, options.max_connections.get());

    let processor = Arc::new(BatchProcessor::new(
        ledger,
        Handle::current(),
        config.faults.clone(),
        Arc::clone(&metrics),
        link,
        LoadLimits { time_limit: options.device_time_limit.0, in_flight_max: options.max_in_flight.get() },
    ));
    let fleet = Arc::new(Fleet::new(Arc::clone(&processor), &config.fleet, options.keep_records.0));
    let body_bytes_max = usize::try_from(options.max_body_bytes.0).unwrap_or(usize::MAX);
    let admin = admin_tokens.map(|tokens| {
        Arc::new(AdminState {
            processor: Arc::clone(&processor),
            forward_control: Arc::clone(&forward_control),
            fleet: Arc::clone(&fleet),
            tokens,
            metrics: Arc::clone(&metrics),
            body_bytes_max,
        })
    });
    let state = Arc::new(GatewayState {
        admin,
        forward_control: Arc::clone(&forward_control),
        fleet: Arc::clone(&fleet),
        processor: Arc::clone(&processor),
        metrics: Arc::clone(&metrics),
        faults: config.faults.clone(),
        tokens: tokens.clone(),
        connections: Arc::new(ConnectionPlaces::new(options.max_connections.get())),
        device_limit: Arc::new(DeviceLimit::new(options.max_in_flight_per_device)),
        body_bytes_max,
        body_memory: BodyMemory::default(),
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let path = options.path.0.clone();
    let server = match tls {
        Some(tls) => start_tls_server(listener, tls, state, path),
        None => start_plain_server(listener, state, path),
    }
    .map_err(RunError::Start)?;
    let handle = server.handle();
    if tokens.is_none() && options.client_ca_file.is_none() {
        warn_of_open_address(address);
    }
    reloader.status = format!("Listening on {scheme}://{address}, destination: {}", config.destination.kind);
    service_manager::report_ready(&reloader.status);
    announce_address(scheme, address).map_err(RunError::Announce)?;
    tracing::info!(
        %address, scheme, store = store_name, destination = %config.destination.kind,
        time_budget_ms = processor.time_budget().map(millis), "gateway ready"
    );

    let forwarding = async {
        match target {
            Some(target) => {
                Forwarder::new(&config.forward, target, Arc::clone(&processor), forward_control, metrics)
                    .run_forever()
                    .await;
            }
            None => pending().await,
        }
    };
    let mut server = pin!(server);
    let mut first_byte = [0];
    tokio::select! {
        ended = &mut server => return ended.map_err(RunError::Serve),
        () = processor.prune_forever(options.keep_answers.0, options.keep_records.0) => {}
        () = fleet.store_forever() => {}
        () = forwarding => {}
        () = reload_on_signal(hangups, reloader) => {}
        // If the pipe fails, no later signal would be noticed: treat the failure as a signal.
        _ = signal.read(&mut first_byte) => {}
    }
    processor.begin_drain();
    service_manager::report_stopping();
    tracing::info!("gateway ending: waiting for requests in flight");
    drain_requests(server, &handle, &processor, &fleet).await.unwrap_or_else(|| {
        tracing::warn!("requests in flight did not finish in time; their devices send them again");
        Ok(())
    })
}

fn warn_of_open_address(address: SocketAddr) {
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "listening on {address} without --token-file: anyone who can reach this address can send records in the \
             name of any device, and read the ledger"
        );
    }
}

/// Waits until the batches that were accepted have ended, then until the server has, for [`DRAIN_TIMEOUT`] at most.
/// Meanwhile the server still listens, so that load balancers see that it is ending and devices get a response.
/// Deliveries are cut short a little before the end.
/// What changed of the devices is stored last.
async fn drain_requests(
    mut server: Pin<&mut impl Future<Output = io::Result<()>>>,
    handle: &ServerHandle,
    processor: &BatchProcessor,
    fleet: &Fleet,
) -> Option<Result<(), RunError>> {
    let mut left = DRAIN_TIMEOUT;
    tokio::select! {
        ended = &mut server => return Some(ended.map_err(RunError::Serve)),
        idle = timeout(DRAIN_TIMEOUT.saturating_sub(DELIVERY_END_TIME), processor.wait_until_idle()) => {
            if idle.is_err() {
                processor.end_deliveries();
                left = DELIVERY_END_TIME;
            }
        }
    }
    let stopping = handle.stop(true);
    let ended = timeout(left, join(server, processor.wait_until_idle())).await;
    drop(stopping);
    fleet.store_at_end().await;
    ended.ok().map(|(ended, ())| ended.map_err(RunError::Serve))
}

/// Reads the configuration again on each signal, for ever.
async fn reload_on_signal(mut hangups: UnixStream, mut reloader: Reloader) {
    let mut byte = [0];
    while hangups.read_exact(&mut byte).await.is_ok() {
        let task = spawn_blocking(move || {
            reloader.reload();
            reloader
        });
        match task.await {
            Ok(back) => reloader = back,
            // It ends without a result only when the process ends.
            Err(_) => break,
        }
    }
    pending::<()>().await;
}

/// Prints the address, for a caller that let the system choose the port.
fn announce_address(scheme: &str, address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {scheme}://{address}")?;
    out.flush()
}

/// A stream that gets one byte for each of these signals.
fn open_signal_stream(signals: &[i32]) -> io::Result<UnixStream> {
    let (reader, writer) = StdUnixStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}
