//! What becomes of a batch in doubt: its outcome is asked for, until the server's own limit is surely past.
//! Where the server has no look-up, it is as if the server did not have the batch: records that it has
//! already it will know by their ids.

use std::time::Duration;

use super::bisection::Failing;
use super::denials::Others;
use super::responses::keep;
use super::{Disposition, Scheduler, Sent, Step, View};
use crate::config::Config;
use crate::model::{BatchId, BatchPhase, OpenBatch};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::verdict::Ambiguity;

/// The waits before look-ups of one batch. The first comes at once, before anything else is sent: it
/// shows whether the server lives.
const LOOK_UP_WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(10),
];
/// A batch that is "processing" for longer than this many time limits is given up on.
const LOOK_UP_LIMITS: f64 = 1.5;
/// The least wait where the server says that it is still at it.
pub(super) const LEAST_WAIT: Duration = Duration::from_millis(300);
/// Look-ups that may fail to get to the server, before the batch is sent again instead.
const HINDERED_LOOK_UPS: usize = 3;
/// A batch whose outcome could not be asked for after so many sends is treated as if the server could not tell.
const SENDS_WITHOUT_LOOK_UP: u32 = 3;

impl Scheduler {
    /// A batch got no answer that settles it.
    pub(super) fn in_doubt(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        doubt: Ambiguity,
        sent: &Sent<'_>,
    ) -> Disposition {
        let (now, id) = (view.now, batch.id);
        let last_success = self.undisturbed_success(id);
        let mut lone = batch.lone_failures;
        if let Some(entry) = self.open.get_mut(&id) {
            entry.failed_after = sent.took;
            entry.doubted_at.get_or_insert(now);
            lone = entry.evidence.counted;
        }
        if !self.server.may_query(view.config) {
            return self.not_there(view, batch, doubt, Some(sent.error.clone()));
        }
        if is_suspect(batch, doubt)
            && batch.records == 1
            && let Some(entry) = self.open.get_mut(&id)
        {
            entry.evidence.suspected(now, last_success);
        }
        let since = now.saturating_sub(sent.took);
        self.set(id, Step::LookUp { due: now + Self::look_up_wait(view.config, 0), tries: 0, since, doubt });
        keep(BatchPhase::Unclear, lone, Some(sent.error.clone()))
    }

    /// A look-up was answered. None: ask again later, or it was asked only to see whether the server lives.
    pub fn on_outcome_reply(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        found: &OutcomeReply,
    ) -> Option<Disposition> {
        self.learn_from_look_up(view, found);
        let entry = self.open.get(&id)?;
        let (batch, sends) = (entry.batch.clone(), entry.sends);
        let (tries, since, doubt) = match entry.step {
            Step::LookUp { tries, since, doubt, .. } => (tries, since, doubt),
            Step::Send { .. } => {
                let OutcomeReply::Completed(results) = found else { return None };
                return Some(self.closed_by(view, &batch, results, view.wall_ms));
            }
            Step::InFlight => return None,
        };
        let lone = entry.evidence.counted;
        match found {
            OutcomeReply::Completed(results) => {
                self.learn_when_done(view, &batch, tries, since);
                // It was done all the time, and small enough: the failure had no reason in it.
                if tries == 0 && self.open.get(&id).is_some_and(|entry| self.fitted(view, entry)) {
                    self.learned.glitches.innocent();
                }
                Some(self.closed_by(view, &batch, results, view.wall_ms))
            }
            OutcomeReply::Processing { retry_after } => {
                if self.is_overdue(view, since) {
                    return Some(self.overdue(view, &batch, doubt));
                }
                let wait = retry_after.unwrap_or_default().max(Self::look_up_wait(view.config, tries + 1));
                // However long the server asks for: it is given up on at its limit.
                let wait = wait.min(self.longest_processing(view.config));
                self.set(id, Step::LookUp { due: view.now + wait, tries: tries + 1, since, doubt });
                None
            }
            // The server has said itself that it is at it: the same batch again tells as much.
            OutcomeReply::Unsupported if entry.is_processing => {
                let due = view.now + Self::look_up_wait(view.config, tries);
                self.set(id, Step::Send { due });
                Some(keep(BatchPhase::Unclear, lone, None))
            }
            OutcomeReply::UnknownBatch | OutcomeReply::Unsupported => {
                Some(self.not_there(view, &batch, doubt, None))
            }
            // The way was closed, or is: the answer is still to be had.
            OutcomeReply::Throttled | OutcomeReply::Unreachable if tries < HINDERED_LOOK_UPS => {
                self.set(id, Step::LookUp { due: view.now, tries: tries + 1, since, doubt });
                None
            }
            // For good, perhaps: one record at fault must not keep the others of its batch.
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable
                if sends >= SENDS_WITHOUT_LOOK_UP =>
            {
                Some(self.not_there(view, &batch, doubt, None))
            }
            // The same id again is safe: the server has promised to know it.
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                Some(self.park(view.now, id, lone))
            }
        }
    }

    fn learn_from_look_up(&mut self, view: &View<'_>, found: &OutcomeReply) {
        self.server.query_ended(found);
        match found {
            OutcomeReply::Unsupported => {}
            OutcomeReply::Completed(_) | OutcomeReply::Processing { .. } | OutcomeReply::UnknownBatch => {
                // Where several sets are denied, that look-ups are answered says nothing of batches.
                self.waits.query_answered(self.failing != Failing::Several);
                self.note_others(None, Others::Answered);
            }
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                let is_in_question = self.server.is_in_question();
                self.waits.query_failed(view, is_in_question, &mut self.rng);
            }
        }
    }

    /// It was done between the last look-up, which found the server at it, and this one; nobody saw when.
    /// What was done before the first look-up may have been done long ago.
    fn learn_when_done(&mut self, view: &View<'_>, batch: &OpenBatch, tries: usize, since: Duration) {
        let Some(entry) = self.open.get(&batch.id) else { return };
        if batch.attempt != 1 || tries == 0 || entry.load.records() == 0 {
            return;
        }
        let before = view.now.saturating_sub(since);
        let after = before.saturating_sub(Self::look_up_wait(view.config, tries));
        let limit = self.time_limit(view.config);
        let load = entry.load.clone();
        let after = after.max(entry.failed_after).min(before);
        self.learned.service_mut().found_done(&load, after, before, limit);
    }

    /// Whether a batch has been in doubt since then for longer than the server can be at it.
    pub(super) fn is_overdue(&self, view: &View<'_>, since: Duration) -> bool {
        view.now.saturating_sub(since) >= self.longest_processing(view.config)
    }

    /// How long the server can be at a batch.
    pub(super) fn longest_processing(&self, config: &Config) -> Duration {
        self.time_limit(config).mul_f64(LOOK_UP_LIMITS)
    }

    pub(super) fn look_up_wait(config: &Config, tries: usize) -> Duration {
        let wait = LOOK_UP_WAITS.get(tries).or(LOOK_UP_WAITS.last()).copied().unwrap_or(LEAST_WAIT);
        // A server with a short limit has its outcome sooner.
        wait.min(config.server.request_timeout.0 / 4)
    }
}

/// A lost connection speaks of the link, the second time of the batch; a link that is too slow speaks of the
/// size of a batch, and of no record.
pub(super) fn is_suspect(batch: &OpenBatch, doubt: Ambiguity) -> bool {
    match doubt {
        Ambiguity::TimedOut | Ambiguity::ServerError => true,
        Ambiguity::ConnectionLost => batch.attempt > 1,
        Ambiguity::LinkTooSlow => batch.records > 1,
    }
}
