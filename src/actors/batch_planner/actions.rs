//! Carries out the actions that the scheduler chooses, and handles their results.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;

use super::completion::{Completion, SendReport};
use super::pause::PauseTimer;
use super::report::{batch_report, load_of, log_outcome_reply, log_sending, types_of};
use super::under_way::AwaitedBatch;
use super::{BatchPlanner, DrainStage, Wake};
use crate::actors::{QueryOutcome, Upload, send_event};
use crate::api::BatchInFlight;
use crate::clock::{millis, wall_ms};
use crate::model::{Batch, BatchId, DiskState, Network, Phase, WaitCause};
use crate::policy::outcome_reply::{OutcomeReply, QueriedOutcome};
use crate::policy::scheduler::{Action, Disposition};
use crate::policy::verdict::{UploadResult, Verdict};
use crate::store::{Claim, Dispatch, SetPaused};
use crate::telemetry::event::Event;

impl BatchPlanner {
    /// Does whatever is due, until the store is busy or the scheduler has nothing more to do now.
    pub(super) fn take_next_action(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        while !self.under_way.is_storing {
            if let Some(settlement) = self.under_way.next_settlement() {
                self.store_settlement(settlement, ctx);
            } else if self.is_draining() {
                return self.finish_drain(ctx);
            } else if !self.start_next_action(ctx) {
                return;
            }
        }
    }

    /// Starts the action that the scheduler chooses. False: there is none now.
    fn start_next_action(&mut self, ctx: &mut Context<Self>) -> bool {
        self.follow_credentials();
        let rest_of_pause = self.rest_of_pause();
        if rest_of_pause.is_some_and(|rest| rest.is_zero()) {
            let resuming = self.apply(SetPaused(None));
            self.spawn_store_action(resuming.map(|done| done.map(|()| Completion::PauseEnded)), ctx);
            return true;
        }
        self.track_progress();
        match self.with_view(|scheduler, view| scheduler.next_action(view)) {
            Action::Rest { phase, until, cause } => {
                self.wait_for_change(phase, until, cause, rest_of_pause, ctx);
                return false;
            }
            Action::Claim(order) => {
                let claiming = self.apply(Claim::new(order));
                self.spawn_store_action(claiming.map(|claimed| claimed.map(Completion::Claimed)), ctx);
            }
            Action::Send(batch, sequence) => {
                let one_per_key = self.scheduler.sends_one_per_key();
                let dispatching = self.apply(Dispatch { batch, sequence, one_per_key });
                let completion = move |dispatched| Completion::Dispatched(batch, dispatched);
                self.spawn_store_action(dispatching.map(move |dispatched| dispatched.map(completion)), ctx);
            }
            Action::QueryOutcome(batch) if !self.under_way.is_querying => self.query_outcome(batch, ctx),
            Action::SendCanary(sequence) if self.under_way.canary.is_none() => {
                let Some(record) = self.canary.clone() else { return false };
                self.send_canary(record, sequence, ctx);
            }
            Action::QueryOutcome(_) | Action::SendCanary(_) => return false,
            Action::Divide(batch) => {
                let disposition = self.with_view(|scheduler, view| scheduler.divide_batch(view, batch));
                self.settle_batch(batch, disposition, None);
            }
            Action::Quarantine(batch) => {
                let disposition =
                    self.with_view(|scheduler, view| scheduler.quarantine_isolated(view, batch));
                self.settle_batch(batch, disposition, None);
            }
        }
        true
    }

    /// Runs an operation of the store, one at a time. With none as its result, the store has failed: the process is
    /// about to end, and nothing is done any more.
    pub(super) fn spawn_store_action(
        &mut self,
        action: impl Future<Output = Option<Completion>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        self.under_way.is_storing = true;
        self.restraints_at_choice = self.scheduler.restraints();
        ctx.spawn(action.into_actor(self).map(|completion, planner, ctx| {
            if let Some(completion) = completion {
                planner.under_way.is_storing = false;
                planner.complete_action(completion, ctx);
                planner.take_next_action(ctx);
            }
        }));
    }

