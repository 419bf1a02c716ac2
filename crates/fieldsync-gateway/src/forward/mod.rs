//! Forwards applied records to another server, each at least once, in the order in which they were applied.
//!
//! It sends `POST URL` with `{"records": […]}`. Each record has the form of a line of `GET /ledger`. The same
//! body has the same `Idempotency-Key`. A body that was not accepted is sent again unchanged; it is cut
//! differently only after a rejection, after a restart, or when another gateway takes over. The `id` of a
//! record never changes, and `seq` only grows.
//!
//! - The append-only table is the queue. The ledger stores the last `seq` that was accepted, and all later
//!   entries wait. So settling a batch takes no extra work, and devices do not wait for the target.
//! - **2xx**: accepted. Any other response, and no response: retry with growing delays. 401, 403, 404 and 405
//!   concern the endpoint or the token, so the token file is read again. A rejection (any other 4xx except
//!   408 and 429) is retried in ever smaller parts, until the log names the rejected record. No record is
//!   skipped: later records wait until an operator has resolved the rejection.
//! - One body is in flight at a time, and of the gateways that share a ledger only one forwards. Another takes
//!   over when that one ends, or fails to reach the target several times in a row. What was in flight then
//!   is sent again.

mod options;
mod target;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::time::sleep;

pub(crate) use options::{ForwardFlags, ForwardOptions};
use target::PostOutcome;
pub(crate) use target::{ForwardTarget, ForwardTargetError};

use super::applied_entry::AppliedEntryJson;
use super::batch_processor::BatchProcessor;
use super::ledger::{AppliedEntry, ForwardTurn, LedgerError, PageLimit};
use super::metrics::Metrics;
use crate::causes::with_causes;
use crate::clock::millis;
use crate::model::RecordId;
use crate::policy::backoff;

/// Payload in one body; a larger record is sent alone.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The first wait after a failure.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);
/// After so many failures in a row to reach the target, another gateway may try.
const FAILURES_BEFORE_YIELD: u32 = 3;
/// How long the other gateways have to take over: they check every [`SHARED_LEDGER_POLL_INTERVAL`].
const YIELD_TIME_MIN: Duration = Duration::from_secs(3);
/// How often a gateway checks a shared ledger for what other gateways did.
const SHARED_LEDGER_POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Forwarder {
    target: ForwardTarget,
    processor: Arc<BatchProcessor>,
    metrics: Arc<Metrics>,
    max_records: usize,
    max_wait: Duration,
    rng: fastrand::Rng,
    /// Most records of the next body: fewer after a rejection.
    page_size: usize,
    /// In a row.
    failures: u32,
}

#[derive(Serialize)]
struct ForwardBody<'a> {
    records: Vec<AppliedEntryJson<'a>>,
}

/// What to do after a page.
enum ForwardStep {
    Continue,
    /// Wait until there may be more records.
    AwaitRecords,
    Wait(Duration),
    /// Wait, and let another gateway try: the cause may be this gateway's alone.
    Yield(Duration),
}

