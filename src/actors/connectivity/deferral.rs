//! When sending is deferred although the server may be reached: on a metered network, on a low battery.

use std::path::Path;
use std::time::Duration;

use actix::prelude::*;

use super::Connectivity;
use super::listeners::{self, ConnectivityEvent};
use crate::config::Metered;
use crate::link::metered::follow_metered;
use crate::link::netlink::PowerEvents;
use crate::link::power::{Power, SUPPLIES_DIR, read_power};
use crate::model::Deferral;

/// The kernel need not report the charge of a battery: while records wait that could be sent, it is read this often.
const BATTERY_CHECK_INTERVAL: Duration = Duration::from_mins(2);
/// How long to wait for NetworkManager to say whether the network is metered, before it counts as unknown.
const NETWORK_MANAGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why sending may have to wait.
#[derive(Debug, Default)]
pub(super) struct SendConstraints {
    metered: MeteredState,
    is_metered_followed: bool,
    is_battery_low: bool,
    is_power_watched: bool,
    battery_check: Option<SpawnHandle>,
}

/// What NetworkManager says about the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MeteredState {
    /// It has not responded yet: the network may be metered.
    #[default]
    Pending,
    /// It does not know, or it does not run.
    Unknown,
    Known(bool),
}

impl SendConstraints {
    pub(super) fn metered(&self) -> Option<bool> {
        if let MeteredState::Known(metered) = self.metered { Some(metered) } else { None }
    }
}

impl Connectivity {
    pub(super) fn deferral(&self) -> Option<Deferral> {
        let defers = self.config.borrow().connectivity.metered == Metered::Defer;
        if defers && matches!(self.constraints.metered, MeteredState::Pending | MeteredState::Known(true)) {
            return Some(Deferral::Metered);
        }
        self.constraints.is_battery_low.then_some(Deferral::Battery)
    }

    /// Reads the charge of the battery if `min_battery_percent` is set, and repeats that while records wait.
    pub(super) fn check_battery(&mut self, ctx: &mut Context<Self>) {
        if let Some(check) = self.constraints.battery_check.take() {
            ctx.cancel_future(check);
        }
        let percent_min = self.config.borrow().connectivity.min_battery_percent;
        let is_low = |power| matches!(power, Power::Battery(percent) if percent < percent_min);
        self.constraints.is_battery_low = percent_min > 0 && is_low(read_power(Path::new(SUPPLIES_DIR)));
        self.publish_link(ctx);
        if percent_min > 0 && self.backlog.borrow().to_go() > 0 && !self.reach.is_closed() {
            self.constraints.battery_check = Some(ctx.run_later(BATTERY_CHECK_INTERVAL, |actor, ctx| {
                actor.constraints.battery_check = None;
                actor.check_battery(ctx);
            }));
        }
    }

    pub(super) fn watch_power(&mut self, ctx: &mut Context<Self>) {
        if self.constraints.is_power_watched || self.config.borrow().connectivity.min_battery_percent == 0 {
            return;
        }
        match PowerEvents::new() {
            Ok(supplies) => {
                self.constraints.is_power_watched = true;
                ctx.spawn(listeners::listen_to_power(supplies, ctx.address()).into_actor(self));
            }
            Err(error) => tracing::info!(
                %error,
                "the kernel's power events cannot be received: the battery is checked every two minutes while records wait"
            ),
        }
    }

    /// Follows NetworkManager's `Metered` property. If there is no D-Bus (yet), the next event tries again.
    pub(super) fn follow_metered(&mut self, ctx: &mut Context<Self>) {
        if self.constraints.is_metered_followed {
            return;
        }
        self.constraints.is_metered_followed = true;
        if self.constraints.metered == MeteredState::Pending {
            ctx.run_later(NETWORK_MANAGER_TIMEOUT, |actor, ctx| {
                if actor.constraints.metered == MeteredState::Pending {
                    actor.set_metered(None, ctx);
                }
            });
        }
        let address = ctx.address();
        let following = follow_metered(async move |metered| {
            if let Err(error) = address.send(ConnectivityEvent::MeteredChanged(metered)).await {
                tracing::debug!(%error, "connectivity stopped before it learned whether the link is metered");
            }
        });
        ctx.spawn(following.into_actor(self).map(|ended, actor, ctx| {
            if let Err(error) = ended {
                tracing::debug!(%error, "NetworkManager cannot be asked whether the link is metered");
            }
            actor.constraints.is_metered_followed = false;
            actor.set_metered(None, ctx);
        }));
    }

    pub(super) fn set_metered(&mut self, metered: Option<bool>, ctx: &mut Context<Self>) {
        self.constraints.metered = metered.map_or(MeteredState::Unknown, MeteredState::Known);
        self.publish_link(ctx);
    }
}
