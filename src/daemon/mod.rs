//! The daemon: who is started in which order, and how all of it ends. The only file that knows every actor.
//!
//! Started from the back of the data flow to its front, so that nobody speaks to somebody who is
//! not there; drained from the front to the back, so that what is under way is finished and
//! on disk before the store closes. A crash at any moment is as good, only slower at the next start.

mod announce;
mod handed_over;
mod memory;
mod notify;
mod recall;
mod reload;
mod signals;
mod socket;
mod stop;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use crate::actors::TryNow;
use crate::actors::batch_planner::{BatchPlanner, Partners, PlannerState, Senses};
use crate::actors::circuit_breaker::CircuitBreaker;
use crate::actors::connectivity::{AttachProber, Connectivity};
use crate::actors::queue_reader::QueueReader;
use crate::actors::queue_store::QueueStore;
use crate::actors::telemetry::{Keep, Telemetry};
use crate::actors::uploader::Uploader;
use crate::clock::{Clock, Steady, wall_ms};
use crate::config::Config;
use crate::config_file::{find_config_file, load_config};
use crate::exit;
use crate::ipc::alerts::AlertTracker;
use crate::ipc::server;
use crate::ipc::state::ApiState;
use crate::ipc::status::StatusSources;
use crate::ipc::throttle::Throttle;
use crate::ipc::web;
use crate::journal;
use crate::logging::{self, LogControl};
use crate::model::{Backlog, DiskState, Link};
use crate::store::{self, KeySpace, OpenError, Queue};
use crate::telemetry::event::Event;
use crate::telemetry::feed::Feed;
use crate::transport::credential;
use handed_over::HandedOver;
use notify::{News, Notifier};
use recall::{Recalled, recall};
use signals::{Caught, Signal};
use socket::ApiSocket;
use stop::Deadline;

/// A thread that the runtime no longer needs, for name look-ups, goes soon.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);
const MAX_BLOCKING_THREADS: usize = 2;

/// Keeps records of apps durably and syncs them to the server when connectivity allows.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fieldsyncd", version)]
pub struct Options {
    /// Configuration file [default: /etc/fieldsync/config.toml, when it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the effective configuration and exit
    #[arg(long = "check-config")]
    pub check_only: bool,
}

/// Runs the daemon; gives its exit code.
pub fn run(options: &Options) -> u8 {
    memory::close();
    let file = find_config_file(options.config.as_deref());
    let config = match load_config(file.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("fieldsyncd: {error}");
            return exit::CONFIG;
        }
    };
    if options.check_only {
        if let Some(warning) = credential::warn_of_clear_token(&config.server) {
            eprintln!("fieldsyncd: warning: {warning}");
        }
        print!("{}", config.to_toml());
        return exit::DONE;
    }
    let log = match logging::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("fieldsyncd: {error}");
            return exit::CONFIG;
        }
    };
    end_on_panic();
    let code = start(config, file, &log);
    logging::drain();
    code
}

/// Ends the process where nobody takes an exit code.
fn end(code: u8) -> ! {
    logging::drain();
    std::process::exit(i32::from(code))
}

/// An actor that panicked would be missed by nobody: the process ends, and systemd starts it anew.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if store::is_panic_expected() {
            return;
        }
        logging::bug(&panic.to_string());
        report(panic);
        end(exit::BUG);
    }));
}

fn start(config: Config, file: Option<PathBuf>, log: &LogControl) -> u8 {
    let signals = match Caught::catch() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be caught");
            return exit::FAILED;
        }
    };
    let notifier = Notifier::start();
    let progress = Arc::new(repair_told_to(notifier.clone()));
    let queue = match Queue::open(&config.state_dir(), KeySpace::from(&config), progress) {
        Ok(queue) => queue,
        Err(error) => {
            return cannot_open(&error);
        }
    };
    let system = System::with_tokio_rt(|| match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            end(exit::FAILED);
        }
    });
    system.block_on(live(queue, config, file, log, (signals, notifier)))
}

/// The log is told of each tenth, systemd of every step.
fn repair_told_to(notifier: Notifier) -> impl Fn(f64) {
    let told = AtomicU64::new(u64::MAX);
    move |done| {
        let tenth = (done * 10.0).floor();
        if told.swap(tenth.to_bits(), Ordering::Relaxed) != tenth.to_bits() {
            tracing::info!("the store is being repaired: {:.0} %", tenth * 10.0);
        }
        notifier.tell(News::Repairing(done));
    }
}

