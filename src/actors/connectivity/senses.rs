//! What the surroundings tell connectivity, and who listens for it.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use super::Connectivity;
use crate::actors::ConfigWatch;
use crate::link::netlink::{LinkChanges, LinkEvents, PowerEvents};
use crate::link::sleep::SleepDetector;
use crate::model::Backlog;

/// Events that come closer together are looked at as one.
const SPACING: Duration = Duration::from_millis(50);

/// What the surroundings tell.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) enum News {
    /// Records wait where none did before.
    Wanted,
    /// The system's events.
    Rang(LinkChanges),
    /// They are no longer heard.
    Deaf,
    /// The power supply changed.
    Power,
    /// The device slept.
    Woke(Duration),
    /// NetworkManager knows, or does not.
    Metered(Option<bool>),
    /// Another configuration.
    Reconfigured,
}

pub(super) async fn hear(links: LinkEvents, connectivity: Addr<Connectivity>) {
    loop {
        let ring = match links.changed().await {
            Ok(ring) => ring,
            Err(error) => {
                tracing::error!(%error, "the kernel's events of links are no longer heard: probes take their place");
                if let Err(error) = connectivity.send(News::Deaf).await {
                    tracing::debug!(%error, "nobody hears that nothing is heard");
                }
                return;
            }
        };
        if connectivity.send(News::Rang(ring)).await.is_err() {
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}

pub(super) async fn feel(supplies: PowerEvents, connectivity: Addr<Connectivity>) {
    while supplies.changed().await.is_ok() {
        if connectivity.send(News::Power).await.is_err() {
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}

pub(super) async fn wake(mut sleep: SleepDetector, connectivity: Addr<Connectivity>) {
    while let Ok(slept) = sleep.wait_for_wake_up().await {
        if connectivity.send(News::Woke(slept)).await.is_err() {
            return;
        }
    }
}

pub(super) async fn notice(
    mut backlog: watch::Receiver<Backlog>,
    mut config: ConfigWatch,
    address: Addr<Connectivity>,
) {
    let mut waited = false;
    loop {
        let news = tokio::select! {
            changed = backlog.changed() => changed.map(|()| {
                let waits = backlog.borrow_and_update().to_go() > 0;
                (waits != std::mem::replace(&mut waited, waits)).then_some(News::Wanted)
            }),
            changed = config.changed() => changed.map(|()| Some(News::Reconfigured)),
        };
        let Ok(news) = news else { return };
        if let Some(news) = news
            && address.send(news).await.is_err()
        {
            return;
        }
    }
}
