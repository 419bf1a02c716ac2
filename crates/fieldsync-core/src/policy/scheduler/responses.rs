//! How a batch continues after a response, or without one.

use std::time::Duration;

use super::denials::OtherTraffic;
use super::query_timing::{PROCESSING_WAIT_MIN, query_wait};
use super::tracked_batch::{NextStep, PendingQuery};
use super::{Disposition, Outcome, Scheduler, View};
use crate::config::Config;
use crate::model::{BatchId, LastError, OpenBatch, Stage};
use crate::policy::in_flight::MeasuredBatch;
use crate::policy::service_time::Measured;
use crate::policy::verdict::{Ambiguity, UploadResult, Verdict};
use crate::protocol::exchange::{ServerHints, truncate_text};
use crate::protocol::wire::{RecordResult, RecordStatus};

/// The status of a gateway's response after its time limit.
const GATEWAY_TIMEOUT_STATUS: u16 = 504;
/// The status of a server that has too many requests.
const TOO_MANY_REQUESTS_STATUS: u16 = 429;

impl Scheduler {
    /// The batch was not sent after all: it waits briefly for the obstacle to disappear.
    pub fn defer_send(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        self.waits.pause(view, view.now, view.config.retry.initial_backoff.0, &mut self.rng);
        self.withdraw_send(view, id)
    }

    /// The batch was not sent after all, because a wait began in the meantime.
    pub fn withdraw_send(&mut self, view: &View<'_>, id: BatchId) -> Disposition {
        let lone_failures = self.open.get(id).map_or(0, |tracked| tracked.batch.lone_failures);
        let disposition = self.send_again(view.now, id, lone_failures);
        self.search.log.forget_send(id);
        self.end_send(view.now, id);
        disposition
    }

    /// Handles the response to a batch, or its absence.
    pub fn on_response(&mut self, view: &View<'_>, id: BatchId, result: &UploadResult) -> Disposition {
        let disposition = self.continue_by_response(view, id, result);
        self.end_send(view.now, id);
        disposition
    }

    fn continue_by_response(&mut self, view: &View<'_>, id: BatchId, result: &UploadResult) -> Disposition {
        let now = view.now;
        if self.open.get(id).is_some_and(|tracked| tracked.is_at_former_server) {
            return self.settle_at_former_server(view, id, result);
        }
        if let Some(hints) = result.hints {
            self.take_hints(hints, &result.verdict);
        }
        let Some(tracked) = self.open.get_mut(id) else {
            return Disposition::keep_unclear(None, 0);
        };
        if !result.verdict.is_denial() && result.verdict != Verdict::Unreachable {
            tracked.denials.forget();
        }
        let (batch, lone_failures) = (tracked.batch.clone(), tracked.lone_failures());
        let sent_at = tracked.sent_at;
        match &result.verdict {
            Verdict::Completed(results) => {
                let measured = self.learn_from_results(view, &batch, results, result);
                let disposition = self.close_completed(view, id, sent_at, results, result.error.at);
                if let Some(measured) = measured {
                    self.update_window(view, |window, prospects, rng| {
                        window.record_response(now, &measured, prospects, rng);
                    });
                }
                disposition
            }
            Verdict::Ambiguous(ambiguity) => {
                self.learn_from_silence(view, &batch, *ambiguity, result);
                self.search.want_canary();
                self.record_failure(now, id);
                self.await_outcome(view, &batch, *ambiguity, result)
            }
            Verdict::StillProcessing { retry_after } => self.await_processing(view, &batch, *retry_after),
            Verdict::Refused(_) | Verdict::TooLarge => {
                let is_by_size =
                    result.verdict == Verdict::TooLarge && self.learned.bytes.record_refusal(batch.bytes);
                self.record_failure(now, id);
                if self.search.request_refused() {
                    self.waits.pause(view, sent_at, view.config.retry.max_backoff.0, &mut self.rng);
                }
                self.bisect_refused(view, &batch, is_by_size, result)
            }
            Verdict::BatchIdReused => {
                // A server that responds so to every id must not be asked without end.
                self.waits.pause(view, sent_at, view.config.retry.max_backoff.0, &mut self.rng);
                if self.open.get(id).is_some_and(|tracked| tracked.is_renamed) {
                    self.record_failure(now, id);
                    return self.bisect_refused(view, &batch, false, result);
                }
                self.rename(id, now)
            }
            Verdict::EncodingRefused => self.send_again(now, id, lone_failures),
            Verdict::Unreachable => {
                self.waits.wait_for_link(view, sent_at, &mut self.rng);
                self.send_again(now, id, lone_failures)
            }
            denial @ (Verdict::Intercepted
            | Verdict::Throttled { .. }
            | Verdict::Unauthorized
            | Verdict::EndpointNotFound) => {
                if result.error.http_status == Some(TOO_MANY_REQUESTS_STATUS) && self.narrow_window(view, id)
                {
                    let may_query = self.server.may_query(view.config);
                    self.waits.back_off(view, sent_at, denial, may_query, &mut self.rng);
                    return self.send_again(now, id, lone_failures);
                }
                if result.error.http_status.is_some() {
                    return self.on_denial(view, &batch, result);
                }
                // No request was sent: a file of this device cannot be used.
                let may_query = self.server.may_query(view.config);
                self.waits.back_off(view, sent_at, denial, may_query, &mut self.rng);
                self.waits.confirm();
                self.send_again(now, id, lone_failures)
            }
        }
    }

