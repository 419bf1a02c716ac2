//! What becomes of a batch once its answer came, or did not: the agenda's other half.

use std::time::Duration;

use super::{Agenda, Carried, Disposition, Outcome, PROBES_OF_ONE, Step, View, looks_up};
use crate::config::Config;
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Phase, Stage};
use crate::policy::backoff;
use crate::policy::breaker::Mode;
use crate::policy::isolation;
use crate::policy::verdict::{Doubt, LookUp, Verdict, shortened};
use crate::transport::wire::{RecordResult, RecordStatus};

/// The waits between look-ups of one batch.
const LOOK_UP_WAITS: [Duration; 6] = [
    Duration::from_millis(300),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(10),
];
/// A batch that is "processing" for longer than this many time limits is given up on.
const LOOK_UP_LIMITS: f64 = 1.5;
/// The least byte limit that refusals of large bodies can lead to.
const MIN_BYTE_CAP: u64 = 4096;
/// A batch that comes within this share of the byte limit shows that it holds, and raises it by the step.
const BYTE_CAP_NEAR: u64 = 4;
const BYTE_CAP_STEP: u64 = 16;
/// Extra wait on top of `Retry-After`, so that a fleet does not return in step.
const RETRY_AFTER_SPREAD: f64 = 0.05;
const RETRY_AFTER_SPREAD_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two tries of an address that cannot be reached.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(15);
/// The way down to one record takes fewer refusals in a row; more, and the server refuses everybody.
const REFUSALS_OF_ONE: u32 = 8;
/// A batch whose outcome could not be asked for after so many sends is treated as if the server could not tell.
const SENDS_WITHOUT_LOOK_UP: u32 = 3;

impl Agenda {
    /// The batch was not sent after all. Whoever refused it gets a moment.
    pub fn held_back(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let now = view.now;
        self.wait = Some(now + self.setback(view.config, view.config.retry.initial_backoff.0));
        let lone = self.open.get(&id).map_or(0, |entry| entry.batch.lone_failures);
        self.park(now, id, lone)
    }

    /// The answer to a batch came, or did not.
    pub fn answered(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        verdict: &Verdict,
        error: &LastError,
        took: Duration,
    ) -> Disposition {
        let now = view.now;
        let Some(entry) = self.open.get(&id) else {
            return keep(BatchPhase::Unclear, 0, None);
        };
        let batch = entry.batch.clone();
        let lone = entry.evidence.counted;
        match verdict {
            Verdict::Answered(results) => {
                self.service.answered(batch.records, took);
                self.give_bytes_back(view.config, &batch);
                self.closed_by(now, &batch, results, error.at)
            }
            Verdict::Ambiguous(doubt) => {
                // The time-out of a part speaks of a record in it, not of the size.
                if *doubt == Doubt::TimedOut && batch.stage == Stage::Fresh {
                    self.service.timed_out(batch.records);
                }
                self.control_wanted = true;
                self.failed(id);
                if !looks_up(view.config) || self.look_up_missing {
                    return self.not_there(view, &batch, *doubt, Some(error.clone()));
                }
                let since = now.saturating_sub(took);
                let due = now + Self::look_up_wait(view.config, 0);
                let last_success = self.undisturbed_success();
                if is_suspect(&batch, *doubt)
                    && batch.records == 1
                    && let Some(entry) = self.open.get_mut(&id)
                {
                    entry.evidence.suspected(now, last_success);
                }
                self.set(id, Step::LookUp { due, tries: 0, since, doubt: *doubt });
                keep(BatchPhase::Unclear, lone, Some(error.clone()))
            }
            Verdict::StillProcessing { retry_after } => {
                let asked = retry_after.unwrap_or(LOOK_UP_WAITS[1]).max(LOOK_UP_WAITS[0]);
                let wait = asked.min(view.config.retry.max_retry_after.0);
                let step = if self.look_up_missing || !looks_up(view.config) {
                    Step::Send { due: now + wait }
                } else {
                    Step::LookUp { due: now + wait, tries: 1, since: now, doubt: Doubt::TimedOut }
                };
                self.set(id, step);
                keep(BatchPhase::Unclear, lone, None)
            }
            Verdict::Refused(_) | Verdict::TooLarge => {
                let too_large = *verdict == Verdict::TooLarge;
                if too_large {
                    let cap = (batch.bytes / 2).max(MIN_BYTE_CAP);
                    self.byte_cap = Some(self.byte_cap.map_or(cap, |old| old.min(cap)));
                }
                self.refusals = self.refusals.saturating_add(1);
                self.failed(id);
                if self.refusals > REFUSALS_OF_ONE {
                    self.wait = Some(now + self.setback(view.config, view.config.retry.max_backoff.0));
                }
                self.refused(view, &batch, too_large, error)
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
                self.hold_off(view, verdict);
                self.park(now, id, lone)
            }
        }
    }

