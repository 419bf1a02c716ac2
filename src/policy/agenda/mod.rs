//! What to do next, and what becomes of a batch: the planner's whole cycle without its effects.
//!
//! The driver asks [`Agenda::next`], carries out the [`Action`], and tells what came of it;
//! [`Agenda::answered`] and [`Agenda::looked_up`] say how the batch is to be settled on disk. One
//! action is under way at a time. The agenda holds the open batches only, never the queue.
//!
//! Order of work: look-ups that are due, then parts of failed batches in queue order, then fresh
//! records. After a part failed, one other batch goes first: its success is the control that
//! tells a record at fault from a server in trouble (see [`super::isolation`]). Where no other is
//! left, a record that the server has already is sent once more: it answers "duplicate", or it is in trouble.

mod answers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::breaker::{BreakerState, Mode};
use super::isolation::{Cut, Evidence};
use super::service_time::ServiceTime;
use super::sizing::{self, BatchLimit, Demand, Hints};
use super::verdict::Doubt;
use crate::config::{Config, OutcomeLookup};
use crate::model::{
    Backlog, BatchId, BatchPhase, LastError, LinkState, OpenBatch, Phase, RecordId, Sequence,
};

/// Most open batches before fresh records wait: bounds what the search keeps in memory.
const MAX_OPEN: usize = 1000;
/// A batch sent so often may be what keeps the breaker open: a probe takes another, and it is cut.
const PROBES_OF_ONE: u32 = 3;

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
    /// Cut this part that was never sent: the breaker asks for micro-batches, and it is larger.
    Divide(BatchId),
    /// Send a record that the server has already, to see whether others get through.
    Control(Sequence),
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
    /// For due times of records.
    pub steady_ms: u64,
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
    /// What the server said when it refused the one record of the batch.
    refusal: Option<LastError>,
}

/// What speaks against a batch that goes on under a new id, and when that is due.
#[derive(Debug)]
struct Carried {
    from: BatchId,
    evidence: Evidence,
    refusal: Option<LastError>,
    due: Duration,
}

