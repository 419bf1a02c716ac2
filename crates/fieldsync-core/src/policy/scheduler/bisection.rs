//! How a batch that failed is cut, down to the single record, and when that record counts as failed.

use std::time::Duration;

use super::denials::FREE_DENIALS;
use super::fault_search::{SplitOrigin, implicates_batch};
use super::tracked_batch::{NextStep, SENDS_AS_PROBE_MAX, TrackedBatch};
use super::{Disposition, Outcome, Scheduler, View};
use crate::model::{BatchId, LastError, OpenBatch, Stage};
use crate::policy::backoff;
use crate::policy::breaker::Mode;
use crate::policy::isolation::{self, Cut, SearchCosts};
use crate::policy::verdict::{Ambiguity, UploadResult, Verdict};

/// A part that succeeds costs at least this share of the time limit.
const PASS_COST_SHARE_MIN: f64 = 1e-3;
/// A batch is sent once more where more than this share of failures had no cause in the batch.
const RESEND_GLITCH_SHARE: f64 = 0.6;

impl Scheduler {
    /// The evidence against the one record of a batch is complete: it is quarantined, with its error for the manifest.
    pub fn quarantine_isolated(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let tracked = self.close_batch(id, false);
        self.learned.glitches.record_faulty_record();
        let is_too_large = |refusal: &LastError| refusal.class == Verdict::TooLarge.class();
        if let Some(tracked) =
            tracked.as_ref().filter(|tracked| tracked.refusal.as_ref().is_some_and(is_too_large))
        {
            self.learned.bytes.record_faulty_record(tracked.batch.bytes);
        }
        let times = tracked.as_ref().map_or(0, TrackedBatch::lone_failures);
        let refusal = tracked.and_then(|tracked| tracked.refusal);
        let error = refusal.unwrap_or_else(|| LastError {
            class: "isolated".into(),
            http_status: None,
            code: Some("FAILED_ALONE".into()),
            message: format!("failed alone {times} times while other records got through around it"),
            field: None,
            at: view.wall_ms,
        });
        Disposition::close_all(Outcome::Quarantine(error))
    }

    /// A batch is cut although it did not fail.
    pub fn divide_batch(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let Some(tracked) = self.open.get(id) else {
            return Disposition::keep_waiting(0);
        };
        if tracked.needs_carving() {
            let tracked = tracked.clone();
            return self.carve_record(view, &tracked);
        }
        let OpenBatch { stage, records, .. } = tracked.batch;
        let cut = isolation::plan_cut(stage.max(Stage::Half), records, view.config.batch.micro_batch, None);
        let cut = cut.unwrap_or_else(|| isolation::cut_in_half(records.max(1)));
        self.cut_batch(view, id, cut, None)
    }

    /// Handles the response to a canary, or its absence.
    pub fn on_canary_response(&mut self, view: &View<'_>, id: BatchId, verdict: &Verdict) {
        let sent_at = self.under_way.end_canary().unwrap_or(view.now);
        match verdict {
            Verdict::Completed(results) if results.iter().any(|result| result.status.is_stored()) => {
                self.search.log.record_success(view.now, id);
                self.on_success(view, sent_at, results);
            }
            Verdict::Completed(_) | Verdict::Ambiguous(_) | Verdict::Refused(_) | Verdict::TooLarge => {
                self.server.canary_failed();
                self.record_failure(view.now, id);
            }
            other => {
                if other.is_denial() {
                    self.server.canary_failed();
                    self.record_failure(view.now, id);
                }
                let may_query = self.server.may_query(view.config);
                self.waits.back_off(view, sent_at, other, may_query, &mut self.rng);
            }
        }
        self.end_send(view.now, id);
    }

