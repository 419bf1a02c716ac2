//! What the planner does next. The decision is a function of the view and the parts: an event changes them first.

use std::time::Duration;

use super::denials::FREE_DENIALS;
use super::sizes::usual_record_bytes;
use super::tracked_batch::TrackedBatch;
use super::waits::Wait;
use super::{Action, ClaimOrder, Scheduler, View, enqueued_total};
use crate::model::{BatchId, Phase, Sequence, WaitCause};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::sizing::BatchLimit;

/// Open batches beyond which new records wait: this bounds what the search keeps in memory.
const OPEN_BATCHES_MAX: usize = 1000;

/// What the next batch would be.
#[derive(Debug)]
struct Offer {
    limit: BatchLimit,
    sequence: Sequence,
}

impl Scheduler {
    /// Decides what to do next. Nothing is due before the time of a `Rest`, unless the view changes.
    pub fn next_action(&self, view: &View<'_>) -> Action {
        match self.choose_action(view) {
            Action::Rest { until, .. } if self.uploads() > 0 => {
                Action::Rest { phase: Phase::Syncing, until, cause: None }
            }
            action => action,
        }
    }

    fn choose_action(&self, view: &View<'_>) -> Action {
        let now = view.now;
        let rest = |phase, until| Action::Rest { phase, until, cause: None };
        let wait_until = |phase, until, cause| Action::Rest { phase, until: Some(until), cause: Some(cause) };
        if view.backlog.paused {
            // The driver ends a pause for a time.
            return rest(Phase::Paused, None);
        }
        if let Some(id) = self.isolated_batch(view.config.retry.quarantine_after) {
            return Action::Quarantine(id);
        }
        if view.backlog.to_go() == 0 {
            return rest(Phase::Idle, None);
        }
        let wait = self.waits.current(now);
        let others = wait.filter(|wait| wait.is_unconfirmed).and_then(|_| self.probe_others(view));
        let others = others.filter(|action| self.may_start(view, action));
        let stop = wait.and_then(Wait::stop_phase);
        if let (Some(wait), Some(phase), None) = (wait, stop, &others) {
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
        let waits = wait.map(|wait| (wait.until, wait.cause()));
        let open = open_until.map(|until| (until, WaitCause::Breaker));
        if let Some((until, cause)) = waits.into_iter().chain(open).max_by_key(|(until, _)| *until) {
            let others = others.filter(|_| open_until.is_none());
            return others.unwrap_or_else(|| wait_until(stop.unwrap_or(Phase::Waiting), until, cause));
        }
        let probe = self.health_probe(view);
        if let Some(id) = self.open.due_query(view).or(probe)
            && self.has_query_slot(view.config)
        {
            return Action::QueryOutcome(id);
        }
        let is_query_awaited = self.under_way.has_query();
        if is_query_awaited && (probe.is_some() || !self.is_parallel(view.config)) {
            return rest(Phase::Waiting, None);
        }
        let next = if self.has_free_slot(view) { self.next_batch(view) } else { None };
        next.unwrap_or_else(|| match self.next_due(view) {
            Some(due) => wait_until(Phase::Waiting, due, WaitCause::BackOff),
            None => rest(Phase::Waiting, None),
        })
    }

    /// Whether a slot is free for an action.
    fn may_start(&self, view: &View<'_>, action: &Action) -> bool {
        if let Action::QueryOutcome(_) = action {
            return self.has_query_slot(view.config);
        }
        let is_query_awaited = self.under_way.has_query() && !self.is_parallel(view.config);
        self.has_free_slot(view) && !is_query_awaited
    }

    /// After a denial: an action that shows whether every batch is denied. It sends no batch that was denied itself.
    fn probe_others(&self, view: &View<'_>) -> Option<Action> {
        if let Some(id) = self.health_probe(view).filter(|_| !self.server.is_silent()) {
            return Some(Action::QueryOutcome(id));
        }
        if self.are_several_denied() {
            return None;
        }
        let offer = self.plan_claim(view);
        let canary = self.ready_canary(&offer);
        if canary.is_some() && self.search.have_several_failed() {
            return canary;
        }
        let due = self.open.due_batches(view);
        let free = due.into_iter().find(|tracked| !tracked.denials.is_denied());
        let free = free.map(|tracked| self.send_action(view, tracked, &offer));
        free.or_else(|| self.claim_action(view, &offer)).or(canary)
    }

    /// The batch to query before the server is sent anything.
    fn health_probe(&self, view: &View<'_>) -> Option<BatchId> {
        let others_may_tell = if self.server.is_in_question() {
            !self.is_everyone_denied()
        } else {
            self.search.has_one_failed()
        };
        self.server.next_probe(view, others_may_tell, self.open.any_sent())
    }

    /// The next batch to send, if one is due.
    fn next_batch(&self, view: &View<'_>) -> Option<Action> {
        let offer = self.plan_claim(view);
        let mut due = self.open.due_batches(view);
        if self.open.in_flight().any(TrackedBatch::is_suspected) || self.under_way.has_canary() {
            // One suspect at a time: fresh batches beside it show whether the server works. Beside a canary, none: if each
            // fails between two canaries, with another suspect before or after it, no failure ever counts.
            due.retain(|tracked| !tracked.is_suspected());
        }
        let send = |tracked: &&TrackedBatch| self.send_action(view, tracked, &offer);
        let canary = || self.ready_canary(&offer);
        let claim = || self.claim_action(view, &offer);
        if matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) {
            let fits = |tracked: &&&TrackedBatch| {
                tracked.batch.records <= offer.limit.records && tracked.fault_likelihood() == 0
            };
            let unworn = due.first().filter(fits).map(send);
            return unworn.or_else(claim).or_else(canary).or_else(|| due.first().map(send));
        }
        if self.is_everyone_denied() {
            let least_denied = || due.iter().min_by_key(|tracked| tracked.denials.count()).map(send);
            return canary().or_else(least_denied).or_else(claim);
        }
        let (yielding, free): (Vec<&TrackedBatch>, Vec<&TrackedBatch>) =
            due.iter().partition(|tracked| tracked.denials.should_yield());
        let first_free = || free.first().map(send);
        let chosen = if self.search.is_canary_wanted() {
            let unsuspected = || free.iter().find(|tracked| !tracked.has_failed_alone()).map(send);
            let wanted_canary = || self.wanted_canary(view.now, &offer);
            // Where several failed in a row, each may have its faulty record: only a confirmed record shows which.
            let first = if self.search.have_several_failed() { wanted_canary() } else { None };
            first.or_else(claim).or_else(unsuspected).or_else(wanted_canary).or_else(first_free)
        } else {
            first_free().or_else(claim)
        };
        // Without others, a batch is sent a second time, but not a third.
        let second_time = || yielding.iter().find(|tracked| tracked.denials.count() < FREE_DENIALS).map(send);
        let may_ask = self.server.is_in_question() && self.open.has_denied();
        let asking_canary = || canary().filter(|_| may_ask);
        chosen.or_else(second_time).or_else(asking_canary).or_else(|| yielding.first().map(send))
    }

