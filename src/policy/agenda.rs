//! What to do next, and what becomes of a batch: the planner's whole cycle without its effects.
//!
//! The driver asks [`Agenda::next`], carries out the [`Action`], and tells what came of it;
//! [`Agenda::answered`] and [`Agenda::looked_up`] say how the batch is to be settled on disk. One
//! action is under way at a time. The agenda holds the open batches only, never the queue.
//!
//! Order of work: look-ups that are due, then parts of failed batches in queue order, then fresh
//! records. After a part failed, one other batch goes first: its success is the control that
//! tells a record at fault from a server in trouble (see [`super::isolation`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff;
use super::breaker::{BreakerState, Mode};
use super::isolation::{self, Cut, Evidence};
use super::service_time::ServiceTime;
use super::sizing::{self, BatchLimit, Demand, Hints};
use super::verdict::{Doubt, LookUp, Verdict, shortened};
use crate::config::{Config, OutcomeLookup};
use crate::model::{
    Backlog, BatchId, BatchPhase, LastError, LinkState, OpenBatch, Phase, RecordId, Sequence,
};
use crate::transport::wire::{RecordResult, RecordStatus};

/// Most open batches before fresh records wait: bounds what the search keeps in memory.
const MAX_OPEN: usize = 1000;
/// The waits between look-ups of one batch.
const LOOK_UP_WAITS: [Duration; 6] = [
    Duration::from_millis(300),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(10),
];
/// A batch that is "processing" for longer than this many time limits is given up on.
const LOOK_UP_LIMITS: f64 = 1.5;
/// The least byte limit that refusals of large bodies can lead to.
const MIN_BYTE_CAP: u64 = 4096;
/// Extra wait on top of `Retry-After`, so that a fleet does not return in step.
const RETRY_AFTER_SPREAD: f64 = 0.05;
const RETRY_AFTER_SPREAD_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two tries of an address that cannot be reached.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(15);

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take fresh records from the queue and send them.
    Claim(ClaimOrder),
    /// Send an open batch.
    Send(BatchId, Sequence),
    /// Ask the server what became of an open batch.
    LookUp(BatchId),
    /// Set the one record of this batch aside: the evidence is complete.
    Convict(BatchId),
    /// Nothing, until something changes or the time comes.
    Rest {
        /// Why.
        phase: Phase,
        /// When to ask again, at the latest.
        until: Option<Duration>,
    },
}

/// What a claim may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClaimOrder {
    /// The size and why.
    pub limit: BatchLimit,
    /// For the header.
    pub sequence: Sequence,
}

/// What becomes of a batch on disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Every record by its own outcome; those without one as `missing` says.
    Close {
        /// In the order of the answer; foreign ids are ignored by the store.
        outcomes: Vec<(RecordId, Outcome)>,
        /// For records without a result.
        missing: Outcome,
    },
    /// The batch stays open under its id.
    Keep {
        /// What is known of its last send.
        phase: BatchPhase,
        /// Counted failures alone.
        lone_failures: u32,
        /// When given, its records are FAILED with it, and the attempt counts.
        error: Option<LastError>,
    },
    /// Its parts go on under ids of their own.
    Cut {
        /// How.
        cut: Cut,
        /// As in `Keep`.
        error: Option<LastError>,
    },
    /// The same set goes on under a new id.
    Rename,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The server has it.
    Synced,
    /// Set aside for review.
    Quarantine(LastError),
    /// To be tried again after a back-off.
    Retry(LastError),
}

/// What the agenda looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Since the daemon started.
    pub now: Duration,
    /// On the wall, for error entries.
    pub wall_ms: u64,
    /// As it is now.
    pub config: &'a Config,
    /// What waits.
    pub backlog: &'a Backlog,
    /// The way to the server.
    pub link: LinkState,
    /// How the server is treated.
    pub breaker: BreakerState,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    InFlight,
    Send {
        due: Duration,
    },
    LookUp {
        due: Duration,
        tries: usize,
        since: Duration,
        doubt: Doubt,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    batch: OpenBatch,
    step: Step,
    evidence: Evidence,
}