    /// Handles a batch that the server certainly does not have, or cannot look up.
    pub(super) fn bisect_missing(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        ambiguity: Ambiguity,
        error: Option<LastError>,
    ) -> Disposition {
        // In an outage a cut does not help; but a batch that fails probe after probe may be the outage.
        let sends = self.open.get(batch.id).map_or(0, |tracked| tracked.sends);
        let is_outage =
            matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) && sends < SENDS_AS_PROBE_MAX;
        let is_implicated = implicates_batch(batch, ambiguity);
        if is_implicated && !is_outage {
            if ambiguity == Ambiguity::TimedOut && self.should_resend(batch) {
                self.open.set_step(batch.id, NextStep::Send { due: view.now });
                return Disposition::keep_waiting_after(error, batch.lone_failures);
            }
            if let Some(cut) = self.next_cut(view, batch) {
                return self.cut_batch(view, batch.id, cut, error);
            }
        }
        self.resend_uncut(view, batch, is_implicated, error)
    }

    /// The server has been processing the batch for longer than it can: it will not come to an end. Under the old id,
    /// it would respond that it is still processing it.
    pub(super) fn bisect_overdue(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        ambiguity: Ambiguity,
    ) -> Disposition {
        if let Some(cut) = self.next_cut(view, batch) {
            return self.cut_batch(view, batch.id, cut, None);
        }
        let disposition = self.resend_uncut(view, batch, implicates_batch(batch, ambiguity), None);
        let tracked = self.open.get(batch.id);
        if tracked.is_some_and(TrackedBatch::awaits_success) || !self.search.is_success_near(view.now) {
            self.search.want_canary();
        }
        match tracked.map(|tracked| tracked.step) {
            Some(NextStep::Send { due }) => self.rename(batch.id, due),
            _ => disposition,
        }
    }

    /// The server refused the request as such, or denied the batch while others succeeded. `is_by_size`: its size can
    /// be the reason.
    pub(super) fn bisect_refused(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        is_by_size: bool,
        result: &UploadResult,
    ) -> Disposition {
        self.learned.glitches.record_send();
        if let Some(tracked) = self.open.get_mut(batch.id) {
            tracked.failed_after = result.elapsed;
        }
        if batch.records == 1 {
            return self.resend_refused(view, batch, result);
        }
        // An attempt counts only for a record that is too large alone.
        let error = Some(result.error.clone()).filter(|_| result.verdict != Verdict::TooLarge);
        if is_by_size {
            return self.cut_batch(view, batch.id, isolation::cut_in_half(batch.records), error);
        }
        if self.should_resend(batch) {
            self.open.set_step(batch.id, NextStep::Send { due: view.now });
            return Disposition::keep_waiting_after(error, batch.lone_failures);
        }
        let cut = self.next_cut(view, batch).unwrap_or_else(|| isolation::cut_in_half(batch.records));
        self.cut_batch(view, batch.id, cut, error)
    }

    /// A record that is refused alone is at fault, unless the server refuses every batch, or now and then any.
    fn resend_refused(&mut self, view: &View<'_>, batch: &OpenBatch, result: &UploadResult) -> Disposition {
        self.search.want_canary();
        if let Some(tracked) = self.open.get_mut(batch.id) {
            tracked.refuse_alone(view.now, &self.search.log, &result.error);
        }
        let due = view.now + self.attempt_backoff(view, batch);
        self.open.set_step(batch.id, NextStep::Send { due });
        self.search.part_failed(batch);
        Disposition::keep_waiting_after(Some(result.error.clone()), self.open.lone_failures(batch.id))
    }

    /// What failed is not cut any further, or not now: it is sent again.
    fn resend_uncut(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        is_implicated: bool,
        error: Option<LastError>,
    ) -> Disposition {
        let mut due = view.now;
        if is_implicated
            && batch.records == 1
            && let Some(tracked) = self.open.get_mut(batch.id)
            // After a failure that counts at once, the next test may follow at once.
            && !tracked.fail_alone(view.now, &self.search.log)
        {
            due += self.attempt_backoff(view, batch);
        }
        self.open.set_step(batch.id, NextStep::Send { due });
        if is_implicated {
            self.search.part_failed(batch);
        }
        Disposition::keep_waiting_after(error, self.open.lone_failures(batch.id))
    }

    fn attempt_backoff(&mut self, view: &View<'_>, batch: &OpenBatch) -> Duration {
        let retry = &view.config.retry;
        backoff::backoff_delay(retry.initial_backoff.0, retry.max_backoff.0, batch.attempt, &mut self.rng)
    }

    /// Whether to send the whole batch again instead of cutting it, because the cause of most recent failures was not
    /// in the batch.
    fn should_resend(&self, batch: &OpenBatch) -> bool {
        let is_first = self.open.get(batch.id).is_some_and(TrackedBatch::is_first_send);
        is_first && self.learned.glitches.faultless_share() > RESEND_GLITCH_SHARE
    }

    /// How a batch that failed is cut; none for a single record.
    pub(super) fn next_cut(&self, view: &View<'_>, batch: &OpenBatch) -> Option<Cut> {
        let costs = self.open.get(batch.id).and_then(|tracked| self.search_costs(view, tracked));
        isolation::plan_cut(batch.stage, batch.records, view.config.batch.micro_batch, costs)
    }

    /// What the search costs from here; none while the size may be at fault.
    fn search_costs(&self, view: &View<'_>, tracked: &TrackedBatch) -> Option<SearchCosts> {
        let (config, service) = (view.config, &self.learned.service);
        let limit = self.time_limit(config);
        if !config.batch.learn || !tracked.fits_time_limit(service, limit) {
            return None;
        }
        let micro = service.forecast_usual(config.batch.micro_batch as u64);
        let deadline = self.deadline_for(config, micro.upper).filter(|_| self.server.answers_queries());
        let elapsed = tracked.failed_after;
        let failure_seconds = deadline.map_or(elapsed, |deadline| deadline.min(elapsed)).as_secs_f64();
        let pass_seconds = service.start_up().max(PASS_COST_SHARE_MIN * limit.as_secs_f64());
        Some(SearchCosts { pass_seconds, failure_seconds })
    }

    /// A batch continues as its parts.
    pub(super) fn cut_batch(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        cut: Cut,
        error: Option<LastError>,
    ) -> Disposition {
        if let Some(tracked) = self.open.get(id) {
            let has_failed = tracked.batch.attempt > 0;
            let limit = self.time_limit(view.config);
            let origin = SplitOrigin {
                ancestors: tracked.ancestors + u32::from(has_failed),
                was_fitting: has_failed && tracked.fits_time_limit(&self.learned.service, limit),
                denials: tracked.denials.count().min(FREE_DENIALS),
                ..SplitOrigin::default()
            };
            self.search.open_group(id, origin);
            self.close_batch(id, false);
        }
        Disposition::Cut { cut, error }
    }
}
