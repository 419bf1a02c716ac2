//! Drives the scheduler: asks it what to do next, does it, and tells it what came of it. One action
//! is under way at a time; all decisions are in [`crate::policy::scheduler`].
//!
//! It wakes when something changed (backlog, link, breaker, configuration) or when the scheduler's
//! own time has come; it never looks just in case.

mod control;
mod report;
mod settling;
mod state;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use super::circuit_breaker::CircuitBreaker;
use super::connectivity::Connectivity;
use super::queue_store::{QueueStore, Write};
use super::{ConfigWatch, Disbanded, Drain, LookUp, Ping, TryNow, Upload, Uploaded};
use crate::api::BatchInFlight;
use crate::clock::{Clock, Steady, millis, wall_ms};
use crate::model::{Backlog, Batch, BatchId, BatchRecord, DiskState, Link, OpenBatch, Phase, WaitCause};
use crate::policy::breaker::BreakerState;
use crate::policy::learned::Learned;
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::scheduler::{Action, Scheduler, Sent, View};
use crate::policy::verdict::Verdict;
use crate::store::{Claim, Dispatch, Expedite, StoreError};
use crate::telemetry::event::Event;
use report::{Report, load_of, log_look_up, log_sending, types_of};

pub use state::PlannerState;

/// What the planner listens to.
#[derive(Clone)]
pub struct Senses {
    /// As it is now.
    pub config: ConfigWatch,
    /// What waits.
    pub backlog: watch::Receiver<Backlog>,
    /// The way to the server.
    pub link: watch::Receiver<Link>,
    /// How the server is treated.
    pub breaker: watch::Receiver<BreakerState>,
    /// Changes with the credentials.
    pub credentials: watch::Receiver<u64>,
}

/// Whom the planner talks to.
pub struct Partners {
    /// Keeps what is decided.
    pub store: Addr<QueueStore>,
    /// Sends what is to be sent.
    pub breaker: Addr<CircuitBreaker>,
    /// Is told when a person cannot wait.
    pub connectivity: Addr<Connectivity>,
    /// Is told what happened.
    pub telemetry: Recipient<Event>,
}

/// The actor.
pub struct BatchPlanner {
    scheduler: Scheduler,
    senses: Senses,
    partners: Partners,
    clock: Clock,
    steady: Steady,
    state: watch::Sender<PlannerState>,
    announced: PlannerState,
    busy: bool,
    /// A record that the server has, for controls.
    sample: Option<BatchRecord>,
    link_was: Link,
    /// When what was learned was last kept, and the breaker's mode then.
    kept: Option<(Duration, &'static str)>,
    timer: Option<SpawnHandle>,
    drained: Vec<oneshot::Sender<()>>,
    draining: bool,
    /// What was learned is kept once more at the end.
    put_away: bool,
}

/// Something changed.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
enum Wake {
    Changed,
    Reconfigured,
}

impl BatchPlanner {
    /// A planner that goes on with the batches that a former life left open.
    pub fn new(
        (open, learned): (Vec<OpenBatch>, Learned),
        senses: Senses,
        partners: Partners,
        (clock, steady): (Clock, Steady),
        state: watch::Sender<PlannerState>,
    ) -> Self {
        let mut scheduler = Scheduler::new(open, learned, fastrand::Rng::new());
        scheduler.switch_server(&senses.config.borrow());
        Self {
            scheduler,
            senses,
            partners,
            clock,
            steady,
            state,
            announced: PlannerState::default(),
            busy: false,
            sample: None,
            link_was: Link::default(),
            kept: None,
            timer: None,
            drained: Vec::new(),
            draining: false,
            put_away: false,
        }
    }