/// The open batches and what was learned.
#[derive(Debug)]
pub struct Agenda {
    open: BTreeMap<BatchId, Entry>,
    sent_in_run: u32,
    service: ServiceTime,
    hints: Hints,
    byte_cap: Option<u64>,
    last_success: Option<Duration>,
    control_wanted: bool,
    look_up_missing: bool,
    setbacks: u32,
    wait: Option<Duration>,
    stop: Option<(Phase, Duration)>,
    rng: fastrand::Rng,
}

impl Agenda {
    /// Goes on with the batches that a former life left open.
    pub fn new(open: Vec<OpenBatch>, rng: fastrand::Rng) -> Self {
        let mut agenda = Self {
            open: BTreeMap::new(),
            sent_in_run: 0,
            service: ServiceTime::default(),
            hints: Hints::default(),
            byte_cap: None,
            last_success: None,
            control_wanted: false,
            look_up_missing: false,
            setbacks: 0,
            wait: None,
            stop: None,
            rng,
        };
        agenda.opened(Duration::ZERO, open);
        agenda
    }

    /// Takes note of batches that the store opened: the parts of one that was cut.
    pub fn opened(&mut self, now: Duration, batches: Vec<OpenBatch>) {
        for batch in batches {
            let step = match batch.phase {
                BatchPhase::Waiting => Step::Send { due: now },
                // Perhaps it was sent by a former life, perhaps not.
                BatchPhase::InFlight | BatchPhase::Unclear => Step::LookUp {
                    due: now,
                    tries: 0,
                    since: now,
                    doubt: Doubt::Lost,
                },
            };
            let evidence = Evidence::restored(batch.lone_failures);
            self.open.insert(
                batch.id,
                Entry {
                    batch,
                    step,
                    evidence,
                },
            );
        }
    }

    /// Takes note of a batch that is about to be sent.
    pub fn sending(&mut self, batch: &OpenBatch) {
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let evidence = self.open.get(&batch.id).map_or_else(
            || Evidence::restored(batch.lone_failures),
            |entry| entry.evidence,
        );
        self.open.insert(
            batch.id,
            Entry {
                batch: batch.clone(),
                step: Step::InFlight,
                evidence,
            },
        );
    }

    /// Forgets a batch that the store no longer has: its records were all taken out of it.
    pub fn gone(&mut self, id: BatchId) {
        self.open.remove(&id);
    }

    /// A new run began: sequence numbers start again, and the server may have learned to look up.
    pub fn run_began(&mut self) {
        self.sent_in_run = 0;
        self.look_up_missing = false;
    }

    /// A person asked to try now, or the configuration changed: waits and stops end.
    pub fn hurry(&mut self, now: Duration) {
        self.link_returned(now);
        self.stop = None;
        for entry in self.open.values_mut() {
            if let Step::Send { due } = &mut entry.step {
                *due = now;
            }
        }
    }

    /// The link came back: what was waited for because of it ends.
    pub fn link_returned(&mut self, now: Duration) {
        self.wait = None;
        self.setbacks = 0;
        for entry in self.open.values_mut() {
            if let Step::LookUp { due, .. } = &mut entry.step {
                *due = now;
            }
        }
    }

    /// The batch was not sent after all.
    pub fn held_back(&mut self, now: Duration, id: BatchId) -> Disposition {
        let lone = self
            .open
            .get(&id)
            .map_or(0, |entry| entry.batch.lone_failures);
        self.park(now, id, lone)
    }

    /// Takes note of what the server asks for.
    pub fn hinted(&mut self, hints: Hints) {
        self.hints.update(hints);
    }

    /// What was measured.
    pub fn service(&self) -> &ServiceTime {
        &self.service
    }

