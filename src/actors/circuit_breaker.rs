//! Stands between planner and uploader with the same message in and out: lets batches through,
//! watches what comes of them, and holds them back while the server needs rest.

use actix::prelude::*;
use tokio::sync::watch;

use super::uploader::Uploader;
use super::{ConfigWatch, Drain, LookUp, Ping, Refused, TryNow, Upload, Uploaded, tell};
use crate::clock::Clock;
use crate::policy::breaker::{Breaker, BreakerState};
use crate::policy::outcome_reply::OutcomeReply;
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
    /// A breaker in front of `uploader` that goes on as a former life left it.
    pub fn new(
        resumed: BreakerState,
        config: ConfigWatch,
        clock: Clock,
        state: watch::Sender<BreakerState>,
        uploader: Addr<Uploader>,
        telemetry: Recipient<Event>,
    ) -> Self {
        Self {
            breaker: Breaker::resume(resumed),
            config,
            clock,
            rng: fastrand::Rng::new(),
            state,
            uploader,
            telemetry,
        }
    }

    fn publish(&mut self) {
        let now = self.breaker.state();
        let before = self.state.send_replace(now);
        if before.mode.name() != now.mode.name() {
            tell(&self.telemetry, Event::BreakerChanged(now));
        }
    }
}

impl Actor for CircuitBreaker {
    type Context = Context<Self>;
}

impl Handler<Upload> for CircuitBreaker {
    type Result = ResponseActFuture<Self, Result<Uploaded, Refused>>;

    fn handle(&mut self, upload: Upload, _: &mut Self::Context) -> Self::Result {
        let permit = self.breaker.permit(self.clock.now());
        self.publish();
        if permit.is_err() {
            return Box::pin(actix::fut::ready(Err(Refused)));
        }
        Box::pin(self.uploader.send(upload).into_actor(self).map(|answer, actor, _| {
            let uploaded = answer.map_err(|_| Refused)??;
            let (now, effect) = (actor.clock.now(), uploaded.verdict.effect());
            let config = actor.config.borrow().breaker.clone();
            actor.breaker.record(now, effect, &config, &mut actor.rng);
            actor.publish();
            Ok(uploaded)
        }))
    }
}

impl Handler<LookUp> for CircuitBreaker {
    type Result = ResponseActFuture<Self, OutcomeReply>;

    /// A look-up is cheap and harmless: it passes, and tells how the server is.
    fn handle(&mut self, look_up: LookUp, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.uploader.send(look_up).into_actor(self).map(|found, actor, _| {
            let found = found.unwrap_or(OutcomeReply::Unreachable);
            let config = actor.config.borrow().breaker.clone();
            actor.breaker.looked_up(actor.clock.now(), found.effect(), &config, &mut actor.rng);
            actor.publish();
            found
        }))
    }
}

impl Handler<TryNow> for CircuitBreaker {
    type Result = ();

    fn handle(&mut self, TryNow: TryNow, _: &mut Self::Context) {
        self.breaker.hurry(self.clock.now());
        self.publish();
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
