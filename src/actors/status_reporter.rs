//! Reports the status of this device to its server, for the operator of a fleet. [`crate::policy::status_schedule`]
//! decides when. No batch waits for a report, and a report that fails has no consequence but its repetition.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::batch_planner::PlannerState;
use super::{ConfigWatch, Drain, Ping, ReportStatus};
use crate::clock::SteadyClock;
use crate::model::{Backlog, Link, LinkState};
use crate::policy::status_schedule::{ReportFacts, ReportLink, ReportReply, ReportStep, StatusSchedule};
use crate::protocol::device_status::DeviceStatus;
use crate::telemetry::metrics::counters::Counters;

/// A report waits this long, so that it has what the last batch changed.
const SETTLE_WAIT: Duration = Duration::from_millis(200);

/// What the reporter needs to know.
pub struct ReporterInputs {
    /// The current configuration.
    pub config: ConfigWatch,
    /// Shows when the server responded.
    pub counters: watch::Receiver<Counters>,
    /// The connection to the server.
    pub link: watch::Receiver<Link>,
    /// Shows whether records wait, and whether sending is paused.
    pub backlog: watch::Receiver<Backlog>,
    /// Shows whether batches are under way.
    pub planner: watch::Receiver<PlannerState>,
    /// Collects the status.
    pub collect: Box<dyn Fn() -> DeviceStatus>,
    /// Waits continue while the device sleeps.
    pub steady: SteadyClock,
    /// Sends the reports.
    pub uploader: Recipient<ReportStatus>,
}

/// The actor.
pub struct StatusReporter {
    /// None once it runs.
    inputs: Option<ReporterInputs>,
    stopped: Arc<Notify>,
}

impl StatusReporter {
    /// An actor that reports nothing until a server is configured.
    pub fn new(inputs: ReporterInputs) -> Self {
        Self { inputs: Some(inputs), stopped: Arc::default() }
    }
}

impl Actor for StatusReporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(inputs) = self.inputs.take() else { return };
        let stopped = Arc::clone(&self.stopped);
        let reporting = async move {
            tokio::select! {
                () = report_until_closed(inputs) => {}
                () = stopped.notified() => {}
            }
        };
        ctx.spawn(reporting.into_actor(self));
    }
}

async fn report_until_closed(mut inputs: ReporterInputs) {
    let mut schedule = StatusSchedule::default();
    let mut known = inputs.config.borrow_and_update().clone();
    loop {
        let present = inputs.config.borrow_and_update().clone();
        if !Arc::ptr_eq(&known, &present) {
            schedule.reset();
            known = present;
        }
        let facts = inputs.read_facts();
        let step = schedule.decide(&facts, fastrand::f64());
        let is_open = match step {
            ReportStep::Report => {
                sleep(SETTLE_WAIT).await;
                // What the report says is read before it is made, so that no response is missed.
                let facts = inputs.read_facts();
                if facts.link == ReportLink::Unavailable {
                    continue;
                }
                match inputs.report().await {
                    Some(reply) => {
                        if reply == ReportReply::Unwanted {
                            tracing::info!("the server takes no reports of the status of this device");
                        }
                        schedule.record_reply(&facts, reply, inputs.now(), fastrand::f64());
                        true
                    }
                    None => false,
                }
            }
            ReportStep::WaitUntil(at) => {
                tokio::select! {
                    is_open = inputs.wait_for_change() => is_open,
                    () = sleep(at.saturating_sub(facts.now)) => true,
                }
            }
            ReportStep::WaitForChange => inputs.wait_for_change().await,
        };
        if !is_open {
            return;
        }
    }
}

impl ReporterInputs {
    fn now(&self) -> Duration {
        Duration::from_millis(self.steady.now().steady)
    }

    /// Without a server there are no reports.
    fn heartbeat(&self) -> Duration {
        let config = self.config.borrow();
        if config.server.url.is_empty() { Duration::ZERO } else { config.fleet.heartbeat.0 }
    }

    fn read_facts(&self) -> ReportFacts {
        ReportFacts {
            now: self.now(),
            heartbeat: self.heartbeat(),
            contacts: self.counters.borrow().contacts(),
            is_run_under_way: self.planner.borrow().is_run_under_way(&self.backlog.borrow()),
            link: judge_link(&self.link.borrow(), self.backlog.borrow().paused),
        }
    }

    /// Returns none when the daemon is stopping.
    async fn report(&self) -> Option<ReportReply> {
        let status = (self.collect)();
        self.uploader.send(ReportStatus(status)).await.ok()
    }

    /// Returns false when the daemon is stopping.
    async fn wait_for_change(&mut self) -> bool {
        if self.heartbeat().is_zero() {
            return self.config.changed().await.is_ok();
        }
        tokio::select! {
            changed = self.config.changed() => changed.is_ok(),
            changed = self.counters.changed() => changed.is_ok(),
            changed = self.link.changed() => changed.is_ok(),
            changed = self.backlog.changed() => changed.is_ok(),
            changed = self.planner.changed() => changed.is_ok(),
        }
    }
}

/// Nothing else looks for a server that was not reached while no record waits, so a report may try.
fn judge_link(link: &Link, is_paused: bool) -> ReportLink {
    if is_paused || link.has_route == Some(false) || link.state == LinkState::CaptivePortal {
        ReportLink::Unavailable
    } else if link.deferral.is_some() || link.metered == Some(true) {
        ReportLink::Costly
    } else {
        ReportLink::Free
    }
}

impl Handler<Ping> for StatusReporter {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for StatusReporter {
    type Result = ();

    /// A report under way ends.
    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) {
        self.stopped.notify_one();
    }
}
