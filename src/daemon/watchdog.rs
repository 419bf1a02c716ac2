//! The watchdog of systemd is fed only while every actor answers.

use std::time::Duration;

use actix::Recipient;

use super::notify::{News, Notifier};
use crate::actors::Ping;

/// Who must answer.
pub(super) struct Pulse {
    pub(super) actors: Vec<(&'static str, Recipient<Ping>)>,
}

/// Feeds the watchdog, where the unit asks for one. Its period is the only timer of an idle daemon.
pub(super) async fn feed(pulse: Pulse, notifier: Notifier) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let period = limit / 2;
    loop {
        if all_answer(&pulse, limit / 4).await {
            notifier.tell(News::Watchdog);
        }
        tokio::time::sleep(period).await;
    }
}

async fn all_answer(pulse: &Pulse, within: Duration) -> bool {
    let asked = pulse.actors.iter().map(|(name, actor)| async move {
        let answered = matches!(tokio::time::timeout(within, actor.send(Ping)).await, Ok(Ok(())));
        if !answered {
            tracing::error!("the {name} actor does not answer; if it stays so, systemd restarts the daemon");
        }
        answered
    });
    futures_util::future::join_all(asked).await.into_iter().all(|answered| answered)
}
