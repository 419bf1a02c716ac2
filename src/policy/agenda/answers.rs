//! What becomes of a batch once its answer came, or did not: the agenda's other half.

use std::time::Duration;

use super::{Agenda, Disposition, Outcome, Step, View};
use crate::config::{Config, OutcomeLookup};
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Phase};
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
/// Extra wait on top of `Retry-After`, so that a fleet does not return in step.
const RETRY_AFTER_SPREAD: f64 = 0.05;
const RETRY_AFTER_SPREAD_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two tries of an address that cannot be reached.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(15);

impl Agenda {
    /// The batch was not sent after all.
    pub fn held_back(&mut self, now: Duration, id: BatchId) -> Disposition {
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
                self.closed_by(now, &batch, results, error.at)
            }
            Verdict::Ambiguous(doubt) => {
                if *doubt == Doubt::TimedOut {
                    self.service.timed_out(batch.records);
                }
                self.control_wanted = true;
                if view.config.server.outcome_lookup == OutcomeLookup::Off || self.look_up_missing {
                    return self.not_there(view, &batch, *doubt, Some(error.clone()));
                }
                let since = now.saturating_sub(took);
                let due = now + Self::look_up_wait(view.config, 0);
                self.set(id, Step::LookUp { due, tries: 0, since, doubt: *doubt });
                keep(BatchPhase::Unclear, lone, Some(error.clone()))
            }
            Verdict::StillProcessing { retry_after } => {
                let wait = retry_after.unwrap_or(LOOK_UP_WAITS[1]).min(view.config.retry.max_retry_after.0);
                let step = if self.look_up_missing || view.config.server.outcome_lookup == OutcomeLookup::Off
                {
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
                self.refused(view, &batch, too_large, error)
            }
            Verdict::BatchIdReused => self.rename(id, now),
            Verdict::EncodingRefused => self.park(now, id, lone),
            Verdict::Unreachable | Verdict::Interfered => {
                let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
                self.wait = Some(now + self.setback(view.config, longest));
                self.park(now, id, lone)
            }
            Verdict::Throttled { retry_after } => {
                let wait = match retry_after {
                    Some(asked) => self.spread((*asked).min(view.config.retry.max_retry_after.0)),
                    None => self.setback(view.config, view.config.retry.max_backoff.0),
                };
                self.wait = Some(now + wait);
                self.park(now, id, lone)
            }
            Verdict::Unauthorized | Verdict::Misplaced => {
                let phase =
                    if *verdict == Verdict::Misplaced { Phase::Misconfigured } else { Phase::AuthRequired };
                // Somebody has to act; but a mended server must be found without anybody at the device.
                self.stop = Some((phase, now + view.config.retry.max_backoff.0));
                self.park(now, id, lone)
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
        let times = self.open.remove(&id).map_or(0, |entry| entry.evidence.counted);
        let error = LastError {
            class: "isolated".into(),
            http_status: None,
            code: Some("FAILED_ALONE".into()),
            message: format!("failed alone {times} times while other records got through around it"),
            at: view.wall_ms,
        };
        Disposition::Close { outcomes: Vec::new(), missing: Outcome::Quarantine(error) }
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
        let suspect = doubt != Doubt::Lost || batch.attempt > 1;
        let outage = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        if suspect
            && !outage
            && let Some(cut) = isolation::cut(batch.stage, batch.records, view.config.batch.micro_batch)
        {
            self.open.remove(&batch.id);
            return Disposition::Cut { cut, error };
        }
        let mut due = now;
        let mut lone = batch.lone_failures;
        let last_success = self.last_success;
        if let Some(entry) = self.open.get_mut(&batch.id) {
            if suspect && batch.records == 1 {
                entry.evidence.failed_alone(now, last_success);
                let retry = &view.config.retry;
                due += backoff::delay(
                    retry.initial_backoff.0,
                    retry.max_backoff.0,
                    batch.attempt,
                    &mut self.rng,
                );
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
        // Refused alone is the record's fault, unless the server refuses everybody.
        if isolation::near(self.last_success, view.now) {
            self.open.remove(&batch.id);
            return Disposition::Close { outcomes: Vec::new(), missing: Outcome::Quarantine(error.clone()) };
        }
        self.control_wanted = true;
        let retry = &view.config.retry;
        let wait = backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, batch.attempt, &mut self.rng);
        self.set(batch.id, Step::Send { due: view.now + wait });
        keep(BatchPhase::Waiting, batch.lone_failures, Some(error.clone()))
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
        self.setbacks = 0;
        self.wait = None;
        self.stop = None;
        let stored =
            |result: &RecordResult| matches!(result.status, RecordStatus::Applied | RecordStatus::Duplicate);
        if results.iter().any(stored) {
            self.last_success = Some(now);
            self.control_wanted = false;
            for entry in self.open.values_mut() {
                // One control is enough for one more test.
                if entry.evidence.wants_control()
                    && entry.evidence.others_succeeded(now)
                    && let Step::Send { due } = &mut entry.step
                {
                    *due = now;
                }
            }
        }
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

    fn rename(&mut self, id: BatchId, due: Duration) -> Disposition {
        let evidence = self.open.remove(&id).map(|entry| entry.evidence).unwrap_or_default();
        self.carried = Some((id, evidence, due));
        Disposition::Rename { lone_failures: evidence.counted }
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
