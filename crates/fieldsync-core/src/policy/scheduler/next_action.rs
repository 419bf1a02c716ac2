//! What is done next.
//!
//! Order of work: look-ups that are due, then parts of failed batches in queue order, then fresh
//! records. After a part failed, one other batch goes first: its success is the control that
//! tells a record at fault from a server in trouble (see [`crate::policy::isolation`]). Where no other is
//! left, a record that the server has already is sent once more: it answers "duplicate", or it is in trouble.
//! A set that was denied lets all others go first. A server that failed us is asked for an old outcome
//! before it is sent anything.

use std::sync::Arc;
use std::time::Duration;

use super::bisection::Failing;
use super::denials::{DENIALS_FOR_FREE, Others};
use super::server_health::queries_enabled;
use super::waits::Wait;
use super::{Action, ClaimOrder, Entry, Scheduler, Step, View};
use crate::config::Config;
use crate::model::{BatchId, Phase, Sequence, SizeRule, Stage};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::isolation;
use crate::policy::service_time::Forecast;
use crate::policy::sizing::{self, BatchLimit, Demand};

/// Most open batches before fresh records wait: bounds what the search keeps in memory.
const MAX_OPEN: usize = 1000;
/// A batch sent so often may be what keeps the breaker open: a probe takes another, and it is cut.
pub(super) const PROBES_OF_ONE: u32 = 3;
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

impl Scheduler {
    /// What a fresh batch may hold now, and why.
    pub fn batch_limit(&self, view: &View<'_>) -> BatchLimit {
        let config = &view.config.batch;
        let demand = Demand {
            waiting_records: view.backlog.pending + view.backlog.failed,
            waiting_bytes: view.backlog.bytes,
            micro: view.breaker.mode != Mode::Normal || self.server.is_in_question(),
            service: config.learn.then(|| Arc::clone(&self.learned.service)),
            time_budget: self.time_budget(view.config),
            time_limit: self.time_limit(view.config),
            learned_bytes: self.learned.bytes.limit(),
            hints: self.hints,
        };
        sizing::choose(config, &demand)
    }

    /// How large the next fresh batch is, as far as can be told before it is claimed, and why.
    pub fn usual_size(&self, view: &View<'_>) -> UsualSize {
        let (limit, each) = (self.batch_limit(view), usual_bytes(view));
        let records = limit.usual(each);
        let rule = if records < limit.records { SizeRule::Learned } else { limit.rule };
        let expected = limit.time.map(|time| time.service.usual(records as u64));
        UsualSize { records, rule, expected }
    }

    /// The estimated time until all is sent.
    pub fn estimate_remaining(&self, view: &View<'_>) -> Option<Duration> {
        let (records, size) = (view.backlog.to_go(), self.batch_limit(view).usual(usual_bytes(view)));
        self.learned.service.estimate(records, size)
    }

    /// The measured time per record.
    pub fn time_per_record(&self) -> Option<Duration> {
        self.learned.service.per_record()
    }

    /// How long an answer is waited for after the body is out, where less than the time limit will do.
    ///
    /// The server promises that a batch that has begun goes on when we hang up, and that its outcome
    /// can be looked up. So while a record at fault is searched, what takes far longer than it should
    /// is not waited for: others go on meanwhile.
    pub fn response_deadline(&self, config: &Config, id: BatchId) -> Option<Duration> {
        let entry = self.open.get(&id)?;
        let searching = entry.batch.stage != Stage::Fresh || !self.families.is_empty();
        if !searching
            || !self.server.answers_queries()
            || !queries_enabled(config)
            || !self.learned.service.is_enough()
        {
            return None;
        }
        self.deadline_for(config, entry.expected?.most)
    }

    /// For a batch of which one in 100 takes longer than `most` seconds.
    pub(super) fn deadline_for(&self, config: &Config, most: f64) -> Option<Duration> {
        let limit = self.time_limit(config);
        let patience = Duration::try_from_secs_f64(PATIENCE * most).ok()?;
        Some(patience.max(limit.mul_f64(LEAST_PATIENCE))).filter(|patience| *patience < limit)
    }

