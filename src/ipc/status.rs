//! Builds the status from the states that the actors publish, without sending them a message.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::alerts::AlertTracker;
use super::config_state::ConfigState;
use crate::actors::ConfigWatch;
use crate::actors::batch_planner::PlannerState;
use crate::api::{
    Batching, BreakerStatus, Caller, CallerQueue, ConnectivityStatus, Counts, Phase, QueueUse, Status, Sync,
};
use crate::clock::{Clock, millis, wall_ms};
use crate::device_name::device_name;
use crate::model::{Backlog, DeviceId, Link, OTHER_SUBMITTERS, SizeRule};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::progress::{denied_note, describe_missing_server, describe_progress};
use crate::store::QueueLimits;
use crate::telemetry::audience::Audience;

/// The states that the status is built from.
#[derive(Clone)]
pub struct StatusSources {
    /// This device.
    pub device: DeviceId,
    /// When the daemon started.
    pub started_at: u64,
    /// Monotonic time since then.
    pub clock: Clock,
    /// The current configuration.
    pub config: ConfigWatch,
    /// Where it comes from, and whether a later one was refused.
    pub config_state: watch::Receiver<ConfigState>,
    /// The state of the queue.
    pub backlog: watch::Receiver<Backlog>,
    /// The connection to the server.
    pub link: watch::Receiver<Link>,
    /// The circuit breaker.
    pub breaker: watch::Receiver<BreakerState>,
    /// What the planner is doing.
    pub planner: watch::Receiver<PlannerState>,
    /// Knows since when alerts are active.
    pub alert_tracker: AlertTracker,
}

impl StatusSources {
    /// Waits until a source changes. Returns false when the daemon is stopping.
    pub async fn wait_for_change(&mut self) -> bool {
        tokio::select! {
            changed = self.backlog.changed() => changed.is_ok(),
            changed = self.link.changed() => changed.is_ok(),
            changed = self.breaker.changed() => changed.is_ok(),
            changed = self.planner.changed() => changed.is_ok(),
            changed = self.config_state.changed() => changed.is_ok(),
        }
    }

    /// The status as this audience may see it, with a summary of the caller's own records.
    pub(super) fn status_for(&self, audience: Audience) -> Status {
        let mut status = self.current_status();
        audience.redact_status(&mut status);
        status.caller = audience.caller().map(|(uid, admin)| self.caller_summary(uid, admin, &status.queue));
        status
    }

    fn caller_summary(&self, uid: u32, admin: bool, queue: &QueueUse) -> Caller {
        let by_submitter = Arc::clone(&self.backlog.borrow().by_submitter);
        let counts = match by_submitter.get(&uid) {
            // This user may be one of those that are counted together.
            None if by_submitter.contains_key(&OTHER_SUBMITTERS) => None,
            counts => Some(counts.copied().unwrap_or_default()),
        };
        let limits = QueueLimits::from(&**self.config.borrow());
        let user_limit = |limit: u64| limits.share_of(uid, limit);
        Caller {
            uid,
            admin,
            records: counts.map(|counts| Counts {
                pending: counts.pending,
                syncing: counts.syncing,
                failed: counts.failed,
                synced: counts.synced,
                quarantined: counts.quarantined,
            }),
            queue: counts.map(|counts| CallerQueue {
                records: counts.pending + counts.syncing + counts.failed + counts.quarantined,
                max_records: user_limit(queue.max_records),
                bytes: counts.bytes,
                max_bytes: user_limit(queue.max_bytes),
                disk_bytes: counts.disk_bytes,
                max_disk_bytes: user_limit(queue.max_disk_bytes),
            }),
        }
    }