    /// Sends a request to the server, beside whatever else is under way.
    pub(super) fn spawn_request(
        &mut self,
        request: impl Future<Output = Completion> + 'static,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(request.into_actor(self).map(|completion, planner, ctx| {
            planner.complete_action(completion, ctx);
            planner.take_next_action(ctx);
        }));
    }

    fn complete_action(&mut self, completion: Completion, ctx: &mut Context<Self>) {
        match completion {
            Completion::Claimed(None) => {}
            // Meanwhile an outcome query found out what became of it.
            Completion::Dispatched(id, Some(_)) if self.under_way.awaits_settlement(id) => {}
            Completion::Claimed(Some(batch)) | Completion::Dispatched(_, Some(batch)) => {
                self.upload_batch(batch, ctx);
            }
            Completion::Dispatched(id, None) => self.scheduler.forget_batch(id),
            Completion::Uploaded(batch, Some(result)) => self.on_response(&batch, &result),
            Completion::Uploaded(batch, None) => self.defer_send(batch.open.id),
            Completion::OutcomeReplied(id, outcome) => self.on_outcome_reply(id, &outcome),
            Completion::CanaryReplied(id, verdict) => self.on_canary_reply(id, verdict.as_ref()),
            Completion::Settled(id, report, summary) => self.on_settled(id, report, summary, ctx),
            Completion::PauseEnded => tracing::info!("resumed: the time of the pause is over"),
            Completion::FinalStateSaved => self.drain = DrainStage::FinalStateSaved,
        }
    }

    /// How long the pause still lasts; none if it has no end, or sending is not paused.
    fn rest_of_pause(&mut self) -> Option<Duration> {
        let (pause, now) = (self.inputs.backlog.borrow().pause, self.inputs.steady.now());
        self.pause_timer = PauseTimer::follow(self.pause_timer, pause, now);
        self.pause_timer.map(|timer| timer.rest(now))
    }

    fn wait_for_change(
        &mut self,
        phase: Phase,
        until: Option<Duration>,
        cause: Option<WaitCause>,
        rest_of_pause: Option<Duration>,
        ctx: &mut Context<Self>,
    ) {
        let wait = until.map(|until| until.saturating_sub(self.inputs.clock.now()));
        let announced_wait = match phase {
            Phase::Paused => rest_of_pause,
            // While responses are awaited, people wait for them and not for a time.
            Phase::Syncing => None,
            _ => wait,
        };
        if self.under_way.is_only_asking() {
            // The reply to a query, or to a canary, shows in a moment what a denial or a failure is about.
            self.announce_batches();
        } else {
            self.announced.phase = phase;
            self.announced.wait_cause = cause;
            self.announced.until = announced_wait.map(|wait| wall_ms().saturating_add(millis(wait)));
            self.announce_state();
        }
        let wait = wait.into_iter().chain(rest_of_pause).min();
        self.timer = wait.map(|wait| ctx.notify_later(Wake::Changed, wait));
    }

    /// Once nothing is under way any more, saves what was learned, where the disk allows it, and reports that.
    fn finish_drain(&mut self, ctx: &mut Context<Self>) {
        if !self.under_way.is_idle() {
            return;
        }
        let is_disk_ok = self.inputs.backlog.borrow().storage.disk == DiskState::Ok;
        if self.drain == DrainStage::Draining && is_disk_ok {
            let note = self.learned_note();
            let saving = self.apply(note);
            return self
                .spawn_store_action(saving.map(|saved| saved.map(|()| Completion::FinalStateSaved)), ctx);
        }
        for waiter in self.drain_waiters.drain(..) {
            if waiter.send(()).is_err() {
                tracing::debug!("the sender of the drain request no longer waits for its end");
            }
        }
    }

    pub(super) fn upload_batch(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        let id = batch.open.id;
        self.with_view(|scheduler, view| scheduler.start_send(view, &batch.open, load_of(&batch)));
        // A response that arrived during the commit may forbid what was chosen before it.
        if self.is_draining() || self.scheduler.restraints() != self.restraints_at_choice {
            let withdrawn = self.with_view(|scheduler, view| scheduler.withdraw_send(view, id));
            return self.settle_batch(id, withdrawn, None);
        }
        let in_flight = self.with_view(|scheduler, view| scheduler.in_flight(view));
        self.under_way.batch_sent(AwaitedBatch {
            announced: BatchInFlight {
                id,
                sequence: batch.sequence,
                records: batch.open.records,
                attempt: batch.open.attempt,
                sent_at: wall_ms(),
            },
            in_flight: in_flight.under_way,
            rule: in_flight.rule,
        });
        self.announced.phase = Phase::Syncing;
        self.announced.until = None;
        self.announced.wait_cause = None;
        self.announce_state();
        log_sending(&batch);
        let batch = Arc::new(batch);
        let sent = self.peers.breaker.send(Upload {
            batch: Arc::clone(&batch),
            response_deadline: self.scheduler.response_deadline(&self.inputs.config.borrow(), id),
            is_denied_alone: self.scheduler.is_denied_alone(id),
            new_connection: self.scheduler.needs_new_connection(id),
        });
        let uploading = sent.map(|result| Completion::Uploaded(batch, result.ok().and_then(Result::ok)));
        self.spawn_request(uploading, ctx);
    }

    fn defer_send(&mut self, id: BatchId) {
        self.under_way.batch_ended(id);
        let deferred = self.with_view(|scheduler, view| scheduler.defer_send(view, id));
        self.settle_batch(id, deferred, None);
    }

    fn on_response(&mut self, batch: &Batch, result: &UploadResult) {
        let id = batch.open.id;
        let sent = self.under_way.batch_ended(id);
        // The scheduler may forget the batch with its response.
        let expected = self.scheduler.expected_duration(id);
        let time_limit = self.scheduler.time_limit(&self.inputs.config.borrow());
        let disposition = self.with_view(|scheduler, view| scheduler.on_response(view, id, result));
        if let Verdict::Completed(results) = &result.verdict {
            self.note_success(result.error.at);
            self.remember_canary(batch, results);
            self.note_retry_reason(&disposition);
        } else {
            self.announced.outage_since.get_or_insert(result.error.at);
            self.announced.last_error = Some(result.error.clone());
        }
        let report = batch_report(batch, sent.as_ref(), result, &disposition, expected, time_limit);
        let link_age = self.link_changed_at.map(|at| self.inputs.clock.now().saturating_sub(at));
        let network = Network { link_age, ..result.network };
        let report = SendReport { report, types: types_of(batch), network };
        self.settle_batch(id, disposition, Some(report));
    }

    /// The server confirmed records.
    fn note_success(&mut self, at: u64) {
        self.announced.last_success_at = Some(at);
        self.announced.outage_since = None;
    }

    /// People see in the status why the server does not take records, although it responds.
    fn note_retry_reason(&mut self, disposition: &Disposition) {
        if let Some(error) = disposition.retry_reason() {
            self.announced.last_error = Some(error.clone());
        }
    }

    fn query_outcome(&mut self, id: BatchId, ctx: &mut Context<Self>) {
        self.under_way.is_querying = true;
        self.scheduler.start_query(self.inputs.clock.now());
        let querying = self.peers.breaker.send(QueryOutcome(id)).map(move |outcome| {
            let outcome = outcome.unwrap_or_else(|_| QueriedOutcome::unreachable());
            Completion::OutcomeReplied(id, outcome)
        });
        self.spawn_request(querying, ctx);
    }

    fn on_outcome_reply(&mut self, id: BatchId, outcome: &QueriedOutcome) {
        self.under_way.is_querying = false;
        let QueriedOutcome { reply, shows_held_keys } = outcome;
        send_event(&self.peers.telemetry, Event::OutcomeQueried { reply: reply.class() });
        if *shows_held_keys {
            self.scheduler.note_held_keys();
        }
        if matches!(reply, OutcomeReply::Completed(_)) {
            self.note_success(wall_ms());
        }
        let disposition = self.with_view(|scheduler, view| scheduler.on_outcome_reply(view, id, reply));
        log_outcome_reply(id, reply, disposition.as_ref());
        if let Some(disposition) = disposition {
            self.note_retry_reason(&disposition);
            self.settle_batch(id, disposition, None);
        }
    }
}
