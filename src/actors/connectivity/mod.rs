//! Knows the way to the server: from what uploads meet, from what the system tells of the ways out, and,
//! where both are silent, from probes. What is concluded is decided in [`crate::policy::reach`].
//!
//! It also says when to wait although the server may be reached: on a metered link, on a low battery.
//! Nothing here ticks: what the system tells comes as events. Timers run only for what is due: a probe,
//! or a link that returned; the end of connections over a way that closed; a look at a battery that matters.

mod senses;
mod thrift;

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use super::{ConfigWatch, Drain, LinkEvidence, Ping, Probe, TryNow, send_event};
use crate::clock::wall_ms;
use crate::config::{Config, Watch};
use crate::link::netlink::{LinkChanges, LinkEvents};
use crate::link::route::{FirstHop, RouteStatus, find_route};
use crate::link::sleep::SleepDetector;
use crate::model::{Backlog, InterfaceKind, Link, Uplink};
use crate::policy::reach::{Evidence, Next, Pace, Reach};
use crate::telemetry::event::Event;
use crate::transport::proxy::first_hop_host;
use senses::News;
use thrift::Thrift;

/// A way that was closed for so long took the connections over it along.
const OUTLIVED: Duration = Duration::from_secs(3);

/// The actor.
pub struct Connectivity {
    config: ConfigWatch,
    link: watch::Sender<Link>,
    backlog: watch::Receiver<Backlog>,
    prober: Option<Recipient<Probe>>,
    telemetry: Recipient<Event>,
    rng: fastrand::Rng,
    reach: Reach,
    interface: Option<InterfaceKind>,
    thrift: Thrift,
    /// The system tells of changes.
    watched: bool,
    /// The next probe, or the return of a link.
    next: Option<SpawnHandle>,
    /// The end of the connections over a way that closed.
    outliving: Option<SpawnHandle>,
}

/// The uploader reports to this actor, which sends its probes: it is attached once both run.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AttachProber(pub Recipient<Probe>);

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
            prober: None,
            telemetry,
            rng: fastrand::Rng::new(),
            reach: Reach::default(),
            interface: None,
            thrift: Thrift::default(),
            watched: false,
            next: None,
            outliving: None,
        }
    }

    /// Whether there is anything to send that may be sent.
    fn waiting(&self) -> bool {
        self.backlog.borrow().to_go() > 0 && self.deferral().is_none()
    }

    fn reach(
        &mut self,
        ctx: &mut Context<Self>,
        tell: impl FnOnce(&mut Reach, &Pace, &mut fastrand::Rng) -> Next,
    ) {
        let pace = pace(&self.config.borrow());
        let next = tell(&mut self.reach, &pace, &mut self.rng);
        self.carry_out(next, ctx);
        self.announce(ctx);
    }

    fn carry_out(&mut self, next: Next, ctx: &mut Context<Self>) {
        if next == Next::Stay {
            return;
        }
        if let Some(planned) = self.next.take() {
            ctx.cancel_future(planned);
        }
        self.next = match next {
            Next::Stay | Next::Rest => None,
            Next::Probe(wait) => Some(ctx.run_later(wait, Self::probe)),
            Next::Return(wait) => Some(ctx.run_later(wait, Self::let_traffic_try)),
        };
    }

    fn let_traffic_try(&mut self, ctx: &mut Context<Self>) {
        self.next = None;
        self.reach.returned();
        self.announce(ctx);
    }

    fn met(&mut self, evidence: Evidence, ctx: &mut Context<Self>) {
        let waiting = self.waiting();
        self.reach(ctx, |reach, pace, rng| reach.met(evidence, waiting, pace, rng));
    }

    fn probe(&mut self, ctx: &mut Context<Self>) {
        if self.config.borrow().connectivity.watch == Watch::None {
            return self.let_traffic_try(ctx);
        }
        self.next = None;
        let Some(prober) = self.prober.clone() else { return };
        let probing = prober.send(Probe).into_actor(self).map(|evidence, actor, ctx| {
            actor.next = None;
            actor.reach.probed();
            match evidence {
                Ok(Some(evidence)) => actor.met(evidence, ctx),
                // Nobody was asked, for want of a credential: that may change.
                Ok(None) if actor.waiting() => actor.reach(ctx, Reach::wanted),
                Ok(None) | Err(_) => {}
            }
        });
        self.next = Some(ctx.spawn(probing));
    }

    /// Looks at the ways as they are, where they are watched.
    fn look(&mut self, ring: LinkChanges, ctx: &mut Context<Self>) {
        if !self.watched {
            return;
        }
        let config = self.config.borrow().clone();
        let RouteStatus { uplink: way, interface } = match config.connectivity.watch {
            Watch::Netlink => find_route(&FirstHop::from_host(first_hop_host(&config.server))),
            Watch::Poll | Watch::None => RouteStatus::default(),
        };
        self.interface = interface;
        self.outlive(&way, ctx);
        self.reach(ctx, |reach, pace, rng| match reach.saw(way, pace, rng) {
            Next::Stay if ring.route => reach.stirred(pace, rng),
            next => next,
        });
    }

    /// Connections survive a short absence of the way, and are given up after a longer one.
    fn outlive(&mut self, way: &Uplink, ctx: &mut Context<Self>) {
        if *way != Uplink::Down {
            if let Some(outliving) = self.outliving.take() {
                ctx.cancel_future(outliving);
            }
        } else if self.outliving.is_none() {
            self.outliving = Some(ctx.run_later(OUTLIVED, |actor, ctx| {
                actor.reach.given_up();
                actor.announce(ctx);
            }));
        }
    }

    fn announce(&mut self, ctx: &mut Context<Self>) {
        let before = *self.link.borrow();
        let state = self.reach.state();
        let link = Link {
            state,
            since: if state == before.state { before.since } else { wall_ms() },
            returns: self.reach.returns(),
            paths: self.reach.paths(),
            moves: self.reach.moves(),
            metered: self.thrift.metered(),
            deferral: self.deferral(),
            interface: self.interface,
        };
        if link == before {
            return;
        }
        self.link.send_replace(link);
        if (link.state, link.deferral, link.metered) != (before.state, before.deferral, before.metered) {
            send_event(&self.telemetry, Event::LinkChanged(link));
        }
        if before.state.is_closed() && !state.is_closed() {
            self.look_at_battery(ctx);
        }
        if before.deferral.is_some() && self.waiting() {
            self.reach(ctx, Reach::wanted);
        }
    }

    /// From now on the system's events are heard.
    fn watch_system(&mut self, ctx: &mut Context<Self>) {
        if self.watched || self.config.borrow().connectivity.watch != Watch::Netlink {
            return;
        }
        match LinkEvents::new() {
            Ok(links) => {
                self.watched = true;
                ctx.spawn(senses::hear(links, ctx.address()).into_actor(self));
            }
            Err(error) => tracing::warn!(
                %error,
                "the kernel's events of links cannot be heard: while offline, probes are sent instead"
            ),
        }
    }

    fn watch_sleep(&mut self, ctx: &mut Context<Self>) {
        match SleepDetector::new() {
            Ok(sleep) => drop(ctx.spawn(senses::wake(sleep, ctx.address()).into_actor(self))),
            Err(error) => tracing::info!(%error, "that the device slept will not be noticed"),
        }
    }
}

