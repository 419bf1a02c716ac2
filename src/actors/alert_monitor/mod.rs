//! Watches the states that others publish, and publishes which alerts are active. [`crate::policy::alerts`] decides.
//!
//! An alert that starts or ends is an event for telemetry, and is handed over to `telemetry.alert_command`. The active
//! alerts are saved, so that a restart neither starts them again nor loses their ends. Nothing
//! polls: besides changes of the states, only one timer leads to a judgement, for the next time that the policy
//! announces.

mod command_queue;
mod command_run;
mod inputs;

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::timeout;

use super::queue_store::{QueueStore, SaveWithNextCommit, Write};
use super::{Drain, Ping, send_event};
use crate::api::{Alert, AlertChange};
use crate::boot_id::read_boot_id;
use crate::clock::SteadyClock;
use crate::device_name::device_name;
use crate::link::sleep::SleepDetector;
use crate::model::DeviceId;
use crate::policy::alerts::AlertPolicy;
use crate::policy::alerts::restarts::{self, RestartLog};
use crate::policy::alerts::restored;
use crate::store::{NoteChange, SaveNote};
use crate::telemetry::event::Event;
use command_queue::{AlertNotice, CommandQueue};
pub use inputs::AlertInputs;

/// Changes within this time are judged together.
const BURST_WAIT: Duration = Duration::from_millis(50);

/// The actor.
pub struct AlertMonitor {
    device: DeviceId,
    inputs: AlertInputs,
    steady: SteadyClock,
    policy: AlertPolicy,
    starts: RestartLog,
    alerts: watch::Sender<Vec<Alert>>,
    peers: AlertPeers,
    command: CommandQueue,
    /// When the next judgement is due, in steady milliseconds.
    next_due: Option<u64>,
}

/// The actors that the monitor sends messages to.
pub struct AlertPeers {
    /// Gets the alerts that start and end.
    pub telemetry: Recipient<Event>,
    /// Keeps the notes of the starts and of the active alerts.
    pub store: Addr<QueueStore>,
}

/// The notes of the previous run.
#[derive(Default)]
pub struct AlertNotes {
    /// The starts of the last day.
    pub starts: Option<Vec<u8>>,
    /// The alerts that were active.
    pub active: Option<Vec<u8>>,
}

/// Judges the present states. The reply says when the next judgement is due, in steady milliseconds.
#[derive(Clone, Copy, Message)]
#[rtype(result = "Option<u64>")]
struct JudgeAlerts;