    /// What the former server did with a batch counts, and says nothing about the present one.
    fn settle_at_former_server(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        result: &UploadResult,
    ) -> Disposition {
        let lone_failures = self.open.lone_failures(id);
        match &result.verdict {
            Verdict::Completed(results) => {
                self.close_batch(id, true);
                close_by_results(view.config, results, result.error.at)
            }
            Verdict::Ambiguous(_) | Verdict::StillProcessing { .. } => {
                let (due, ambiguity) = (view.now, Ambiguity::ConnectionLost);
                let query = PendingQuery { due, tries: 0, since: view.now, ambiguity };
                self.open.set_step(id, NextStep::Query(query));
                Disposition::keep_unclear(None, lone_failures)
            }
            _ => self.send_again(view.now, id, lone_failures),
        }
    }

    /// Hints hold until the next response of the server's own.
    fn take_hints(&mut self, hints: ServerHints, verdict: &Verdict) {
        self.hints = hints;
        // An error without the header may come from something in front of the server.
        if hints.holds_keys || matches!(verdict, Verdict::Completed(_)) {
            self.learned.holds_keys = hints.holds_keys;
        }
    }

    /// The server is processing the batch from an earlier send.
    fn await_processing(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        retry_after: Option<Duration>,
    ) -> Disposition {
        let (now, id) = (view.now, batch.id);
        let since = self.open.get_mut(id).map_or(now, |tracked| tracked.processing_since(now));
        if self.is_overdue(view, since) {
            self.record_failure(now, id);
            return self.bisect_overdue(view, batch, Ambiguity::TimedOut);
        }
        let tries = usize::try_from(batch.attempt).unwrap_or(usize::MAX);
        let shortest = PROCESSING_WAIT_MIN.max(query_wait(view.config, tries));
        let asked = retry_after.unwrap_or(shortest).max(shortest);
        let due = now + asked.min(self.processing_limit(view.config));
        let step = if self.server.may_query(view.config) {
            NextStep::Query(PendingQuery { due, tries: 1, since, ambiguity: Ambiguity::TimedOut })
        } else {
            NextStep::Send { due }
        };
        if let Some(tracked) = self.open.get_mut(id) {
            // If it turns out to have failed, what happened around this send is the evidence.
            if batch.records == 1 {
                tracked.record_unconfirmed_failure(now, &self.search.log);
            }
            tracked.is_processing = true;
            tracked.step = step;
        }
        Disposition::keep_unclear(None, self.open.lone_failures(id))
    }

    /// Returns how long the server took, where that is a measurement.
    fn learn_from_results(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        results: &[RecordResult],
        result: &UploadResult,
    ) -> Option<MeasuredBatch> {
        let config = view.config;
        self.learned.glitches.record_send();
        if !result.is_replayed {
            self.learned.time_limit.record_response(result.elapsed);
        }
        let most = config.batch.max_batch_bytes.0;
        self.learned.bytes.record_acceptance(batch.bytes, most, batch.stage == Stage::Fresh);
        // Records that the server already had are not a measurement of the time to apply a record.
        let is_known =
            result.is_replayed || results.iter().any(|record| record.status == RecordStatus::Duplicate);
        if batch.attempt != 1 || is_known {
            return None;
        }
        let limit = self.time_limit(config);
        let wait = result.elapsed.saturating_sub(result.network.sent.unwrap_or_default());
        let tracked = self.open.get(batch.id)?;
        let under_way = self.average_under_way(view.now, tracked);
        let service = self.learned.service_mut();
        let measured = Measured { under_way, ..Measured::alone(wait) };
        service.record_response(&tracked.load, measured, limit);
        if batch.stage == Stage::Fresh {
            service.record_fit(batch.records, wait);
        }
        Some(tracked.as_measured(wait, under_way))
    }

