//! Stopping: which actors may finish their work, and for how long.

use std::time::Duration;

use actix::prelude::*;

use super::start_actors::Actors;
use crate::actors::Drain;
use crate::clock::Clock;

/// Limit for stopping everything. The store may use what the others leave, because its disk may be slow.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the batch in flight may take to finish.
const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(7);
/// How long requests on the socket may take to finish.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long each other actor may take to finish; the store at least this long.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the program of `telemetry.alert_command` may take to end. It gets SIGKILL long before that.
const ALERT_PROGRAM_TIMEOUT: Duration = Duration::from_secs(1);

/// When the daemon must have stopped.
pub(super) struct Deadline {
    clock: Clock,
    at: Duration,
}

impl Deadline {
    pub(super) fn start(clock: Clock) -> Self {
        Self { clock, at: clock.now() + STOP_TIMEOUT }
    }

    fn time_left(&self) -> Duration {
        self.at.saturating_sub(self.clock.now())
    }
}

impl Actors {
    /// Waits for the batch in flight. Its claim is on disk in any case.
    pub(super) async fn drain_planner(&self) {
        if tokio::time::timeout(IN_FLIGHT_TIMEOUT, self.planner.send(Drain)).await.is_err() {
            tracing::info!(
                "the batch in flight did not finish in time: its outcome is looked up at the next start"
            );
        }
    }

    /// Drains the actors in the order of the data flow, the store last.
    pub(super) async fn drain_all(self, deadline: Deadline) {
        drain_one("the breaker", &self.breaker, DRAIN_TIMEOUT).await;
        drain_one("the uploader", &self.uploader, DRAIN_TIMEOUT).await;
        drain_one("connectivity", &self.connectivity, DRAIN_TIMEOUT).await;
        drain_one("the status reporter", &self.reporter, DRAIN_TIMEOUT).await;
        drain_one("the exporter", &self.exporter, DRAIN_TIMEOUT).await;
        drain_one("the alert monitor", &self.alerts, ALERT_PROGRAM_TIMEOUT).await;
        // It hands its notes to the store, which may be waiting for the disk. This leaves the store as much time again.
        drain_one("telemetry", &self.telemetry, deadline.time_left().max(DRAIN_TIMEOUT) / 2).await;
        drain_one("the reader", &self.reader, DRAIN_TIMEOUT).await;
        self.reader_thread.stop();
        drain_one("the store", &self.store, deadline.time_left().max(DRAIN_TIMEOUT)).await;
        self.store_thread.stop();
    }
}

async fn drain_one<A>(name: &str, actor: &Addr<A>, limit: Duration)
where
    A: Handler<Drain>,
    A::Context: actix::dev::ToEnvelope<A, Drain>,
{
    if !matches!(tokio::time::timeout(limit, actor.send(Drain)).await, Ok(Ok(()))) {
        tracing::warn!("{name} did not drain in time");
    }
}
