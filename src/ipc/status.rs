//! Builds the status from the states that the actors publish, without sending them a message.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::ConfigWatch;
use crate::actors::batch_planner::PlannerState;
use crate::api::{
    Alert, BatchOutcome, Batching, BreakerStatus, Caller, CallerQueue, ConnectivityStatus, Counts, Phase,
    QueueUse, Status, Sync,
};
use crate::clock::{Clock, millis, wall_ms};
use crate::config::Config;
use crate::config_state::ConfigState;
use crate::device_name::device_name;
use crate::model::{Backlog, DeviceId, LastError, Link, LinkState, OTHER_SUBMITTERS, SizeRule};
use crate::policy::advice::{
    CredentialFacts, DeviceFacts, FullQueue, PlannerFacts, RESPONSE_WAIT_MIN_MS, ServerName, Situation,
    describe_situation,
};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::in_flight::InFlight;
use crate::policy::progress::Progress;
use crate::store::{QueueFill, QueueLimits};
use crate::telemetry::audience::Audience;
use crate::transport::credential::token_path;
use crate::transport::tls::TlsProblem;
use crate::user_name::user_name;

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
    /// The active alerts.
    pub alerts: watch::Receiver<Vec<Alert>>,
}

impl StatusSources {
    /// How long the status stays as it is if no source changes; none without an end. While the response of the server
    /// is awaited, the sentence says for how long.
    pub fn next_refresh(&self) -> Option<Duration> {
        let sent_at = self.planner.borrow().oldest_sent_at()?;
        let waited = wall_ms().saturating_sub(sent_at);
        let left = RESPONSE_WAIT_MIN_MS - waited % RESPONSE_WAIT_MIN_MS;
        Some(Duration::from_millis(left))
    }

    /// A copy of the present states, which the sentences are made from.
    pub(super) fn snapshot(&self) -> StateSnapshot {
        let config = self.config.borrow().clone();
        let backlog = self.backlog.borrow().clone();
        let planner = self.planner.borrow().clone();
        let phase = match planner.phase {
            Phase::Paused => Phase::Paused,
            // With or without records: until a person sets it, nothing can be sent.
            _ if config.server.url.is_empty() => Phase::Misconfigured,
            Phase::Idle if backlog.to_go() > 0 => Phase::Syncing,
            _ if backlog.to_go() == 0 => Phase::Idle,
            phase => phase,
        };
        StateSnapshot {
            paused_by: backlog.pause.map(|pause| user_name(pause.by)),
            full_queue: QueueFill::fullest(&backlog, &config).full_queue(),
            config,
            config_state: self.config_state.borrow().clone(),
            link: with_known_failure(*self.link.borrow(), planner.last_error.as_ref()),
            backlog,
            planner,
            phase,
        }
    }

    /// Waits until a source changes. Returns false when the daemon is stopping.
    pub async fn wait_for_change(&mut self) -> bool {
        tokio::select! {
            changed = self.backlog.changed() => changed.is_ok(),
            changed = self.link.changed() => changed.is_ok(),
            changed = self.breaker.changed() => changed.is_ok(),
            changed = self.planner.changed() => changed.is_ok(),
            changed = self.config_state.changed() => changed.is_ok(),
            changed = self.alerts.changed() => changed.is_ok(),
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
        let snapshot = self.snapshot();
        let breaker = *self.breaker.borrow();
        let now = wall_ms();
        let progress = snapshot.progress();
        let Situation { reason, text, remedy } = describe_situation(&snapshot.device_facts(now), &progress);
        let since = snapshot.stopped_since();
        let StateSnapshot { config, backlog, link, planner, phase, .. } = snapshot;
        // The planner has decided nothing yet: it begins with one.
        let in_flight = planner.in_flight.unwrap_or(InFlight { limit: 1, ..InFlight::default() });
        // Only while records are sent: when a wait ends cannot be estimated.
        let eta = planner.eta.filter(|_| phase == Phase::Syncing);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device_id: self.device,
            device_name: device_name(&config),
            started_at: self.started_at,
            sync: Sync {
                phase: phase.into(),
                reason: reason.into(),
                text,
                remedy,
                since,
                done: progress.done,
                total: progress.total,
                needs_review: backlog.quarantined,
                eta_s: eta.filter(|_| backlog.to_go() > 0).map(|eta| millis(eta).div_ceil(1000)),
                batch: planner.batches.first().copied(),
                batches: planner.batches,
                next_attempt_at: planner.until.or(link.next_attempt_at.filter(|_| phase == Phase::Offline)),
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
                in_flight: in_flight.under_way,
                in_flight_limit: in_flight.limit,
                in_flight_rule: in_flight.rule.into(),
            },
            breaker: BreakerStatus {
                mode: breaker.mode.name().to_owned(),
                consecutive_failures: breaker.consecutive_failures,
                retry_at: match breaker.mode {
                    Mode::Open { until } => Some(now + millis(until.saturating_sub(self.clock.now()))),
                    Mode::Normal | Mode::Micro | Mode::Probing => None,
                },
            },
            connectivity: ConnectivityStatus::from(link),
            alerts: self.alerts.borrow().clone(),
            caller: None,
        }
    }
}

