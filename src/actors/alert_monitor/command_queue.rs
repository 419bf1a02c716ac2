//! Hands alerts over to `telemetry.alert_command`: one at a time, on a thread of its own, so that a slow program delays
//! nothing else.
//!
//! The queue is bounded: of each alert only the latest change waits. The thread ends when nothing waits. What was not
//! handed over when the daemon stops is saved with the active alerts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::command_run::{CommandJob, RunEnd, run_command};
use crate::api::AlertChange;
use crate::config::CommandLine;
use crate::journal;
use crate::model::DeviceId;

/// What the program gets on standard input, as one JSON object.
#[derive(Serialize)]
pub(super) struct AlertNotice<'a> {
    #[serde(flatten)]
    pub(super) change: &'a AlertChange,
    pub(super) device_id: DeviceId,
    pub(super) device_name: String,
}

/// The alerts that wait for the program.
pub(super) struct CommandQueue {
    waiting: Arc<Mutex<Waiting>>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<CommandJob>,
    /// What the program is getting.
    running: Option<AlertChange>,
    has_thread: watch::Sender<bool>,
}

impl Default for CommandQueue {
    fn default() -> Self {
        Self { waiting: Arc::default(), stop: watch::Sender::new(false) }
    }
}

impl CommandQueue {
    /// Runs the program with this alert once the runs before it have ended.
    pub(super) fn hand_over(&self, notice: &AlertNotice<'_>, command: &CommandLine, time_limit: Duration) {
        let Ok(input) = serde_json::to_vec(notice) else { return };
        let job = CommandJob { change: notice.change.clone(), command: command.clone(), time_limit, input };
        let mut waiting = lock(&self.waiting);
        if *self.stop.borrow() {
            return;
        }
        match waiting.jobs.iter_mut().find(|other| other.alert() == job.alert()) {
            Some(other) => *other = job,
            None => waiting.jobs.push_back(job),
        }
        if *waiting.has_thread.borrow() {
            return;
        }
        let (shared, stop) = (Arc::clone(&self.waiting), self.stop.subscribe());
        let spawned =
            thread::Builder::new().name("alert-command".into()).spawn(move || run_jobs(&shared, &stop));
        match spawned {
            Ok(_) => {
                waiting.has_thread.send_replace(true);
            }
            Err(error) => {
                waiting.jobs.clear();
                tracing::warn!(
                    name: journal::ALERT_COMMAND_FAILED,
                    %error,
                    "no thread for telemetry.alert_command can be started: it does not get this alert"
                );
            }
        }
    }

    /// Stops the run under way, and begins no other. Returns the changes that were not handed over, the latest of each
    /// alert first, and a future that ends with the run.
    pub(super) fn stop(&self) -> (Vec<AlertChange>, impl Future<Output = ()> + use<>) {
        let mut waiting = lock(&self.waiting);
        self.stop.send_replace(true);
        let mut unreported: Vec<AlertChange> = waiting.jobs.drain(..).map(|job| job.change).collect();
        unreported.extend(waiting.running.clone());
        let mut has_thread = waiting.has_thread.subscribe();
        let ended = async move {
            // An error means that the queue is gone, and the thread with it.
            drop(has_thread.wait_for(|has_thread| !has_thread).await);
        };
        (unreported, ended)
    }
}

fn run_jobs(waiting: &Mutex<Waiting>, stop: &watch::Receiver<bool>) {
    loop {
        let job = {
            let mut waiting = lock(waiting);
            let next = waiting.jobs.pop_front();
            waiting.running = next.as_ref().map(|job| job.change.clone());
            let Some(job) = next else {
                waiting.has_thread.send_replace(false);
                return;
            };
            job
        };
        let (alert, program) = (job.alert(), job.command.program().display());
        let end = run_command(&job, stop.clone());
        let output = end.output.trim();
        let output = if output.is_empty() { String::new() } else { format!("; its output: {output}") };
        match end.result {
            RunEnd::Succeeded => tracing::debug!(%alert, "{program} took the alert {alert}{output}"),
            RunEnd::Stopped => tracing::info!(
                %alert,
                "{program} was stopped with the daemon: it gets the change of the alert {alert} after the next start"
            ),
            RunEnd::Failed(reason) => tracing::warn!(
                name: journal::ALERT_COMMAND_FAILED,
                %alert,
                "telemetry.alert_command did not take the alert {alert}: {program} {reason}; nobody may have been \
                 informed, and records are not affected{output}"
            ),
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
