//! Starts all actors, each with the channels and the addresses that it needs.

use actix::prelude::*;
use tokio::sync::watch;

use super::exporter::start_exporter;
use super::reload::ConfigReceivers;
use super::restore::{RestoredState, restore_state};
use super::runtime::start_thread;
use super::status_reporter::start_reporter;
use crate::actors::ConfigWatch;
use crate::actors::alert_monitor::{AlertInputs, AlertMonitor, AlertPeers};
use crate::actors::batch_planner::{BatchPlanner, PlannerInputs, PlannerPeers, PlannerState};
use crate::actors::circuit_breaker::CircuitBreaker;
use crate::actors::connectivity::Connectivity;
use crate::actors::otlp_exporter::OtlpExporter;
use crate::actors::queue_reader::QueueReader;
use crate::actors::queue_store::QueueStore;
use crate::actors::status_reporter::StatusReporter;
use crate::actors::telemetry::Telemetry;
use crate::actors::uploader::{ContactReporter, Uploader, UploaderOutputs};
use crate::clock::{Clock, SteadyClock, wall_ms};
use crate::ipc::metrics::{MetricCollector, MetricReceivers};
use crate::ipc::status::StatusSources;
use crate::model::{Backlog, DiskState, Link};
use crate::policy::alerts::facts::{CredentialExpiry, ServerContact};
use crate::policy::alerts::send_outcomes::SendOutcomes;
use crate::policy::learned::Learned;
use crate::store::Queue;
use crate::telemetry::event::Event;
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::sources::{ExportCounts, commit_times};
use crate::telemetry::metrics::start_time::StartTime;
use crate::telemetry::outcomes::OutcomeReporter;

/// All actors of the running daemon.
pub(super) struct Actors {
    pub(super) store: Addr<QueueStore>,
    pub(super) store_thread: Arbiter,
    pub(super) reader: Addr<QueueReader>,
    pub(super) reader_thread: Arbiter,
    pub(super) telemetry: Addr<Telemetry>,
    pub(super) connectivity: Addr<Connectivity>,
    pub(super) uploader: Addr<Uploader>,
    pub(super) breaker: Addr<CircuitBreaker>,
    pub(super) planner: Addr<BatchPlanner>,
    pub(super) alerts: Addr<AlertMonitor>,
    pub(super) exporter: Addr<OtlpExporter>,
    pub(super) reporter: Addr<StatusReporter>,
}

/// What the actors report.
pub(super) struct ActorHandles {
    pub(super) sources: StatusSources,
    pub(super) feed: Feed,
    pub(super) metrics: MetricCollector,
    pub(super) fatal: watch::Receiver<Option<String>>,
    pub(super) page_secret: Option<Vec<u8>>,
}

impl ActorHandles {
    pub(super) fn disk_state(&self) -> DiskState {
        self.sources.backlog.borrow().storage.disk
    }
}

pub(super) fn start_actors(mut queue: Queue, receivers: ConfigReceivers) -> Option<(Actors, ActorHandles)> {
    let ConfigReceivers { config, state: config_state } = receivers;
    let (clock, steady) = (Clock::start(), SteadyClock::continue_from(queue.last_steady()));
    let started = StartTime::new(steady.now());
    let (feed, device) = (Feed::default(), queue.device_id());
    let RestoredState {
        measurements,
        history,
        page_secret,
        alerts: alert_notes,
        learned,
        open_batches,
        backlog,
    } = restore_or_log(&mut queue)?;
    let resumed = learned.breaker.restore(clock.now(), steady.now().steady);
    let (backlog_sender, backlog) = watch::channel::<Backlog>(backlog);
    let (link_sender, link) = watch::channel(Link { since: wall_ms(), ..Link::default() });
    let (breaker_sender, breaker_state) = watch::channel(resumed);
    let (renewed, credentials) = watch::channel(0);
    let (outcomes, outputs, alert_channels) = open_alert_channels(&learned, steady, renewed);
    let (alert_sender, alerts) = watch::channel(Vec::new());
    let (planner_sender, planner_state) = watch::channel(PlannerState::default());
    let (fatal_sender, fatal) = watch::channel(None);
    let (counters_sender, counters) = watch::channel(Counters::new(steady));
    let (commits_sender, commits) = watch::channel(commit_times());
    let (exports_sender, exports) = watch::channel(ExportCounts::default());

    let telemetry =
        Telemetry::new(measurements, history, counters_sender, config.clone(), clock, feed.clone(), outcomes)
            .start();
    let events: Recipient<Event> = telemetry.clone().recipient();
    let StoreActors { store, store_thread, reader, reader_thread } =
        start_store(queue, steady, config.clone(), backlog.clone(), move |queue, config| {
            QueueStore::new(queue, config, steady, backlog_sender, fatal_sender, commits_sender)
        });
    let connectivity =
        Connectivity::new(config.clone(), link_sender, backlog.clone(), events.clone()).start();
    let uploader =
        Uploader::new(config.clone(), device, connectivity.clone().recipient(), link.clone(), outputs)
            .start();
    let breaker =
        CircuitBreaker::new(resumed, config.clone(), clock, breaker_sender, uploader.clone(), events.clone())
            .start();
    let inputs = PlannerInputs {
        config: config.clone(),
        backlog: backlog.clone(),
        link: link.clone(),
        breaker: breaker_state.clone(),
        credentials,
        clock,
        steady,
    };
    let peers = PlannerPeers {
        store: store.clone(),
        breaker: breaker.clone(),
        connectivity: connectivity.clone(),
        telemetry: events.clone(),
    };
    let planner = BatchPlanner::new(open_batches, learned, inputs, peers, planner_sender).start();
    let sources = StatusSources {
        device,
        started_at: wall_ms(),
        clock,
        config,
        config_state,
        backlog,
        link,
        breaker: breaker_state,
        planner: planner_state,
        alerts,
    };
    let receivers = MetricReceivers {
        counters: counters.clone(),
        commits,
        exports,
        contact: alert_channels.contact.clone(),
        expiry: alert_channels.expiry.clone(),
        steady,
        started: started.clone(),
    };
    let metrics = MetricCollector::new(sources.clone(), receivers);
    let reporter = start_reporter(&sources, &counters, &metrics, steady, &uploader);
    let exporter = start_exporter(&sources, counters, metrics.clone(), exports_sender, steady, started);
    let alert_peers = AlertPeers { telemetry: events, store: store.clone() };
    let inputs = alert_channels.into_inputs(&sources);
    let alert_monitor =
        AlertMonitor::new(device, &alert_notes, inputs, steady, alert_sender, alert_peers).start();
    let actors = Actors {
        store,
        store_thread,
        reader,
        reader_thread,
        telemetry,
        connectivity,
        uploader,
        breaker,
        planner,
        alerts: alert_monitor,
        exporter,
        reporter,
    };
    Some((actors, ActorHandles { sources, feed, metrics, fatal, page_secret }))
}

