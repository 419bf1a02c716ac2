//! What becomes of a batch once its answer came, or did not.

use std::time::Duration;

use super::look_ups::LEAST_WAIT;
use super::{Agenda, Carried, Disposition, Entry, Outcome, Sent, Step, View, looks_up};
use crate::config::Config;
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Phase, Stage};
use crate::policy::backoff;
use crate::policy::verdict::{Doubt, Verdict, shortened};
use crate::transport::wire::{RecordResult, RecordStatus};

/// Extra wait on top of `Retry-After`, so that a fleet does not return in step.
const RETRY_AFTER_SPREAD: f64 = 0.05;
const RETRY_AFTER_SPREAD_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two tries of an address that cannot be reached.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(15);
/// The way down to one record takes fewer refusals in a row; more, and the server refuses everybody.
const REFUSALS_OF_ONE: u32 = 8;
/// What a gateway answers when its limit has passed.
const GATEWAY_TIMEOUT: u16 = 504;

impl Agenda {
    /// The batch was not sent after all. Whoever refused it gets a moment.
    pub fn held_back(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let now = view.now;
        self.wait = Some(now + self.setback(view.config, view.config.retry.initial_backoff.0));
        let lone = self.open.get(&id).map_or(0, |entry| entry.batch.lone_failures);
        self.park(now, id, lone)
    }

