//! The daemon: starts and stops all actors. The only file that knows every actor.
//!
//! Actors are started from the back of the data flow to its front, so that every receiver exists before its senders.
//! They are drained from the front to the back, so that work in progress is finished and on disk before the store
//! closes. A crash at any moment is as safe, only slower at the next start.

mod announce;
mod exporter;
mod inherited_sockets;
mod last_good;
mod main_loop;
mod memory;
mod notify;
mod open_store;
mod reload;
mod restore;
mod runtime;
mod signals;
mod socket;
mod start_actors;
mod status_reporter;
mod stop;
mod watchdog;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use actix::prelude::*;
use clap::Parser;
use tokio::sync::watch;

use crate::actors::connectivity::AttachProber;
use crate::actors::telemetry::{AttachExporter, AttachStore};
use crate::config_file::{ConfigLocation, find_file};
use crate::device_name::device_name;
use crate::exit;
use crate::ipc::server;
use crate::ipc::state::ApiState;
use crate::ipc::throttle::Throttle;
use crate::ipc::web;
use crate::journal;
use crate::logging::{self, LogControl};
use crate::store::{self, Queue};
use crate::transport::credential;
use inherited_sockets::InheritedSockets;
use main_loop::MainLoop;
use notify::{Notifier, SystemdMessage};
use open_store::open_store;
use reload::{ConfigReloader, StartConfig};
use runtime::build_runtime;
use signals::CaughtSignals;
use socket::ApiSocket;
use start_actors::start_actors;
use stop::Deadline;

const PROGRAM_NAME: &str = "fieldsyncd";

/// Keeps records of apps durably and syncs them to the server when connectivity allows.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM_NAME, version)]
pub struct DaemonOptions {
    /// Configuration file, or a directory with files *.toml [default: /etc/fieldsync/config.toml, if it exists]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Print the effective configuration and exit
    #[arg(long = "check-config")]
    pub check_only: bool,
    /// With --check-config: print only mistakes
    #[arg(long, requires = "check_only")]
    pub quiet: bool,
}

/// Whether a program was started under the daemon's name. A package has one program with two names.
pub fn is_named(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == PROGRAM_NAME)
}

/// Parses the arguments of the process, and runs the daemon.
pub fn main() -> ExitCode {
    ExitCode::from(run(&DaemonOptions::parse()))
}

/// Runs the daemon and returns its exit code.
fn run(options: &DaemonOptions) -> u8 {
    memory::protect_memory();
    let location = ConfigLocation::new(options.config.as_deref());
    if options.check_only {
        return check_config(&location, options.quiet);
    }
    let start = match StartConfig::load(location) {
        Ok(start) => start,
        Err(error) => {
            eprintln!("fieldsyncd: {error}");
            return exit::CONFIG;
        }
    };
    let log = match logging::init(&start.config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("fieldsyncd: {error}");
            return exit::CONFIG;
        }
    };
    exit_on_panic();
    start.log_refusal();
    let code = start_daemon(start, &log);
    logging::drain_journal();
    code
}

fn check_config(location: &ConfigLocation, is_quiet: bool) -> u8 {
    let config = match location.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            eprintln!("fieldsyncd: {error}");
            return exit::CONFIG;
        }
    };
    let warnings = [
        credential::warn_of_clear_token(&config.server),
        credential::warn_of_clear_headers(&config.telemetry),
    ];
    for warning in warnings.into_iter().flatten() {
        eprintln!("fieldsyncd: warning: {warning}");
    }
    if !is_quiet {
        print!("{}", config.to_masked_toml(find_file));
    }
    exit::DONE
}

/// Ends the process from where no exit code can be returned.
fn exit_process(code: u8) -> ! {
    logging::drain_journal();
    std::process::exit(i32::from(code))
}

/// A panic ends the process, not only its actor or thread. systemd then restarts the daemon.
fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if store::is_panic_expected() {
            return;
        }
        logging::log_bug(&panic.to_string());
        report(panic);
        exit_process(exit::BUG);
    }));
}