    /// The size of the next fresh batch, and why.
    pub fn limit(&self, view: &View<'_>) -> BatchLimit {
        let config = &view.config.batch;
        let budget = self.time_budget(view.config);
        let demand = Demand {
            waiting_records: view.backlog.pending + view.backlog.failed,
            waiting_bytes: view.backlog.bytes,
            micro: view.breaker.mode != Mode::Normal,
            learned: config.learn.then(|| self.service.largest(budget)).flatten(),
            learned_bytes: self.byte_cap,
            hints: self.hints,
        };
        sizing::choose(config, &demand)
    }

    /// The time that a batch may take: the shorter of ours and the server's.
    pub fn time_budget(&self, config: &Config) -> Duration {
        let ours = config.time_budget();
        self.hints
            .time_budget
            .map_or(ours, |theirs| ours.min(theirs))
    }

    /// What to do next. Nothing is due before the time that a `Rest` names, unless the view changes.
    pub fn next(&self, view: &View<'_>) -> Action {
        let now = view.now;
        let rest = |phase, until| Action::Rest { phase, until };
        if view.backlog.paused {
            return rest(Phase::Paused, None);
        }
        if let Some(id) = self.convicted(view.config.retry.quarantine_after) {
            return Action::Convict(id);
        }
        if view.backlog.to_go() == 0 {
            return rest(Phase::Idle, None);
        }
        if let Some((phase, until)) = self.stop.filter(|(_, until)| now < *until) {
            return rest(phase, Some(until));
        }
        if view.config.server.url.is_empty() {
            return rest(Phase::Misconfigured, None);
        }
        if matches!(view.link, LinkState::Offline | LinkState::CaptivePortal) {
            return rest(Phase::Offline, None);
        }
        let held = [self.wait, open_until(view.breaker)]
            .into_iter()
            .flatten()
            .max();
        if let Some(until) = held.filter(|until| now < *until) {
            return rest(Phase::Waiting, Some(until));
        }
        let look_up = self
            .open
            .values()
            .find(|entry| entry.look_up_due().is_some_and(|due| due <= now));
        if let Some(entry) = look_up {
            return Action::LookUp(entry.batch.id);
        }
        self.next_batch(view)
            .unwrap_or_else(|| rest(Phase::Waiting, self.next_due(view)))
    }

    fn next_batch(&self, view: &View<'_>) -> Option<Action> {
        let limit = self.limit(view);
        let sequence = self.sequence(view, limit.records);
        let probing = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        let mut parts: Vec<&OpenBatch> = self
            .open
            .values()
            .filter(|entry| matches!(entry.step, Step::Send { due } if due <= view.now))
            .map(|entry| &entry.batch)
            .collect();
        // A probe is a micro-batch; the smallest part will do.
        parts.sort_by_key(|batch| (probing.then_some(batch.records), batch.place));
        let part = parts
            .first()
            .filter(|batch| !probing || batch.records <= limit.records);
        let claim = (self.may_claim(view) && (self.open.len() < MAX_OPEN || self.control_wanted))
            .then_some(Action::Claim(ClaimOrder { limit, sequence }));
        let send = |batch: &&OpenBatch| Action::Send(batch.id, sequence);
        if self.control_wanted && !probing {
            claim.or_else(|| part.map(send))
        } else {
            part.map(send).or(claim).or_else(|| parts.first().map(send))
        }
    }

    fn may_claim(&self, view: &View<'_>) -> bool {
        let backlog = view.backlog;
        let due = backlog.next_due_at.is_some_and(|due| due <= view.wall_ms);
        due || (backlog.pending > 0 && backlog.claimable)
    }

    /// The earliest time at which something that waits for a time is due.
    fn next_due(&self, view: &View<'_>) -> Option<Duration> {
        let batches = self.open.values().filter_map(|entry| match entry.step {
            Step::Send { due } | Step::LookUp { due, .. } => Some(due),
            Step::InFlight => None,
        });
        let records = view
            .backlog
            .next_due_at
            .map(|due| view.now + Duration::from_millis(due.saturating_sub(view.wall_ms)));
        batches.chain(records).min()
    }

