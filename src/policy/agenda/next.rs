//! What is done next.
//!
//! Order of work: look-ups that are due, then parts of failed batches in queue order, then fresh
//! records. After a part failed, one other batch goes first: its success is the control that
//! tells a record at fault from a server in trouble (see [`crate::policy::isolation`]). Where no other is
//! left, a record that the server has already is sent once more: it answers "duplicate", or it is in trouble.
//! A server that failed us is asked for an old outcome before it is sent anything.

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Agenda, ClaimOrder, Entry, Step, View, looks_up};
use crate::config::Config;
use crate::model::{BatchId, Phase, Sequence, Stage};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::service_time::Forecast;
use crate::policy::sizing::{self, BatchLimit, Demand, SizeRule};

/// Most open batches before fresh records wait: bounds what the search keeps in memory.
const MAX_OPEN: usize = 1000;
/// A batch sent so often may be what keeps the breaker open: a probe takes another, and it is cut.
pub(super) const PROBES_OF_ONE: u32 = 3;
/// After so many look-ups that failed a batch is tried on a server that seems to be down: sooner where
/// the server has never answered a look-up, and the first times sooner still.
const TRUSTED_LOOK_UPS: u32 = 32;
const UNTRIED_LOOK_UPS: u32 = 16;
const EARLY_LOOK_UPS: [u32; 2] = [2, 8];
/// A suspect that takes so many times longer than it should is hung up on …
const PATIENCE: f64 = 2.0;
/// … but not before this share of the time limit.
const LEAST_PATIENCE: f64 = 1.0 / 6.0;

/// How large the next fresh batch is, if its records are as those before, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualSize {
    /// Records.
    pub records: usize,
    /// Which rule decides.
    pub rule: SizeRule,
    /// What it is expected to take, once anything was measured.
    pub expected: Option<Forecast>,
}

impl Agenda {
    /// What a fresh batch may hold now, and why.
    pub fn limit(&self, view: &View<'_>) -> BatchLimit {
        let config = &view.config.batch;
        let demand = Demand {
            waiting_records: view.backlog.pending + view.backlog.failed,
            waiting_bytes: view.backlog.bytes,
            micro: view.breaker.mode != Mode::Normal || self.turned_away,
            service: config.learn.then(|| Arc::clone(&self.learned.service)),
            throughput: self.learned.throughput.clone(),
            time_budget: self.time_budget(view.config),
            time_limit: self.time_limit(view.config),
            accepted_bytes: self.learned.accepted_bytes,
            hints: self.learned.hints,
        };
        sizing::choose(config, &demand)
    }

    /// How large the next fresh batch is, as far as can be told before it is claimed, and why.
    pub fn usual_size(&self, view: &View<'_>) -> UsualSize {
        let (limit, each) = (self.limit(view), usual_bytes(view));
        let records = limit.usual(each);
        let bytes = each * records as u64;
        let rule = if records < limit.records { SizeRule::Learned } else { limit.rule };
        let expected = limit.time.map(|time| time.usual(records as u64, bytes));
        UsualSize { records, rule, expected }
    }

    /// The estimated time until all is sent.
    pub fn estimate(&self, view: &View<'_>) -> Option<Duration> {
        let (records, size) = (view.backlog.to_go(), self.limit(view).usual(usual_bytes(view)));
        let sending =
            Duration::try_from_secs_f64(self.learned.throughput.seconds(view.backlog.bytes)).ok()?;
        Some(self.learned.service.estimate(records, view.backlog.bytes, size)? + sending)
    }

    /// The measured time per record.
    pub fn per_record(&self) -> Option<Duration> {
        self.learned.service.per_record()
    }

    /// How long an answer is waited for after the body is out, where less than the time limit will do.
    ///
    /// The server promises that a batch that has begun goes on when we hang up, and that its outcome
    /// can be looked up. So while a record at fault is searched, what takes far longer than it should
    /// is not waited for: others go on meanwhile.
    pub fn patience(&self, config: &Config, id: BatchId) -> Option<Duration> {
        let entry = self.open.get(&id)?;
        let searching = entry.batch.stage != Stage::Fresh || !self.families.is_empty();
        if !searching || !self.look_up_works || !looks_up(config) || !self.learned.service.is_enough() {
            return None;
        }
        self.patience_for(config, entry.expected?.most)
    }

    /// For a batch of which one in 100 takes longer than `most` seconds.
    pub(super) fn patience_for(&self, config: &Config, most: f64) -> Option<Duration> {
        let limit = self.time_limit(config);
        let patience = Duration::try_from_secs_f64(PATIENCE * most).ok()?;
        Some(patience.max(limit.mul_f64(LEAST_PATIENCE))).filter(|patience| *patience < limit)
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
        if view.link.is_closed() {
            return rest(Phase::Offline, None);
        }
        if self.is_deferred(view) {
            return rest(Phase::Deferred, None);
        }
        let held = [self.wait, self.throttle, open_until(view.breaker)].into_iter().flatten().max();
        if let Some(until) = held.filter(|until| now < *until) {
            return rest(Phase::Waiting, Some(until));
        }
        let look_up = self.open.values().find(|entry| entry.look_up_due(view).is_some_and(|due| due <= now));
        if let Some(entry) = look_up {
            return Action::LookUp(entry.batch.id);
        }
        if let Some(id) = self.sign_of_life(view) {
            return Action::LookUp(id);
        }
        self.next_batch(view).unwrap_or_else(|| rest(Phase::Waiting, self.next_due(view)))
    }