    /// Lets the scheduler look at the world as it is now.
    fn look<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let (config, backlog) =
            (Arc::clone(&self.senses.config.borrow()), self.senses.backlog.borrow().clone());
        let (now, link) = (self.steady.now(), *self.senses.link.borrow());
        let view = View {
            now: self.clock.now(),
            wall_ms: now.wall,
            steady_ms: now.steady,
            config: &config,
            backlog: &backlog,
            link: link.state,
            deferral: link.deferral,
            breaker: *self.senses.breaker.borrow(),
        };
        decide(&mut self.scheduler, &view)
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        if self.draining {
            if !self.put_away && self.senses.backlog.borrow().storage.disk == DiskState::Ok {
                self.put_away = true;
                let note = self.remember();
                return self.ask_store(note, ctx, |_, (), _| {});
            }
            for drained in self.drained.drain(..) {
                if drained.send(()).is_err() {
                    tracing::debug!("whoever asked for the drain has given up waiting");
                }
            }
            return;
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        // Not before the answer to what was sent with the old ones: it would stop the run after all.
        if self.senses.credentials.has_changed().is_ok_and(|changed| changed) {
            self.senses.credentials.mark_unchanged();
            self.scheduler.credentials_renewed(self.clock.now());
        }
        self.observe_progress();
        match self.look(|scheduler, view| scheduler.next_action(view)) {
            Action::Rest { phase, until, cause } => self.rest(phase, until, cause, ctx),
            Action::Claim(order) => self.ask_store(Claim::new(order), ctx, |planner, claimed, ctx| {
                if let Some(batch) = claimed {
                    planner.upload(batch, ctx);
                }
            }),
            Action::Send(batch, sequence) => {
                self.ask_store(Dispatch { batch, sequence }, ctx, move |planner, dispatched, ctx| {
                    match dispatched {
                        Some(batch) => planner.upload(batch, ctx),
                        None => planner.scheduler.forget_batch(batch),
                    }
                });
            }
            Action::QueryOutcome(batch) => self.look_up(batch, ctx),
            Action::Divide(batch) => {
                let disposition = self.look(|scheduler, view| scheduler.divide_batch(view, batch));
                self.settle(batch, disposition, None, ctx);
            }
            Action::SendCanary(sequence) => self.control(sequence, ctx),
            Action::Quarantine(batch) => {
                let disposition = self.look(|scheduler, view| scheduler.quarantine_isolated(view, batch));
                self.settle(batch, disposition, None, ctx);
            }
        }
    }

    fn rest(
        &mut self,
        phase: Phase,
        until: Option<Duration>,
        cause: Option<WaitCause>,
        ctx: &mut Context<Self>,
    ) {
        let wait = until.map(|until| until.saturating_sub(self.clock.now()));
        self.announced.batch = None;
        self.announced.phase = phase;
        self.announced.wait_cause = cause;
        self.announced.until = wait.map(|wait| wall_ms().saturating_add(millis(wait)));
        self.announce();
        self.timer = wait.map(|wait| ctx.notify_later(Wake::Changed, wait));
    }

    /// One operation of the store, and what to do with its reply. Busy until then: a full or
    /// failing disk is waited for.
    fn ask_store<O>(
        &mut self,
        op: O,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, O::Reply, &mut Context<Self>) + 'static,
    ) where
        O: crate::store::Op + std::marker::Sync,
        QueueStore: Handler<Write<Arc<O>>>,
    {
        self.busy = true;
        let (store, mut backlog) = (self.partners.store.clone(), self.senses.backlog.clone());
        let (op, state) = (Arc::new(op), self.state.clone());
        let asked = async move {
            let waits_for_disk = |waits: bool| {
                state.send_if_modified(|state| {
                    let is_news = waits != (state.wait_cause == Some(WaitCause::Disk));
                    if is_news {
                        state.wait_cause = waits.then_some(WaitCause::Disk);
                    }
                    is_news
                });
            };
            loop {
                match store.send(Write(Arc::clone(&op))).await.unwrap_or(Err(StoreError::Closed)) {
                    Err(StoreError::Failing) => {
                        waits_for_disk(true);
                        let well = |backlog: &Backlog| backlog.storage.disk != DiskState::Failing;
                        drop(backlog.wait_for(well).await.ok()?);
                    }
                    Err(StoreError::NoRoom) => {
                        waits_for_disk(true);
                        backlog.mark_unchanged();
                        backlog.changed().await.ok()?;
                    }
                    done => {
                        waits_for_disk(false);
                        return done.ok();
                    }
                }
            }
        };
        ctx.spawn(asked.into_actor(self).map(move |reply, planner, ctx| {
            // None: the store has said why, and the process is about to end; nothing is settled.
            if let Some(reply) = reply {
                planner.busy = false;
                then(planner, reply, ctx);
                planner.step(ctx);
            }
        }));
    }

