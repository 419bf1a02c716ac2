//! Drives the scheduler: asks it what to do next, does it, and reports the result, until it says that nothing more is
//! to be done now. Operations of the store follow each other; several batches, a canary and an outcome query may be
//! under way beside them. All decisions are in [`crate::policy::scheduler`].
//!
//! It wakes when something changed (backlog, link, breaker, configuration) or when the time has come that the
//! scheduler named; it never polls.

mod actions;
mod canary;
mod completion;
mod pause;
mod report;
mod settlement;
mod state;
mod store_access;
mod under_way;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use self::pause::PauseTimer;
use self::under_way::UnderWay;
use super::circuit_breaker::CircuitBreaker;
use super::connectivity::Connectivity;
use super::queue_store::{QueueStore, write};
use super::{BatchesClosed, ConfigWatch, Drain, Ping, TryNow, send_event};
use crate::clock::{Clock, SteadyClock};
use crate::model::{Backlog, BatchId, BatchRecord, Link, OpenBatch};
use crate::policy::breaker::BreakerState;
use crate::policy::learned::{Contact, Learned};
use crate::policy::scheduler::{Scheduler, View};
use crate::store::Expedite;
use crate::telemetry::event::Event;

pub use state::PlannerState;

/// What the planner's decisions depend on.
#[derive(Clone)]
pub struct PlannerInputs {
    /// The present configuration.
    pub config: ConfigWatch,
    /// The records that wait.
    pub backlog: watch::Receiver<Backlog>,
    /// The link to the server.
    pub link: watch::Receiver<Link>,
    /// The state of the circuit breaker.
    pub breaker: watch::Receiver<BreakerState>,
    /// Changes with the credentials.
    pub credentials: watch::Receiver<u64>,
    /// The clock of this process.
    pub clock: Clock,
    /// The clock that continues over restarts.
    pub steady: SteadyClock,
}

/// The actors that the planner sends messages to.
pub struct PlannerPeers {
    /// Stores what is decided.
    pub store: Addr<QueueStore>,
    /// Sends batches and queries.
    pub breaker: Addr<CircuitBreaker>,
    /// Learns that a person cannot wait.
    pub connectivity: Addr<Connectivity>,
    /// Learns what happened.
    pub telemetry: Recipient<Event>,
}

/// How far the planner has come with stopping.
#[derive(Clone, Copy, PartialEq)]
enum DrainStage {
    /// The daemon runs.
    Running,
    /// What is under way is finished, and nothing else is started.
    Draining,
    /// What was learned is saved for the last time.
    FinalStateSaved,
}

/// When what was learned was last saved, and what must not be lost of it.
struct LastSave {
    at: Duration,
    /// The breaker's mode.
    mode: &'static str,
    one_per_key: bool,
    /// Why sends fail; none if they do not.
    outage: Option<Outage>,
}

/// The class and the HTTP status of the last failure.
type Outage = (String, Option<u16>);

/// The actor.
pub struct BatchPlanner {
    scheduler: Scheduler,
    inputs: PlannerInputs,
    peers: PlannerPeers,
    state: watch::Sender<PlannerState>,
    announced: PlannerState,
    under_way: UnderWay,
    /// [`Scheduler::restraints`] when the store began its operation.
    restraints_at_choice: (u64, usize),
    /// Ends the rest that the scheduler asked for.
    timer: Option<SpawnHandle>,
    /// The credentials were renewed, and these batches may have been sent with the old ones.
    sent_before_renewal: Option<BTreeSet<BatchId>>,
    drain: DrainStage,
    drain_waiters: Vec<oneshot::Sender<()>>,
    /// A record that the server has, to be sent as a canary.
    canary: Option<BatchRecord>,
    last_link: Link,
    /// When the link last came up or led another way, on the planner's clock.
    link_changed_at: Option<Duration>,
    last_save: Option<LastSave>,
    /// When the present pause ends by itself.
    pause_timer: Option<PauseTimer>,
}

/// Something changed.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
enum Wake {
    Changed,
    Reconfigured,
}

impl BatchPlanner {
    /// A planner that continues with the batches that the previous run left open, and with what it learned.
    pub fn new(
        open: Vec<OpenBatch>,
        learned: Learned,
        inputs: PlannerInputs,
        peers: PlannerPeers,
        state: watch::Sender<PlannerState>,
    ) -> Self {
        let Contact { last_success_at, outage_since, last_error } = learned.contact.clone();
        let mut scheduler = Scheduler::new(open, learned, fastrand::Rng::new());
        scheduler.switch_server(&inputs.config.borrow());
        Self {
            scheduler,
            inputs,
            peers,
            state,
            announced: PlannerState { last_success_at, outage_since, last_error, ..PlannerState::default() },
            under_way: UnderWay::default(),
            restraints_at_choice: (0, 0),
            timer: None,
            sent_before_renewal: None,
            drain: DrainStage::Running,
            drain_waiters: Vec::new(),
            canary: None,
            last_link: Link::default(),
            link_changed_at: None,
            last_save: None,
            pause_timer: None,
        }
    }

