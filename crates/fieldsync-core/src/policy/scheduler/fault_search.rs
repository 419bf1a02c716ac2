//! The search for a faulty record: what failed lately, and the parts of the batches that were cut.
//!
//! A batch that failed is cut, its parts form a group, and their results show which record is faulty. Whether a failure
//! counts depends on what others did at the time, so the search also keeps a log of the sends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tracked_batch::{RenamedBatch, TrackedBatch};
use crate::model::{BatchId, OpenBatch, Stage};
use crate::policy::evidence::{self, SendLog};
use crate::policy::isolation::Glitches;
use crate::policy::verdict::Ambiguity;

/// The search down to one record takes fewer consecutive refusals; with more, the server refuses every batch.
const SEARCH_REFUSALS_MAX: u32 = 8;

/// What failed since records of others were last stored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum RecentFailures {
    #[default]
    None,
    /// One batch.
    One(BatchId),
    /// Each may have a faulty record, or the server fails.
    Several,
}

/// What the parts of a batch that was cut begin with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SplitOrigin {
    /// Batches that failed on the way to these parts.
    pub(super) ancestors: u32,
    /// The batch was surely not too large: a record in it is at fault, or it failed by a glitch.
    pub(super) was_fitting: bool,
    /// Denials that each part begins with.
    pub(super) denials: u32,
    /// When the rest of a batch that was denied may be sent, after one record was carved from it.
    pub(super) rest_due: Option<Duration>,
}

/// The parts of a batch that was cut.
#[derive(Debug)]
struct SplitGroup {
    origin: SplitOrigin,
    /// Parts that are open.
    open: usize,
    /// A part failed as well.
    has_failed: bool,
}

/// The search for a faulty record.
#[derive(Debug, Default)]
pub(super) struct FaultSearch {
    pub(super) log: SendLog,
    failures: RecentFailures,
    last_success: Option<Duration>,
    /// A success of others would show whether a failure counts.
    is_canary_wanted: bool,
    /// Refused requests without a stored record in between.
    refusals: u32,
    /// The parts of batches that were cut, by the id of the batch.
    groups: BTreeMap<BatchId, SplitGroup>,
    /// The batch that is to continue under a new id.
    renamed: Option<RenamedBatch>,
}

impl FaultSearch {
    /// A batch is about to be sent.
    pub(super) fn batch_sending(&mut self, now: Duration, batch: &OpenBatch) {
        self.log.start_send(now, batch.id, self.failing_parent(batch.parent));
    }

    /// A batch failed, a part of `parent`.
    pub(super) fn batch_failed(&mut self, now: Duration, id: BatchId, parent: Option<BatchId>) {
        self.log.record_failure(now, id);
        let parent = self.failing_parent(parent);
        self.failures = match self.failures {
            RecentFailures::None => RecentFailures::One(id),
            // A part of it fails for the same reason.
            RecentFailures::One(other) if other == id || Some(other) == parent => RecentFailures::One(id),
            RecentFailures::One(_) | RecentFailures::Several => RecentFailures::Several,
        };
    }

    /// The batch that a part was cut from, if both fail for the same reason. A record that was carved from a batch
    /// shows whether the server denies another as well.
    fn failing_parent(&self, parent: Option<BatchId>) -> Option<BatchId> {
        let is_carved =
            |parent: &BatchId| self.groups.get(parent).is_some_and(|group| group.origin.rest_due.is_some());
        parent.filter(|parent| !is_carved(parent))
    }

    /// The server refused a request as such. Returns whether it seems to refuse every batch.
    pub(super) fn request_refused(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals > SEARCH_REFUSALS_MAX
    }

    /// The server stored records.
    pub(super) fn records_stored(&mut self, now: Duration) {
        self.last_success = Some(now);
        self.refusals = 0;
        self.is_canary_wanted = false;
        self.failures = RecentFailures::None;
    }

    /// Results from another server do not count for this one.
    pub(super) fn server_switched(&mut self) {
        (self.last_success, self.failures) = (None, RecentFailures::None);
        self.log = SendLog::default();
    }