    fn upload(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        self.scheduler.start_send(self.clock.now(), &batch.open, load_of(&batch));
        if self.draining {
            return self.hold_back(batch.open.id, ctx);
        }
        self.announced.phase = Phase::Syncing;
        self.announced.until = None;
        self.announced.wait_cause = None;
        self.announced.batch = Some(BatchInFlight {
            id: batch.open.id,
            sequence: batch.sequence,
            records: batch.open.records,
            attempt: batch.open.attempt,
        });
        self.announce();
        self.busy = true;
        log_sending(&batch);
        let batch = Arc::new(batch);
        let upload = Upload {
            batch: Arc::clone(&batch),
            patience: self.scheduler.response_deadline(&self.senses.config.borrow(), batch.open.id),
            is_denied_alone: self.scheduler.is_denied_alone(batch.open.id),
        };
        let sent = self.partners.breaker.send(upload).into_actor(self);
        ctx.spawn(sent.map(move |answer, planner, ctx| {
            planner.busy = false;
            if let Ok(Ok(uploaded)) = answer {
                planner.answered(&batch, uploaded, ctx);
            } else {
                // The breaker opened between the look and the send: nothing went out.
                planner.hold_back(batch.open.id, ctx);
            }
        }));
    }

    fn hold_back(&mut self, id: BatchId, ctx: &mut Context<Self>) {
        let parked = self.look(|scheduler, view| scheduler.defer_send(view, id));
        self.settle(id, parked, None, ctx);
    }

    fn answered(&mut self, batch: &Batch, uploaded: Uploaded, ctx: &mut Context<Self>) {
        let Uploaded { verdict, error, took, replayed, hints, network } = uploaded;
        let id = batch.open.id;
        if let Some(hints) = hints {
            self.scheduler.apply_hints(hints);
        }
        let (expected, time_limit) =
            (self.scheduler.expected_duration(id), self.scheduler.time_limit(&self.senses.config.borrow()));
        let sent = Sent { verdict: &verdict, error: &error, took, sending: network.sent, replayed };
        let disposition = self.look(|scheduler, view| scheduler.on_response(view, id, &sent));
        if let Verdict::Completed(results) = &verdict {
            self.announced.last_success_at = Some(error.at);
            self.sample(batch, results);
        } else {
            self.announced.last_error = Some(error.clone());
        }
        let report = Report {
            batch: batch.open.clone(),
            sequence: batch.sequence,
            verdict,
            error,
            took,
            network,
            expected,
            time_limit,
        };
        let types = types_of(batch);
        self.settle(id, disposition, Some((report, types)), ctx);
    }

    fn look_up(&mut self, id: BatchId, ctx: &mut Context<Self>) {
        self.busy = true;
        let asked = self.partners.breaker.send(LookUp(id)).into_actor(self);
        ctx.spawn(asked.map(move |found, planner, ctx| {
            planner.busy = false;
            let found = found.unwrap_or(OutcomeReply::Unreachable);
            if matches!(found, OutcomeReply::Completed(_)) {
                planner.announced.last_success_at = Some(wall_ms());
            }
            let disposition = planner.look(|scheduler, view| scheduler.on_outcome_reply(view, id, &found));
            log_look_up(id, &found, disposition.as_ref());
            match disposition {
                Some(disposition) => planner.settle(id, disposition, None, ctx),
                None => planner.step(ctx),
            }
        }));
    }

