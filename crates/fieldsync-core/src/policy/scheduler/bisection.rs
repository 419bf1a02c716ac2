//! The search for a record at fault: what failed is cut, the parts are a family, and what its members meet
//! tells whom to suspect.

use std::time::Duration;

use super::denials::{DENIALS_FOR_FREE, Denials};
use super::next_action::PROBES_OF_ONE;
use super::outcome_replies::is_suspect;
use super::responses::keep;
use super::{Disposition, Entry, Outcome, Scheduler, Sent, Step, View};
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Stage};
use crate::policy::backoff;
use crate::policy::breaker::Mode;
use crate::policy::isolation::{self, Cut, Prices};
use crate::policy::verdict::{Ambiguity, Verdict};

/// A part that gets through costs at least this share of the time limit.
const LEAST_PASS: f64 = 1e-3;
/// A batch is sent once more where more than this share of failures had no reason in the batch.
const AGAIN: f64 = 0.6;

/// What failed since others last got through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Failing {
    Nothing,
    /// One batch.
    One(BatchId),
    /// Each may have a record at fault, or it is the server.
    Several,
}

/// The parts of a batch that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Family {
    /// Batches that failed on the way to these parts.
    pub(super) ancestors: u32,
    /// Parts that are open.
    pub(super) open: usize,
    /// One of them failed as well.
    pub(super) failed: bool,
    /// The batch was surely not too large: a record in it is at fault, or it failed by a glitch.
    pub(super) fitted: bool,
    /// Denials that each of them begins with.
    pub(super) denials: u32,
    /// When what is left of a batch that was denied may be sent, after a record that was cut from it.
    pub(super) rest_due: Option<Duration>,
}

impl Scheduler {
    /// The store set the one record of a batch aside: its error, for the manifest.
    pub fn quarantine_isolated(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let entry = self.open.remove(&id);
        if let Some(entry) = &entry {
            self.left_family(entry, false);
        }
        self.learned.glitches.culprit();
        let too_large = |refusal: &LastError| refusal.class == Verdict::TooLarge.class();
        if let Some(entry) = entry.as_ref().filter(|entry| entry.refusal.as_ref().is_some_and(too_large)) {
            self.learned.bytes.explained(entry.batch.bytes);
        }
        let times = entry.as_ref().map_or(0, |entry| entry.evidence.counted);
        let error = entry.and_then(|entry| entry.refusal).unwrap_or_else(|| LastError {
            class: "isolated".into(),
            http_status: None,
            code: Some("FAILED_ALONE".into()),
            message: format!("failed alone {times} times while other records got through around it"),
            at: view.wall_ms,
        });
        Disposition::Close { outcomes: Vec::new(), missing: Outcome::Quarantine(error) }
    }

