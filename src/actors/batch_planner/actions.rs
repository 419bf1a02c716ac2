//! Carries out the actions that the scheduler chooses, one at a time, and handles their results.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;

use super::completion::{Completion, SendReport};
use super::pause::PauseTimer;
use super::report::{batch_report, load_of, log_outcome_reply, log_sending, types_of};
use super::{BatchPlanner, DrainStage, PlannerActivity, Wake};
use crate::actors::{QueryOutcome, Upload};
use crate::api::BatchInFlight;
use crate::clock::{millis, wall_ms};
use crate::model::{Batch, BatchId, DiskState, Phase, WaitCause};
use crate::policy::outcome_reply::{OutcomeReply, QueriedOutcome};
use crate::policy::scheduler::{Action, Disposition};
use crate::policy::verdict::{UploadResult, Verdict};
use crate::store::{Claim, Dispatch, SetPaused};

impl BatchPlanner {
    /// Starts the next action, unless one is under way.
    pub(super) fn take_next_action(&mut self, ctx: &mut Context<Self>) {
        let PlannerActivity::Waiting(timer) = &mut self.activity else { return };
        if let Some(timer) = timer.take() {
            ctx.cancel_future(timer);
        }
        if self.is_draining() {
            return self.finish_drain(ctx);
        }
        // Not before the response to what was sent with the old ones: it would stop the run after all.
        if self.inputs.credentials.has_changed().is_ok_and(|changed| changed) {
            self.inputs.credentials.mark_unchanged();
            self.scheduler.credentials_renewed(self.inputs.clock.now());
        }
        let rest_of_pause = self.rest_of_pause();
        if rest_of_pause.is_some_and(|rest| rest.is_zero()) {
            let resuming = self.apply(SetPaused(None));
            return self.spawn_action(resuming.map(|done| done.map(|()| Completion::PauseEnded)), ctx);
        }
        self.track_progress();
        match self.with_view(|scheduler, view| scheduler.next_action(view)) {
            Action::Rest { phase, until, cause } => {
                let paused_until = rest_of_pause.map(|rest| self.inputs.clock.now() + rest);
                let until = if phase == Phase::Paused { paused_until } else { until };
                self.wait_for_change(phase, until, cause, ctx);
            }
            Action::Claim(order) => {
                let claiming = self.apply(Claim::new(order));
                self.spawn_action(claiming.map(|claimed| claimed.map(Completion::Claimed)), ctx);
            }
            Action::Send(batch, sequence) => {
                let one_per_key = self.scheduler.sends_one_per_key();
                let dispatching = self.apply(Dispatch { batch, sequence, one_per_key });
                let completion = move |dispatched| Completion::Dispatched(batch, dispatched);
                self.spawn_action(dispatching.map(move |dispatched| dispatched.map(completion)), ctx);
            }
            Action::QueryOutcome(batch) => self.query_outcome(batch, ctx),
            Action::SendCanary(sequence) => self.send_canary(sequence, ctx),
            Action::Divide(batch) => {
                let disposition = self.with_view(|scheduler, view| scheduler.divide_batch(view, batch));
                self.settle_batch(batch, disposition, None, ctx);
            }
            Action::Quarantine(batch) => {
                let disposition =
                    self.with_view(|scheduler, view| scheduler.quarantine_isolated(view, batch));
                self.settle_batch(batch, disposition, None, ctx);
            }
        }
    }

    /// Runs an action. With none as its result, the store has failed: the process is about to end, and nothing is done
    /// any more.
    pub(super) fn spawn_action(
        &mut self,
        action: impl Future<Output = Option<Completion>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        self.activity = PlannerActivity::Acting;
        ctx.spawn(action.into_actor(self).map(|completion, planner, ctx| {
            if let Some(completion) = completion {
                planner.activity = PlannerActivity::Waiting(None);
                planner.complete_action(completion, ctx);
                planner.take_next_action(ctx);
            }
        }));
    }