    /// An answer that says nothing about a batch, but when to come back.
    fn hold_off(&mut self, view: &View<'_>, verdict: &Verdict) {
        let (now, retry) = (view.now, &view.config.retry);
        match verdict {
            Verdict::Throttled { retry_after: Some(asked) } if !asked.is_zero() => {
                self.throttle = Some(now + self.spread((*asked).min(retry.max_retry_after.0)));
            }
            Verdict::Throttled { .. } => {
                self.wait = Some(now + self.setback(view.config, retry.max_backoff.0));
            }
            // Somebody has to act; but a mended server must be found without anybody at the device.
            Verdict::Unauthorized => self.stop = Some((Phase::AuthRequired, now + retry.max_backoff.0)),
            Verdict::Misplaced => self.stop = Some((Phase::Misconfigured, now + retry.max_backoff.0)),
            _ => {
                let longest = retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
                self.wait = Some(now + self.setback(view.config, longest));
            }
        }
    }

    /// A look-up was answered. None: ask again later.
    pub fn looked_up(&mut self, view: &View<'_>, id: BatchId, found: &LookUp) -> Option<Disposition> {
        let now = view.now;
        let entry = self.open.get(&id)?;
        let Step::LookUp { tries, since, doubt, .. } = entry.step else {
            return None;
        };
        let (batch, lone) = (entry.batch.clone(), entry.evidence.counted);
        match found {
            LookUp::Completed(results) => Some(self.closed_by(now, &batch, results, view.wall_ms)),
            LookUp::Processing { retry_after } => {
                let limit = view.config.server.request_timeout.0;
                if now.saturating_sub(since) >= limit.mul_f64(LOOK_UP_LIMITS) {
                    let disposition = self.not_there(view, &batch, doubt, None);
                    // Under the old id, the server would answer that it is still at it.
                    return Some(match (disposition, self.open.get(&id).map(|entry| entry.step)) {
                        (Disposition::Keep { .. }, Some(Step::Send { due })) => self.rename(id, due),
                        (disposition, _) => disposition,
                    });
                }
                let wait = retry_after.unwrap_or_default().max(Self::look_up_wait(view.config, tries + 1));
                // However long the server asks for: it is given up on at its limit.
                let wait = wait.min(limit.mul_f64(LOOK_UP_LIMITS));
                self.set(id, Step::LookUp { due: now + wait, tries: tries + 1, since, doubt });
                None
            }
            LookUp::Unknown => Some(self.not_there(view, &batch, doubt, None)),
            LookUp::Unsupported => {
                self.look_up_missing = true;
                Some(self.not_there(view, &batch, doubt, None))
            }
            // For good, perhaps: one record at fault must not keep the others of its batch.
            LookUp::Failed if batch.attempt >= SENDS_WITHOUT_LOOK_UP => {
                Some(self.not_there(view, &batch, doubt, None))
            }
            // The same id again is safe: the server has promised to know it.
            LookUp::Failed => {
                let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
                self.wait = Some(now + self.setback(view.config, longest));
                Some(self.park(now, id, lone))
            }
        }
    }