fn pace(config: &Config) -> Pace {
    Pace {
        first: config.retry.initial_backoff.0,
        longest: config.connectivity.probe_interval.0,
        jitter: config.connectivity.return_jitter.0,
    }
}

impl Actor for Connectivity {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let noticing = senses::notice(self.backlog.clone(), self.config.clone(), ctx.address());
        ctx.spawn(noticing.into_actor(self));
        self.watch_system(ctx);
        self.watch_power(ctx);
        self.watch_sleep(ctx);
        self.follow_metered(ctx);
        self.look(LinkChanges::default(), ctx);
        self.look_at_battery(ctx);
    }
}

impl Handler<News> for Connectivity {
    type Result = ();

    fn handle(&mut self, news: News, ctx: &mut Self::Context) {
        match news {
            News::Wanted => {
                self.follow_metered(ctx);
                self.look_at_battery(ctx);
                if self.waiting() {
                    self.reach(ctx, Reach::wanted);
                }
            }
            News::Rang(ring) => {
                self.look(ring, ctx);
                self.follow_metered(ctx);
            }
            News::Power => self.look_at_battery(ctx),
            News::Deaf => {
                self.watched = false;
                self.reach(ctx, |reach, pace, rng| reach.saw(Uplink::Unknown, pace, rng));
            }
            News::Woke(slept) => {
                tracing::info!("the device slept for {} s", slept.as_secs());
                self.reach(ctx, Reach::woke);
                self.look(LinkChanges::default(), ctx);
            }
            News::Metered(metered) => self.is_metered(metered, ctx),
            News::Reconfigured => {
                self.watch_system(ctx);
                self.watch_power(ctx);
                self.follow_metered(ctx);
                self.look(LinkChanges::default(), ctx);
                self.look_at_battery(ctx);
            }
        }
    }
}

impl Handler<AttachProber> for Connectivity {
    type Result = ();

    fn handle(&mut self, AttachProber(prober): AttachProber, _: &mut Self::Context) {
        self.prober = Some(prober);
    }
}

impl Handler<LinkEvidence> for Connectivity {
    type Result = ();

    fn handle(&mut self, LinkEvidence(evidence): LinkEvidence, ctx: &mut Self::Context) {
        self.met(evidence, ctx);
    }
}

impl Handler<TryNow> for Connectivity {
    type Result = ();

    fn handle(&mut self, TryNow: TryNow, ctx: &mut Self::Context) {
        self.reach(ctx, |reach, _, _| reach.hurried());
    }
}

impl Handler<Ping> for Connectivity {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Connectivity {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.carry_out(Next::Rest, ctx);
        self.prober = None;
    }
}
