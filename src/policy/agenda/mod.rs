//! What to do next, and what becomes of a batch: the planner's whole cycle without its effects.
//!
//! The driver asks [`Agenda::next`], carries out the [`Action`], and tells what came of it;
//! [`Agenda::answered`] and [`Agenda::looked_up`] say how the batch is to be settled on disk. One
//! action is under way at a time. The agenda holds the open batches only, never the queue.
//!
//! Order of work: look-ups that are due, then parts of failed batches in queue order, then fresh
//! records. After a part failed, one other batch goes first: its success is the control that
//! tells a record at fault from a server in trouble (see [`super::isolation`]). The last few fresh
//! records are kept for that while a record fails alone: without others around it, nothing that
//! it does would ever be evidence.

mod answers;

use std::collections::BTreeMap;
use std::time::Duration;

use super::breaker::{BreakerState, Mode};
use super::isolation::{Cut, Evidence};
use super::service_time::ServiceTime;
use super::sizing::{self, BatchLimit, Demand, Hints};
use super::verdict::Doubt;
use crate::config::Config;
use crate::model::{
    Backlog, BatchId, BatchPhase, LastError, LinkState, OpenBatch, Phase, RecordId, Sequence,
};

/// Most open batches before fresh records wait: bounds what the search keeps in memory.
const MAX_OPEN: usize = 1000;
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
    Rename {
        /// As in `Keep`.
        lone_failures: u32,
    },
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
    Send { due: Duration },
    LookUp { due: Duration, tries: usize, since: Duration, doubt: Doubt },
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
    /// What speaks against a batch that goes on under a new id, and when that is due.
    carried: Option<(BatchId, Evidence, Duration)>,
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
            carried: None,
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
                BatchPhase::InFlight | BatchPhase::Unclear => {
                    Step::LookUp { due: now, tries: 0, since: now, doubt: Doubt::Lost }
                }
            };
            let (evidence, step) = match self.carried.take_if(|(parent, ..)| batch.parent == Some(*parent)) {
                Some((_, evidence, due)) => (evidence, Step::Send { due }),
                None => (Evidence::restored(batch.lone_failures), step),
            };
            self.open.insert(batch.id, Entry { batch, step, evidence });
        }
    }

    /// Takes note of a batch that is about to be sent.
    pub fn sending(&mut self, batch: &OpenBatch) {
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let evidence = self
            .open
            .get(&batch.id)
            .map_or_else(|| Evidence::restored(batch.lone_failures), |entry| entry.evidence);
        self.open.insert(batch.id, Entry { batch: batch.clone(), step: Step::InFlight, evidence });
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
        self.hints.time_budget.map_or(ours, |theirs| ours.min(theirs))
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
        let held = [self.wait, open_until(view.breaker)].into_iter().flatten().max();
        if let Some(until) = held.filter(|until| now < *until) {
            return rest(Phase::Waiting, Some(until));
        }
        let look_up = self.open.values().find(|entry| entry.look_up_due().is_some_and(|due| due <= now));
        if let Some(entry) = look_up {
            return Action::LookUp(entry.batch.id);
        }
        self.next_batch(view).unwrap_or_else(|| rest(Phase::Waiting, self.next_due(view)))
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
        let part = parts.first().filter(|batch| !probing || batch.records <= limit.records);
        let claim = self
            .claimable(view, limit.records)
            .map(|records| Action::Claim(ClaimOrder { limit: BatchLimit { records, ..limit }, sequence }));
        let send = |batch: &&OpenBatch| Action::Send(batch.id, sequence);
        if self.control_wanted && !probing {
            claim.or_else(|| part.map(send))
        } else {
            part.map(send).or(claim).or_else(|| parts.first().map(send))
        }
    }

    /// How many fresh records a batch may take, if any.
    fn claimable(&self, view: &View<'_>, most: usize) -> Option<usize> {
        if !may_claim(view) || (self.open.len() >= MAX_OPEN && !self.control_wanted) {
            return None;
        }
        let controls = self.controls_needed(view.config.retry.quarantine_after);
        if controls == 0 {
            return Some(most);
        }
        // A control that is wanted now is one of those that are kept.
        let kept = controls - u64::from(self.control_wanted);
        let free = view.backlog.pending.saturating_sub(kept).max(u64::from(self.control_wanted));
        Some(most.min(usize::try_from(free).unwrap_or(usize::MAX))).filter(|records| *records > 0)
    }

    /// Successes of others that the record with the most to prove still needs around it.
    fn controls_needed(&self, quarantine_after: u32) -> u64 {
        let alone = self.open.values().filter(|entry| entry.batch.records == 1 && entry.batch.attempt > 0);
        let needed = alone.map(|entry| quarantine_after.saturating_sub(entry.evidence.counted).max(1));
        needed.max().map_or(0, u64::from)
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
        Sequence { index, total: u32::try_from(planned).unwrap_or(u32::MAX).max(index) }
    }

    fn set(&mut self, id: BatchId, step: Step) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.step = step;
        }
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

fn may_claim(view: &View<'_>) -> bool {
    let backlog = view.backlog;
    let due = backlog.next_due_at.is_some_and(|due| due <= view.wall_ms);
    due || (backlog.pending > 0 && backlog.claimable)
}

fn open_until(breaker: BreakerState) -> Option<Duration> {
    match breaker.mode {
        Mode::Open { until } => Some(until),
        Mode::Normal | Mode::Micro | Mode::Probing => None,
    }
}