fn restore_or_log(queue: &mut Queue) -> Option<RestoredState> {
    restore_state(queue).inspect_err(|error| tracing::error!(%error, "the store cannot be read")).ok()
}

/// The actors that have the queue, each on a thread of its own.
struct StoreActors {
    store: Addr<QueueStore>,
    store_thread: Arbiter,
    reader: Addr<QueueReader>,
    reader_thread: Arbiter,
}

fn start_store(
    queue: Queue,
    steady: SteadyClock,
    config: ConfigWatch,
    backlog: watch::Receiver<Backlog>,
    make_store: impl FnOnce(Queue, ConfigWatch) -> QueueStore + Send + 'static,
) -> StoreActors {
    let (store_thread, reader_thread) = (start_thread("store"), start_thread("reader"));
    let reader = queue.reader();
    let reader = QueueReader::start_in_arbiter(&reader_thread.handle(), move |_| {
        QueueReader::new(reader, steady, backlog)
    });
    let store = QueueStore::start_in_arbiter(&store_thread.handle(), move |_| make_store(queue, config));
    StoreActors { store, store_thread, reader, reader_thread }
}

/// What is published only for the alerts.
struct AlertChannels {
    outcomes: watch::Receiver<SendOutcomes>,
    contact: watch::Receiver<ServerContact>,
    expiry: watch::Receiver<CredentialExpiry>,
}

impl AlertChannels {
    fn into_inputs(self, sources: &StatusSources) -> AlertInputs {
        AlertInputs {
            config: sources.config.clone(),
            config_state: sources.config_state.clone(),
            backlog: sources.backlog.clone(),
            link: sources.link.clone(),
            breaker: sources.breaker.clone(),
            planner: sources.planner.clone(),
            outcomes: self.outcomes,
            contact: self.contact,
            expiry: self.expiry,
        }
    }
}

/// The channels of the alerts, and what publishes on them.
fn open_alert_channels(
    learned: &Learned,
    steady: SteadyClock,
    credential_changes: watch::Sender<u64>,
) -> (OutcomeReporter, UploaderOutputs, AlertChannels) {
    let now = steady.now();
    let to_steady = |at: u64| now.steady.saturating_sub(now.wall.saturating_sub(at));
    let last = ServerContact { at: learned.contact.last_success_at.map(to_steady), clock: None };
    let (outcome_sender, outcomes) = watch::channel(SendOutcomes::default());
    let (contact_sender, contact) = watch::channel(last);
    let (expiry_sender, expiry) = watch::channel(CredentialExpiry::default());
    let reporter = OutcomeReporter::new(outcome_sender, steady);
    let contact_reporter = ContactReporter::new(contact_sender, steady);
    let outputs = UploaderOutputs { credential_changes, expiry: expiry_sender, contact: contact_reporter };
    (reporter, outputs, AlertChannels { outcomes, contact, expiry })
}
