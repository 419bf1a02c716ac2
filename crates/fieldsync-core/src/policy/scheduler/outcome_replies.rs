//! How a batch with an unknown outcome continues: it is queried until the server's own limit has surely passed. A
//! server without outcome queries is treated as if it did not have the batch: it knows records that it has by their
//! ids.

use std::time::Duration;

use super::denials::OtherTraffic;
use super::fault_search::implicates_batch;
use super::query_timing::query_wait;
use super::tracked_batch::{NextStep, PendingQuery};
use super::{Disposition, Scheduler, View};
use crate::model::{BatchId, OpenBatch};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::service_time::Measured;
use crate::policy::verdict::{Ambiguity, UploadResult};

/// Queries that may fail to reach the server, before the batch is sent again instead.
const UNREACHABLE_QUERIES_MAX: usize = 3;
/// After this many sends without a usable reply, a batch is treated as if the server had no outcome queries.
const SENDS_WITHOUT_REPLY_MAX: u32 = 3;

impl Scheduler {
    /// The outcome of a batch is unknown.
    pub(super) fn await_outcome(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        ambiguity: Ambiguity,
        result: &UploadResult,
    ) -> Disposition {
        let (now, id) = (view.now, batch.id);
        if let Some(tracked) = self.open.get_mut(id) {
            tracked.become_unclear(now, result.elapsed);
        }
        let error = Some(result.error.clone());
        if !self.server.may_query(view.config) {
            return self.bisect_missing(view, batch, ambiguity, error);
        }
        let due = now + query_wait(view.config, 0);
        let since = now.saturating_sub(result.elapsed);
        if let Some(tracked) = self.open.get_mut(id) {
            if implicates_batch(batch, ambiguity) && batch.records == 1 {
                tracked.record_unconfirmed_failure(now, &self.search.log);
            }
            tracked.step = NextStep::Query(PendingQuery { due, tries: 0, since, ambiguity });
        }
        Disposition::keep_unclear(error, self.open.lone_failures(id))
    }

    /// The reply to an outcome query shows that the server holds keys. A reply that does not show it changes nothing,
    /// because a server may show it in responses to batches alone.
    pub fn note_held_keys(&mut self) {
        self.learned.holds_keys = true;
    }

    /// An outcome query got a reply, or failed. None: it is asked again later, or it was asked only to see whether the
    /// server responds.
    pub fn on_outcome_reply(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        reply: &OutcomeReply,
    ) -> Option<Disposition> {
        let asked_at = self.under_way.end_query().unwrap_or(view.now);
        self.learn_from_reply(view, asked_at, reply);
        let disposition = self.continue_by_reply(view, id, asked_at, reply);
        self.count_under_way(view.now);
        self.review_evidence(view.now);
        disposition
    }

    fn continue_by_reply(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        asked_at: Duration,
        reply: &OutcomeReply,
    ) -> Option<Disposition> {
        let tracked = self.open.get(id)?;
        let query = match tracked.step {
            NextStep::Query(query) => query,
            NextStep::Send { .. } => {
                let OutcomeReply::Completed(results) = reply else { return None };
                return Some(self.close_completed(view, id, asked_at, results, view.wall_ms));
            }
            NextStep::InFlight => return None,
        };
        let batch = tracked.batch.clone();
        let (lone_failures, sends) = (tracked.lone_failures(), tracked.sends);
        match reply {
            OutcomeReply::Completed(results) => {
                let is_fitting = tracked.fits_time_limit(&self.learned.service, self.time_limit(view.config));
                self.learn_when_done(view, &batch, &query);
                // It was done all the time, and small enough: the failure had no cause in the batch.
                if query.tries == 0 && is_fitting {
                    self.learned.glitches.record_faultless_failure();
                }
                Some(self.close_completed(view, id, asked_at, results, view.wall_ms))
            }
            OutcomeReply::Processing { retry_after } => {
                if self.is_overdue(view, query.since) {
                    return Some(self.bisect_overdue(view, &batch, query.ambiguity));
                }
                let wait = retry_after.unwrap_or_default().max(query_wait(view.config, query.tries + 1));
                // Even if the server asks for a longer wait, the wait for the batch ends at its limit.
                let wait = wait.min(self.processing_limit(view.config));
                self.query_again(id, query, view.now + wait);
                None
            }
            // The server said that it is processing the batch: sending it again shows as much as a query.
            OutcomeReply::Unsupported if tracked.is_processing => {
                let due = view.now + query_wait(view.config, query.tries);
                self.open.set_step(id, NextStep::Send { due });
                Some(Disposition::keep_unclear(None, lone_failures))
            }
            OutcomeReply::UnknownBatch | OutcomeReply::Unsupported => {
                Some(self.bisect_missing(view, &batch, query.ambiguity, None))
            }
            // The link was down, or is: the outcome can still be had.
            OutcomeReply::Throttled | OutcomeReply::Unreachable if query.tries < UNREACHABLE_QUERIES_MAX => {
                self.query_again(id, query, view.now);
                None
            }
            // Perhaps permanently: one faulty record must not hold up the others of its batch.
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable
                if sends >= SENDS_WITHOUT_REPLY_MAX =>
            {
                Some(self.bisect_missing(view, &batch, query.ambiguity, None))
            }
            // The same id again is safe: the server has promised to know it.
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                Some(self.send_again(view.now, id, lone_failures))
            }
        }
    }

    fn query_again(&mut self, id: BatchId, query: PendingQuery, due: Duration) {
        self.open.set_step(id, NextStep::Query(PendingQuery { due, tries: query.tries + 1, ..query }));
    }

    fn learn_from_reply(&mut self, view: &View<'_>, asked_at: Duration, reply: &OutcomeReply) {
        self.server.query_ended(reply);
        match reply {
            OutcomeReply::Unsupported => {}
            OutcomeReply::Completed(_) | OutcomeReply::Processing { .. } | OutcomeReply::UnknownBatch => {
                // If several batches are denied, a successful query says nothing about batches.
                self.waits.query_answered(asked_at, !self.search.have_several_failed());
                self.open.note_traffic(None, OtherTraffic::Answered);
            }
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                self.waits.query_failed(view, asked_at, self.server.is_in_question(), &mut self.rng);
            }
        }
    }

    /// It was done between the query before, when the server was processing it, and this one; no query saw when. What
    /// was done before the first query may have been done long ago.
    fn learn_when_done(&mut self, view: &View<'_>, batch: &OpenBatch, query: &PendingQuery) {
        let Some(tracked) = self.open.get(batch.id) else { return };
        if batch.attempt != 1 || query.tries == 0 || tracked.load.records() == 0 {
            return;
        }
        let limit = self.time_limit(view.config);
        let before = view.now.saturating_sub(query.since);
        let after = before.saturating_sub(query_wait(view.config, query.tries));
        let after = after.max(tracked.failed_after).min(before);
        let half = before.saturating_sub(after) / 2;
        let under_way = self.average_under_way(view.now, tracked);
        let measured = Measured { elapsed: after + half, inexact: half, under_way };
        self.learned.service_mut().record_completion(&tracked.load, measured, limit);
    }

    /// Whether the outcome of a batch has been unknown since then for longer than the server can be processing it.
    pub(super) fn is_overdue(&self, view: &View<'_>, since: Duration) -> bool {
        view.now.saturating_sub(since) >= self.processing_limit(view.config)
    }
}