    /// Decides with a view of everything as it is now.
    fn with_view<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let inputs = &self.inputs;
        let (config, backlog) = (Arc::clone(&inputs.config.borrow()), inputs.backlog.borrow().clone());
        let (now, link) = (inputs.steady.now(), *inputs.link.borrow());
        let view = View {
            now: inputs.clock.now(),
            wall_ms: now.wall,
            steady_ms: now.steady,
            config: &config,
            backlog: &backlog,
            link: link.state,
            deferral: link.deferral,
            breaker: *inputs.breaker.borrow(),
        };
        decide(&mut self.scheduler, &view)
    }

    fn is_draining(&self) -> bool {
        self.drain != DrainStage::Running
    }

    fn track_progress(&mut self) {
        if self.announced.progress.update(&self.inputs.backlog.borrow()) {
            self.scheduler.start_run();
        }
    }

    /// The scheduler learns of new credentials once no response can come any more to what was sent with the old ones: it
    /// would stop the run after all.
    fn follow_credentials(&mut self) {
        if self.inputs.credentials.has_changed().is_ok_and(|changed| changed) {
            self.inputs.credentials.mark_unchanged();
            self.sent_before_renewal = Some(self.under_way.uploads());
        }
        let uploads = self.under_way.uploads();
        if self.sent_before_renewal.take_if(|sent| sent.is_disjoint(&uploads)).is_some() {
            self.scheduler.credentials_renewed(self.inputs.clock.now());
        }
    }

    fn announce_state(&mut self) {
        let to_go = self.inputs.backlog.borrow().to_go();
        let config = Arc::clone(&self.inputs.config.borrow());
        self.announced.size = Some(self.with_view(|scheduler, view| scheduler.usual_size(view)));
        self.announced.time_budget = self.scheduler.time_budget(&config);
        self.announced.time_limit = self.scheduler.time_limit(&config);
        self.announced.per_record = self.scheduler.time_per_record();
        self.announced.start_up = self.scheduler.start_up_time();
        self.announced.denied = self.scheduler.denied_sets();
        self.follow_in_flight_limit();
        self.announced.eta =
            self.with_view(|scheduler, view| scheduler.estimate_remaining(view)).filter(|_| to_go > 0);
        self.announce_batches();
    }

    /// Announces which batches are under way. What the scheduler decided stays as it was announced last.
    fn announce_batches(&mut self) {
        self.announced.batches = self.under_way.batches();
        if let Some(in_flight) = &mut self.announced.in_flight {
            in_flight.under_way = self.under_way.uploads().len();
        }
        if *self.state.borrow() != self.announced {
            self.state.send_replace(self.announced.clone());
        }
    }

    /// The journal says when the number of batches that may be under way changes, and why.
    fn follow_in_flight_limit(&mut self) {
        let now = self.with_view(|scheduler, view| scheduler.in_flight(view));
        let before = self.announced.in_flight.replace(now);
        if before.is_some_and(|before| before.limit != now.limit) {
            send_event(&self.peers.telemetry, Event::InFlightLimitChanged(now));
        }
    }

    /// The link came back, or leads another way, since the last change.
    fn follow_link(&mut self) {
        let link = *self.inputs.link.borrow();
        let before = std::mem::replace(&mut self.last_link, link);
        if link.deferral.is_none() {
            self.scheduler.end_deferral_override();
        }
        if (link.reopenings, link.address_changes, link.path_changes)
            == (before.reopenings, before.address_changes, before.path_changes)
        {
            return;
        }
        let now = self.inputs.clock.now();
        self.link_changed_at = Some(now);
        self.scheduler.link_restored(now);
        // A device that only slept says nothing about a server that needs rest.
        if before.state.is_closed()
            && let Err(error) = self.peers.breaker.try_send(TryNow)
        {
            tracing::debug!(%error, "the breaker could not be notified that the link came up");
        }
    }
}

impl Actor for BatchPlanner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (mut inputs, address): (PlannerInputs, Addr<Self>) = (self.inputs.clone(), ctx.address());
        let watching = async move {
            loop {
                let wake = tokio::select! {
                    changed = inputs.backlog.changed() => changed.map(|()| Wake::Changed),
                    changed = inputs.link.changed() => changed.map(|()| Wake::Changed),
                    changed = inputs.breaker.changed() => changed.map(|()| Wake::Changed),
                    changed = inputs.config.changed() => changed.map(|()| Wake::Reconfigured),
                    changed = inputs.credentials.changed() => changed.map(|()| Wake::Changed),
                };
                let Ok(wake) = wake else { return };
                if address.send(wake).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(watching.into_actor(self));
        self.take_next_action(ctx);
    }
}

impl Handler<Wake> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, wake: Wake, ctx: &mut Self::Context) {
        self.follow_link();
        if let Wake::Reconfigured = wake {
            if self.scheduler.switch_server(&self.inputs.config.borrow()) {
                self.canary = None;
            }
            self.scheduler.retry_now(self.inputs.clock.now());
        }
        self.take_next_action(ctx);
    }
}

impl Handler<TryNow> for BatchPlanner {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, TryNow: TryNow, _: &mut Self::Context) -> Self::Result {
        let (store, breaker) = (self.peers.store.clone(), self.peers.breaker.clone());
        let connectivity = self.peers.connectivity.clone();
        let expedited = async move {
            while let Ok(true) = write(&store, Expedite).await {}
            for notified in [breaker.send(TryNow).await, connectivity.send(TryNow).await] {
                if let Err(error) = notified {
                    tracing::debug!(%error, "an actor could not be asked to try now");
                }
            }
        };
        Box::pin(expedited.into_actor(self).map(|(), planner, ctx| {
            planner.scheduler.retry_now(planner.inputs.clock.now());
            planner.with_view(Scheduler::override_deferral);
            planner.take_next_action(ctx);
        }))
    }
}

impl Handler<BatchesClosed> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, BatchesClosed(batches): BatchesClosed, ctx: &mut Self::Context) {
        for batch in batches {
            self.scheduler.forget_batch(batch);
        }
        self.take_next_action(ctx);
    }
}

impl Handler<Ping> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for BatchPlanner {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (waiter, drained) = oneshot::channel();
        if self.drain == DrainStage::Running {
            self.drain = DrainStage::Draining;
        }
        self.drain_waiters.push(waiter);
        self.take_next_action(ctx);
        Box::pin(async move { drop(drained.await) })
    }
}