impl Forwarder {
    pub(crate) fn new(
        options: &ForwardOptions,
        target: ForwardTarget,
        processor: Arc<BatchProcessor>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            target,
            processor,
            metrics,
            max_records: options.max_records.get(),
            max_wait: options.max_wait.0,
            rng: fastrand::Rng::new(),
            page_size: options.max_records.get(),
            failures: 0,
        }
    }

    /// Forwards present and future records, for ever.
    pub(crate) async fn run_forever(mut self) {
        loop {
            let step = match self.forward_page().await {
                Ok(step) => step,
                Err(error) => {
                    tracing::error!(error = with_causes(&error), "records are not forwarded: they wait");
                    self.failures += 1;
                    ForwardStep::Wait(self.retry_delay(self.failures))
                }
            };
            match step {
                ForwardStep::Continue => {}
                ForwardStep::Wait(time) => sleep(time).await,
                ForwardStep::Yield(time) => self.yield_to_others(time).await,
                ForwardStep::AwaitRecords if self.processor.is_shared() => tokio::select! {
                    () = self.processor.wait_for_applied() => {}
                    () = sleep(SHARED_LEDGER_POLL_INTERVAL) => {}
                },
                ForwardStep::AwaitRecords => self.processor.wait_for_applied().await,
            }
        }
    }

    async fn forward_page(&mut self) -> Result<ForwardStep, LedgerError> {
        let limit = PageLimit { rows: self.page_size, bytes: PAYLOAD_BYTES_MAX };
        let (page, waiting) = match self.processor.next_to_forward(limit).await? {
            ForwardTurn::OtherGateway => {
                self.metrics.set_forward_waiting(0);
                return Ok(ForwardStep::AwaitRecords);
            }
            ForwardTurn::ThisGateway { page, waiting } => (page, waiting),
        };
        self.metrics.set_forward_waiting(waiting);
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Ok(ForwardStep::AwaitRecords);
        };
        let count = page.len();
        let size_before = std::mem::replace(&mut self.page_size, count);
        let outcome = self.target.post_records(encode_body(&page)?).await;
        if outcome.is_accepted() {
            self.processor.mark_forwarded(last.seq).await?;
            let accepted = u64::try_from(count).unwrap_or(u64::MAX);
            self.metrics.count_forwarded(accepted);
            self.metrics.set_forward_waiting(waiting.saturating_sub(accepted));
            if self.failures > 0 {
                tracing::info!(records = count, "records are forwarded again");
            }
            self.failures = 0;
            self.page_size = (size_before * 2).min(self.max_records);
            return Ok(ForwardStep::Continue);
        }
        self.failures += 1;
        let wait = self.prepare_retry(&outcome, count);
        log_failure(&outcome, first.id, count, waiting, millis(wait));
        let may_succeed_elsewhere =
            matches!(outcome, PostOutcome::Failed(_) | PostOutcome::EndpointUnavailable(_));
        if may_succeed_elsewhere && self.failures >= FAILURES_BEFORE_YIELD && self.processor.is_shared() {
            return Ok(ForwardStep::Yield(wait));
        }
        Ok(ForwardStep::Wait(wait))
    }

    /// Adapts to a failure, and returns how long to wait.
    fn prepare_retry(&mut self, outcome: &PostOutcome, count: usize) -> Duration {
        match outcome {
            PostOutcome::Rejected(_) if count > 1 => {
                self.page_size = count.div_ceil(2);
                self.retry_delay(1)
            }
            PostOutcome::Rejected(_) => self.max_wait,
            PostOutcome::EndpointUnavailable(_) => {
                if let Err(error) = self.target.reload_token() {
                    let error = with_causes(&error);
                    tracing::warn!(
                        error,
                        "the token file for forwarding cannot be read: the old token stays in use"
                    );
                }
                self.retry_delay(self.failures)
            }
            PostOutcome::RetryLater { after: Some(after), .. } => {
                (*after).min(self.max_wait).max(self.retry_delay(self.failures))
            }
            _ => self.retry_delay(self.failures),
        }
    }

    async fn yield_to_others(&mut self, time: Duration) {
        match self.processor.yield_forwarding().await {
            Ok(()) => {
                self.metrics.set_forward_waiting(0);
                sleep(time.max(YIELD_TIME_MIN)).await;
            }
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "no other gateway can take over forwarding now");
                sleep(time).await;
            }
        }
    }

    fn retry_delay(&mut self, failures: u32) -> Duration {
        backoff::backoff_delay(FIRST_RETRY_DELAY.min(self.max_wait), self.max_wait, failures, &mut self.rng)
    }
}

fn log_failure(outcome: &PostOutcome, record_id: RecordId, records: usize, waiting: u64, wait_ms: u64) {
    match outcome {
        PostOutcome::Rejected(status) => tracing::error!(
            %record_id, records, waiting, http_status = status, wait_ms,
            "forwarded records were rejected: they wait, and so do all later records"
        ),
        PostOutcome::EndpointUnavailable(status) => tracing::error!(
            %record_id, records, waiting, http_status = status, wait_ms,
            "records cannot be forwarded: check the URL and the token; the records wait"
        ),
        PostOutcome::RetryLater { status, .. } => tracing::warn!(
            %record_id, records, waiting, http_status = status, wait_ms,
            "records were not accepted now: they wait"
        ),
        PostOutcome::Failed(error) => tracing::warn!(
            %record_id, records, waiting, error, wait_ms, "records could not be forwarded: they wait"
        ),
        PostOutcome::Accepted => {}
    }
}

fn encode_body(page: &[AppliedEntry]) -> Result<Bytes, serde_json::Error> {
    let records = page.iter().map(AppliedEntryJson::from_entry).collect::<Result<_, _>>()?;
    Ok(serde_json::to_vec(&ForwardBody { records })?.into())
}