    fn plan_claim(&self, view: &View<'_>) -> Offer {
        let limit = self.batch_limit(view);
        let sequence = self.next_sequence(view, limit.usual_records(usual_record_bytes(view)));
        Offer { limit, sequence }
    }

    fn claim_action(&self, view: &View<'_>, offer: &Offer) -> Option<Action> {
        let Offer { limit, sequence } = offer;
        let one_per_key = self.sends_one_per_key();
        let order = || ClaimOrder { limit: limit.clone(), sequence: *sequence, one_per_key };
        let is_wanted = self.uploads() == 0 || self.is_worth_a_slot(view, offer);
        (may_claim(view) && self.has_room() && is_wanted).then(|| Action::Claim(order()))
    }

    /// Whether a fresh batch is sent beside others: it is of the usual size, or no more records arrive. Else records that
    /// arrive one by one would be sent one by one.
    fn is_worth_a_slot(&self, view: &View<'_>, offer: &Offer) -> bool {
        let usual = offer.limit.usual_records(usual_record_bytes(view)) as u64;
        let waiting = view.backlog.pending + view.backlog.failed;
        waiting >= usual || enqueued_total(view) == self.enqueued_at_last_send
    }

    /// Sends a batch, or first cuts it.
    fn send_action(&self, view: &View<'_>, tracked: &TrackedBatch, offer: &Offer) -> Action {
        let batch = &tracked.batch;
        let is_too_large = view.breaker.mode != Mode::Normal && batch.records > view.config.batch.micro_batch;
        if (batch.attempt == 0 && is_too_large) || (tracked.needs_carving() && self.may_carve()) {
            return Action::Divide(batch.id);
        }
        Action::Send(batch.id, offer.sequence)
    }

