//! The search for a record at fault: what failed is cut, the parts are a family, and what its members meet
//! tells whom to suspect.

use std::time::Duration;

use super::answers::keep;
use super::look_ups::is_suspect;
use super::next::PROBES_OF_ONE;
use super::{Agenda, Disposition, Entry, Outcome, Sent, Step, View};
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Stage};
use crate::policy::backoff;
use crate::policy::breaker::Mode;
use crate::policy::isolation::{self, Cut, Prices};
use crate::policy::verdict::{Doubt, Verdict};

/// A part that gets through costs at least this share of the time limit.
const LEAST_PASS: f64 = 1e-3;
/// A batch is sent once more where more than this share of failures had no reason in the batch.
const AGAIN: f64 = 0.6;

/// The parts of a batch that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Batches that failed on the way to these parts.
    ancestors: u32,
    /// Parts that are open.
    open: usize,
    /// One of them failed as well.
    failed: bool,
    /// The batch was surely not too large: a record in it is at fault, or it failed by a glitch.
    fitted: bool,
}

impl Agenda {
    /// The store set the one record of a batch aside: its error, for the manifest.
    pub fn conviction(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let entry = self.open.remove(&id);
        if let Some(entry) = &entry {
            self.left_family(entry, false);
        }
        self.learned.glitches.culprit();
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

    /// A part that was never sent is cut.
    pub fn division(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Waiting, 0, None);
        };
        let (batch, guilty) = (entry.batch.clone(), entry.guilty);
        let prices = self.prices(view, entry).filter(|_| guilty);
        let stage = batch.stage.max(Stage::Half);
        let cut = isolation::cut(stage, batch.records, view.config.batch.micro_batch, prices);
        let cut = cut.unwrap_or_else(|| isolation::halves(batch.records.max(1)));
        self.cut_up(view, id, cut, None)
    }

    /// The answer to a control came, or did not.
    pub fn control_answered(&mut self, view: &View<'_>, id: BatchId, verdict: &Verdict) {
        match verdict {
            Verdict::Answered(results) if results.iter().any(|result| result.status.is_stored()) => {
                self.succeeded(view.now, results);
            }
            Verdict::Answered(_) | Verdict::Ambiguous(_) | Verdict::Refused(_) => {
                self.control_failed = true;
                self.failed(id);
            }
            other => self.hold_off(view, other),
        }
    }

    /// The server surely does not have the batch, or cannot tell.
    pub(super) fn not_there(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        doubt: Doubt,
        error: Option<LastError>,
    ) -> Disposition {
        let suspect = is_suspect(batch, doubt);
        // In an outage a cut helps nobody; but a batch that fails probe after probe may be the outage.
        let sends = self.open.get(&batch.id).map_or(0, |entry| entry.sends);
        let outage = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) && sends < PROBES_OF_ONE;
        if suspect && !outage && self.rather_again(batch, doubt) {
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
    pub(super) fn overdue(&mut self, view: &View<'_>, batch: &OpenBatch, doubt: Doubt) -> Disposition {
        if let Some(cut) = self.next_cut(view, batch) {
            return self.cut_up(view, batch.id, cut, None);
        }
        let disposition = self.stands_alone(view, batch, is_suspect(batch, doubt), None);
        match self.open.get(&batch.id).map(|entry| entry.step) {
            Some(Step::Send { due }) => self.rename(batch.id, due),
            _ => disposition,
        }
    }

    fn next_cut(&self, view: &View<'_>, batch: &OpenBatch) -> Option<Cut> {
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
        let last_success = self.undisturbed_success();
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
    fn rather_again(&self, batch: &OpenBatch, doubt: Doubt) -> bool {
        let sends = self.open.get(&batch.id).map_or(0, |entry| entry.sends);
        batch.stage == Stage::Fresh
            && sends == 1
            && doubt == Doubt::TimedOut
            && self.learned.glitches.share_of_failures() > AGAIN
    }

    /// The server refused the request as such.
    pub(super) fn refused(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        too_large: bool,
        sent: &Sent<'_>,
    ) -> Disposition {
        if let Some(entry) = self.open.get_mut(&batch.id) {
            entry.failed_after = sent.took;
        }
        if batch.records > 1 {
            if too_large {
                self.open.remove(&batch.id);
                return Disposition::Cut { cut: isolation::halves(batch.records), error: None };
            }
            let cut = self.next_cut(view, batch);
            let cut = cut.unwrap_or_else(|| isolation::halves(batch.records));
            return self.cut_up(view, batch.id, cut, Some(sent.error.clone()));
        }
        // Refused alone is the record's fault, unless the server refuses everybody: it needs one
        // bracket of successes, as a failure needs several.
        self.control_wanted = true;
        let mut lone = batch.lone_failures;
        let last_success = self.undisturbed_success();
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
        self.others_failed |= self.failing.replace(id).is_some_and(|other| other != id);
        for (_, entry) in self.open.iter_mut().filter(|(other, _)| **other != id) {
            entry.evidence.others_failed();
        }
    }

    /// When others got through, with nothing but the one batch at issue failing since.
    pub(super) fn undisturbed_success(&self) -> Option<Duration> {
        self.last_success.filter(|_| !self.others_failed)
    }

    /// How often the record of this batch must fail alone. A server that says no says it for a reason;
    /// one that says nothing may have any; and where nobody can be asked, it may not even have failed.
    pub(super) fn failures_needed(&self, entry: &Entry, quarantine_after: u32) -> u32 {
        if entry.refusal.is_some() {
            return 1;
        }
        let unconfirmed = u32::from(self.look_up_missing);
        quarantine_after.max(self.learned.glitches.failures_needed(entry.ancestors) + unconfirmed)
    }

    /// A part that was opened, of a batch that failed.
    pub(super) fn joins_family(&mut self, entry: &mut Entry) {
        if let Some(family) = entry.batch.parent.and_then(|parent| self.families.get_mut(&parent)) {
            family.open += 1;
            entry.ancestors = family.ancestors;
        }
    }

    /// A part is no longer open: it got through, or it went on in another way.
    pub(super) fn left_family(&mut self, entry: &Entry, got_through: bool) {
        // It failed, and got through when it was tried again.
        let again = entry.sends > 1 && entry.doubted_at.is_some() && entry.batch.stage == Stage::Fresh;
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
        if family.open == 1 && !family.failed && family.fitted {
            let last = self.open.values_mut().find(|other| other.batch.parent == Some(parent));
            if let Some(last) = last.filter(|last| last.batch.attempt == 0) {
                last.guilty = true;
            }
        }
    }

    fn family_failed(&mut self, batch: &OpenBatch) {
        if let Some(family) = batch.parent.and_then(|parent| self.families.get_mut(&parent)) {
            family.failed = true;
        }
    }

    fn cut_up(&mut self, view: &View<'_>, id: BatchId, cut: Cut, error: Option<LastError>) -> Disposition {
        if let Some(entry) = self.open.remove(&id) {
            let failed = entry.batch.attempt > 0;
            let fitted = (failed || entry.guilty) && self.fitted(view, &entry);
            let ancestors = entry.ancestors + u32::from(failed);
            self.families.insert(id, Family { ancestors, open: 0, failed: false, fitted });
            self.left_family(&entry, false);
        }
        Disposition::Cut { cut, error }
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
        let micro = service.usual(view.config.batch.micro_batch as u64, 0);
        let patience = self.patience_for(view.config, micro.most).filter(|_| self.look_up_works);
        let took = entry.failed_after;
        let failure = patience.map_or(took, |patience| patience.min(took)).as_secs_f64();
        Some(Prices { pass: service.start_up().max(LEAST_PASS * limit), failure })
    }
}