    /// The status without redactions.
    pub fn current_status(&self) -> Status {
        let config = self.config.borrow().clone();
        let (backlog, link, breaker) =
            (self.backlog.borrow().clone(), *self.link.borrow(), *self.breaker.borrow());
        let planner = self.planner.borrow().clone();
        let config_state = self.config_state.borrow().clone();
        // After a commit, the counts are newer than the planner's progress until it has read them.
        let mut progress = planner.progress;
        progress.update(&backlog);
        let has_server = !config.server.url.is_empty();
        let phase = match planner.phase {
            Phase::Paused => Phase::Paused,
            // With or without records: until a person sets it, nothing can be sent.
            _ if !has_server => Phase::Misconfigured,
            Phase::Idle if backlog.to_go() > 0 => Phase::Syncing,
            _ if backlog.to_go() == 0 => Phase::Idle,
            phase => phase,
        };
        let wait = planner.until.map(|until| Duration::from_millis(until.saturating_sub(wall_ms())));
        let is_local_error = planner.is_local_error(&config);
        let eta = planner.eta.map(|eta| eta + wait.unwrap_or_default());
        // How long a wait without an end takes, for instance for a new credential, cannot be estimated.
        let eta = eta.filter(|_| phase != Phase::Waiting || wait.is_some());
        let sentence = if phase == Phase::Misconfigured && !has_server {
            describe_missing_server(&config_state.path, &backlog)
        } else {
            describe_progress(phase, &progress, &backlog, &link, is_local_error, wait)
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device_id: self.device,
            device_name: device_name(&config),
            started_at: self.started_at,
            sync: Sync {
                phase: phase.into(),
                text: sentence + &denied_note(&planner.denied) + &config_state.refusal_note(),
                done: progress.done,
                total: progress.total,
                needs_review: backlog.quarantined,
                eta_s: eta.filter(|_| backlog.to_go() > 0).map(|eta| millis(eta).div_ceil(1000)),
                batch: planner.batch,
                next_attempt_at: planner.until,
                last_success_at: planner.last_success_at,
                last_error: planner.last_error,
                denied: planner.denied,
            },
            records: Counts {
                pending: backlog.pending,
                syncing: backlog.syncing,
                failed: backlog.failed,
                synced: backlog.synced,
                quarantined: backlog.quarantined,
            },
            queue: QueueUse {
                records: backlog.to_go() + backlog.quarantined,
                max_records: config.queue.max_records,
                bytes: backlog.bytes,
                max_bytes: config.queue.max_bytes.0,
                disk_bytes: backlog.disk_bytes,
                max_disk_bytes: config.queue.max_disk_bytes.0,
                max_record_bytes: config.queue.max_record_bytes.0,
                oldest_pending_at: backlog.oldest_pending_at,
                disk: backlog.storage.disk.into(),
                disk_free_bytes: backlog.storage.disk_free_bytes,
                file_bytes: backlog.storage.file_bytes,
                blockers: backlog.blockers.clone(),
            },
            batching: Batching {
                size: planner.size.map_or(config.batch.standard_batch, |size| size.records),
                rule: planner.size.map_or(SizeRule::Standard, |size| size.rule).into(),
                expected_ms: planner.size.and_then(|size| size.expected).map(|expected| expected.mean_ms()),
                at_most_ms: planner.size.and_then(|size| size.expected).map(|expected| expected.upper_ms()),
                time_limit_ms: millis(planner.time_limit),
                ms_per_record: planner.per_record.map(millis),
                time_budget_ms: millis(planner.time_budget),
            },
            breaker: BreakerStatus {
                mode: breaker.mode.name().to_owned(),
                consecutive_failures: breaker.consecutive_failures,
                retry_at: match breaker.mode {
                    Mode::Open { until } => Some(wall_ms() + millis(until.saturating_sub(self.clock.now()))),
                    Mode::Normal | Mode::Micro | Mode::Probing => None,
                },
            },
            connectivity: ConnectivityStatus::from(link),
            alerts: self.alert_tracker.active_alerts(&backlog, &config, &config_state, wall_ms()),
            caller: None,
        }
    }
}
