//! The watchdog of systemd is fed only when every actor has answered: one that is stuck has the daemon restarted.
//!
//! Asked at half of the limit, an actor has the other half to answer: a commit on a slow disk is no reason to
//! begin anew. Who keeps the others waiting is named long before. This runs on the main thread: when that is
//! stuck, nobody is asked.

use std::pin::pin;
use std::time::Duration;

use actix::Recipient;
use futures_util::future::{join_all, pending};

use super::notify::{News, Notifier};
use crate::actors::Ping;
use crate::journal;

/// Who must answer.
pub(super) struct Pulse {
    pub(super) actors: Vec<(&'static str, Recipient<Ping>)>,
}

/// Feeds the watchdog, where the unit asks for one. Its period is the only timer of an idle daemon.
pub(super) async fn feed(pulse: Pulse, notifier: Notifier) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        join_all(pulse.actors.iter().map(|(name, actor)| answered(name, actor, limit / 8))).await;
        notifier.tell(News::Watchdog);
        tokio::time::sleep(limit / 2).await;
    }
}

/// Waits for an answer, however long it takes. An actor that is gone gives none.
async fn answered(name: &str, actor: &Recipient<Ping>, patience: Duration) {
    let mut answer = pin!(actor.send(Ping));
    let prompt = tokio::time::timeout(patience, &mut answer).await;
    if matches!(prompt, Ok(Ok(()))) {
        return;
    }
    tracing::error!(
        name: journal::ACTOR_STUCK,
        actor = name,
        "the {name} actor does not answer; if it stays so, systemd restarts the daemon"
    );
    if prompt.is_ok() || answer.await.is_err() {
        return pending().await;
    }
    tracing::info!(actor = name, "the {name} actor answers again");
}
