//! Tracks whether the server can be reached: from the results of requests, from the routes that the kernel reports,
//! and, if neither says anything, from probes. [`crate::policy::reach`] decides what follows from them.
//!
//! It also defers sending while the server may be reached: on a metered link, on a low battery.
//!
//! Nothing here polls: the system reports changes as events. Timers run only for what is due: a probe, a link that
//! came up, the end of connections over a link that went down, and a check of the battery if it matters.

mod deferral;
mod listeners;

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use super::{ConfigWatch, Drain, LinkEvidence, Ping, Probe, TryNow, send_event};
use crate::clock::{millis, wall_ms};
use crate::config::{Config, Watch};
use crate::link::netlink::{LinkChanges, LinkEvents};
use crate::link::route::{FirstHop, RouteStatus, find_route};
use crate::link::sleep::SleepDetector;
use crate::model::{Backlog, ConnectFailure, InterfaceKind, Link, Uplink};
use crate::policy::reach::{LinkAction, ProbeIntervals, Reach};
use crate::telemetry::event::Event;
use crate::transport::proxy::first_hop_host;
use deferral::SendConstraints;
use listeners::ConnectivityEvent;

/// Connections survive the loss of the route for this long; after that they are given up.
const ROUTE_LOSS_GRACE: Duration = Duration::from_secs(3);

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
    /// Why the last attempt to connect failed, until the server responds.
    failure: Option<ConnectFailure>,
    constraints: SendConstraints,
    /// The kernel's link events are received.
    is_watching_links: bool,
    /// The next probe, or the end of the pause after a link came up.
    next_attempt: Option<SpawnHandle>,
    /// When that is, in wall milliseconds.
    next_attempt_at: Option<u64>,
    /// The end of the connections over a route that is gone.
    route_loss: Option<SpawnHandle>,
}

/// Attaches the uploader, which sends the probes. It reports to this actor, so it starts later.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AttachProber(pub Recipient<Probe>);

impl Connectivity {
    /// An actor that has not seen a request or a route yet.
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
            failure: None,
            constraints: SendConstraints::default(),
            is_watching_links: false,
            next_attempt: None,
            next_attempt_at: None,
            route_loss: None,
        }
    }

    /// Whether there are records that may be sent.
    fn has_sendable_records(&self) -> bool {
        self.backlog.borrow().to_go() > 0 && self.deferral().is_none()
    }

    fn update_reach(
        &mut self,
        ctx: &mut Context<Self>,
        update: impl FnOnce(&mut Reach, &ProbeIntervals, &mut fastrand::Rng) -> LinkAction,
    ) {
        let intervals = probe_intervals(&self.config.borrow());
        let next = update(&mut self.reach, &intervals, &mut self.rng);
        self.schedule_action(next, ctx);
        self.publish_link(ctx);
    }

    fn schedule_action(&mut self, next: LinkAction, ctx: &mut Context<Self>) {
        if next == LinkAction::KeepPlan {
            return;
        }
        if let Some(planned) = self.next_attempt.take() {
            ctx.cancel_future(planned);
        }
        self.next_attempt_at = match next {
            LinkAction::KeepPlan | LinkAction::Idle => None,
            LinkAction::Probe(wait) | LinkAction::Reopen(wait) => {
                Some(wall_ms().saturating_add(millis(wait)))
            }
        };
        self.next_attempt = match next {
            LinkAction::KeepPlan | LinkAction::Idle => None,
            LinkAction::Probe(wait) => Some(ctx.run_later(wait, Self::send_probe)),
            LinkAction::Reopen(wait) => Some(ctx.run_later(wait, Self::reopen_link)),
        };
    }

    fn reopen_link(&mut self, ctx: &mut Context<Self>) {
        (self.next_attempt, self.next_attempt_at) = (None, None);
        self.reach.reopen();
        self.publish_link(ctx);
    }

    fn on_evidence(&mut self, LinkEvidence { evidence, failure }: LinkEvidence, ctx: &mut Context<Self>) {
        self.failure = failure;
        let has_records = self.has_sendable_records();
        self.update_reach(ctx, |reach, intervals, rng| {
            reach.record_evidence(evidence, has_records, intervals, rng)
        });
    }

    fn send_probe(&mut self, ctx: &mut Context<Self>) {
        if self.config.borrow().connectivity.watch == Watch::None {
            return self.reopen_link(ctx);
        }
        self.next_attempt = None;
        let Some(prober) = self.prober.clone() else { return };
        let probing = prober.send(Probe).into_actor(self).map(|evidence, actor, ctx| {
            actor.next_attempt = None;
            actor.reach.finish_probe();
            match evidence {
                Ok(Some(evidence)) => actor.on_evidence(evidence, ctx),
                // No probe was sent, because there is no usable credential: that may change.
                Ok(None) if actor.has_sendable_records() => {
                    actor.update_reach(ctx, Reach::on_records_waiting);
                }
                Ok(None) | Err(_) => {}
            }
        });
        self.next_attempt = Some(ctx.spawn(probing));
    }

    /// Reads the present route to the server, if links are watched.
    fn refresh_route(&mut self, changes: LinkChanges, ctx: &mut Context<Self>) {
        if !self.is_watching_links {
            return;
        }
        let config = self.config.borrow().clone();
        let RouteStatus { uplink, interface } = match config.connectivity.watch {
            Watch::Netlink => find_route(&FirstHop::from_host(first_hop_host(&config.server))),
            Watch::Poll | Watch::None => RouteStatus::default(),
        };
        self.interface = interface;
        self.track_route_loss(&uplink, ctx);
        self.update_reach(ctx, |reach, intervals, rng| match reach.update_uplink(uplink, intervals, rng) {
            LinkAction::KeepPlan if changes.route => reach.on_link_changed(intervals, rng),
            next => next,
        });
    }

    /// Connections survive a short loss of the route, and are given up after a longer one.
    fn track_route_loss(&mut self, uplink: &Uplink, ctx: &mut Context<Self>) {
        if *uplink != Uplink::Down {
            if let Some(route_loss) = self.route_loss.take() {
                ctx.cancel_future(route_loss);
            }
        } else if self.route_loss.is_none() {
            self.route_loss = Some(ctx.run_later(ROUTE_LOSS_GRACE, |actor, ctx| {
                actor.reach.invalidate_connections();
                actor.publish_link(ctx);
            }));
        }
    }

    fn publish_link(&mut self, ctx: &mut Context<Self>) {
        let before = *self.link.borrow();
        let state = self.reach.state();
        let link = Link {
            state,
            since: if state == before.state { before.since } else { wall_ms() },
            reopenings: self.reach.reopenings(),
            path_changes: self.reach.path_changes(),
            address_changes: self.reach.address_changes(),
            metered: self.constraints.metered(),
            deferral: self.deferral(),
            interface: self.interface,
            failure: self.failure,
            has_route: self.reach.has_route(),
            next_attempt_at: self.next_attempt_at.filter(|_| state.is_closed()),
        };
        if link == before {
            return;
        }
        self.link.send_replace(link);
        if (link.state, link.deferral, link.metered) != (before.state, before.deferral, before.metered) {
            send_event(&self.telemetry, Event::LinkChanged(link));
        }
        if before.state.is_closed() && !state.is_closed() {
            self.check_battery(ctx);
        }
        if before.deferral.is_some() && self.has_sendable_records() {
            self.update_reach(ctx, Reach::on_records_waiting);
        }
    }

    /// Subscribes to the kernel's link events, if the configuration asks for that.
    fn watch_links(&mut self, ctx: &mut Context<Self>) {
        if self.is_watching_links || self.config.borrow().connectivity.watch != Watch::Netlink {
            return;
        }
        match LinkEvents::new() {
            Ok(links) => {
                self.is_watching_links = true;
                ctx.spawn(listeners::listen_to_links(links, ctx.address()).into_actor(self));
            }
            Err(error) => tracing::warn!(
                %error,
                "the kernel's link events cannot be received: while offline, probes are sent instead"
            ),
        }
    }

    fn watch_sleep(&mut self, ctx: &mut Context<Self>) {
        match SleepDetector::new() {
            Ok(sleep) => {
                let listening = listeners::listen_to_wake_ups(sleep, ctx.address());
                ctx.spawn(listening.into_actor(self));
            }
            Err(error) => tracing::info!(
                %error,
                "wake-ups cannot be detected: after sleep, a broken link is noticed only by the next request"
            ),
        }
    }
}