    fn complete_action(&mut self, completion: Completion, ctx: &mut Context<Self>) {
        match completion {
            Completion::Claimed(Some(batch)) | Completion::Dispatched(_, Some(batch)) => {
                self.upload_batch(batch, ctx);
            }
            Completion::Claimed(None) => {}
            Completion::Dispatched(id, None) => self.scheduler.forget_batch(id),
            Completion::Uploaded(batch, Some(result)) => self.on_response(&batch, &result, ctx),
            Completion::Uploaded(batch, None) => self.defer_send(batch.open.id, ctx),
            Completion::OutcomeReplied(id, outcome) => self.on_outcome_reply(id, &outcome, ctx),
            Completion::CanaryReplied(id, verdict) => {
                if let Some(verdict) = verdict {
                    self.with_view(|scheduler, view| scheduler.on_canary_response(view, id, &verdict));
                }
            }
            Completion::Settled(settlement, summary) => self.on_settled(*settlement, summary, ctx),
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
        ctx: &mut Context<Self>,
    ) {
        let wait = until.map(|until| until.saturating_sub(self.inputs.clock.now()));
        (self.announced.batch, self.announced.batch_sent_at) = (None, None);
        self.announced.phase = phase;
        self.announced.wait_cause = cause;
        self.announced.until = wait.map(|wait| wall_ms().saturating_add(millis(wait)));
        self.announce_state();
        self.activity = PlannerActivity::Waiting(wait.map(|wait| ctx.notify_later(Wake::Changed, wait)));
    }

    /// Saves what was learned, where the disk allows it, and reports that no action is under way any more.
    fn finish_drain(&mut self, ctx: &mut Context<Self>) {
        let is_disk_ok = self.inputs.backlog.borrow().storage.disk == DiskState::Ok;
        if self.drain == DrainStage::Draining && is_disk_ok {
            let note = self.learned_note();
            let saving = self.apply(note);
            return self.spawn_action(saving.map(|saved| saved.map(|()| Completion::FinalStateSaved)), ctx);
        }
        for waiter in self.drain_waiters.drain(..) {
            if waiter.send(()).is_err() {
                tracing::debug!("the sender of the drain request no longer waits for its end");
            }
        }
    }

    pub(super) fn upload_batch(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        let id = batch.open.id;
        self.scheduler.start_send(self.inputs.clock.now(), &batch.open, load_of(&batch));
        if self.is_draining() {
            return self.defer_send(id, ctx);
        }
        self.announced.phase = Phase::Syncing;
        self.announced.until = None;
        self.announced.wait_cause = None;
        self.announced.batch = Some(BatchInFlight {
            id,
            sequence: batch.sequence,
            records: batch.open.records,
            attempt: batch.open.attempt,
        });
        self.announced.batch_sent_at = Some(wall_ms());
        self.announce_state();
        log_sending(&batch);
        let batch = Arc::new(batch);
        let sent = self.peers.breaker.send(Upload {
            batch: Arc::clone(&batch),
            response_deadline: self.scheduler.response_deadline(&self.inputs.config.borrow(), id),
            is_denied_alone: self.scheduler.is_denied_alone(id),
        });
        let uploading =
            sent.map(|result| Some(Completion::Uploaded(batch, result.ok().and_then(Result::ok))));
        self.spawn_action(uploading, ctx);
    }

    fn defer_send(&mut self, id: BatchId, ctx: &mut Context<Self>) {
        let deferred = self.with_view(|scheduler, view| scheduler.defer_send(view, id));
        self.settle_batch(id, deferred, None, ctx);
    }

    fn on_response(&mut self, batch: &Batch, result: &UploadResult, ctx: &mut Context<Self>) {
        let id = batch.open.id;
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
        let report = SendReport {
            report: batch_report(batch, result, &disposition, expected, time_limit),
            types: types_of(batch),
            network: result.network,
        };
        self.settle_batch(id, disposition, Some(report), ctx);
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
        let querying = self.peers.breaker.send(QueryOutcome(id)).map(move |outcome| {
            let outcome = outcome.unwrap_or_else(|_| QueriedOutcome::unreachable());
            Some(Completion::OutcomeReplied(id, outcome))
        });
        self.spawn_action(querying, ctx);
    }

    fn on_outcome_reply(&mut self, id: BatchId, outcome: &QueriedOutcome, ctx: &mut Context<Self>) {
        let QueriedOutcome { reply, shows_held_keys } = outcome;
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
            self.settle_batch(id, disposition, None, ctx);
        }
    }
}