    fn convicted(&self, quarantine_after: u32) -> Option<BatchId> {
        let entry = self.open.values().find(|entry| {
            entry.batch.records == 1
                && matches!(entry.step, Step::Send { .. })
                && entry.evidence.counted >= quarantine_after
        })?;
        Some(entry.batch.id)
    }

    fn sequence(&self, view: &View<'_>, size: usize) -> Sequence {
        let index = self.sent_in_run + 1;
        let fresh = view.backlog.pending.div_ceil(size as u64) + self.open.len() as u64;
        let planned = u64::from(self.sent_in_run) + fresh;
        Sequence {
            index,
            total: u32::try_from(planned).unwrap_or(u32::MAX).max(index),
        }
    }

    /// The answer to a batch came, or did not.
    pub fn answered(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        verdict: &Verdict,
        error: &LastError,
        took: Duration,
    ) -> Disposition {
        let now = view.now;
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Unclear, 0, None);
        };
        let batch = entry.batch.clone();
        let lone = entry.evidence.counted;
        match verdict {
            Verdict::Answered(results) => {
                self.service.answered(batch.records, took);
                self.closed_by(now, &batch, results, error.at)
            }
            Verdict::Ambiguous(doubt) => {
                if *doubt == Doubt::TimedOut {
                    self.service.timed_out(batch.records);
                }
                self.control_wanted = true;
                if view.config.server.outcome_lookup == OutcomeLookup::Off || self.look_up_missing {
                    return self.not_there(view, &batch, *doubt, Some(error.clone()));
                }
                let since = now.saturating_sub(took);
                let due = now + self.look_up_wait(view.config, 0);
                self.set(
                    id,
                    Step::LookUp {
                        due,
                        tries: 0,
                        since,
                        doubt: *doubt,
                    },
                );
                keep(BatchPhase::Unclear, lone, Some(error.clone()))
            }
            Verdict::StillProcessing { retry_after } => {
                let wait = retry_after
                    .unwrap_or(LOOK_UP_WAITS[1])
                    .min(view.config.retry.max_retry_after.0);
                let step = if self.look_up_missing
                    || view.config.server.outcome_lookup == OutcomeLookup::Off
                {
                    Step::Send { due: now + wait }
                } else {
                    Step::LookUp {
                        due: now + wait,
                        tries: 1,
                        since: now,
                        doubt: Doubt::TimedOut,
                    }
                };
                self.set(id, step);
                keep(BatchPhase::Unclear, lone, None)
            }
            Verdict::Refused(_) | Verdict::TooLarge => {
                let too_large = *verdict == Verdict::TooLarge;
                if too_large {
                    let cap = (batch.bytes / 2).max(MIN_BYTE_CAP);
                    self.byte_cap = Some(self.byte_cap.map_or(cap, |old| old.min(cap)));
                }
                self.refused(view, &batch, too_large, error)
            }
            Verdict::BatchIdReused => {
                self.open.remove(&id);
                Disposition::Rename
            }
            Verdict::EncodingRefused => self.park(now, id, lone),
            Verdict::Unreachable | Verdict::Interfered => {
                let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
                self.wait = Some(now + self.setback(view.config, longest));
                self.park(now, id, lone)
            }
            Verdict::Throttled { retry_after } => {
                let wait = match retry_after {
                    Some(asked) => self.spread((*asked).min(view.config.retry.max_retry_after.0)),
                    None => self.setback(view.config, view.config.retry.max_backoff.0),
                };
                self.wait = Some(now + wait);
                self.park(now, id, lone)
            }
            Verdict::Unauthorized | Verdict::Misplaced => {
                let phase = if *verdict == Verdict::Misplaced {
                    Phase::Misconfigured
                } else {
                    Phase::AuthRequired
                };
                // Somebody has to act; but a mended server must be found without anybody at the device.
                self.stop = Some((phase, now + view.config.retry.max_backoff.0));
                self.park(now, id, lone)
            }
        }
    }

    /// A look-up was answered. None: ask again later.
    pub fn looked_up(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        found: &LookUp,
    ) -> Option<Disposition> {
        let now = view.now;
        let entry = self.open.get(&id)?;
        let Step::LookUp {
            tries,
            since,
            doubt,
            ..
        } = entry.step
        else {
            return None;
        };
        let (batch, lone) = (entry.batch.clone(), entry.evidence.counted);
        match found {
            LookUp::Completed(results) => Some(self.closed_by(now, &batch, results, view.wall_ms)),
            LookUp::Processing { retry_after } => {
                let limit = view.config.server.request_timeout.0;
                if now.saturating_sub(since) >= limit.mul_f64(LOOK_UP_LIMITS) {
                    return Some(self.not_there(view, &batch, doubt, None));
                }
                let wait = retry_after
                    .unwrap_or_default()
                    .max(self.look_up_wait(view.config, tries + 1));
                // However long the server asks for: it is given up on at its limit.
                let wait = wait.min(limit.mul_f64(LOOK_UP_LIMITS));
                self.set(
                    id,
                    Step::LookUp {
                        due: now + wait,
                        tries: tries + 1,
                        since,
                        doubt,
                    },
                );
                None
            }
            LookUp::Unknown => Some(self.not_there(view, &batch, doubt, None)),
            LookUp::Unsupported => {
                self.look_up_missing = true;
                Some(self.not_there(view, &batch, doubt, None))
            }
            // The same id again is safe: the server has promised to know it.
            LookUp::Failed => {
                let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
                self.wait = Some(now + self.setback(view.config, longest));
                Some(self.park(now, id, lone))
            }
        }
    }

    /// The store set the one record of a batch aside: its error, for the manifest.
    pub fn conviction(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let times = self
            .open
            .remove(&id)
            .map_or(0, |entry| entry.evidence.counted);
        let error = LastError {
            class: "isolated".into(),
            http_status: None,
            code: Some("FAILED_ALONE".into()),
            message: format!(
                "failed alone {times} times while other records got through around it"
            ),
            at: view.wall_ms,
        };
        Disposition::Close {
            outcomes: Vec::new(),
            missing: Outcome::Quarantine(error),
        }
    }

    /// The server surely does not have the batch, or cannot tell.
    fn not_there(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        doubt: Doubt,
        error: Option<LastError>,
    ) -> Disposition {
        let now = view.now;
        let suspect = doubt != Doubt::Lost || batch.attempt > 1;
        let outage = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        if suspect && !outage {
            if let Some(cut) =
                isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch)
            {
                self.open.remove(&batch.id);
                return Disposition::Cut { cut, error };
            }
        }
        let mut due = now;
        let mut lone = batch.lone_failures;
        let last_success = self.last_success;
        if let Some(entry) = self.open.get_mut(&batch.id) {
            if suspect && batch.records == 1 {
                entry.evidence.failed_alone(now, last_success);
                let retry = &view.config.retry;
                due += backoff::delay(
                    retry.initial_backoff.0,
                    retry.max_backoff.0,
                    batch.attempt,
                    &mut self.rng,
                );
            }
            lone = entry.evidence.counted;
        }
        self.set(batch.id, Step::Send { due });
        keep(BatchPhase::Waiting, lone, error)
    }

    /// The server refused the request as such.
    fn refused(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        too_large: bool,
        error: &LastError,
    ) -> Disposition {
        if batch.records > 1 {
            self.open.remove(&batch.id);
            let cut = if too_large {
                Some(isolation::halves(batch.records))
            } else {
                isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch)
            };
            let cut = cut.unwrap_or_else(|| isolation::halves(batch.records));
            return Disposition::Cut {
                cut,
                error: (!too_large).then(|| error.clone()),
            };
        }
        // Refused alone is the record's fault, unless the server refuses everybody.
        if isolation::near(self.last_success, view.now) {
            self.open.remove(&batch.id);
            return Disposition::Close {
                outcomes: Vec::new(),
                missing: Outcome::Quarantine(error.clone()),
            };
        }
        self.control_wanted = true;
        let retry = &view.config.retry;
        let wait = backoff::delay(
            retry.initial_backoff.0,
            retry.max_backoff.0,
            batch.attempt,
            &mut self.rng,
        );
        self.set(
            batch.id,
            Step::Send {
                due: view.now + wait,
            },
        );
        keep(
            BatchPhase::Waiting,
            batch.lone_failures,
            Some(error.clone()),
        )
    }

    /// The server answered for the records of a batch.
    fn closed_by(
        &mut self,
        now: Duration,
        batch: &OpenBatch,
        results: &[RecordResult],
        at: u64,
    ) -> Disposition {
        self.open.remove(&batch.id);
        self.setbacks = 0;
        self.wait = None;
        self.stop = None;
        let stored = |result: &RecordResult| {
            matches!(
                result.status,
                RecordStatus::Applied | RecordStatus::Duplicate
            )
        };
        if results.iter().any(stored) {
            self.last_success = Some(now);
            self.control_wanted = false;
            for entry in self.open.values_mut() {
                // One control is enough for one more test.
                if entry.evidence.wants_control()
                    && entry.evidence.others_succeeded(now)
                    && let Step::Send { due } = &mut entry.step
                {
                    *due = now;
                }
            }
        }
        let missing = LastError {
            class: "no_result".into(),
            http_status: None,
            code: None,
            message: "the server's answer has no result for this record".into(),
            at,
        };
        let outcomes = results
            .iter()
            .map(|result| (result.id, outcome(result, at)))
            .collect();
        Disposition::Close {
            outcomes,
            missing: Outcome::Retry(missing),
        }
    }

    fn park(&mut self, now: Duration, id: BatchId, lone_failures: u32) -> Disposition {
        self.set(id, Step::Send { due: now });
        keep(BatchPhase::Waiting, lone_failures, None)
    }

    fn set(&mut self, id: BatchId, step: Step) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.step = step;
        }
    }

    fn look_up_wait(&self, config: &Config, tries: usize) -> Duration {
        let wait = LOOK_UP_WAITS[tries.min(LOOK_UP_WAITS.len() - 1)];
        // A server with a short limit has its outcome sooner.
        wait.min(config.server.request_timeout.0 / 4)
    }

    fn setback(&mut self, config: &Config, longest: Duration) -> Duration {
        self.setbacks = self.setbacks.saturating_add(1);
        let first = config.retry.initial_backoff.0.min(longest);
        backoff::delay(first, longest, self.setbacks, &mut self.rng)
    }

    fn spread(&mut self, wait: Duration) -> Duration {
        let most = wait.mul_f64(RETRY_AFTER_SPREAD).min(RETRY_AFTER_SPREAD_MAX);
        wait + backoff::between(Duration::ZERO, most, &mut self.rng)
    }
}

impl Entry {
    fn look_up_due(&self) -> Option<Duration> {
        match self.step {
            Step::LookUp { due, .. } => Some(due),
            Step::InFlight | Step::Send { .. } => None,
        }
    }
}

fn open_until(breaker: BreakerState) -> Option<Duration> {
    match breaker.mode {
        Mode::Open { until } => Some(until),
        Mode::Normal | Mode::Micro | Mode::Probing => None,
    }
}

fn keep(phase: BatchPhase, lone_failures: u32, error: Option<LastError>) -> Disposition {
    Disposition::Keep {
        phase,
        lone_failures,
        error,
    }
}

fn outcome(result: &RecordResult, at: u64) -> Outcome {
    let error = |class: &str| LastError {
        class: class.into(),
        http_status: Some(200),
        code: result.code.clone().map(shortened),
        message: shortened(result.message.clone().unwrap_or_default()),
        at,
    };
    match result.status {
        RecordStatus::Applied | RecordStatus::Duplicate => Outcome::Synced,
        RecordStatus::Rejected => Outcome::Quarantine(error("rejected")),
        RecordStatus::Retry => Outcome::Retry(error("retry")),
    }
}