fn cannot_open(error: &OpenError) -> u8 {
    match error {
        OpenError::InUse(_) => {
            tracing::error!(name: journal::ANOTHER_DAEMON, "{error}");
            exit::ALREADY_RUNNING
        }
        OpenError::Io { .. } | OpenError::Store { .. } => {
            tracing::error!(name: journal::STORE_UNUSABLE, "{error}");
            exit::DISK
        }
        // As with a wrong configuration, starting again does not help.
        OpenError::NewerSchema { .. } => {
            tracing::error!(name: journal::STORE_NEWER, "{error}");
            exit::CONFIG
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()
}

/// A thread for an actor that waits for the disk.
fn thread_of(name: &'static str) -> Arbiter {
    Arbiter::with_tokio_rt(move || match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the {name}'s thread cannot be started");
            end(exit::FAILED);
        }
    })
}

/// Every actor, for as long as the daemon lives.
struct Crew {
    store: Addr<QueueStore>,
    store_thread: Arbiter,
    reader: Addr<QueueReader>,
    reader_thread: Arbiter,
    telemetry: Addr<Telemetry>,
    connectivity: Addr<Connectivity>,
    uploader: Addr<Uploader>,
    breaker: Addr<CircuitBreaker>,
    planner: Addr<BatchPlanner>,
}

/// What is heard of them.
struct Wires {
    sources: StatusSources,
    feed: Feed,
    fatal: watch::Receiver<Option<String>>,
    page_secret: Option<Vec<u8>>,
}

impl Wires {
    fn disk(&self) -> DiskState {
        self.sources.backlog.borrow().storage.disk
    }
}

fn crew(mut queue: Queue, config: watch::Receiver<Arc<Config>>) -> Option<(Crew, Wires)> {
    let (clock, steady) = (Clock::start(), Steady::resume(queue.last_steady()));
    let feed = Feed::default();
    let device = queue.device_id();
    let Recalled { measurements, history, page_secret, learned, open, waiting } = match recall(&mut queue) {
        Ok(recalled) => recalled,
        Err(error) => {
            tracing::error!(%error, "the store does not read");
            return None;
        }
    };
    let resumed = learned.breaker.resumed(clock.now(), steady.now().steady);
    let (backlog_sender, backlog) = watch::channel::<Backlog>(waiting);
    let (link_sender, link) = watch::channel(Link { since: wall_ms(), ..Link::default() });
    let (breaker_sender, breaker_state) = watch::channel(resumed);
    let (renewed, credentials) = watch::channel(0);
    let (planner_sender, planner_state) = watch::channel(PlannerState::default());
    let (fatal_sender, fatal) = watch::channel(None);

    let telemetry =
        Telemetry::new(measurements.as_deref(), history, config.clone(), clock, feed.clone()).start();
    let events: Recipient<Event> = telemetry.clone().recipient();
    let (store_thread, reader_thread) = (thread_of("store"), thread_of("reader"));
    let (store_config, reader, read_backlog) = (config.clone(), queue.reader(), backlog.clone());
    let reader = QueueReader::start_in_arbiter(&reader_thread.handle(), move |_| {
        QueueReader::new(reader, steady, read_backlog)
    });
    let store = QueueStore::start_in_arbiter(&store_thread.handle(), move |_| {
        QueueStore::new(queue, store_config, steady, backlog_sender, fatal_sender)
    });
    let connectivity =
        Connectivity::new(config.clone(), link_sender, backlog.clone(), events.clone()).start();
    let uploader =
        Uploader::new(config.clone(), device, connectivity.clone().recipient(), link.clone(), renewed)
            .start();
    let breaker =
        CircuitBreaker::new(resumed, config.clone(), clock, breaker_sender, uploader.clone(), events.clone())
            .start();
    let senses = Senses {
        config: config.clone(),
        backlog: backlog.clone(),
        link: link.clone(),
        breaker: breaker_state.clone(),
        credentials,
    };
    let partners = Partners {
        store: store.clone(),
        breaker: breaker.clone(),
        connectivity: connectivity.clone(),
        telemetry: events,
    };
    let planner =
        BatchPlanner::new((open, learned), senses, partners, (clock, steady), planner_sender).start();
    let sources = StatusSources {
        device,
        started_at: wall_ms(),
        clock,
        config,
        backlog,
        link,
        breaker: breaker_state,
        planner: planner_state,
        alert_tracker: AlertTracker::default(),
    };
    let crew = Crew {
        store,
        store_thread,
        reader,
        reader_thread,
        telemetry,
        connectivity,
        uploader,
        breaker,
        planner,
    };
    Some((crew, Wires { sources, feed, fatal, page_secret }))
}

