//! Forwards applied records to another server, each at least once, those of a device and key in order.
//!
//! It sends `POST URL` with `{"records": […]}`, or with `CloudEvents`. Each record has the form of a line of
//! `GET /ledger`, and its payload. The same body has the same `Idempotency-Key`. A body that was not accepted is sent again
//! unchanged; it is cut differently only after a rejection, after a restart, or when another gateway takes over.
//! The `id` of a record never changes, and within a key `seq` only grows.
//!
//! - The queue is the outbox of the ledger: a record is in it, with its payload, from the commit that applies it until
//!   it was handed on. Devices do not wait for the target.
//! - **2xx**: accepted, or with results, accepted record by record. 401, 403, 404 and 405 concern the endpoint or
//!   its secrets, so the files are read again. **410**: nothing is sent until a reload, but for a probe now and then.
//!   A rejection (any other 4xx except 408 and 429) is repeated in ever smaller parts, until one record is left.
//!   After any other response, and without one: retry with growing delays.
//! - A record that is rejected needs review at the gateway, and a record that is to be sent later waits.
//!   Later records of its device and key wait behind it, see [`crate::ledger::RefusedLedger`]; others pass.
//! - One body is in flight at a time, and of the gateways that share a ledger only one forwards. Another takes
//!   over when that one ends, or fails to reach the target several times in a row. What was in flight then
//!   is sent again.

mod body;
mod lane_counter;
mod log;
mod options;
mod page;
mod response;
mod results;
mod signing;
mod target;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

use lane_counter::LaneCounter;
use log::{log_failure, log_refused, log_rejected_together};
pub(crate) use options::{ForwardFlags, ForwardOptions};
use page::ForwardPage;
use response::PostOutcome;
use results::{ForwardResult, ForwardResults};
pub(crate) use target::{ForwardTarget, ForwardTargetError};

use super::batch_processor::BatchProcessor;
use super::forward_control::ForwardControl;
use super::ledger::{AppliedRecord, ForwardTurn, LedgerError, PageLimit};
use super::ledger::{ForwardVerdict, HoldReason, LaneId, PageSettlement, PageSource};
use super::metrics::Metrics;
use crate::causes::with_causes;
use crate::clock::{millis, wall_ms};
use crate::model::RecordId;
use crate::policy::backoff;
use crate::protocol::wire::RecordStatus;

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
/// How often a receiver that was gone is tried without a reload.
const GONE_PROBE_INTERVAL: Duration = Duration::from_hours(1);
/// After so many pages in a row of which the receiver took nothing, there is a wait before the next one: it may
/// reject or defer everything.
const FRUITLESS_PAGES_BEFORE_WAIT: u32 = 3;
/// The longest wait that a receiver may ask for with one record.
const RECORD_RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// The longest such wait.
const FRUITLESS_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Forwarder {
    target: ForwardTarget,
    processor: Arc<BatchProcessor>,
    control: Arc<ForwardControl>,
    metrics: Arc<Metrics>,
    lane_counter: LaneCounter,
    max_records: usize,
    max_wait: Duration,
    rng: fastrand::Rng,
    /// Most records of the next body from each source: fewer after a rejection.
    outbox_rows: usize,
    lane_rows: usize,
    /// The next page is one of blocked lanes, if any are due.
    is_lane_turn: bool,
    /// In a row.
    failures: u32,
    /// Pages in a row of which the receiver took nothing.
    fruitless_pages: u32,
}

/// What to do after a page.
enum ForwardStep {
    Continue,
    /// Wait until another gateway may have ended.
    AwaitTurn,
    /// Wait until there may be more records, or until a lane is due.
    AwaitRecords {
        due_at: Option<u64>,
    },
    Wait(Duration),
    /// Wait, and let another gateway try: the cause may be this gateway's alone.
    Yield(Duration),
    /// Wait for a reload.
    Stop,
}

/// What there is to forward.
enum NextPage {
    OtherGateway,
    Nothing { due_at: Option<u64> },
    Page { page: ForwardPage, waiting: u64 },
}