    /// What to do next. Nothing is due before the time that a `Rest` names, unless the view changes.
    pub fn next_action(&self, view: &View<'_>) -> Action {
        let now = view.now;
        let rest = |phase, until| Action::Rest { phase, until };
        if view.backlog.paused {
            return rest(Phase::Paused, None);
        }
        if let Some(id) = self.convicted(view.config.retry.quarantine_after) {
            return Action::Quarantine(id);
        }
        if view.backlog.to_go() == 0 {
            return rest(Phase::Idle, None);
        }
        let wait = self.waits.current(now);
        let phase = wait.and_then(Wait::stop_phase).unwrap_or(Phase::Waiting);
        let others = || self.seek_others(view).filter(|_| wait.is_some_and(|wait| wait.is_unconfirmed));
        if let Some(wait) = wait.filter(|wait| wait.stop_phase().is_some())
            && others().is_none()
        {
            return rest(phase, Some(wait.until));
        }
        if view.config.server.url.is_empty() {
            return rest(Phase::Misconfigured, None);
        }
        if view.link.is_closed() {
            return rest(Phase::Offline, None);
        }
        if self.waits.is_deferred(view) {
            return rest(Phase::Deferred, None);
        }
        let open_until = open_until(view.breaker).filter(|until| now < *until);
        let held = wait.map(|wait| wait.until).max(open_until);
        if let Some(until) = held {
            let others = others().filter(|_| open_until.is_none());
            return others.unwrap_or_else(|| rest(phase, Some(until)));
        }
        let look_up = self.open.values().find(|entry| entry.look_up_due(view).is_some_and(|due| due <= now));
        if let Some(entry) = look_up {
            return Action::QueryOutcome(entry.batch.id);
        }
        if let Some(id) = self.liveness_probe(view) {
            return Action::QueryOutcome(id);
        }
        self.next_batch(view).unwrap_or_else(|| rest(Phase::Waiting, self.next_due(view)))
    }

    /// What shows whether everyone is denied, after one set was: nothing that was denied itself.
    fn seek_others(&self, view: &View<'_>) -> Option<Action> {
        if let Some(id) = self.liveness_probe(view).filter(|_| !self.server.is_silent()) {
            return Some(Action::QueryOutcome(id));
        }
        let (limit, sequence) = self.offer(view);
        let control = self.server.is_canary_ready().then_some(Action::SendCanary(sequence));
        if self.are_several_denied() {
            return None;
        }
        if control.is_some() && self.failing == Failing::Several {
            return control;
        }
        let free = self.due_parts(view).into_iter().find(|entry| entry.denials.count == 0);
        let free = free.map(|entry| self.send(view, entry, sequence));
        free.or_else(|| self.claim(view, limit, sequence)).or(control)
    }

    /// The batch to query before the server is sent anything.
    fn liveness_probe(&self, view: &View<'_>) -> Option<BatchId> {
        let others_may_tell = if self.server.is_in_question() {
            !self.is_everyone_denied()
        } else {
            matches!(self.failing, Failing::One(_))
        };
        let sent = self.open.values().find(|entry| entry.batch.attempt > 0);
        self.server.probe(view, others_may_tell, sent.map(|entry| entry.batch.id))
    }