    /// A success of others would show whether a failure counts.
    pub(super) fn want_canary(&mut self) {
        self.is_canary_wanted = true;
    }

    /// Whether a success of others would show whether a failure counts.
    pub(super) fn is_canary_wanted(&self) -> bool {
        self.is_canary_wanted
    }

    /// Whether exactly one batch failed since records were last stored.
    pub(super) fn has_one_failed(&self) -> bool {
        matches!(self.failures, RecentFailures::One(_))
    }

    /// Whether this batch alone failed since records were last stored.
    pub(super) fn has_only_failed(&self, id: BatchId) -> bool {
        self.failures == RecentFailures::One(id)
    }

    /// Whether several batches failed since records were last stored.
    pub(super) fn have_several_failed(&self) -> bool {
        self.failures == RecentFailures::Several
    }

    /// Whether a record was stored recently.
    pub(super) fn is_success_near(&self, now: Duration) -> bool {
        self.last_success.is_some_and(|then| evidence::is_within_window(then, now))
    }

    /// Whether parts of a batch are open.
    pub(super) fn is_active(&self) -> bool {
        !self.groups.is_empty()
    }

    /// A batch is cut: its parts form a group.
    pub(super) fn open_group(&mut self, id: BatchId, origin: SplitOrigin) {
        self.groups.insert(id, SplitGroup { origin, open: 0, has_failed: false });
    }

    /// A batch was opened: perhaps as a part of one that was cut, or of one that continues under a new id.
    pub(super) fn batch_opened(&mut self, now: Duration, tracked: &mut TrackedBatch) {
        let parent = tracked.batch.parent;
        if let Some(before) = self.renamed.take_if(|renamed| parent == Some(renamed.from)) {
            tracked.continue_renamed(before);
        }
        if let Some(group) = parent.and_then(|parent| self.groups.get_mut(&parent)) {
            group.open += 1;
            tracked.continue_part(group.origin.ancestors, group.origin.denials);
            if let Some(rest_due) = group.origin.rest_due
                && tracked.batch.records > 1
            {
                tracked.send_at(rest_due.max(now));
            }
        }
    }

    /// A batch is no longer open: it succeeded, or it continues as other batches.
    pub(super) fn batch_closed(
        &mut self,
        tracked: &TrackedBatch,
        got_through: bool,
        glitches: &mut Glitches,
    ) {
        // It failed, and got through when it was tried again.
        let is_resent = tracked.sends > 1 && tracked.has_failed() && tracked.batch.stage == Stage::Fresh;
        if got_through && (tracked.has_lone_failure() || is_resent) {
            glitches.record_faultless_failure();
        }
        let Some(parent) = tracked.batch.parent else { return };
        let Some(group) = self.groups.get_mut(&parent) else { return };
        group.open = group.open.saturating_sub(1);
        group.has_failed |= !got_through;
        if group.open > 0 {
            return;
        }
        if !group.has_failed && group.origin.was_fitting {
            glitches.record_faultless_failure();
        }
        self.groups.remove(&parent);
    }

    /// A part failed, and stays open.
    pub(super) fn part_failed(&mut self, batch: &OpenBatch) {
        if let Some(group) = batch.parent.and_then(|parent| self.groups.get_mut(&parent)) {
            group.has_failed = true;
        }
    }

    /// A batch is closed, and continues under a new id.
    pub(super) fn batch_renamed(&mut self, tracked: TrackedBatch, due: Duration) {
        self.renamed = Some(tracked.rename(due));
    }
}

/// Whether the failure may be about the batch. A lost connection speaks of the link, and only the second time of the
/// batch; a link that is too slow speaks of the size of a batch, and of no record.
pub(super) fn implicates_batch(batch: &OpenBatch, ambiguity: Ambiguity) -> bool {
    match ambiguity {
        Ambiguity::TimedOut | Ambiguity::ServerError => true,
        Ambiguity::ConnectionLost => batch.attempt > 1,
        Ambiguity::LinkTooSlow => batch.records > 1,
    }
}