    /// A batch is cut although it did not fail.
    pub fn divide_batch(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Waiting, 0, None);
        };
        if entry.needs_carving() {
            let entry = entry.clone();
            return self.carve(view, &entry);
        }
        let batch = entry.batch.clone();
        let cut =
            isolation::cut(batch.stage.max(Stage::Half), batch.records, view.config.batch.micro_batch, None);
        let cut = cut.unwrap_or_else(|| isolation::halves(batch.records.max(1)));
        self.cut_up(view, id, cut, None)
    }

    /// The answer to a control came, or did not.
    pub fn on_canary_response(&mut self, view: &View<'_>, id: BatchId, verdict: &Verdict) {
        match verdict {
            Verdict::Completed(results) if results.iter().any(|result| result.status.is_stored()) => {
                self.succeeded(view, results);
            }
            Verdict::Completed(_) | Verdict::Ambiguous(_) | Verdict::Refused(_) | Verdict::TooLarge => {
                self.server.canary_failed();
                self.failed(id);
            }
            other => {
                if other.is_denial() {
                    self.server.canary_failed();
                    self.failed(id);
                }
                self.waits.back_off(view, other, self.server.may_query(view.config), &mut self.rng);
            }
        }
    }

    /// The server surely does not have the batch, or cannot tell.
    pub(super) fn not_there(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        doubt: Ambiguity,
        error: Option<LastError>,
    ) -> Disposition {
        let suspect = is_suspect(batch, doubt);
        // In an outage a cut helps nobody; but a batch that fails probe after probe may be the outage.
        let sends = self.open.get(&batch.id).map_or(0, |entry| entry.sends);
        let outage = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) && sends < PROBES_OF_ONE;
        if suspect && !outage && doubt == Ambiguity::TimedOut && self.rather_again(batch) {
            self.set(batch.id, Step::Send { due: view.now });
            return keep(BatchPhase::Waiting, batch.lone_failures, error);
        }
        if suspect
            && !outage
            && let Some(cut) = self.next_cut(view, batch)
        {
            return self.cut_up(view, batch.id, cut, error);
        }
        self.stands_alone(view, batch, suspect, error)
    }

    /// The server has been at the batch for longer than it can be: it will not come to an end. Under the
    /// old id, it would answer that it is still at it.
    pub(super) fn overdue(&mut self, view: &View<'_>, batch: &OpenBatch, doubt: Ambiguity) -> Disposition {
        if let Some(cut) = self.next_cut(view, batch) {
            return self.cut_up(view, batch.id, cut, None);
        }
        let disposition = self.stands_alone(view, batch, is_suspect(batch, doubt), None);
        let unproven = self.open.get(&batch.id).is_some_and(|entry| entry.evidence.wants_control());
        self.control_wanted |= unproven || !isolation::near(self.last_success, view.now);
        match self.open.get(&batch.id).map(|entry| entry.step) {
            Some(Step::Send { due }) => self.rename(batch.id, due),
            _ => disposition,
        }
    }

    pub(super) fn next_cut(&self, view: &View<'_>, batch: &OpenBatch) -> Option<Cut> {
        let prices = self.open.get(&batch.id).and_then(|entry| self.prices(view, entry));
        isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch, prices)
    }

    /// What failed is not cut any further, or not now: it is sent again.
    fn stands_alone(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        suspect: bool,
        error: Option<LastError>,
    ) -> Disposition {
        let mut due = view.now;
        let mut lone = batch.lone_failures;
        let last_success = self.undisturbed_success(batch.id);
        if let Some(entry) = self.open.get_mut(&batch.id) {
            if suspect && batch.records == 1 {
                let counted = entry.evidence.counted;
                entry.evidence.failed_alone(view.now, last_success);
                let retry = &view.config.retry;
                // A failure that counted already waits for nothing: the next test may follow.
                if entry.evidence.counted == counted {
                    due += backoff::delay(
                        retry.initial_backoff.0,
                        retry.max_backoff.0,
                        batch.attempt,
                        &mut self.rng,
                    );
                }
            }
            lone = entry.evidence.counted;
        }
        self.set(batch.id, Step::Send { due });
        if suspect {
            self.family_failed(batch);
        }
        keep(BatchPhase::Waiting, lone, error)
    }

    /// Whether a whole batch is better sent once more than cut: where most failures of late had no reason
    /// in the batch.
    fn rather_again(&self, batch: &OpenBatch) -> bool {
        let sends = self.open.get(&batch.id).map_or(0, |entry| entry.sends);
        batch.stage == Stage::Fresh && sends == 1 && self.learned.glitches.share_of_failures() > AGAIN
    }

    /// The server refused the request as such, or denied the set while others got through.
    pub(super) fn refused(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        by_size: bool,
        sent: &Sent<'_>,
    ) -> Disposition {
        self.learned.glitches.sent();
        if let Some(entry) = self.open.get_mut(&batch.id) {
            entry.failed_after = sent.took;
        }
        if batch.records > 1 {
            // Only a record that is too large alone has had an attempt.
            let error = Some(sent.error.clone()).filter(|_| *sent.verdict != Verdict::TooLarge);
            if by_size {
                return self.cut_up(view, batch.id, isolation::halves(batch.records), error);
            }
            if self.rather_again(batch) {
                self.set(batch.id, Step::Send { due: view.now });
                return keep(BatchPhase::Waiting, batch.lone_failures, error);
            }
            let cut = self.next_cut(view, batch);
            let cut = cut.unwrap_or_else(|| isolation::halves(batch.records));
            return self.cut_up(view, batch.id, cut, error);
        }
        // Refused alone is the record's fault, unless the server refuses everybody, or now and then anybody.
        self.control_wanted = true;
        let mut lone = batch.lone_failures;
        let last_success = self.undisturbed_success(batch.id);
        if let Some(entry) = self.open.get_mut(&batch.id) {
            entry.evidence.failed_alone(view.now, last_success);
            entry.refusal = Some(sent.error.clone());
            lone = entry.evidence.counted;
        }
        let retry = &view.config.retry;
        let wait = backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, batch.attempt, &mut self.rng);
        self.set(batch.id, Step::Send { due: view.now + wait });
        self.family_failed(batch);
        keep(BatchPhase::Waiting, lone, Some(sent.error.clone()))
    }

    /// A batch failed. Whoever else waited for a success after its own failure waits in vain: it
    /// seems to be the server.
    pub(super) fn failed(&mut self, id: BatchId) {
        let parent = self.open.get(&id).and_then(|entry| entry.batch.parent);
        let is_carved =
            |parent: &BatchId| self.families.get(parent).is_some_and(|family| family.rest_due.is_some());
        let parent = parent.filter(|parent| !is_carved(parent));
        self.failing = match self.failing {
            Failing::Nothing => Failing::One(id),
            // A part of it fails for the same reason.
            Failing::One(other) if other == id || Some(other) == parent => Failing::One(id),
            Failing::One(_) | Failing::Several => Failing::Several,
        };
        for (_, entry) in self.open.iter_mut().filter(|(other, _)| **other != id) {
            entry.evidence.others_failed();
        }
    }

    /// When others got through, with nothing but this batch failing since.
    pub(super) fn undisturbed_success(&self, id: BatchId) -> Option<Duration> {
        let is_own = match self.failing {
            Failing::Nothing => true,
            Failing::One(other) => {
                let parent = self.open.get(&id).and_then(|entry| entry.batch.parent);
                other == id || parent == Some(other)
            }
            Failing::Several => false,
        };
        self.last_success.filter(|_| is_own)
    }

    /// How often the record of this batch must fail alone: once more where nobody can be asked whether it failed.
    pub(super) fn failures_needed(&self, entry: &Entry, quarantine_after: u32) -> u32 {
        let unconfirmed = u32::from(entry.refusal.is_none() && self.server.lacks_queries());
        quarantine_after.max(self.learned.glitches.failures_needed(entry.ancestors) + unconfirmed)
    }

    /// A part that was opened, of a batch that failed.
    pub(super) fn joins_family(&mut self, now: Duration, entry: &mut Entry) {
        if let Some(family) = entry.batch.parent.and_then(|parent| self.families.get_mut(&parent)) {
            family.open += 1;
            entry.ancestors = family.ancestors;
            entry.denials = Denials::of_part(family.denials);
            if let (Step::Send { due }, Some(rest_due)) = (&mut entry.step, family.rest_due)
                && entry.batch.records > 1
            {
                *due = rest_due.max(now);
            }
        }
    }

    /// A part is no longer open: it got through, or it went on in another way.
    pub(super) fn left_family(&mut self, entry: &Entry, got_through: bool) {
        // It failed, and got through when it was tried again.
        let doubted = entry.doubted_at.is_some() || entry.refusal.is_some();
        let again = entry.sends > 1 && doubted && entry.batch.stage == Stage::Fresh;
        if got_through && (entry.evidence.suspects() || again) {
            self.learned.glitches.innocent();
        }
        let Some(parent) = entry.batch.parent else { return };
        let Some(family) = self.families.get_mut(&parent) else { return };
        family.open = family.open.saturating_sub(1);
        family.failed |= !got_through;
        let family = *family;
        if family.open == 0 {
            self.families.remove(&parent);
            if !family.failed && family.fitted {
                self.learned.glitches.innocent();
            }
        }
    }

    fn family_failed(&mut self, batch: &OpenBatch) {
        if let Some(family) = batch.parent.and_then(|parent| self.families.get_mut(&parent)) {
            family.failed = true;
        }
    }

    pub(super) fn cut_up(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        cut: Cut,
        error: Option<LastError>,
    ) -> Disposition {
        if let Some(entry) = self.open.get(&id) {
            let failed = entry.batch.attempt > 0;
            let family = Family {
                ancestors: entry.ancestors + u32::from(failed),
                fitted: failed && self.fitted(view, entry),
                denials: entry.denials.count.min(DENIALS_FOR_FREE),
                ..Family::default()
            };
            self.found_family(id, family);
        }
        Disposition::Cut { cut, error }
    }

    /// A batch goes on as its parts.
    pub(super) fn found_family(&mut self, id: BatchId, family: Family) {
        self.families.insert(id, family);
        if let Some(entry) = self.open.remove(&id) {
            self.left_family(&entry, false);
        }
    }

    /// Whether a batch was small enough, as far as is known.
    pub(super) fn fitted(&self, view: &View<'_>, entry: &Entry) -> bool {
        let limit = self.time_limit(view.config).as_secs_f64();
        self.learned.service.is_enough() && entry.expected.is_none_or(|expected| expected.most <= limit)
    }

    /// What the search costs from here; none while the size may be at fault.
    fn prices(&self, view: &View<'_>, entry: &Entry) -> Option<Prices> {
        if !view.config.batch.learn || !self.fitted(view, entry) {
            return None;
        }
        let limit = self.time_limit(view.config).as_secs_f64();
        let service = &self.learned.service;
        let micro = service.usual(view.config.batch.micro_batch as u64);
        let patience = self.deadline_for(view.config, micro.most).filter(|_| self.server.answers_queries());
        let took = entry.failed_after;
        let failure = patience.map_or(took, |patience| patience.min(took)).as_secs_f64();
        Some(Prices { pass: service.start_up().max(LEAST_PASS * limit), failure })
    }
}