    /// What to look up before a server that failed us is sent anything.
    fn sign_of_life(&self, view: &View<'_>) -> Option<BatchId> {
        let open = matches!(view.breaker.mode, Mode::Open { .. });
        if !(open || self.turned_away) || !self.has_look_up(view.config) || self.look_up_is_mute {
            return None;
        }
        // Perhaps it is only look-ups that fail; but who sends them away would send batches away, too.
        let trusted = self.learned.looks_up || self.throttled_look_up;
        let every = if trusted { TRUSTED_LOOK_UPS } else { UNTRIED_LOOK_UPS };
        let early = !self.learned.looks_up && EARLY_LOOK_UPS.contains(&self.unanswered);
        let batch_is_due = early || (self.unanswered > 0 && self.unanswered.is_multiple_of(every));
        if batch_is_due && self.unanswered != self.unanswered_at_send {
            return None;
        }
        let sent = self.open.values().find(|entry| entry.batch.attempt > 0);
        sent.map(|entry| entry.batch.id).or(self.known)
    }

    fn next_batch(&self, view: &View<'_>) -> Option<Action> {
        let limit = self.limit(view);
        let sequence = self.sequence(view, limit.usual(usual_bytes(view)));
        let probing = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        let mut parts: Vec<&Entry> = self
            .open
            .values()
            .filter(|entry| entry.send_due(view).is_some_and(|due| due <= view.now))
            .collect();
        // A probe is a micro-batch, and nothing that may be what fails: no part of a batch that failed,
        // and nothing that was sent often.
        let worn = |entry: &Entry| entry.sends / PROBES_OF_ONE + u32::from(entry.batch.parent.is_some());
        parts.sort_by_key(|entry| {
            let batch = &entry.batch;
            (probing.then(|| (worn(entry), batch.records)), batch.place)
        });
        let most = limit.records;
        let fits = |entry: &Entry| entry.batch.records <= most && worn(entry) == 0;
        let part = parts.first().filter(|entry| !probing || fits(entry));
        let claim =
            (may_claim(view) && self.has_room()).then_some(Action::Claim(ClaimOrder { limit, sequence }));
        let micro = view.config.batch.micro_batch;
        let send = |entry: &&Entry| {
            let batch = &entry.batch;
            let too_large = view.breaker.mode != Mode::Normal && batch.records > micro;
            if batch.attempt == 0 && (too_large || (entry.guilty && batch.records > 1)) {
                return Action::Divide(batch.id);
            }
            Action::Send(batch.id, sequence)
        };
        if self.control_wanted && !probing {
            let innocent = parts.iter().find(|entry| !entry.has_failed_alone());
            // Where several failed in a row, each may have its culprit: only a known record tells.
            let known = self.others_failed.then(|| self.control(sequence)).flatten();
            known
                .or(claim)
                .or_else(|| innocent.map(send))
                .or_else(|| self.control(sequence))
                .or_else(|| part.map(send))
        } else {
            let known = Action::Control(sequence);
            let probe = (probing && self.may_control()).then_some(known);
            part.map(send).or(claim).or(probe).or_else(|| parts.first().map(send))
        }
    }

    /// Another control in a row would tell no more.
    fn may_control(&self) -> bool {
        self.control_ready && !self.control_failed
    }

    /// For when nobody else is left who could get through around a record that failed.
    fn control(&self, sequence: Sequence) -> Option<Action> {
        // Several that failed in a row say nothing about each other until the server is seen to be well.
        let wanted = self.others_failed || self.open.values().any(|entry| entry.evidence.wants_control());
        (self.may_control() && wanted).then_some(Action::Control(sequence))
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
            let needed = self.failures_needed(entry, quarantine_after);
            entry.batch.records == 1
                && matches!(entry.step, Step::Send { .. })
                && entry.evidence.counted >= needed
        })?;
        Some(entry.batch.id)
    }

    fn sequence(&self, view: &View<'_>, size: usize) -> Sequence {
        let index = self.sent_in_run + 1;
        let fresh = view.backlog.pending.div_ceil(size.max(1) as u64) + self.open.len() as u64;
        let planned = u64::from(self.sent_in_run) + fresh;
        Sequence { index, total: u32::try_from(planned).unwrap_or(u32::MAX).max(index) }
    }
}

impl Entry {
    /// What failed alone before is no control for another.
    fn has_failed_alone(&self) -> bool {
        self.evidence.suspects() || (self.batch.records == 1 && self.batch.attempt > 0)
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

/// Payload bytes of a record that waits, on average.
fn usual_bytes(view: &View<'_>) -> u64 {
    let backlog = view.backlog;
    backlog.bytes.checked_div(backlog.to_go() + backlog.quarantined).unwrap_or(0)
}

fn may_claim(view: &View<'_>) -> bool {
    let backlog = view.backlog;
    let due = backlog.next_due_at.is_some_and(|due| due <= view.steady_ms);
    due || (backlog.pending > 0 && backlog.claimable)
}

fn open_until(breaker: BreakerState) -> Option<Duration> {
    if let Mode::Open { until } = breaker.mode { Some(until) } else { None }
}
