//! How a batch continues after a denial, of it alone or of all batches.

use super::denials::{FREE_DENIALS, OtherTraffic};
use super::fault_search::SplitOrigin;
use super::tracked_batch::{NextStep, TrackedBatch};
use super::{Disposition, Scheduler, View};
use crate::model::{BatchId, DeniedSet, OpenBatch, Stage};
use crate::policy::backoff;
use crate::policy::isolation::Cut;
use crate::policy::verdict::UploadResult;

/// If this many batches are denied, it is not by chance: every batch is.
const DENIED_BATCHES_OF_ALL: usize = 3;
/// Denied batches that a status names.
const DENIED_SETS_MAX: usize = 10;
/// Batches of one record that are carved from larger ones to see whether every batch is denied.
const CARVED_RECORDS_MAX: usize = 50;

impl Scheduler {
    /// Batches that are denied while others get through, for people.
    pub fn denied_sets(&self) -> Vec<DeniedSet> {
        let alone = self.open.iter().filter(|tracked| tracked.denials.is_denied_alone());
        let named = alone.filter_map(|tracked| {
            let OpenBatch { id, records, .. } = tracked.batch;
            let error = tracked.denials.error()?.clone();
            Some(DeniedSet { batch_id: id, records, denials: tracked.denials.count(), error })
        });
        named.take(DENIED_SETS_MAX).collect()
    }

    /// Whether a batch is known to be denied alone: then its denial says nothing about the link.
    pub fn is_denied_alone(&self, id: BatchId) -> bool {
        self.open.get(id).is_some_and(|tracked| tracked.denials.is_denied_alone())
    }

    /// No record was stored since several batches were denied, and outcome queries show no change.
    pub(super) fn is_everyone_denied(&self) -> bool {
        self.are_several_denied() && !self.server.has_recovered()
    }

    /// No record was stored since several batches were denied, or since two were, one of them the canary.
    pub(super) fn are_several_denied(&self) -> bool {
        let denied = self.open.iter().filter(|tracked| tracked.denials.is_unexplained()).count();
        let is_enough = self.server.has_canary_failed() || denied >= DENIED_BATCHES_OF_ALL;
        self.search.have_several_failed() && is_enough
    }

    /// A batch was denied.
    pub(super) fn on_denial(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        result: &UploadResult,
    ) -> Disposition {
        let (now, id) = (view.now, batch.id);
        self.record_failure(now, id);
        let Some(tracked) = self.open.get_mut(id) else { return Disposition::keep_waiting(0) };
        let (denial, sent_at) = (tracked.denials.add(&result.error), tracked.sent_at);
        if denial.is_beyond_free() && denial.others == OtherTraffic::Stored {
            return self.bisect_refused(view, batch, false, result);
        }
        self.server.batch_denied();
        let may_query = self.server.may_query(view.config);
        self.waits.back_off(view, sent_at, &result.verdict, may_query, &mut self.rng);
        // If the server itself says when to come back, nothing else is sent until then.
        if !self.waits.is_server_asked() {
            self.search.want_canary();
        }
        let is_alone = denial.others == OtherTraffic::Answered && self.search.has_only_failed(id);
        if denial.is_beyond_free() && is_alone && batch.records > 1 {
            // No other batch is there to be sent, so no record may be blamed: its parts will show.
            self.waits.end_wait();
            if let Some(cut) = self.next_cut(view, batch) {
                return self.cut_batch(view, id, cut, None);
            }
        }
        if denial.is_beyond_free() && batch.records == 1 {
            // Evidence, if others get through around it.
            if let Some(tracked) = self.open.get_mut(id) {
                tracked.refuse_alone(now, &self.search.log, &result.error);
            }
        }
        let retry = &view.config.retry;
        let due = if denial.is_beyond_free() {
            now + retry.max_backoff.0
        } else {
            now + backoff::backoff_delay(
                retry.initial_backoff.0,
                retry.max_backoff.0,
                denial.count,
                &mut self.rng,
            )
        };
        self.open.set_step(id, NextStep::Send { due });
        Disposition::keep_waiting(self.open.lone_failures(id))
    }

    /// Records of others were stored: what was denied may be tried again soon.
    pub(super) fn release_denied(&mut self, view: &View<'_>) {
        self.open.note_traffic(None, OtherTraffic::Stored);
        let retry = &view.config.retry;
        for tracked in self.open.iter_mut().filter(|tracked| tracked.denials.is_denied()) {
            let count = tracked.denials.count().saturating_sub(FREE_DENIALS);
            let wait =
                backoff::backoff_delay(retry.initial_backoff.0, retry.max_backoff.0, count, &mut self.rng);
            tracked.send_by(view.now + wait);
        }
    }

    /// Cuts one record from a batch, to be sent alone: the first, which no other of the batch blocks by its key.
    pub(super) fn carve_record(&mut self, view: &View<'_>, tracked: &TrackedBatch) -> Disposition {
        let OpenBatch { id, records, stage, .. } = tracked.batch;
        let origin = SplitOrigin {
            ancestors: tracked.ancestors,
            denials: tracked.denials.count(),
            rest_due: Some(view.now + view.config.retry.max_backoff.0),
            ..SplitOrigin::default()
        };
        self.search.open_group(id, origin);
        self.close_batch(id, false);
        let cut = Cut { parts: vec![1, records - 1], stage: stage.max(Stage::Half) };
        Disposition::Cut { cut, error: None }
    }

    /// Whether one more record may be carved from a batch to see whether every batch is denied.
    pub(super) fn may_carve(&self) -> bool {
        let is_single = |tracked: &&TrackedBatch| tracked.denials.is_denied() && tracked.batch.records == 1;
        self.open.iter().filter(is_single).count() < CARVED_RECORDS_MAX
    }
}
