//! Knows the way to the server: from what uploads meet, and, while it is closed, from probes.
//!
//! A first version: the link is what traffic says it is. Probes are sent only while records wait
//! and nothing else would tell, further and further apart.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use super::uploader::{Probe, Uploader};
use super::{ConfigWatch, Drain, Ping, TryNow, tell};
use crate::clock::wall_ms;
use crate::config::Watch;
use crate::events::Event;
use crate::model::{Backlog, Link, LinkState};
use crate::policy::backoff;

/// What a request says about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Evidence {
    /// The server answered.
    Reached,
    /// Nothing could be sent.
    Unreachable,
    /// Somebody else answered.
    Portal,
}

/// Records wait where none did before.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
struct BacklogChanged;

/// The actor.
pub struct Connectivity {
    config: ConfigWatch,
    link: watch::Sender<Link>,
    backlog: watch::Receiver<Backlog>,
    uploader: Option<Addr<Uploader>>,
    telemetry: Recipient<Event>,
    rng: fastrand::Rng,
    fruitless: u32,
    probe: Option<SpawnHandle>,
}

/// The uploader and this actor know each other: it is introduced once both run.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Introduce(pub Addr<Uploader>);

impl Connectivity {
    /// An actor that knows nothing yet.
    pub fn new(
        config: ConfigWatch,
        link: watch::Sender<Link>,
        backlog: watch::Receiver<Backlog>,
        telemetry: Recipient<Event>,
    ) -> Self {
        Self {
            config,
            link,
            backlog,
            uploader: None,
            telemetry,
            rng: fastrand::Rng::new(),
            fruitless: 0,
            probe: None,
        }
    }

    fn learn(&mut self, evidence: Evidence, ctx: &mut Context<Self>) {
        let state = match evidence {
            Evidence::Reached => LinkState::Online,
            Evidence::Unreachable => LinkState::Offline,
            Evidence::Portal => LinkState::CaptivePortal,
        };
        self.enter(state);
        if evidence == Evidence::Reached {
            self.fruitless = 0;
            self.cancel_probe(ctx);
        } else if self.probe.is_none() {
            self.plan_probe(ctx);
        }
    }

    fn enter(&self, state: LinkState) {
        if self.link.borrow().state != state {
            let link = Link { state, since: wall_ms() };
            self.link.send_replace(link);
            tell(&self.telemetry, Event::LinkChanged(link));
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.link.borrow().state, LinkState::Offline | LinkState::CaptivePortal)
    }

    fn cancel_probe(&mut self, ctx: &mut Context<Self>) {
        if let Some(probe) = self.probe.take() {
            ctx.cancel_future(probe);
        }
    }

    fn plan_probe(&mut self, ctx: &mut Context<Self>) {
        if self.backlog.borrow().to_go() == 0 {
            return;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        let longest = self.config.borrow().connectivity.probe_interval.0;
        let first = self.config.borrow().retry.initial_backoff.0.min(longest);
        let wait = backoff::delay(first, longest, self.fruitless, &mut self.rng);
        self.probe_after(wait, ctx);
    }

    fn probe_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        self.cancel_probe(ctx);
        self.probe = Some(ctx.run_later(wait, |actor, ctx| {
            if actor.config.borrow().connectivity.watch == Watch::None {
                // Only traffic may tell: let it try.
                actor.probe = None;
                actor.enter(LinkState::Unknown);
                return;
            }
            let Some(uploader) = actor.uploader.clone() else {
                return;
            };
            let probing = uploader.send(Probe).into_actor(actor).map(|evidence, actor, ctx| {
                actor.probe = None;
                actor.learn(evidence.unwrap_or(Evidence::Unreachable), ctx);
            });
            actor.probe = Some(ctx.spawn(probing));
        }));
    }
}

impl Actor for Connectivity {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (mut backlog, address) = (self.backlog.clone(), ctx.address());
        let watching = async move {
            let mut waited = false;
            while backlog.changed().await.is_ok() {
                let waits = backlog.borrow_and_update().to_go() > 0;
                if waits && !waited && address.send(BacklogChanged).await.is_err() {
                    return;
                }
                waited = waits;
            }
        };
        ctx.spawn(watching.into_actor(self));
    }
}

impl Handler<Introduce> for Connectivity {
    type Result = ();

    fn handle(&mut self, Introduce(uploader): Introduce, _: &mut Self::Context) {
        self.uploader = Some(uploader);
    }
}

impl Handler<Evidence> for Connectivity {
    type Result = ();

    fn handle(&mut self, evidence: Evidence, ctx: &mut Self::Context) {
        self.learn(evidence, ctx);
    }
}

impl Handler<BacklogChanged> for Connectivity {
    type Result = ();

    fn handle(&mut self, BacklogChanged: BacklogChanged, ctx: &mut Self::Context) {
        if self.is_closed() && self.probe.is_none() {
            self.plan_probe(ctx);
        }
    }
}

impl Handler<TryNow> for Connectivity {
    type Result = ();

    fn handle(&mut self, TryNow: TryNow, ctx: &mut Self::Context) {
        if self.is_closed() {
            self.fruitless = 0;
            self.probe_after(Duration::ZERO, ctx);
        }
    }
}

impl Handler<Ping> for Connectivity {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Connectivity {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.cancel_probe(ctx);
        self.uploader = None;
    }
}