async fn live(
    queue: Queue,
    config: Config,
    file: Option<PathBuf>,
    log: &LogControl,
    (signals, notifier): (Caught, Notifier),
) -> u8 {
    let socket_path = config.socket();
    let (mode, max_connections) = (config.ipc.socket_mode.0, config.ipc.max_connections);
    let (config_sender, config) = watch::channel(Arc::new(config));
    let Some((crew, mut wires)) = crew(queue, config) else {
        return exit::DISK;
    };
    let clock = wires.sources.clock;
    for introduced in [
        crew.connectivity.send(AttachProber(crew.uploader.clone().recipient())).await,
        crew.telemetry.send(Keep(crew.store.clone())).await,
    ] {
        if let Err(error) = introduced {
            tracing::error!(%error, "an actor did not start");
            return exit::BUG;
        }
    }
    let handed_over = HandedOver::take();
    let mut socket = match ApiSocket::listen(&socket_path, mode, handed_over.api) {
        Ok(listening) => listening,
        Err(error) => {
            let code = error.report();
            crew.drain(Deadline::start(clock)).await;
            return code;
        }
    };
    let (shutdown_sender, shutdown) = watch::channel(false);
    let shared = ApiState {
        sources: wires.sources.clone(),
        event_feed: wires.feed.clone(),
        store: crew.store.clone(),
        reader: crew.reader.clone(),
        planner: crew.planner.clone(),
        telemetry: crew.telemetry.clone(),
        call_throttle: Arc::new(Throttle::new(clock)),
        view_throttle: Arc::new(Throttle::new(clock)),
        review_throttle: Arc::new(Throttle::new(clock)),
        shutdown,
    };
    let mut signals = match signals.listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be listened to");
            crew.drain(Deadline::start(clock)).await;
            return exit::FAILED;
        }
    };
    let keeper = notifier.clone();
    let keep_listeners = move |listeners: Vec<_>| keeper.tell(News::PageListeners(listeners.into()));
    let kept = web::RestoredPage { secret: wires.page_secret.take(), listeners: handed_over.page };
    actix_rt::spawn(web::serve_page(shared.clone(), kept, keep_listeners));
    let api = actix_rt::spawn(server::serve_api(socket.listeners(), shared, max_connections));
    actix_rt::spawn(announce::announce(wires.sources.clone(), wires.feed.clone(), notifier.clone()));
    actix_rt::spawn(watchdog::feed(crew.pulse(), notifier.clone()));
    notifier.tell(News::Ready);
    tracing::info!(
        name: journal::READY,
        "fieldsyncd {} is ready on {}",
        env!("CARGO_PKG_VERSION"),
        socket.path().display()
    );

    let code = loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            fatal = wires.fatal.wait_for(Option::is_some) => {
                drop(fatal);
                break exit::DISK;
            }
            () = socket.changed() => {
                socket.restore();
                continue;
            }
        };
        match signal {
            Signal::Reload => {
                // The default one may have come since; one that was there may not go.
                let file = find_config_file(file.as_deref());
                reload::reload(file.as_deref(), &config_sender, log, &notifier);
                socket.restore();
            }
            Signal::SyncNow => {
                if let Err(error) = crew.planner.send(TryNow).await {
                    tracing::warn!(%error, "the planner did not hear");
                }
            }
            Signal::Stop if wires.disk() == DiskState::Failing => break exit::DISK,
            Signal::Stop => break exit::DONE,
        }
    };
    let deadline = Deadline::start(clock);
    notifier.tell(News::Stopping);
    tracing::info!(name: journal::STOPPING, "stopping: the batch in flight may finish");
    shutdown_sender.send_replace(true);
    crew.planner_drain().await;
    if tokio::time::timeout(stop::REQUEST_GRACE, api).await.is_err() {
        tracing::info!("connections on the socket that are still open are closed");
    }
    crew.drain(deadline).await;
    tracing::info!("stopped");
    code
}

impl Crew {
    fn pulse(&self) -> watchdog::Pulse {
        watchdog::Pulse {
            actors: vec![
                ("queue store", self.store.clone().recipient()),
                ("queue reader", self.reader.clone().recipient()),
                ("telemetry", self.telemetry.clone().recipient()),
                ("connectivity", self.connectivity.clone().recipient()),
                ("uploader", self.uploader.clone().recipient()),
                ("circuit breaker", self.breaker.clone().recipient()),
                ("batch planner", self.planner.clone().recipient()),
            ],
        }
    }
}
