//! When to wait although the server may be reached: on a metered network, on a low battery.

use std::path::Path;
use std::time::Duration;

use actix::prelude::*;

use super::Connectivity;
use super::senses::{self, News};
use crate::config::Metered;
use crate::link::metered::follow_metered;
use crate::link::netlink::PowerEvents;
use crate::link::power::{Power, SUPPLIES_DIR, read_power};
use crate::model::Deferral;

/// A battery need not say how it does: while records wait that could be sent, it is looked at this often.
const CHARGE_INTERVAL: Duration = Duration::from_mins(2);
/// NetworkManager says so soon whether the network is metered, or it is not known.
const ANSWERS: Duration = Duration::from_secs(5);

/// What sending costs.
#[derive(Debug, Default)]
pub(super) struct Thrift {
    metered: Known,
    metered_is_followed: bool,
    battery_is_low: bool,
    power_is_watched: bool,
    charging: Option<SpawnHandle>,
}

/// What NetworkManager said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    /// It was not asked yet: the network may be metered.
    #[default]
    NotYet,
    /// It does not know, or is not there.
    Nothing,
    Metered(bool),
}

impl Thrift {
    pub(super) fn metered(&self) -> Option<bool> {
        if let Known::Metered(metered) = self.metered { Some(metered) } else { None }
    }
}

impl Connectivity {
    pub(super) fn deferral(&self) -> Option<Deferral> {
        let defers = self.config.borrow().connectivity.metered == Metered::Defer;
        if defers && matches!(self.thrift.metered, Known::NotYet | Known::Metered(true)) {
            return Some(Deferral::Metered);
        }
        self.thrift.battery_is_low.then_some(Deferral::Battery)
    }

    /// Looks at the battery, where it matters, and again in a while as long as it matters.
    pub(super) fn look_at_battery(&mut self, ctx: &mut Context<Self>) {
        if let Some(charging) = self.thrift.charging.take() {
            ctx.cancel_future(charging);
        }
        let least = self.config.borrow().connectivity.min_battery_percent;
        let is_low = |power| matches!(power, Power::Battery(percent) if percent < least);
        self.thrift.battery_is_low = least > 0 && is_low(read_power(Path::new(SUPPLIES_DIR)));
        self.announce(ctx);
        if least > 0 && self.backlog.borrow().to_go() > 0 && !self.reach.is_closed() {
            self.thrift.charging = Some(ctx.run_later(CHARGE_INTERVAL, |actor, ctx| {
                actor.thrift.charging = None;
                actor.look_at_battery(ctx);
            }));
        }
    }

    pub(super) fn watch_power(&mut self, ctx: &mut Context<Self>) {
        if self.thrift.power_is_watched || self.config.borrow().connectivity.min_battery_percent == 0 {
            return;
        }
        match PowerEvents::new() {
            Ok(supplies) => {
                self.thrift.power_is_watched = true;
                ctx.spawn(senses::feel(supplies, ctx.address()).into_actor(self));
            }
            Err(error) => tracing::info!(%error, "events of the power supply cannot be heard"),
        }
    }

    /// Where there is no bus (yet), the next event asks again.
    pub(super) fn follow_metered(&mut self, ctx: &mut Context<Self>) {
        if self.thrift.metered_is_followed {
            return;
        }
        self.thrift.metered_is_followed = true;
        if self.thrift.metered == Known::NotYet {
            ctx.run_later(ANSWERS, |actor, ctx| {
                if actor.thrift.metered == Known::NotYet {
                    actor.is_metered(None, ctx);
                }
            });
        }
        let address = ctx.address();
        let following = follow_metered(async move |metered| {
            if let Err(error) = address.send(News::Metered(metered)).await {
                tracing::debug!(%error, "nobody hears whether the link is metered");
            }
        });
        ctx.spawn(following.into_actor(self).map(|ended, actor, ctx| {
            if let Err(error) = ended {
                tracing::debug!(%error, "whether the link is metered is not known");
            }
            actor.thrift.metered_is_followed = false;
            actor.is_metered(None, ctx);
        }));
    }

    pub(super) fn is_metered(&mut self, metered: Option<bool>, ctx: &mut Context<Self>) {
        self.thrift.metered = metered.map_or(Known::Nothing, Known::Metered);
        self.announce(ctx);
    }
}