impl Forwarder {
    pub(crate) fn new(
        options: &ForwardOptions,
        target: ForwardTarget,
        processor: Arc<BatchProcessor>,
        control: Arc<ForwardControl>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let max_records = options.max_records.get();
        let lane_counter = LaneCounter::new(Arc::clone(&processor), Arc::clone(&metrics));
        Self {
            target,
            processor,
            control,
            metrics,
            lane_counter,
            max_records,
            max_wait: options.max_wait.0,
            rng: fastrand::Rng::new(),
            outbox_rows: max_records,
            lane_rows: max_records,
            is_lane_turn: false,
            failures: 0,
            fruitless_pages: 0,
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
                ForwardStep::Continue => {
                    self.lane_counter.count_sometimes().await;
                    if self.control.wait_for_reload().now_or_never().is_some() {
                        self.reload_secrets();
                    }
                }
                ForwardStep::Wait(time) => {
                    self.lane_counter.count().await;
                    self.sleep_or_reload(time).await;
                }
                ForwardStep::Yield(time) => self.yield_to_others(time.max(YIELD_TIME_MIN)).await,
                ForwardStep::Stop => self.yield_to_others(GONE_PROBE_INTERVAL).await,
                ForwardStep::AwaitTurn => self.await_records(None).await,
                ForwardStep::AwaitRecords { due_at } => {
                    self.lane_counter.count().await;
                    self.await_records(due_at).await;
                }
            }
        }
    }

    async fn await_records(&mut self, due_at: Option<u64>) {
        let until_due = due_at.map(|due_at| Duration::from_millis(due_at.saturating_sub(wall_ms())));
        let poll = self.processor.is_shared().then_some(SHARED_LEDGER_POLL_INTERVAL);
        let timer = until_due.into_iter().chain(poll).min();
        tokio::select! {
            () = self.processor.wait_for_applied() => {}
            () = self.control.wait_for_review() => self.lane_counter.note_change(),
            () = self.control.wait_for_reload() => self.reload_secrets(),
            () = async { sleep(timer.unwrap_or_default()).await }, if timer.is_some() => {}
        }
    }

    async fn sleep_or_reload(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.control.wait_for_reload() => self.reload_secrets(),
        }
    }

    async fn forward_page(&mut self) -> Result<ForwardStep, LedgerError> {
        let (page, waiting) = match self.load_next_page().await? {
            NextPage::OtherGateway => {
                self.metrics.forward.set_waiting(0);
                self.lane_counter.report_none();
                return Ok(ForwardStep::AwaitTurn);
            }
            NextPage::Nothing { due_at } => return Ok(ForwardStep::AwaitRecords { due_at }),
            NextPage::Page { page, waiting } => (page, waiting),
        };
        let records = page.to_send();
        let Some(first) = records.first().map(|entry| entry.record.id) else {
            // All of them wait behind others.
            self.is_lane_turn = true;
            return self.settle_page(page.settle(wall_ms(), |_, _| ForwardVerdict::Behind), waiting).await;
        };
        let (rows, sent) = (page.len(), records.len());
        let rows_before = std::mem::replace(self.rows_of(page.source()), rows);
        let began = self.metrics.now();
        let outcome = self.processor.keep_claims_during(self.target.post_records(&records)).await;
        self.metrics.forward.count_request(outcome.label(), self.metrics.elapsed_since(began));
        drop(records);
        self.note_stopped(outcome == PostOutcome::Gone);
        let now = wall_ms();
        let settlement = match outcome {
            PostOutcome::Accepted => page.settle(now, |_, _| ForwardVerdict::Passed),
            PostOutcome::Results { results, .. } => {
                page.settle(now, |entry, attempts| self.judge_record(&results, &entry.record, attempts))
            }
            PostOutcome::Rejected { status, reason } if sent == 1 => {
                log_refused(first, Some(status));
                page.settle(now, |_, _| ForwardVerdict::Held { due_at: None, reason: reason.clone() })
            }
            PostOutcome::Rejected { status, .. } => {
                log_rejected_together(sent, status);
                *self.rows_of(page.source()) = rows.div_ceil(2);
                return Ok(ForwardStep::Continue);
            }
            failure => return Ok(self.handle_failure(&failure, first, sent, waiting)),
        };
        if self.failures > 0 {
            tracing::info!(records = sent, "records are forwarded again");
        }
        self.failures = 0;
        *self.rows_of(settlement.source) = (rows_before * 2).min(self.max_records);
        self.is_lane_turn = !self.is_lane_turn;
        self.settle_page(settlement, waiting).await
    }

    async fn load_next_page(&mut self) -> Result<NextPage, LedgerError> {
        let limit = PageLimit { rows: self.outbox_rows, bytes: PAYLOAD_BYTES_MAX };
        let (entries, waiting) = match self.processor.next_to_forward(limit).await? {
            ForwardTurn::OtherGateway => return Ok(NextPage::OtherGateway),
            ForwardTurn::ThisGateway { page, waiting } => (page, waiting),
        };
        self.metrics.forward.set_waiting(waiting);
        self.metrics.forward.set_oldest_waiting(entries.first().map(|entry| entry.record.applied_at));
        let may_repeat_keys = self.target.may_repeat_keys();
        let mut due_at = None;
        if self.is_lane_turn || entries.is_empty() {
            let limit = PageLimit { rows: self.lane_rows, ..limit };
            let per_lane = if may_repeat_keys { limit.rows } else { 1 };
            let lanes = self
                .processor
                .read_ledger(move |ledger| ledger.next_lane_records(wall_ms(), limit, per_lane))
                .await?;
            if !lanes.records.is_empty() {
                return Ok(NextPage::Page { page: ForwardPage::from_lanes(lanes), waiting });
            }
            due_at = lanes.next_due_at;
        }
        if entries.is_empty() {
            return Ok(NextPage::Nothing { due_at });
        }
        let lanes: Vec<LaneId> = entries.iter().map(|entry| LaneId::of_record(&entry.record)).collect();
        let blocked = self.processor.read_ledger(move |ledger| ledger.blocked_lanes(&lanes)).await?;
        Ok(NextPage::Page { page: ForwardPage::from_outbox(entries, &blocked, may_repeat_keys), waiting })
    }

    async fn settle_page(
        &mut self,
        settlement: PageSettlement,
        waiting: u64,
    ) -> Result<ForwardStep, LedgerError> {
        let (passed, has_held) = (settlement.count_passed(), settlement.has_held());
        let count = settlement.count_records();
        let (settled, changes_lanes) = match settlement.source {
            PageSource::Outbox => (count, passed < count),
            PageSource::Lanes => (0, true),
        };
        if !self.processor.write_ledger(move |ledger| ledger.settle_page(&settlement)).await? {
            return Ok(ForwardStep::Continue);
        }
        if changes_lanes {
            self.lane_counter.note_change();
        }
        self.metrics.forward.count_forwarded(passed);
        self.metrics.forward.set_waiting(waiting.saturating_sub(settled));
        if passed > 0 {
            self.fruitless_pages = 0;
        } else if has_held {
            self.fruitless_pages += 1;
        }
        match self.fruitless_pages.checked_sub(FRUITLESS_PAGES_BEFORE_WAIT) {
            Some(more) if has_held => {
                Ok(ForwardStep::Wait(self.retry_delay(more + 1).min(FRUITLESS_WAIT_MAX)))
            }
            _ => Ok(ForwardStep::Continue),
        }
    }

    /// The verdict of the receiver on a record.
    fn judge_record(
        &mut self,
        results: &ForwardResults,
        record: &AppliedRecord,
        attempts: u32,
    ) -> ForwardVerdict {
        let (reason, retry_after) = match results.get(&record.id) {
            Some(ForwardResult { status: RecordStatus::Applied | RecordStatus::Duplicate, .. }) => {
                return ForwardVerdict::Passed;
            }
            Some(ForwardResult { status: RecordStatus::Rejected, reason, .. }) => {
                log_refused(record.id, None);
                return ForwardVerdict::Held { due_at: None, reason: reason.clone() };
            }
            Some(ForwardResult { status: RecordStatus::Retry, reason, retry_after }) => {
                (reason.clone(), retry_after.unwrap_or_default())
            }
            None => (HoldReason::default(), Duration::ZERO),
        };
        let delay = self.retry_delay(attempts.saturating_add(1)).max(retry_after.min(RECORD_RETRY_AFTER_MAX));
        ForwardVerdict::Held { due_at: Some(wall_ms() + millis(delay)), reason }
    }

    fn handle_failure(
        &mut self,
        outcome: &PostOutcome,
        first: RecordId,
        records: usize,
        waiting: u64,
    ) -> ForwardStep {
        self.failures += 1;
        let delay = self.retry_delay(self.failures);
        let wait = match outcome {
            PostOutcome::RetryLater { after: Some(after), .. } => (*after).min(self.max_wait).max(delay),
            _ => delay,
        };
        log_failure(outcome, first, records, waiting, millis(wait));
        if matches!(outcome, PostOutcome::EndpointUnavailable(_)) {
            self.reload_secrets();
        }
        let may_succeed_elsewhere =
            matches!(outcome, PostOutcome::Failed(_) | PostOutcome::EndpointUnavailable(_));
        match outcome {
            PostOutcome::Gone => ForwardStep::Stop,
            _ if may_succeed_elsewhere
                && self.failures >= FAILURES_BEFORE_YIELD
                && self.processor.is_shared() =>
            {
                ForwardStep::Yield(wait)
            }
            _ => ForwardStep::Wait(wait),
        }
    }

    fn reload_secrets(&mut self) {
        if let Err(error) = self.target.reload_secrets() {
            let error = with_causes(&error);
            tracing::warn!(error, "a file for forwarding cannot be used: the old secrets stay in use");
        }
    }

    fn note_stopped(&self, is_stopped: bool) {
        if self.control.is_stopped() && !is_stopped {
            tracing::info!("the receiver of forwarded records responds again");
        }
        self.control.set_stopped(is_stopped);
        self.metrics.forward.set_stopped(is_stopped);
    }

    async fn yield_to_others(&mut self, time: Duration) {
        self.lane_counter.count().await;
        // What waits is still reported: only once another gateway forwards, the records are no longer this one's.
        if let Err(error) = self.processor.yield_forwarding().await {
            tracing::warn!(error = with_causes(&error), "no other gateway can take over forwarding now");
        }
        self.sleep_or_reload(time).await;
    }

    fn rows_of(&mut self, source: PageSource) -> &mut usize {
        match source {
            PageSource::Outbox => &mut self.outbox_rows,
            PageSource::Lanes => &mut self.lane_rows,
        }
    }

    fn retry_delay(&mut self, failures: u32) -> Duration {
        backoff::backoff_delay(FIRST_RETRY_DELAY.min(self.max_wait), self.max_wait, failures, &mut self.rng)
    }
}