/// After a restart, the last error is known before anything is sent.
fn with_known_failure(link: Link, last_error: Option<&LastError>) -> Link {
    let is_known = link.failure.is_some() || link.state != LinkState::Unknown;
    let unreachable = last_error.filter(|error| error.class == BatchOutcome::Unreachable.to_string());
    let problem =
        unreachable.filter(|_| !is_known).and_then(|error| TlsProblem::find_in_message(&error.message));
    Link { failure: problem.map(TlsProblem::failure).or(link.failure), ..link }
}

/// A copy of the present states.
pub(super) struct StateSnapshot {
    config: Arc<Config>,
    config_state: ConfigState,
    backlog: Backlog,
    link: Link,
    planner: PlannerState,
    /// The planner's phase, or what the counts show since then.
    phase: Phase,
    paused_by: Option<String>,
    full_queue: Option<FullQueue>,
}

impl StateSnapshot {
    /// The progress of the run.
    pub(super) fn progress(&self) -> Progress {
        // After a commit, the counts are newer than the planner's progress until it has read them.
        let mut progress = self.planner.progress;
        progress.update(&self.backlog);
        progress
    }

    /// What the sentences depend on.
    pub(super) fn device_facts(&self, now: u64) -> DeviceFacts<'_> {
        let Self { config, config_state, backlog, link, planner, phase, paused_by, full_queue } = self;
        let is_after_success =
            |at: u64| planner.last_success_at.is_none_or(|last_success| last_success <= at);
        DeviceFacts {
            now,
            backlog,
            link,
            planner: PlannerFacts {
                phase: *phase,
                until: planner.until,
                wait_cause: planner.wait_cause,
                denied: &planner.denied,
                is_local_error: planner.is_local_error(config),
                last_failure: planner.last_error.as_ref().filter(|error| is_after_success(error.at)),
                outage_since: planner.outage_since,
                sent_at: planner.oldest_sent_at(),
                time_limit_ms: millis(planner.time_limit),
            },
            server: Some(ServerName { url: &config.server.url }).filter(|server| !server.url.is_empty()),
            paused_by: paused_by.as_deref(),
            config_path: &config_state.path,
            sources: &config_state.sources,
            credential: CredentialFacts {
                has_token: token_path(&config.server).is_some(),
                has_certificate: config.server.client_cert_file.is_some(),
            },
            refusal: config_state.refusal.as_ref().map(|refusal| refusal.message.as_str()),
            full_queue: full_queue.as_ref(),
        }
    }

    /// Since when records are not sent.
    fn stopped_since(&self) -> Option<u64> {
        let link_since = Some(self.link.since).filter(|_| self.link.state.is_closed());
        match self.phase {
            Phase::Paused => self.backlog.pause.map(|pause| pause.since),
            Phase::Offline => self.planner.outage_since.into_iter().chain(link_since).min(),
            Phase::Waiting | Phase::AuthRequired | Phase::Misconfigured => self.planner.outage_since,
            Phase::Idle | Phase::Syncing | Phase::Deferred => None,
        }
    }
}