fn start_daemon(start: StartConfig, log: &LogControl) -> u8 {
    let signals = match CaughtSignals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be caught");
            return exit::FAILED;
        }
    };
    let notifier = Notifier::start();
    let queue = match open_store(&start.config, &notifier) {
        Ok(queue) => queue,
        Err(code) => return code,
    };
    logging::name_device(&queue.device_id().to_string(), &device_name(&start.config));
    start.keep();
    let system = System::with_tokio_rt(|| match build_runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            exit_process(exit::FAILED);
        }
    });
    let startup = Startup { queue, start, log, signals, notifier };
    system.block_on(run_until_stopped(startup))
}

/// What exists before the actors start.
struct Startup<'a> {
    queue: Queue,
    start: StartConfig,
    log: &'a LogControl,
    signals: CaughtSignals,
    notifier: Notifier,
}

async fn run_until_stopped(startup: Startup<'_>) -> u8 {
    let Startup { queue, start, log, signals, notifier } = startup;
    let socket_path = start.config.socket();
    let (mode, max_connections) = (start.config.ipc.socket_mode.0, start.config.ipc.max_connections);
    let (reloader, receivers) = ConfigReloader::new(start, queue.device_id(), log, notifier.clone());
    let Some((actors, mut handles)) = start_actors(queue, receivers) else {
        return exit::DISK;
    };
    let clock = handles.sources.clock;
    for attached in [
        actors.connectivity.send(AttachProber(actors.uploader.clone().recipient())).await,
        actors.telemetry.send(AttachStore(actors.store.clone())).await,
        actors.telemetry.send(AttachExporter(actors.exporter.clone().recipient())).await,
    ] {
        if let Err(error) = attached {
            tracing::error!(%error, "an actor did not start");
            return exit::BUG;
        }
    }
    let inherited = InheritedSockets::take();
    let socket = match ApiSocket::listen(&socket_path, mode, inherited.api) {
        Ok(listening) => listening,
        Err(error) => {
            let code = error.report();
            actors.drain_all(Deadline::start(clock)).await;
            return code;
        }
    };
    let (shutdown_sender, shutdown) = watch::channel(false);
    let shared = ApiState {
        sources: handles.sources.clone(),
        event_feed: handles.feed.clone(),
        metrics: handles.metrics.clone(),
        store: actors.store.clone(),
        reader: actors.reader.clone(),
        planner: actors.planner.clone(),
        telemetry: actors.telemetry.clone(),
        call_throttle: Arc::new(Throttle::new(clock)),
        view_throttle: Arc::new(Throttle::new(clock)),
        review_throttle: Arc::new(Throttle::new(clock)),
        shutdown,
    };
    let signals = match signals.listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            actors.drain_all(Deadline::start(clock)).await;
            return exit::FAILED;
        }
    };
    let listener_notifier = notifier.clone();
    let keep_listeners =
        move |listeners: Vec<_>| listener_notifier.notify(SystemdMessage::PageListeners(listeners.into()));
    let kept = web::RestoredPage { secret: handles.page_secret.take(), listeners: inherited.page };
    actix_rt::spawn(web::serve_page(shared.clone(), kept, keep_listeners));
    let api = actix_rt::spawn(server::serve_api(socket.listeners(), shared, max_connections));
    actix_rt::spawn(announce::announce_changes(
        handles.sources.clone(),
        handles.feed.clone(),
        notifier.clone(),
    ));
    actix_rt::spawn(watchdog::run_watchdog(actors.watched(), notifier.clone()));
    notifier.notify(SystemdMessage::Ready);
    tracing::info!(
        name: journal::READY,
        "fieldsyncd {} is ready on {}",
        env!("CARGO_PKG_VERSION"),
        socket.path().display()
    );

    let mut main_loop = MainLoop { signals, socket, reloader };
    let code = main_loop.run(&actors.planner, &mut handles).await;
    let deadline = Deadline::start(clock);
    notifier.notify(SystemdMessage::Stopping);
    tracing::info!(name: journal::STOPPING, "stopping: the batch in flight may finish");
    shutdown_sender.send_replace(true);
    actors.drain_planner().await;
    if tokio::time::timeout(stop::REQUEST_TIMEOUT, api).await.is_err() {
        tracing::info!("closing the connections on the socket that are still open");
    }
    actors.drain_all(deadline).await;
    tracing::info!("stopped");
    code
}
