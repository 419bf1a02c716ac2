//! Notifies systemd's watchdog only after every actor has responded: if one is stuck, systemd restarts the daemon.
//!
//! The actors are asked after half of the limit and have the other half to respond, so that a commit on a slow disk does
//! not cause a restart. An actor that does not respond is logged long before. This runs on the main thread: if that is
//! stuck, systemd restarts the daemon, too.

use std::pin::pin;
use std::time::Duration;

use actix::Recipient;
use futures_util::future::{join_all, pending};

use super::notify::{Notifier, SystemdMessage};
use super::start_actors::Actors;
use crate::actors::Ping;
use crate::journal;

/// The actors that must respond.
pub(super) struct WatchedActors {
    pub(super) actors: Vec<(&'static str, Recipient<Ping>)>,
}

impl Actors {
    pub(super) fn watched(&self) -> WatchedActors {
        WatchedActors {
            actors: vec![
                ("queue store", self.store.clone().recipient()),
                ("queue reader", self.reader.clone().recipient()),
                ("telemetry", self.telemetry.clone().recipient()),
                ("connectivity", self.connectivity.clone().recipient()),
                ("uploader", self.uploader.clone().recipient()),
                ("circuit breaker", self.breaker.clone().recipient()),
                ("status reporter", self.reporter.clone().recipient()),
                ("exporter", self.exporter.clone().recipient()),
                ("alert monitor", self.alerts.clone().recipient()),
                ("batch planner", self.planner.clone().recipient()),
            ],
        }
    }
}

/// Notifies the watchdog if the unit has one. Its period is the only timer of an idle daemon.
pub(super) async fn run_watchdog(watched: WatchedActors, notifier: Notifier) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        join_all(watched.actors.iter().map(|(name, actor)| wait_for_response(name, actor, limit / 8))).await;
        notifier.notify(SystemdMessage::Watchdog);
        tokio::time::sleep(limit / 2).await;
    }
}

/// Waits for the response of an actor without a limit. An actor that has ended never responds.
async fn wait_for_response(name: &str, actor: &Recipient<Ping>, log_after: Duration) {
    let mut response = pin!(actor.send(Ping));
    let prompt = tokio::time::timeout(log_after, &mut response).await;
    if matches!(prompt, Ok(Ok(()))) {
        return;
    }
    tracing::error!(
        name: journal::ACTOR_STUCK,
        actor = name,
        "the {name} actor does not respond; if this continues, systemd restarts the daemon"
    );
    if prompt.is_ok() || response.await.is_err() {
        return pending().await;
    }
    tracing::info!(actor = name, "the {name} actor responds again");
}