    fn learn_from_silence(
        &mut self,
        view: &View<'_>,
        batch: &OpenBatch,
        ambiguity: Ambiguity,
        result: &UploadResult,
    ) {
        self.learned.glitches.record_send();
        match ambiguity {
            Ambiguity::ConnectionLost | Ambiguity::LinkTooSlow if result.network.sent.is_none() => {
                self.learned.bytes.record_cut(batch.bytes);
            }
            Ambiguity::TimedOut if result.error.http_status == Some(GATEWAY_TIMEOUT_STATUS) => {
                let longest = self.learned.service.longest_recent();
                let configured = view.config.server.request_timeout.0;
                self.learned.time_limit.record_timeout(result.elapsed, longest, configured);
            }
            _ => {}
        }
        // The time-out of a part speaks of a record in it, not of the size.
        if ambiguity != Ambiguity::TimedOut || batch.stage != Stage::Fresh {
            return;
        }
        let Some(tracked) = self.open.get(batch.id) else { return };
        let under_way = self.average_under_way(view.now, tracked);
        let measured = tracked.as_measured(result.elapsed, under_way);
        // Batches that were under way together time out for one reason.
        if self.last_timeout_at.is_none_or(|last| measured.sent_at >= last) {
            self.learned.service_mut().record_timeout(batch.records);
            self.last_timeout_at = Some(view.now);
        }
        self.update_window(view, |window, prospects, rng| {
            window.record_timeout(view.now, &measured, prospects, rng);
        });
    }

    /// The server gave results for the records of a batch.
    pub(super) fn close_completed(
        &mut self,
        view: &View<'_>,
        id: BatchId,
        sent_at: Duration,
        results: &[RecordResult],
        at: u64,
    ) -> Disposition {
        self.close_batch(id, true);
        if results.iter().any(|result| result.status.is_stored()) {
            self.search.log.record_success(view.now, id);
        }
        self.on_success(view, sent_at, results);
        close_by_results(view.config, results, at)
    }

    /// The server works: it gave results for records, to a request that was sent then.
    pub(super) fn on_success(&mut self, view: &View<'_>, sent_at: Duration, results: &[RecordResult]) {
        self.waits.batch_completed(sent_at);
        self.server.batch_completed();
        if !results.iter().any(|result| result.status.is_stored()) {
            return self.open.note_traffic(None, OtherTraffic::Answered);
        }
        self.search.records_stored(view.now);
        self.release_denied(view);
        for tracked in self.open.iter_mut() {
            tracked.others_succeeded(view.now);
        }
    }

    /// The batch continues under a new id.
    pub(super) fn rename(&mut self, id: BatchId, due: Duration) -> Disposition {
        let Some(tracked) = self.close_batch(id, false) else {
            return Disposition::Rename { lone_failures: 0 };
        };
        let lone_failures = tracked.lone_failures();
        self.search.batch_renamed(tracked, due);
        Disposition::Rename { lone_failures }
    }

    /// The same batch is sent again, under the same id.
    pub(super) fn send_again(&mut self, now: Duration, id: BatchId, lone_failures: u32) -> Disposition {
        self.open.set_step(id, NextStep::Send { due: now });
        Disposition::keep_waiting(lone_failures)
    }
}

/// Each record continues by its own result.
fn close_by_results(config: &Config, results: &[RecordResult], at: u64) -> Disposition {
    let missing = LastError {
        class: "no_result".into(),
        http_status: None,
        code: None,
        message: "the server's answer has no result for this record".into(),
        field: None,
        at,
    };
    let outcomes = results.iter().map(|result| (result.id, outcome_of(result, at))).collect();
    let retry_after = longest_retry_after(results).min(config.retry.max_retry_after.0);
    Disposition::Close { outcomes, missing: Outcome::Retry(missing), retry_after }
}

/// The longest wait that the server asks for. Records that are sent again wait together, so that they travel together.
fn longest_retry_after(results: &[RecordResult]) -> Duration {
    let retried = results.iter().filter(|result| result.status == RecordStatus::Retry);
    Duration::from_secs(retried.filter_map(|result| result.retry_after_s).max().unwrap_or_default())
}

fn outcome_of(result: &RecordResult, at: u64) -> Outcome {
    let error = |class: &str, field: Option<&String>| LastError {
        class: class.into(),
        http_status: Some(200),
        code: result.code.clone().map(truncate_text),
        message: truncate_text(result.message.clone().unwrap_or_default()),
        field: field.cloned().map(truncate_text),
        at,
    };
    match result.status {
        RecordStatus::Applied | RecordStatus::Duplicate => Outcome::Synced(result.receipt.clone()),
        RecordStatus::Rejected => Outcome::Quarantine(error("rejected", result.field.as_ref())),
        RecordStatus::Retry => Outcome::Retry(error("retry", None)),
    }
}