    fn ready_canary(&self, offer: &Offer) -> Option<Action> {
        let is_alone = self.uploads() == 0;
        (is_alone && self.server.is_canary_ready()).then_some(Action::SendCanary(offer.sequence))
    }

    /// A canary, where no other batch is left that could get through around a record that failed.
    fn wanted_canary(&self, now: Duration, offer: &Offer) -> Option<Action> {
        // Several that failed in a row say nothing about each other until the server is seen to work. Nor does a
        // failure before which no record was stored, not so long ago.
        let is_stale = !self.search.is_success_near(now);
        let wants = |tracked: &TrackedBatch| tracked.wants_canary(is_stale);
        let is_wanted = self.search.have_several_failed() || self.open.iter().any(wants);
        self.ready_canary(offer).filter(|_| is_wanted)
    }

    /// The earliest time at which something is due that waits for a time.
    fn next_due(&self, view: &View<'_>) -> Option<Duration> {
        let records = view
            .backlog
            .next_due_at
            .filter(|_| self.has_room())
            .map(|due| view.now + Duration::from_millis(due.saturating_sub(view.steady_ms)));
        let (is_query_awaited, may_send) = (self.under_way.has_query(), self.has_free_slot(view));
        let queries = self.open.query_dues(view.config).filter(|_| !is_query_awaited);
        let sends = self.open.send_dues(view.config).chain(records).filter(|_| may_send);
        // What is due already and was not chosen waits for a response or a reply, not for a time.
        let is_busy = is_query_awaited || self.uploads() > 0;
        queries.chain(sends).filter(|due| !is_busy || *due > view.now).min()
    }

    /// Whether new records may be claimed. While every batch is denied, those that are open show when that ends.
    fn has_room(&self) -> bool {
        // A success of others is worth going beyond the bound.
        let is_bounded = self.open.len() < OPEN_BATCHES_MAX || self.search.is_canary_wanted();
        is_bounded && !(self.is_everyone_denied() && self.open.has_denied())
    }

    /// A batch of one record against which the evidence is complete.
    fn isolated_batch(&self, quarantine_after: u32) -> Option<BatchId> {
        let (glitches, lacks_queries) = (&self.learned.glitches, self.server.lacks_queries());
        let is_isolated =
            |tracked: &&TrackedBatch| tracked.is_isolated(quarantine_after, glitches, lacks_queries);
        self.open.iter().find(is_isolated).map(|tracked| tracked.batch.id)
    }

    fn next_sequence(&self, view: &View<'_>, size: usize) -> Sequence {
        let index = self.sent_in_run + 1;
        let fresh = view.backlog.pending.div_ceil(size.max(1) as u64) + self.open.len() as u64;
        let planned = u64::from(self.sent_in_run) + fresh;
        Sequence { index, total: u32::try_from(planned).unwrap_or(u32::MAX).max(index) }
    }
}

fn may_claim(view: &View<'_>) -> bool {
    let backlog = view.backlog;
    let is_due = backlog.next_due_at.is_some_and(|due| due <= view.steady_ms);
    is_due || (backlog.pending > 0 && backlog.claimable)
}

fn open_until(breaker: BreakerState) -> Option<Duration> {
    if let Mode::Open { until } = breaker.mode { Some(until) } else { None }
}