/// The open batches and what was learned.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// Refused requests without a stored record in between.
    refusals: u32,
    wait: Option<Duration>,
    /// The server asked for it: a link that returns does not end it.
    throttle: Option<Duration>,
    stop: Option<(Phase, Duration)>,
    carried: Option<Carried>,
    /// The batch that failed since others last got through, and whether it was not the only one.
    failing: Option<BatchId>,
    others_failed: bool,
    /// The driver has a record that the server confirmed.
    control_ready: bool,
    /// The last request was a control, and it failed: another would tell no more.
    control_failed: bool,
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
            refusals: 0,
            wait: None,
            throttle: None,
            stop: None,
            carried: None,
            failing: None,
            others_failed: false,
            control_ready: false,
            control_failed: false,
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
            let carried = self.carried.take_if(|carried| batch.parent == Some(carried.from));
            let evidence = Evidence::restored(batch.lone_failures);
            let fresh = Entry { batch, step, evidence, refusal: None };
            let entry = match carried {
                Some(Carried { evidence, refusal, due, .. }) => {
                    Entry { step: Step::Send { due }, evidence, refusal, ..fresh }
                }
                None => fresh,
            };
            self.open.insert(entry.batch.id, entry);
        }
    }

    /// Takes note of a batch that is about to be sent.
    pub fn sending(&mut self, batch: &OpenBatch) {
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let entry = self.open.entry(batch.id).or_insert_with(|| Entry {
            batch: batch.clone(),
            step: Step::InFlight,
            evidence: Evidence::restored(batch.lone_failures),
            refusal: None,
        });
        entry.batch.clone_from(batch);
        entry.step = Step::InFlight;
        self.control_failed = false;
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
        self.throttle = None;
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

    /// From now on there is a record for [`Action::Control`].
    pub fn control_ready(&mut self) {
        self.control_ready = true;
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
        let held = [self.wait, self.throttle, open_until(view.breaker)].into_iter().flatten().max();
        if let Some(until) = held.filter(|until| now < *until) {
            return rest(Phase::Waiting, Some(until));
        }
        let look_up = self.open.values().find(|entry| entry.look_up_due(view).is_some_and(|due| due <= now));
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
            .filter(|entry| entry.send_due(view).is_some_and(|due| due <= view.now))
            .map(|entry| &entry.batch)
            .collect();
        // A probe is a micro-batch; the smallest part will do, unless it may be what fails.
        let worn = |batch: &OpenBatch| batch.attempt / PROBES_OF_ONE;
        parts.sort_by_key(|batch| (probing.then(|| (worn(batch), batch.records)), batch.place));
        let fits = |batch: &OpenBatch| batch.records <= limit.records && worn(batch) == 0;
        let part = parts.first().filter(|batch| !probing || fits(batch));
        let claim =
            (may_claim(view) && self.has_room()).then_some(Action::Claim(ClaimOrder { limit, sequence }));
        let micro = view.config.batch.micro_batch;
        let send = |batch: &&OpenBatch| {
            if view.breaker.mode != Mode::Normal && batch.attempt == 0 && batch.records > micro {
                return Action::Divide(batch.id);
            }
            Action::Send(batch.id, sequence)
        };
        if self.control_wanted && !probing {
            let innocent = parts.iter().find(|batch| !self.has_failed_alone(batch));
            claim.or_else(|| innocent.map(send)).or_else(|| self.control(sequence)).or_else(|| part.map(send))
        } else {
            part.map(send).or(claim).or_else(|| parts.first().map(send))
        }
    }

    /// What failed alone before is no control for another.
    fn has_failed_alone(&self, batch: &OpenBatch) -> bool {
        let suspected = self.open.get(&batch.id).is_some_and(|entry| entry.evidence.suspects());
        suspected || (batch.records == 1 && batch.attempt > 0)
    }

    /// For when nobody else is left who could get through around a record that failed.
    fn control(&self, sequence: Sequence) -> Option<Action> {
        // Several that failed in a row say nothing about each other until the server is seen to be well.
        let wanted = self.others_failed || self.open.values().any(|entry| entry.evidence.wants_control());
        (self.control_ready && !self.control_failed && wanted).then_some(Action::Control(sequence))
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
            .filter(|_| self.has_room())
            .map(|due| view.now + Duration::from_millis(due.saturating_sub(view.steady_ms)));
        batches.chain(records).min()
    }

    /// Whether fresh records may be taken; a control is worth going beyond the bound.
    fn has_room(&self) -> bool {
        self.open.len() < MAX_OPEN || self.control_wanted
    }

    fn convicted(&self, quarantine_after: u32) -> Option<BatchId> {
        let entry = self.open.values().find(|entry| {
            entry.batch.records == 1
                && matches!(entry.step, Step::Send { .. })
                && entry.evidence.counted >= entry.failures_needed(quarantine_after)
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
    /// A server that says no says it for a reason; one that says nothing may have any.
    fn failures_needed(&self, quarantine_after: u32) -> u32 {
        if self.refusal.is_some() { 1 } else { quarantine_after }
    }

    fn look_up_due(&self, view: &View<'_>) -> Option<Duration> {
        match self.step {
            Step::LookUp { due, .. } if looks_up(view.config) => Some(due),
            _ => None,
        }
    }

    /// Without look-up, sending the same set under the same id again is as safe.
    fn send_due(&self, view: &View<'_>) -> Option<Duration> {
        match self.step {
            Step::Send { due } => Some(due),
            Step::LookUp { due, .. } if !looks_up(view.config) => Some(due),
            _ => None,
        }
    }
}

fn looks_up(config: &Config) -> bool {
    config.server.outcome_lookup == OutcomeLookup::Auto
}

fn may_claim(view: &View<'_>) -> bool {
    let backlog = view.backlog;
    let due = backlog.next_due_at.is_some_and(|due| due <= view.steady_ms);
    due || (backlog.pending > 0 && backlog.claimable)
}

fn open_until(breaker: BreakerState) -> Option<Duration> {
    if let Mode::Open { until } = breaker.mode { Some(until) } else { None }
}