    fn next_batch(&self, view: &View<'_>) -> Option<Action> {
        let (limit, sequence) = self.offer(view);
        let parts = self.due_parts(view);
        let send = |entry: &&Entry| self.send(view, entry, sequence);
        let control = || self.server.is_canary_ready().then_some(Action::SendCanary(sequence));
        if matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) {
            let fits = |entry: &&&Entry| entry.batch.records <= limit.records && entry.wear() == 0;
            let part = parts.first().filter(fits).map(send);
            let claim = || self.claim(view, limit, sequence);
            return part.or_else(claim).or_else(control).or_else(|| parts.first().map(send));
        }
        if self.is_everyone_denied() {
            let least_denied = || parts.iter().min_by_key(|entry| entry.denials.count).map(send);
            return control().or_else(least_denied).or_else(|| self.claim(view, limit, sequence));
        }
        let (yielding, free): (Vec<&Entry>, Vec<&Entry>) = parts.iter().partition(|entry| entry.yields());
        let claim = self.claim(view, limit, sequence);
        let chosen = if self.control_wanted {
            let innocent = free.iter().find(|entry| !entry.has_failed_alone());
            // Where several failed in a row, each may have its culprit: only a known record tells.
            let known =
                (self.failing == Failing::Several).then(|| self.control(view.now, sequence)).flatten();
            known.or(claim).or_else(|| innocent.map(send)).or_else(|| self.control(view.now, sequence))
        } else {
            None.or_else(|| free.first().map(send)).or(claim)
        };
        let chosen = chosen.or_else(|| free.first().map(send));
        // Without others, a set is sent a second time, but not a third.
        let second = || yielding.iter().find(|entry| entry.denials.count < DENIALS_FOR_FREE).map(send);
        let asks = self.server.is_in_question() && self.has_denied();
        let known = || control().filter(|_| asks);
        chosen.or_else(second).or_else(known).or_else(|| yielding.first().map(send))
    }

    /// What a claim may take, and the sequence that the next batch would have.
    fn offer(&self, view: &View<'_>) -> (BatchLimit, Sequence) {
        let limit = self.batch_limit(view);
        let sequence = self.sequence(view, limit.usual(usual_bytes(view)));
        (limit, sequence)
    }

    fn claim(&self, view: &View<'_>, limit: BatchLimit, sequence: Sequence) -> Option<Action> {
        (may_claim(view) && self.has_room()).then_some(Action::Claim(ClaimOrder { limit, sequence }))
    }

    /// Batches that are due, in queue order; for a probe, which is a micro-batch, those first that are the least
    /// likely to be what fails: no part of a batch that failed, and nothing that was sent often.
    fn due_parts(&self, view: &View<'_>) -> Vec<&Entry> {
        let probing = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        let is_due = |entry: &&Entry| entry.send_due(view).is_some_and(|due| due <= view.now);
        let mut parts: Vec<&Entry> = self.open.values().filter(is_due).collect();
        parts.sort_by_key(|entry| {
            let batch = &entry.batch;
            (probing.then(|| (entry.wear(), batch.records)), batch.place)
        });
        parts
    }

    /// A batch is sent, or first cut.
    fn send(&self, view: &View<'_>, entry: &Entry, sequence: Sequence) -> Action {
        let batch = &entry.batch;
        let too_large = view.breaker.mode != Mode::Normal && batch.records > view.config.batch.micro_batch;
        if (batch.attempt == 0 && too_large) || (entry.needs_carving() && self.may_carve()) {
            return Action::Divide(batch.id);
        }
        Action::Send(batch.id, sequence)
    }

    /// For when nobody else is left who could get through around a record that failed.
    fn control(&self, now: Duration, sequence: Sequence) -> Option<Action> {
        // Several that failed in a row say nothing about each other until the server is seen to be well.
        // Nor does a failure tell anything that nobody got through before, not so long ago.
        let is_stale = !isolation::near(self.last_success, now);
        let wants = |entry: &Entry| {
            (entry.denials.count > 0 && entry.denials.others < Others::Stored)
                || entry.evidence.wants_control()
                || (is_stale && entry.batch.records == 1 && entry.has_failed_alone())
        };
        let wanted = self.failing == Failing::Several || self.open.values().any(wants);
        (self.server.is_canary_ready() && wanted).then_some(Action::SendCanary(sequence))
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

    /// Whether fresh records may be taken. While everyone is denied, those that are open show when that ends.
    fn has_room(&self) -> bool {
        // A control is worth going beyond the bound.
        let bounded = self.open.len() < MAX_OPEN || self.control_wanted;
        bounded && !(self.is_everyone_denied() && self.has_denied())
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
    /// How likely it is to be what fails: by what it comes from, and how often it was sent and denied.
    fn wear(&self) -> u32 {
        self.sends / PROBES_OF_ONE + u32::from(self.batch.parent.is_some()) + self.denials.count
    }

    /// What failed alone before is no control for another.
    fn has_failed_alone(&self) -> bool {
        self.evidence.suspects() || (self.batch.records == 1 && self.batch.attempt > 0)
    }

    fn look_up_due(&self, view: &View<'_>) -> Option<Duration> {
        match self.step {
            Step::LookUp { due, .. } if queries_enabled(view.config) => Some(due),
            _ => None,
        }
    }

    /// Without look-up, sending the same set under the same id again is as safe.
    fn send_due(&self, view: &View<'_>) -> Option<Duration> {
        match self.step {
            Step::Send { due } => Some(due),
            Step::LookUp { due, .. } if !queries_enabled(view.config) => Some(due),
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