    /// The answer to a batch came, or did not.
    pub fn answered(&mut self, view: &View<'_>, id: BatchId, sent: &Sent<'_>) -> Disposition {
        let now = view.now;
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Unclear, 0, None);
        };
        let batch = entry.batch.clone();
        let lone = entry.evidence.counted;
        match sent.verdict {
            Verdict::Answered(results) => {
                self.learn_from_answer(view.config, &batch, results, sent);
                self.closed_by(now, &batch, results, sent.error.at)
            }
            Verdict::Ambiguous(doubt) => {
                self.learn_from_silence(view.config, &batch, *doubt, sent);
                self.control_wanted = true;
                self.failed(id);
                self.in_doubt(view, &batch, *doubt, sent)
            }
            Verdict::StillProcessing { retry_after } => {
                let asked = retry_after.unwrap_or(LEAST_WAIT).max(LEAST_WAIT);
                let due = now + asked.min(view.config.retry.max_retry_after.0);
                if self.has_look_up(view.config) {
                    self.set(id, Step::LookUp { due, tries: 1, since: now, doubt: Doubt::TimedOut });
                } else if self.is_overdue(view, id) {
                    return self.overdue(view, &batch, Doubt::TimedOut);
                } else {
                    self.set(id, Step::Send { due });
                }
                keep(BatchPhase::Unclear, lone, None)
            }
            Verdict::Refused(_) | Verdict::TooLarge => {
                let too_large = *sent.verdict == Verdict::TooLarge;
                if too_large {
                    self.learned.refused_bytes(batch.bytes);
                }
                self.refusals = self.refusals.saturating_add(1);
                self.failed(id);
                if self.refusals > REFUSALS_OF_ONE {
                    self.wait = Some(now + self.setback(view.config, view.config.retry.max_backoff.0));
                }
                self.refused(view, &batch, too_large, sent)
            }
            Verdict::BatchIdReused => {
                // A server that says so of every id would be asked without end.
                self.wait = Some(now + self.setback(view.config, view.config.retry.max_backoff.0));
                self.rename(id, now)
            }
            Verdict::EncodingRefused => self.park(now, id, lone),
            Verdict::Unreachable
            | Verdict::Interfered
            | Verdict::Throttled { .. }
            | Verdict::Unauthorized
            | Verdict::Misplaced => {
                self.hold_off(view, sent.verdict);
                self.park(now, id, lone)
            }
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
        if let Some(sending) = sent.sending {
            self.learned.throughput.sent(batch.bytes, sending);
        }
        self.learned.throughput.arrived(batch.bytes, config.batch.max_batch_bytes.0);
        if batch.stage == Stage::Fresh {
            self.learned.accepted(batch.bytes, config.batch.max_batch_bytes.0);
        }
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

    fn learn_from_silence(&mut self, config: &Config, batch: &OpenBatch, doubt: Doubt, sent: &Sent<'_>) {
        self.learned.glitches.sent();
        match doubt {
            Doubt::Lost | Doubt::TooSlow if sent.sending.is_none() => {
                self.learned.throughput.cut(batch.bytes);
            }
            Doubt::TimedOut if sent.error.http_status == Some(GATEWAY_TIMEOUT) => {
                let longest = self.learned.service.longest();
                let configured = config.server.request_timeout.0;
                self.learned.time_limit.timed_out(sent.took, longest, configured);
            }
            _ => {}
        }
        // The time-out of a part speaks of a record in it, not of the size.
        if doubt == Doubt::TimedOut && batch.stage == Stage::Fresh {
            self.learned.service_mut().timed_out(batch.records);
        }
    }

    /// An answer that says nothing about a batch, but when to come back.
    pub(super) fn hold_off(&mut self, view: &View<'_>, verdict: &Verdict) {
        let (now, retry) = (view.now, &view.config.retry);
        match verdict {
            Verdict::Throttled { retry_after: Some(asked) } if !asked.is_zero() => {
                self.throttle = Some(now + self.spread((*asked).min(retry.max_retry_after.0)));
            }
            Verdict::Throttled { .. } => {
                self.turned_away = true;
                self.wait = Some(now + self.setback(view.config, retry.max_backoff.0));
            }
            // Somebody has to act; but a mended server must be found without anybody at the device.
            Verdict::Unauthorized => self.stop = Some((Phase::AuthRequired, now + retry.max_backoff.0)),
            Verdict::Misplaced => self.stop = Some((Phase::Misconfigured, now + retry.max_backoff.0)),
            _ => self.wait_for_the_way(view),
        }
    }

    /// Somebody on the way to the server is in trouble: soon again, but not at once.
    pub(super) fn wait_for_the_way(&mut self, view: &View<'_>) {
        let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
        self.wait = Some(view.now + self.setback(view.config, longest));
    }

    /// The server answered for the records of a batch.
    pub(super) fn closed_by(
        &mut self,
        now: Duration,
        batch: &OpenBatch,
        results: &[RecordResult],
        at: u64,
    ) -> Disposition {
        if let Some(entry) = self.open.remove(&batch.id) {
            self.left_family(&entry, true);
        }
        self.succeeded(now, results);
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
    pub(super) fn succeeded(&mut self, now: Duration, results: &[RecordResult]) {
        self.setbacks = 0;
        self.wait = None;
        self.throttle = None;
        self.stop = None;
        self.turned_away = false;
        self.unanswered = 0;
        if results.iter().any(|result| result.status.is_stored()) {
            self.last_success = Some(now);
            self.refusals = 0;
            self.control_wanted = false;
            (self.failing, self.others_failed) = (None, false);
            for entry in self.open.values_mut() {
                let counts = entry.evidence.wants_control() && entry.evidence.others_succeeded(now);
                // One control is enough for one more test.
                if (counts || entry.refusal.is_some())
                    && let Step::Send { due } = &mut entry.step
                {
                    *due = now;
                }
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

    pub(super) fn has_look_up(&self, config: &Config) -> bool {
        looks_up(config) && !self.look_up_missing
    }

    pub(super) fn setback(&mut self, config: &Config, longest: Duration) -> Duration {
        self.setbacks = self.setbacks.saturating_add(1);
        let first = config.retry.initial_backoff.0.min(longest);
        backoff::delay(first, longest, self.setbacks, &mut self.rng)
    }

    fn spread(&mut self, wait: Duration) -> Duration {
        let most = wait.mul_f64(RETRY_AFTER_SPREAD).min(RETRY_AFTER_SPREAD_MAX);
        wait + backoff::between(Duration::ZERO, most, &mut self.rng)
    }
}

pub(super) fn keep(phase: BatchPhase, lone_failures: u32, error: Option<LastError>) -> Disposition {
    Disposition::Keep { phase, lone_failures, error }
}

fn outcome(result: &RecordResult, at: u64) -> Outcome {
    let error = |class: &str| LastError {
        class: class.into(),
        http_status: Some(200),
        code: result.code.clone().map(shortened),
        message: shortened(result.message.clone().unwrap_or_default()),
        at,
    };
    match result.status {
        RecordStatus::Applied | RecordStatus::Duplicate => Outcome::Synced,
        RecordStatus::Rejected => Outcome::Quarantine(error("rejected")),
        RecordStatus::Retry => Outcome::Retry(error("retry")),
    }
}
