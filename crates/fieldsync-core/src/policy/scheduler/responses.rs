//! What becomes of a batch once its answer came, or did not.

use std::time::Duration;

use super::bisection::Failing;
use super::denials::{Denials, Others};
use super::outcome_replies::LEAST_WAIT;
use super::{Carried, Disposition, Entry, Outcome, Scheduler, Sent, Step, View};
use crate::config::Config;
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Stage};
use crate::policy::verdict::{Ambiguity, Verdict};
use crate::protocol::exchange::truncate_text;
use crate::protocol::wire::{RecordResult, RecordStatus};

/// The way down to one record takes fewer refusals in a row; more, and the server refuses everybody.
const REFUSALS_OF_ONE: u32 = 8;
/// What a gateway answers when its limit has passed.
const GATEWAY_TIMEOUT: u16 = 504;

impl Scheduler {
    /// The batch was not sent after all. Whoever refused it gets a moment.
    pub fn defer_send(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let now = view.now;
        self.waits.pause(view, view.config.retry.initial_backoff.0, &mut self.rng);
        let lone = self.open.get(&id).map_or(0, |entry| entry.batch.lone_failures);
        self.park(now, id, lone)
    }

    /// The answer to a batch came, or did not.
    pub fn on_response(&mut self, view: &View<'_>, id: BatchId, sent: &Sent<'_>) -> Disposition {
        let now = view.now;
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Unclear, 0, None);
        };
        let batch = entry.batch.clone();
        let lone = entry.evidence.counted;
        if !sent.verdict.is_denial() && *sent.verdict != Verdict::Unreachable {
            self.forget_denials(id);
        }
        match sent.verdict {
            Verdict::Completed(results) => {
                self.learn_from_answer(view.config, &batch, results, sent);
                self.closed_by(view, &batch, results, sent.error.at)
            }
            Verdict::Ambiguous(doubt) => {
                self.learn_from_silence(view.config, &batch, *doubt, sent);
                self.control_wanted = true;
                self.failed(id);
                self.in_doubt(view, &batch, *doubt, sent)
            }
            Verdict::StillProcessing { retry_after } => {
                let since = self.open.get_mut(&id).map_or(now, |entry| *entry.doubted_at.get_or_insert(now));
                if self.is_overdue(view, since) {
                    self.failed(id);
                    return self.overdue(view, &batch, Ambiguity::TimedOut);
                }
                if let Some(entry) = self.open.get_mut(&id) {
                    entry.is_processing = true;
                }
                let tries = usize::try_from(batch.attempt).unwrap_or(usize::MAX);
                let least = LEAST_WAIT.max(Self::look_up_wait(view.config, tries));
                let asked = retry_after.unwrap_or(least).max(least);
                let due = now + asked.min(self.longest_processing(view.config));
                self.set(
                    id,
                    if self.server.may_query(view.config) {
                        Step::LookUp { due, tries: 1, since, doubt: Ambiguity::TimedOut }
                    } else {
                        Step::Send { due }
                    },
                );
                keep(BatchPhase::Unclear, lone, None)
            }
            Verdict::Refused(_) | Verdict::TooLarge => {
                let by_size = *sent.verdict == Verdict::TooLarge && self.learned.bytes.refused(batch.bytes);
                self.refusals = self.refusals.saturating_add(1);
                self.failed(id);
                if self.refusals > REFUSALS_OF_ONE {
                    self.waits.pause(view, view.config.retry.max_backoff.0, &mut self.rng);
                }
                self.refused(view, &batch, by_size, sent)
            }
            Verdict::BatchIdReused => {
                // A server that says so of every id would be asked without end.
                self.waits.pause(view, view.config.retry.max_backoff.0, &mut self.rng);
                if self.open.get(&id).is_some_and(|entry| entry.is_renamed) {
                    self.failed(id);
                    return self.refused(view, &batch, false, sent);
                }
                self.rename(id, now)
            }
            Verdict::EncodingRefused => self.park(now, id, lone),
            Verdict::Unreachable => {
                self.waits.wait_for_link(view, &mut self.rng);
                self.park(now, id, lone)
            }
            Verdict::Intercepted
            | Verdict::Throttled { .. }
            | Verdict::Unauthorized
            | Verdict::EndpointNotFound => {
                if sent.error.http_status.is_some() {
                    return self.denied(view, &batch, sent);
                }
                // Nobody was asked: a file of this device cannot be used.
                self.waits.back_off(view, sent.verdict, self.server.may_query(view.config), &mut self.rng);
                self.waits.confirm();
                self.park(now, id, lone)
            }
        }
    }

    /// The set was not denied this time.
    fn forget_denials(&mut self, id: BatchId) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.denials = Denials::default();
        }
    }

    fn learn_from_answer(
        &mut self,
        config: &Config,
        batch: &OpenBatch,
        results: &[RecordResult],
        sent: &Sent<'_>,
    ) {
        self.learned.glitches.sent();
        if !sent.replayed {
            self.learned.time_limit.answered(sent.took);
        }
        let most = config.batch.max_batch_bytes.0;
        self.learned.bytes.accepted(batch.bytes, most, batch.stage == Stage::Fresh);
        // What the server had already says nothing about what applying it takes.
        let known = sent.replayed || results.iter().any(|result| result.status == RecordStatus::Duplicate);
        if batch.attempt == 1 && !known {
            let limit = self.time_limit(config);
            let wait = sent.took.saturating_sub(sent.sending.unwrap_or_default());
            if let Some(entry) = self.open.get(&batch.id) {
                let service = self.learned.service_mut();
                service.answered(&entry.load, wait, limit);
                if batch.stage == Stage::Fresh {
                    service.fitted(batch.records, wait);
                }
            }
        }
    }

    fn learn_from_silence(&mut self, config: &Config, batch: &OpenBatch, doubt: Ambiguity, sent: &Sent<'_>) {
        self.learned.glitches.sent();
        match doubt {
            Ambiguity::ConnectionLost | Ambiguity::LinkTooSlow if sent.sending.is_none() => {
                self.learned.bytes.cut(batch.bytes);
            }
            Ambiguity::TimedOut if sent.error.http_status == Some(GATEWAY_TIMEOUT) => {
                let longest = self.learned.service.longest();
                let configured = config.server.request_timeout.0;
                self.learned.time_limit.timed_out(sent.took, longest, configured);
            }
            _ => {}
        }
        // The time-out of a part speaks of a record in it, not of the size.
        if doubt == Ambiguity::TimedOut && batch.stage == Stage::Fresh {
            self.learned.service_mut().timed_out(batch.records);
        }
    }

    /// The server answered for the records of a batch.
    pub(super) fn closed_by(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        results: &[RecordResult],
        at: u64,
    ) -> Disposition {
        if let Some(entry) = self.open.remove(&batch.id) {
            self.left_family(&entry, true);
        }
        self.succeeded(view, results);
        let missing = LastError {
            class: "no_result".into(),
            http_status: None,
            code: None,
            message: "the server's answer has no result for this record".into(),
            at,
        };
        let outcomes = results.iter().map(|result| (result.id, outcome(result, at))).collect();
        Disposition::Close { outcomes, missing: Outcome::Retry(missing) }
    }

    /// The server is well: it answered for records.
    pub(super) fn succeeded(&mut self, view: &View<'_>, results: &[RecordResult]) {
        let now = view.now;
        self.waits.batch_completed();
        self.server.batch_completed();
        if !results.iter().any(|result| result.status.is_stored()) {
            return self.note_others(None, Others::Answered);
        }
        self.last_success = Some(now);
        self.refusals = 0;
        self.control_wanted = false;
        self.failing = Failing::Nothing;
        self.release_denied(view);
        for entry in self.open.values_mut() {
            let counts = entry.evidence.wants_control() && entry.evidence.others_succeeded(now);
            let refused = entry.refusal.is_some() && entry.denials.count == 0;
            // One control is enough for one more test.
            if (counts || refused)
                && let Step::Send { due } = &mut entry.step
            {
                *due = now;
            }
        }
    }

    pub(super) fn rename(&mut self, id: BatchId, due: Duration) -> Disposition {
        let Some(entry) = self.open.remove(&id) else {
            return Disposition::Rename { lone_failures: 0 };
        };
        self.left_family(&entry, false);
        let Entry { evidence, refusal, ancestors, sends, .. } = entry;
        self.carried = Some(Carried { from: id, ancestors, sends, evidence, refusal, due });
        Disposition::Rename { lone_failures: evidence.counted }
    }

    pub(super) fn park(&mut self, now: Duration, id: BatchId, lone_failures: u32) -> Disposition {
        self.set(id, Step::Send { due: now });
        keep(BatchPhase::Waiting, lone_failures, None)
    }
}

pub(super) fn keep(phase: BatchPhase, lone_failures: u32, error: Option<LastError>) -> Disposition {
    Disposition::Keep { phase, lone_failures, error }
}

fn outcome(result: &RecordResult, at: u64) -> Outcome {
    let error = |class: &str| LastError {
        class: class.into(),
        http_status: Some(200),
        code: result.code.clone().map(truncate_text),
        message: truncate_text(result.message.clone().unwrap_or_default()),
        at,
    };
    match result.status {
        RecordStatus::Applied | RecordStatus::Duplicate => Outcome::Synced,
        RecordStatus::Rejected => Outcome::Quarantine(error("rejected")),
        RecordStatus::Retry => Outcome::Retry(error("retry")),
    }
}