impl AlertMonitor {
    /// Judges the states as they are, so that the first status has the alerts.
    pub fn new(
        device: DeviceId,
        notes: &AlertNotes,
        inputs: AlertInputs,
        steady: SteadyClock,
        alerts: watch::Sender<Vec<Alert>>,
        peers: AlertPeers,
    ) -> Self {
        let (now, boot) = (steady.now().steady, read_boot_id());
        let starts = RestartLog::record_start(notes.starts.as_deref(), now, boot).unwrap_or_else(|error| {
            tracing::warn!(%error, "the earlier starts could not be decoded; counting restarts from now on");
            RestartLog::default()
        });
        let policy = notes.active.as_deref().map(AlertPolicy::restore).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the previous alerts could not be decoded: those still active start again");
            None
        });
        let mut monitor = Self {
            device,
            inputs,
            steady,
            policy: policy.unwrap_or_default(),
            starts,
            alerts,
            peers,
            command: CommandQueue::default(),
            next_due: None,
        };
        for alert in monitor.policy.active_alerts() {
            send_event(&monitor.peers.telemetry, Event::AlertRestored(alert));
        }
        monitor.judge();
        monitor
    }

    fn judge(&mut self) {
        let config = self.inputs.config.borrow().clone();
        let policy = &mut self.policy;
        let update = self
            .inputs
            .with_facts(self.steady.now(), &config, &self.starts, |facts| policy.update(facts, &config));
        self.next_due = update.next_due;
        if !update.changes.is_empty()
            && let Err(error) = self.peers.store.try_send(self.active_note(&[]))
        {
            tracing::debug!(%error, "the store is busy: the active alerts are saved with the next change");
        }
        for change in update.changes {
            if let Some(command) = &config.telemetry.alert_command {
                let notice = AlertNotice {
                    change: &change,
                    device_id: self.device,
                    device_name: device_name(&config),
                };
                self.command.hand_over(&notice, command, config.telemetry.alert_command_timeout.0);
            }
            send_event(&self.peers.telemetry, Event::AlertChanged(change));
        }
        let active = self.policy.active_alerts();
        self.alerts.send_if_modified(|published| {
            let is_changed = *published != active;
            *published = active;
            is_changed
        });
    }

    /// It costs no commit of its own: a crash may lose the latest change, and then it is reported again or late.
    fn active_note(&self, unreported: &[AlertChange]) -> SaveWithNextCommit {
        let note = Some(self.policy.to_note(unreported));
        SaveWithNextCommit(vec![NoteChange { name: restored::NOTE_NAME.into(), note }])
    }

    fn save_starts(&self) -> impl Future<Output = ()> + use<> {
        let note = SaveNote { name: restarts::NOTE_NAME, note: self.starts.to_note() };
        let saving = self.peers.store.send(Write(note));
        async move {
            if let Ok(Err(error)) = saving.await {
                tracing::warn!(%error, "the time of this start could not be saved: restarts are not counted");
            }
        }
    }
}

impl Actor for AlertMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(self.save_starts().into_actor(self));
        let following = follow_inputs(self.inputs.clone(), self.steady, self.next_due, ctx.address());
        ctx.spawn(following.into_actor(self));
    }
}

/// Asks for a judgement whenever a state has changed, the clock was set, the device woke up, or one is due.
async fn follow_inputs(
    mut inputs: AlertInputs,
    steady: SteadyClock,
    mut next_due: Option<u64>,
    monitor: Addr<AlertMonitor>,
) {
    let mut jumps = SleepDetector::new()
        .inspect_err(|error| tracing::info!(%error, "alerts do not notice that the clock was set"))
        .ok();
    loop {
        let left = next_due
            .map_or(Duration::MAX, |due| Duration::from_millis(due.saturating_sub(steady.now().steady)));
        let change = async {
            tokio::select! {
                is_open = inputs.changed() => is_open,
                () = wait_for_clock_jump(&mut jumps) => true,
            }
        };
        if timeout(left, change).await == Ok(false) {
            return;
        }
        match monitor.send(JudgeAlerts).await {
            Ok(due) => next_due = due,
            Err(_) => return,
        }
        tokio::time::sleep(BURST_WAIT).await;
    }
}

/// Never returns if that cannot be noticed.
async fn wait_for_clock_jump(jumps: &mut Option<SleepDetector>) {
    if let Some(detector) = jumps {
        match detector.wait_for_clock_jump().await {
            Ok(_) => return,
            Err(error) => tracing::info!(%error, "alerts no longer notice that the clock was set"),
        }
        *jumps = None;
    }
    std::future::pending::<()>().await;
}

impl Handler<JudgeAlerts> for AlertMonitor {
    type Result = Option<u64>;

    fn handle(&mut self, JudgeAlerts: JudgeAlerts, _: &mut Self::Context) -> Self::Result {
        self.judge();
        self.next_due
    }
}

impl Handler<Ping> for AlertMonitor {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for AlertMonitor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) -> Self::Result {
        let (unreported, command_ended) = self.command.stop();
        let saving_active = self.peers.store.send(self.active_note(&unreported));
        self.starts.record_stop();
        let saving_starts = self.save_starts();
        Box::pin(async move {
            if let Err(error) = saving_active.await {
                tracing::warn!(%error, "the active alerts could not be saved: they start again after the next start");
            }
            tokio::join!(saving_starts, command_ended);
        })
    }
}