    fn observe_progress(&mut self) {
        if self.announced.progress.observe(&self.senses.backlog.borrow()) {
            self.scheduler.start_run();
        }
    }

    fn announce(&mut self) {
        let to_go = self.senses.backlog.borrow().to_go();
        let config = Arc::clone(&self.senses.config.borrow());
        self.announced.size = Some(self.look(|scheduler, view| scheduler.usual_size(view)));
        self.announced.time_budget = self.scheduler.time_budget(&config);
        self.announced.time_limit = self.scheduler.time_limit(&config);
        self.announced.per_record = self.scheduler.time_per_record();
        self.announced.denied = self.scheduler.denied_sets();
        self.announced.eta =
            self.look(|scheduler, view| scheduler.estimate_remaining(view)).filter(|_| to_go > 0);
        if *self.state.borrow() != self.announced {
            self.state.send_replace(self.announced.clone());
        }
    }
}

impl Actor for BatchPlanner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (mut senses, address): (Senses, Addr<Self>) = (self.senses.clone(), ctx.address());
        let watching = async move {
            loop {
                let wake = tokio::select! {
                    changed = senses.backlog.changed() => changed.map(|()| Wake::Changed),
                    changed = senses.link.changed() => changed.map(|()| Wake::Changed),
                    changed = senses.breaker.changed() => changed.map(|()| Wake::Changed),
                    changed = senses.config.changed() => changed.map(|()| Wake::Reconfigured),
                    changed = senses.credentials.changed() => changed.map(|()| Wake::Changed),
                };
                let Ok(wake) = wake else { return };
                if address.send(wake).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(watching.into_actor(self));
        self.step(ctx);
    }
}

impl Handler<Wake> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, wake: Wake, ctx: &mut Self::Context) {
        let now = self.clock.now();
        let link = *self.senses.link.borrow();
        let was = std::mem::replace(&mut self.link_was, link);
        if link.deferral.is_none() {
            self.scheduler.end_deferral_override();
        }
        if (link.returns, link.moves, link.paths) != (was.returns, was.moves, was.paths) {
            self.scheduler.link_restored(now);
            // A device that only slept says nothing of a server that needs rest.
            if was.state.is_closed()
                && let Err(error) = self.partners.breaker.try_send(TryNow)
            {
                tracing::debug!(%error, "the breaker was not told that the link is back");
            }
        }
        if let Wake::Reconfigured = wake {
            if self.scheduler.switch_server(&self.senses.config.borrow()) {
                self.sample = None;
            }
            self.scheduler.retry_now(now);
        }
        self.step(ctx);
    }
}

impl Handler<TryNow> for BatchPlanner {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, TryNow: TryNow, _: &mut Self::Context) -> Self::Result {
        let (store, breaker) = (self.partners.store.clone(), self.partners.breaker.clone());
        let connectivity = self.partners.connectivity.clone();
        let hurried = async move {
            while let Ok(Ok(true)) = store.send(Write(Expedite)).await {}
            for told in [breaker.send(TryNow).await, connectivity.send(TryNow).await] {
                if let Err(error) = told {
                    tracing::debug!(%error, "somebody was not told to hurry");
                }
            }
        };
        Box::pin(hurried.into_actor(self).map(|(), planner, ctx| {
            planner.scheduler.retry_now(planner.clock.now());
            planner.look(Scheduler::override_deferral);
            planner.step(ctx);
        }))
    }
}

impl Handler<Disbanded> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, Disbanded(batches): Disbanded, ctx: &mut Self::Context) {
        for batch in batches {
            self.scheduler.forget_batch(batch);
        }
        self.step(ctx);
    }
}

impl Handler<Ping> for BatchPlanner {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for BatchPlanner {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (drained, done) = oneshot::channel();
        self.draining = true;
        self.drained.push(drained);
        self.step(ctx);
        Box::pin(async move { drop(done.await) })
    }
}
