//! Stands between planner and uploader, with the same messages in and out: it forwards batches,
//! observes their results, and rejects batches while the breaker is open.

use actix::prelude::*;
use tokio::sync::watch;

use super::uploader::Uploader;
use super::{BreakerOpen, ConfigWatch, Drain, Ping, QueryOutcome, TryNow, Upload, send_event};
use crate::clock::Clock;
use crate::policy::breaker::{Breaker, BreakerState};
use crate::policy::outcome_reply::QueriedOutcome;
use crate::policy::verdict::UploadResult;
use crate::telemetry::event::Event;

/// The actor.
pub struct CircuitBreaker {
    breaker: Breaker,
    config: ConfigWatch,
    clock: Clock,
    rng: fastrand::Rng,
    state: watch::Sender<BreakerState>,
    uploader: Addr<Uploader>,
    telemetry: Recipient<Event>,
}

impl CircuitBreaker {
    /// A breaker in front of `uploader` that continues as the previous run left it.
    pub fn new(
        restored: BreakerState,
        config: ConfigWatch,
        clock: Clock,
        state: watch::Sender<BreakerState>,
        uploader: Addr<Uploader>,
        telemetry: Recipient<Event>,
    ) -> Self {
        Self {
            breaker: Breaker::restore(restored),
            config,
            clock,
            rng: fastrand::Rng::new(),
            state,
            uploader,
            telemetry,
        }
    }

    fn publish_state(&mut self) {
        let now = self.breaker.state();
        let before = self.state.send_replace(now);
        if before.mode.name() != now.mode.name() {
            send_event(&self.telemetry, Event::BreakerChanged(now));
        }
    }
}

impl Actor for CircuitBreaker {
    type Context = Context<Self>;
}

impl Handler<Upload> for CircuitBreaker {
    type Result = ResponseActFuture<Self, Result<UploadResult, BreakerOpen>>;

    fn handle(&mut self, upload: Upload, _: &mut Self::Context) -> Self::Result {
        let sent_at = self.clock.now();
        let permit = self.breaker.permit(sent_at);
        self.publish_state();
        if permit.is_err() {
            return Box::pin(actix::fut::ready(Err(BreakerOpen)));
        }
        Box::pin(self.uploader.send(upload).into_actor(self).map(move |result, actor, _| {
            let result = result.unwrap_or(Err(BreakerOpen))?;
            let (now, effect) = (actor.clock.now(), result.verdict.effect());
            let config = actor.config.borrow().breaker.clone();
            actor.breaker.record_response(now, sent_at, effect, &config, &mut actor.rng);
            actor.publish_state();
            Ok(result)
        }))
    }
}

impl Handler<QueryOutcome> for CircuitBreaker {
    type Result = ResponseActFuture<Self, QueriedOutcome>;

    /// An outcome query is cheap and has no effect, so it always passes. Its result shows the condition of the server.
    fn handle(&mut self, query: QueryOutcome, _: &mut Self::Context) -> Self::Result {
        let sent_at = self.clock.now();
        Box::pin(self.uploader.send(query).into_actor(self).map(move |outcome, actor, _| {
            let outcome = outcome.unwrap_or_else(|_| QueriedOutcome::unreachable());
            let config = actor.config.borrow().breaker.clone();
            let (now, effect) = (actor.clock.now(), outcome.reply.effect());
            actor.breaker.record_query(now, sent_at, effect, &config, &mut actor.rng);
            actor.publish_state();
            outcome
        }))
    }
}

impl Handler<TryNow> for CircuitBreaker {
    type Result = ();

    fn handle(&mut self, TryNow: TryNow, _: &mut Self::Context) {
        self.breaker.try_now(self.clock.now());
        self.publish_state();
    }
}

impl Handler<Ping> for CircuitBreaker {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for CircuitBreaker {
    type Result = ();

    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) {}
}
