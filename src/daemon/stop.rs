//! The end: who may still finish something, and for how long.

use std::time::Duration;

use actix::prelude::*;

use super::Crew;
use crate::actors::Drain;
use crate::clock::Clock;

/// All of the end takes so long at most; what the others leave of it is the store's, whose disk may be slow.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// The batch in flight may finish for so long after the end was asked for.
const FLIGHT_GRACE: Duration = Duration::from_secs(7);
/// Requests on the socket may finish for so long.
pub(super) const REQUEST_GRACE: Duration = Duration::from_secs(1);
/// Each of the others, and the store at least.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Until when the daemon has to have ended.
pub(super) struct Deadline {
    clock: Clock,
    at: Duration,
}

impl Deadline {
    pub(super) fn start(clock: Clock) -> Self {
        Self { clock, at: clock.now() + STOP_WITHIN }
    }

    fn time_left(&self) -> Duration {
        self.at.saturating_sub(self.clock.now())
    }
}

impl Crew {
    /// The batch in flight is waited for; its claim is on disk either way.
    pub(super) async fn planner_drain(&self) {
        if tokio::time::timeout(FLIGHT_GRACE, self.planner.send(Drain)).await.is_err() {
            tracing::info!(
                "the batch in flight did not finish in time: its outcome is looked up at the next start"
            );
        }
    }

    /// In the order of the data flow, the store last.
    pub(super) async fn drain(self, deadline: Deadline) {
        drain_one("the breaker", &self.breaker, DRAIN_GRACE).await;
        drain_one("the uploader", &self.uploader, DRAIN_GRACE).await;
        drain_one("connectivity", &self.connectivity, DRAIN_GRACE).await;
        // What it keeps is written by the store: that takes as long as the disk does, and leaves the store as much again.
        drain_one("telemetry", &self.telemetry, deadline.time_left().max(DRAIN_GRACE) / 2).await;
        drain_one("the reader", &self.reader, DRAIN_GRACE).await;
        self.reader_thread.stop();
        drain_one("the store", &self.store, deadline.time_left().max(DRAIN_GRACE)).await;
        self.store_thread.stop();
    }
}

async fn drain_one<A>(name: &str, actor: &Addr<A>, patience: Duration)
where
    A: Handler<Drain>,
    A::Context: actix::dev::ToEnvelope<A, Drain>,
{
    if !matches!(tokio::time::timeout(patience, actor.send(Drain)).await, Ok(Ok(()))) {
        tracing::warn!("{name} did not drain in time");
    }
}