    /// The store set the one record of a batch aside: its error, for the manifest.
    pub fn conviction(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let entry = self.open.remove(&id);
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

    /// A part that was never sent is too large for a server that struggles.
    pub fn division(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let batch = self.open.remove(&id).map(|entry| entry.batch);
        let (stage, records) =
            batch.map_or((Stage::Micro, 0), |batch| (batch.stage.max(Stage::Half), batch.records));
        let cut = isolation::cut(stage, records, view.config.batch.micro_batch);
        let cut = cut.unwrap_or_else(|| isolation::halves(records.max(1)));
        Disposition::Cut { cut, error: None }
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
    fn not_there(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        doubt: Doubt,
        error: Option<LastError>,
    ) -> Disposition {
        let now = view.now;
        let suspect = is_suspect(batch, doubt);
        // In an outage a cut helps nobody; but a batch that fails probe after probe may be the outage.
        let outage =
            matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing) && batch.attempt < PROBES_OF_ONE;
        if suspect
            && !outage
            && let Some(cut) = isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch)
        {
            self.open.remove(&batch.id);
            return Disposition::Cut { cut, error };
        }
        let mut due = now;
        let mut lone = batch.lone_failures;
        let last_success = self.undisturbed_success();
        if let Some(entry) = self.open.get_mut(&batch.id) {
            if suspect && batch.records == 1 {
                let counted = entry.evidence.counted;
                entry.evidence.failed_alone(now, last_success);
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
        keep(BatchPhase::Waiting, lone, error)
    }

    /// The server refused the request as such.
    fn refused(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        too_large: bool,
        error: &LastError,
    ) -> Disposition {
        if batch.records > 1 {
            self.open.remove(&batch.id);
            let cut = if too_large {
                Some(isolation::halves(batch.records))
            } else {
                isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch)
            };
            let cut = cut.unwrap_or_else(|| isolation::halves(batch.records));
            return Disposition::Cut { cut, error: (!too_large).then(|| error.clone()) };
        }
        // Refused alone is the record's fault, unless the server refuses everybody: it needs one
        // bracket of successes, as a failure needs several.
        self.control_wanted = true;
        let mut lone = batch.lone_failures;
        let last_success = self.undisturbed_success();
        if let Some(entry) = self.open.get_mut(&batch.id) {
            entry.evidence.failed_alone(view.now, last_success);
            entry.refusal = Some(error.clone());
            lone = entry.evidence.counted;
        }
        let retry = &view.config.retry;
        let wait = backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, batch.attempt, &mut self.rng);
        self.set(batch.id, Step::Send { due: view.now + wait });
        keep(BatchPhase::Waiting, lone, Some(error.clone()))
    }

    /// The server answered for the records of a batch.
    fn closed_by(
        &mut self,
        now: Duration,
        batch: &OpenBatch,
        results: &[RecordResult],
        at: u64,
    ) -> Disposition {
        self.open.remove(&batch.id);
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
    fn succeeded(&mut self, now: Duration, results: &[RecordResult]) {
        self.setbacks = 0;
        self.wait = None;
        self.throttle = None;
        self.stop = None;
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

    /// What was too large once may fit another day; but each try costs a body that is sent in vain.
    fn give_bytes_back(&mut self, config: &Config, batch: &OpenBatch) {
        let Some(cap) = self.byte_cap else { return };
        if batch.stage == Stage::Fresh && batch.bytes > cap - cap / BYTE_CAP_NEAR {
            let raised = cap + cap / BYTE_CAP_STEP;
            self.byte_cap = Some(raised).filter(|raised| *raised < config.batch.max_batch_bytes.0);
        }
    }

    fn rename(&mut self, id: BatchId, due: Duration) -> Disposition {
        let (evidence, refusal) =
            self.open.remove(&id).map(|entry| (entry.evidence, entry.refusal)).unwrap_or_default();
        self.carried = Some(Carried { from: id, evidence, refusal, due });
        Disposition::Rename { lone_failures: evidence.counted }
    }

    /// A batch failed. Whoever else waited for a success after its own failure waits in vain: it
    /// seems to be the server.
    fn failed(&mut self, id: BatchId) {
        self.others_failed |= self.failing.replace(id).is_some_and(|other| other != id);
        for (_, entry) in self.open.iter_mut().filter(|(other, _)| **other != id) {
            entry.evidence.others_failed();
        }
    }

    /// When others got through, with nothing but the one batch at issue failing since.
    fn undisturbed_success(&self) -> Option<Duration> {
        self.last_success.filter(|_| !self.others_failed)
    }

    fn park(&mut self, now: Duration, id: BatchId, lone_failures: u32) -> Disposition {
        self.set(id, Step::Send { due: now });
        keep(BatchPhase::Waiting, lone_failures, None)
    }

    fn look_up_wait(config: &Config, tries: usize) -> Duration {
        let wait = LOOK_UP_WAITS[tries.min(LOOK_UP_WAITS.len() - 1)];
        // A server with a short limit has its outcome sooner.
        wait.min(config.server.request_timeout.0 / 4)
    }

    fn setback(&mut self, config: &Config, longest: Duration) -> Duration {
        self.setbacks = self.setbacks.saturating_add(1);
        let first = config.retry.initial_backoff.0.min(longest);
        backoff::delay(first, longest, self.setbacks, &mut self.rng)
    }

    fn spread(&mut self, wait: Duration) -> Duration {
        let most = wait.mul_f64(RETRY_AFTER_SPREAD).min(RETRY_AFTER_SPREAD_MAX);
        wait + backoff::between(Duration::ZERO, most, &mut self.rng)
    }
}

/// A lost connection speaks of the link, the second time of the batch.
fn is_suspect(batch: &OpenBatch, doubt: Doubt) -> bool {
    doubt != Doubt::Lost || batch.attempt > 1
}

fn keep(phase: BatchPhase, lone_failures: u32, error: Option<LastError>) -> Disposition {
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