fn probe_intervals(config: &Config) -> ProbeIntervals {
    ProbeIntervals {
        first: config.retry.initial_backoff.0,
        longest: config.connectivity.probe_interval.0,
        reopen_jitter: config.connectivity.return_jitter.0,
    }
}

impl Actor for Connectivity {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (backlog, config) = (self.backlog.clone(), self.config.clone());
        let listening = listeners::listen_to_backlog_and_config(backlog, config, ctx.address());
        ctx.spawn(listening.into_actor(self));
        self.watch_links(ctx);
        self.watch_power(ctx);
        self.watch_sleep(ctx);
        self.follow_metered(ctx);
        self.refresh_route(LinkChanges::default(), ctx);
        self.check_battery(ctx);
    }
}

impl Handler<ConnectivityEvent> for Connectivity {
    type Result = ();

    fn handle(&mut self, event: ConnectivityEvent, ctx: &mut Self::Context) {
        match event {
            ConnectivityEvent::BacklogChanged => {
                self.follow_metered(ctx);
                self.check_battery(ctx);
                if self.has_sendable_records() {
                    self.update_reach(ctx, Reach::on_records_waiting);
                }
            }
            ConnectivityEvent::LinksChanged(changes) => {
                self.refresh_route(changes, ctx);
                self.follow_metered(ctx);
            }
            ConnectivityEvent::PowerChanged => self.check_battery(ctx),
            ConnectivityEvent::LinkEventsLost => {
                self.is_watching_links = false;
                self.update_reach(ctx, |reach, intervals, rng| {
                    reach.update_uplink(Uplink::Unknown, intervals, rng)
                });
            }
            ConnectivityEvent::WokeUp(slept) => {
                tracing::info!("the device slept for {} s", slept.as_secs());
                self.update_reach(ctx, Reach::on_wake_up);
                self.refresh_route(LinkChanges::default(), ctx);
            }
            ConnectivityEvent::MeteredChanged(metered) => self.set_metered(metered, ctx),
            ConnectivityEvent::ConfigChanged => {
                self.watch_links(ctx);
                self.watch_power(ctx);
                self.follow_metered(ctx);
                self.refresh_route(LinkChanges::default(), ctx);
                self.check_battery(ctx);
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

    fn handle(&mut self, evidence: LinkEvidence, ctx: &mut Self::Context) {
        self.on_evidence(evidence, ctx);
    }
}

impl Handler<TryNow> for Connectivity {
    type Result = ();

    fn handle(&mut self, TryNow: TryNow, ctx: &mut Self::Context) {
        self.update_reach(ctx, |reach, _, _| reach.try_now());
    }
}

impl Handler<Ping> for Connectivity {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Connectivity {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.schedule_action(LinkAction::Idle, ctx);
        self.prober = None;
    }
}
