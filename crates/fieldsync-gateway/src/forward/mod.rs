//! Hands applied records on to another server, each at least once and all in the order of application.
//!
//! `POST URL` with `{"records": […]}`, each record as a line of `GET /ledger` has it, and an `Idempotency-Key` that
//! is the same whenever the body is. What was sent and not taken is sent again as it was; only a refusal, a restart
//! or another gateway that takes over may cut it anew. What a record is recognized by, for ever, is its `id`; its `seq` only grows.
//!
//! - The table of applications is the queue: what was taken is a number in the ledger, and what comes
//!   after it waits. So nothing is kept for it when a batch is settled, and devices do not wait for it.
//! - **2xx**: taken. Anything else, or nothing at all: the same again later, after a longer wait each time.
//!   401, 403, 404 and 405 are about the endpoint, and so is the token file, which is read again then. A
//!   refusal (any other 4xx but 408 and 429) is sent in ever smaller parts, so that the log comes to name the record
//!   that is refused. Nothing is left out: what comes after it waits until somebody has seen to it.
//! - One batch is under way at a time, and of the gateways that share a ledger one hands on; another takes
//!   over when it is gone, or when its way to those who take records has failed for a while. What was under
//!   way then is sent again.

mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::time::sleep;

use target::Outcome;
pub(crate) use target::{Target, TargetError};

use super::applied_entry::AppliedRecord;
use super::batch_processor::Desk;
use super::ledger::{Application, LedgerError, PageLimit, Turn};
use super::metrics::Metrics;
use super::option_values::{parse_count, parse_duration};
use crate::causes::with_causes;
use crate::policy::backoff;

/// Of payload in a body; a record that is larger goes alone.
const MAX_BYTES: usize = 1 << 20;
/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A gateway whose way there failed so often in a row lets another one try.
const YIELD_AFTER: u32 = 3;
/// How long the others have for that: they look every [`LOOK_EVERY`].
const YIELD_FOR: Duration = Duration::from_secs(3);
/// How often a gateway looks what others did with a ledger that they share.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether, where and how records are handed on.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Handing records on")]
pub(crate) struct Forwarding {
    /// Hands applied records on: POSTs them to URL, at least once each, in order of application.
    ///
    /// The body is `{"records": [{"seq", "id", "type", "key", "device_id", "batch_id", "applied_at", "payload"}, …]}`. Any
    /// 2xx means that all are taken; anything else is tried again until it is, and what comes after waits. A record that
    /// comes twice has the same id. The header Idempotency-Key is the same as long as the body is: a body that was not taken
    /// comes again as it was, but after a restart of the gateway it may have more records, and another key. The first start with this option begins with the ledger's first record.
    #[arg(long, value_name = "URL")]
    forward: Option<String>,

    /// File that holds the bearer token to show there.
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_token_file: Option<PathBuf>,

    /// Most records in one body.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_count)]
    forward_max_records: usize,

    /// An answer that takes longer is not waited for.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    forward_timeout: Duration,

    /// The longest wait after a failure, and the wait after a refusal.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    forward_max_wait: Duration,
}

/// Hands records on.
pub(crate) struct Forwarder {
    target: Target,
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    max_records: usize,
    max_wait: Duration,
    rng: fastrand::Rng,
}

#[derive(Serialize)]
struct Body<'a> {
    records: Vec<AppliedRecord<'a>>,
}

/// What to do next.
enum Next {
    GoOn,
    /// Until there may be more.
    AwaitMore,
    Wait(Duration),
    /// The same, for a reason that another gateway may not have.
    Yield(Duration),
}

impl Forwarding {
    /// Nothing, when records are not to be handed on.
    pub(super) fn target(&self) -> Result<Option<Target>, TargetError> {
        let Some(url) = &self.forward else {
            return Ok(None);
        };
        Target::new(url, self.forward_token_file.as_deref(), self.forward_timeout).map(Some)
    }

    pub(super) fn forwarder(&self, target: Target, desk: Arc<Desk>, metrics: Arc<Metrics>) -> Forwarder {
        Forwarder {
            target,
            desk,
            metrics,
            max_records: self.forward_max_records,
            max_wait: self.forward_max_wait,
            rng: fastrand::Rng::new(),
        }
    }
}

