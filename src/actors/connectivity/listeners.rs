//! The sources of connectivity's events: each listener forwards them to the actor as messages.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use super::Connectivity;
use crate::actors::ConfigWatch;
use crate::link::netlink::{LinkChanges, LinkEvents, PowerEvents};
use crate::link::sleep::SleepDetector;
use crate::model::Backlog;

/// The kernel sends events in bursts: those that arrive within this time are handled as one.
const BURST_WAIT: Duration = Duration::from_millis(50);

/// An event that may change whether records are sent.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) enum ConnectivityEvent {
    /// Records began or ceased to wait.
    BacklogChanged,
    /// Links, addresses or routes changed.
    LinksChanged(LinkChanges),
    /// The kernel's link events cannot be received any more.
    LinkEventsLost,
    /// The power supply changed.
    PowerChanged,
    /// The device slept for this long.
    WokeUp(Duration),
    /// Whether NetworkManager says that the network is metered; none if it does not know.
    MeteredChanged(Option<bool>),
    /// The configuration was reloaded.
    ConfigChanged,
}

pub(super) async fn listen_to_links(links: LinkEvents, connectivity: Addr<Connectivity>) {
    loop {
        let changes = match links.changed().await {
            Ok(changes) => changes,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the kernel's link events can no longer be received: while offline, probes are sent instead"
                );
                if let Err(error) = connectivity.send(ConnectivityEvent::LinkEventsLost).await {
                    tracing::debug!(%error, "connectivity stopped before it learned that link events are lost");
                }
                return;
            }
        };
        if connectivity.send(ConnectivityEvent::LinksChanged(changes)).await.is_err() {
            return;
        }
        tokio::time::sleep(BURST_WAIT).await;
    }
}

pub(super) async fn listen_to_power(supplies: PowerEvents, connectivity: Addr<Connectivity>) {
    while supplies.changed().await.is_ok() {
        if connectivity.send(ConnectivityEvent::PowerChanged).await.is_err() {
            return;
        }
        tokio::time::sleep(BURST_WAIT).await;
    }
}

pub(super) async fn listen_to_wake_ups(mut sleep: SleepDetector, connectivity: Addr<Connectivity>) {
    while let Ok(slept) = sleep.wait_for_wake_up().await {
        if connectivity.send(ConnectivityEvent::WokeUp(slept)).await.is_err() {
            return;
        }
    }
}

pub(super) async fn listen_to_backlog_and_config(
    mut backlog: watch::Receiver<Backlog>,
    mut config: ConfigWatch,
    connectivity: Addr<Connectivity>,
) {
    let mut was_waiting = false;
    loop {
        let event = tokio::select! {
            changed = backlog.changed() => changed.map(|()| {
                let is_waiting = backlog.borrow_and_update().to_go() > 0;
                let differs = is_waiting != std::mem::replace(&mut was_waiting, is_waiting);
                differs.then_some(ConnectivityEvent::BacklogChanged)
            }),
            changed = config.changed() => changed.map(|()| Some(ConnectivityEvent::ConfigChanged)),
        };
        let Ok(event) = event else { return };
        if let Some(event) = event
            && connectivity.send(event).await.is_err()
        {
            return;
        }
    }
}
