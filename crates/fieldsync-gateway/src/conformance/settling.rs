//! Requests that are repeated: while the server is busy, after a response that says nothing, and until a batch is settled.
//!
//! Every wait ends with the deadline of the whole, whatever `Retry-After` says.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::finding::{Finding, PointResult};
use super::request::KitRequest;
use super::response::{BatchResults, KitResponse, OutcomeState};
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::clock::Clock;
use crate::model::{BatchId, DeviceId};
use crate::retry_after::parse_retry_after;

/// Between two attempts to find out what became of a batch.
const QUERY_PAUSE: Duration = Duration::from_millis(20);
/// How long a batch that has begun may be unknown.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(3);
/// A server that is busy without naming a time is asked again after this long.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// A request that always gets a response that says nothing was sent so often.
const UNCLEAR_ATTEMPTS_MAX: u32 = 16;
/// How long a batch may take to be settled, in halves of the time limit: as on a device.
const SETTLE_HALVES: u32 = 3;

/// When a step of a point has taken too long.
struct StepDeadline {
    clock: Clock,
    limit: Duration,
}

impl StepDeadline {
    fn after(limit: Duration) -> Self {
        Self { clock: Clock::start(), limit }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.clock.now())
    }

    fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Waits as long as asked, and at most for what is left.
    async fn pause(&self, wait: Duration) {
        sleep(wait.min(self.left())).await;
    }
}

impl TestedServer {
    fn settle_limit(&self) -> Duration {
        self.time_limit.saturating_mul(SETTLE_HALVES) / 2
    }

    /// As [`Self::send_first`], but sends the request again after a response that says nothing: a proxy in front of a
    /// correct server may give one at any time. What comes always is the last response, which the point judges.
    pub(super) async fn send(&self, request: &KitRequest) -> PointResult<KitResponse> {
        let deadline = StepDeadline::after(self.settle_limit());
        let mut attempts = 0;
        loop {
            let response = self.send_first(request).await?;
            let is_repeated = match response.status.as_u16() {
                // It was received behind the proxy, and is being processed.
                409 => attempts > 0,
                503 => false,
                _ => is_unclear(&response) && attempts < UNCLEAR_ATTEMPTS_MAX,
            };
            if !is_repeated || deadline.is_over() {
                return Ok(response);
            }
            attempts += 1;
            deadline.pause(parse_retry_after(&response.headers).unwrap_or(QUERY_PAUSE)).await;
        }
    }

    /// As [`Self::send_once`], but waits as long as the server is busy (429, 503) and within the time limit.
    pub(super) async fn send_first(&self, request: &KitRequest) -> PointResult<KitResponse> {
        let deadline = StepDeadline::after(self.time_limit);
        loop {
            let response = self.send_once(request).await?;
            let wait = parse_retry_after(&response.headers).unwrap_or(BUSY_PAUSE).max(BUSY_PAUSE);
            let is_busy = matches!(response.status.as_u16(), 429 | 503);
            if !is_busy || wait > deadline.left() {
                return Ok(response);
            }
            deadline.pause(wait).await;
        }
    }

    /// What the server knows about a batch.
    pub(super) async fn look_up(&self, batch: &SampleBatch) -> PointResult<OutcomeState> {
        let response = self.send(&KitRequest::look_up(batch.device, batch.id)).await?;
        Ok(response.read_outcome(batch.id))
    }

    /// Sends a batch, and looks its outcome up or sends it again until it is settled, as a device does.
    pub(super) async fn submit(&self, batch: &SampleBatch) -> PointResult<BatchResults> {
        self.settle(&KitRequest::post(batch), batch.device, batch.id).await
    }

    /// As [`Self::submit`], with a request that stands for the batch.
    pub(super) async fn settle(
        &self,
        request: &KitRequest,
        device: DeviceId,
        id: BatchId,
    ) -> PointResult<BatchResults> {
        let deadline = StepDeadline::after(self.settle_limit());
        let mut response = self.send_first(request).await?;
        while is_unclear(&response) {
            let outcome = self.send_first(&KitRequest::look_up(device, id)).await?;
            match outcome.read_outcome(id) {
                OutcomeState::Completed(results) => return Ok(results),
                _ if deadline.is_over() => {
                    return Err(Finding::failed(
                        format!("results of the batch within {:?}", self.settle_limit()),
                        format!("{}, and then {}", response.describe(), outcome.describe()),
                    ));
                }
                OutcomeState::Unknown | OutcomeState::NotTold => response = self.send_first(request).await?,
                OutcomeState::Processing => {}
            }
            deadline.pause(parse_retry_after(&outcome.headers).unwrap_or(QUERY_PAUSE)).await;
        }
        response.read_results(id)
    }

    /// Looks a batch up until it is no longer being processed.
    pub(super) async fn await_outcome(&self, batch: &SampleBatch) -> PointResult<OutcomeState> {
        let deadline = StepDeadline::after(self.settle_limit());
        loop {
            let outcome = self.look_up(batch).await?;
            if deadline.is_over() || !matches!(outcome, OutcomeState::Processing) {
                return Ok(outcome);
            }
            deadline.pause(QUERY_PAUSE).await;
        }
    }

    /// As [`Self::await_outcome`], for a batch that has begun: of several processes of a server, another one may know it
    /// a moment later.
    pub(super) async fn await_begun_outcome(&self, batch: &SampleBatch) -> PointResult<OutcomeState> {
        let deadline = StepDeadline::after(self.settle_limit().min(UNKNOWN_LIMIT));
        loop {
            let outcome = self.await_outcome(batch).await?;
            if deadline.is_over() || !matches!(outcome, OutcomeState::Unknown) {
                return Ok(outcome);
            }
            deadline.pause(QUERY_PAUSE).await;
        }
    }

    /// Whether the server responds, whatever it says.
    pub(super) async fn probe(&self) -> PointResult {
        let query = KitRequest::look_up(DeviceId(Uuid::new_v4()), BatchId::new());
        self.send_first(&query).await.map(drop)
    }

    /// Waits until the server responds, for example after its restart.
    pub(super) async fn await_response(&self) -> PointResult {
        let deadline = StepDeadline::after(self.time_limit);
        loop {
            match self.probe().await {
                Err(_) if !deadline.is_over() => deadline.pause(QUERY_PAUSE).await,
                ended => return ended,
            }
        }
    }
}

/// Responses after which a device looks the outcome up.
pub(super) fn is_unclear(response: &KitResponse) -> bool {
    let status = response.status.as_u16();
    matches!(status, 408 | 409) || (response.status.is_server_error() && !matches!(status, 501 | 511))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_what_is_left() {
        let deadline = StepDeadline::after(Duration::MAX);
        assert!(deadline.left() > Duration::from_secs(u64::MAX / 2));
        let deadline = StepDeadline::after(Duration::ZERO);
        assert_eq!((deadline.left(), deadline.is_over()), (Duration::ZERO, true));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // As after `Retry-After: 18446744073709551615`.
        runtime.block_on(deadline.pause(Duration::from_secs(u64::MAX)));
    }
}