impl Forwarder {
    /// Hands on what there is and what comes, for ever.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        let mut records = self.max_records;
        loop {
            let next = match self.step(&mut failures, &mut records).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error = with_causes(&error), "records are not handed on: they wait");
                    failures += 1;
                    Next::Wait(self.back_off(failures))
                }
            };
            match next {
                Next::GoOn => {}
                Next::Wait(time) => sleep(time).await,
                Next::Yield(time) => self.yield_for(time).await,
                Next::AwaitMore if self.desk.is_shared() => tokio::select! {
                    () = self.desk.applied() => {}
                    () = sleep(LOOK_EVERY) => {}
                },
                Next::AwaitMore => self.desk.applied().await,
            }
        }
    }

    async fn step(&mut self, failures: &mut u32, records: &mut usize) -> Result<Next, LedgerError> {
        let limit = PageLimit { rows: *records, bytes: MAX_BYTES };
        let (page, waiting) = match self.desk.to_forward(limit).await? {
            Turn::Elsewhere => {
                self.metrics.forward_waiting(0);
                return Ok(Next::AwaitMore);
            }
            Turn::Ours { page, waiting } => (page, waiting),
        };
        self.metrics.forward_waiting(waiting);
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Ok(Next::AwaitMore);
        };
        let count = page.len();
        let asked = std::mem::replace(records, count);
        let outcome = self.target.post(body(&page)?).await;
        if outcome.is_taken() {
            self.desk.forwarded(last.seq).await?;
            let taken = u64::try_from(count).unwrap_or(u64::MAX);
            self.metrics.forwarded(taken);
            self.metrics.forward_waiting(waiting.saturating_sub(taken));
            if *failures > 0 {
                tracing::info!(records = count, "records are handed on again");
            }
            *failures = 0;
            *records = (asked * 2).min(self.max_records);
            return Ok(Next::GoOn);
        }
        *failures += 1;
        let wait = match &outcome {
            Outcome::Refused(_) if count > 1 => {
                *records = count.div_ceil(2);
                self.back_off(1)
            }
            Outcome::Refused(_) => self.max_wait,
            Outcome::NoEntry(_) => {
                if let Err(error) = self.target.read_token_again() {
                    tracing::warn!(error = with_causes(&error), "the token for handing records on is kept");
                }
                self.back_off(*failures)
            }
            Outcome::NotNow { after: Some(after), .. } => {
                (*after).min(self.max_wait).max(self.back_off(*failures))
            }
            _ => self.back_off(*failures),
        };
        let may_be_ours_alone = matches!(outcome, Outcome::Failed(_) | Outcome::NoEntry(_));
        let (record_id, wait_ms) = (first.id, crate::clock::millis(wait));
        match outcome {
            Outcome::Refused(status) => tracing::error!(
                %record_id, records = count, waiting, http_status = status, wait_ms,
                "records to be handed on were refused: they wait, and so do all that came after them"
            ),
            Outcome::NoEntry(status) => tracing::error!(
                %record_id, records = count, waiting, http_status = status, wait_ms,
                "records to be handed on were not let in: is the URL right, and the token? They wait"
            ),
            Outcome::NotNow { status, .. } => tracing::warn!(
                %record_id, records = count, waiting, http_status = status, wait_ms,
                "records were not taken now: they wait"
            ),
            Outcome::Failed(error) => tracing::warn!(
                %record_id, records = count, waiting, error, wait_ms, "records could not be handed on: they wait"
            ),
            Outcome::Taken => {}
        }
        if may_be_ours_alone && *failures >= YIELD_AFTER && self.desk.is_shared() {
            return Ok(Next::Yield(wait));
        }
        Ok(Next::Wait(wait))
    }

    async fn yield_for(&mut self, time: Duration) {
        match self.desk.yield_forwarding().await {
            Ok(()) => {
                self.metrics.forward_waiting(0);
                sleep(time.max(YIELD_FOR)).await;
            }
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "no other gateway can hand records on meanwhile");
                sleep(time).await;
            }
        }
    }

    fn back_off(&mut self, failures: u32) -> Duration {
        backoff::delay(FIRST_WAIT.min(self.max_wait), self.max_wait, failures, &mut self.rng)
    }
}

fn body(page: &[Application]) -> Result<Bytes, serde_json::Error> {
    let records = page.iter().map(AppliedRecord::of).collect::<Result<_, _>>()?;
    Ok(serde_json::to_vec(&Body { records })?.into())
}
