//! A device: it makes batches, and brings each of them to the gateway as the daemon would: it waits as `Retry-After` says,
//! looks unclear outcomes up, and sends the same batch again if it is unknown.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use fieldsync::clock::{Clock, wall_ms};
use fieldsync::protocol::wire::{
    BATCH_ATTEMPT, BATCH_ID, BATCH_PATH, BATCH_SEQUENCE, BatchResponse, DEVICE_ID, DEVICE_NAME,
};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::request;
use hyper::{Method, Request, StatusCode};
use tokio::time::sleep;
use uuid::Uuid;

use super::batch::{Batch, BatchShape, random_id};
use super::connections::{Connections, ExchangeFailure, Lease, Reply};
use super::tally::Tally;

/// Back-off where the gateway names no time: it doubles up to the largest, and half of it is random.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// What a device needs to send.
pub(crate) struct Link {
    pub(crate) connections: Connections,
    pub(crate) tally: Tally,
    pub(crate) clock: Clock,
    /// How long the device waits for a response.
    pub(crate) time_limit: Duration,
}

pub(crate) struct Device {
    number: usize,
    id: Uuid,
    name: String,
    rng: RefCell<Rng>,
    last: Cell<Option<Batch>>,
}

impl Device {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            number,
            id: random_id(&mut rng),
            name: format!("device-{number}"),
            rng: RefCell::new(rng),
            last: Cell::new(None),
        }
    }

    pub(crate) fn next_batch(&self, shape: BatchShape) -> Batch {
        let batch = Batch::new(self.id, shape, wall_ms(), &mut self.rng.borrow_mut());
        self.last.set(Some(batch));
        batch
    }

    /// The records of a batch under another batch id.
    pub(crate) fn copy_batch(&self, batch: &Batch) -> Batch {
        batch.with_new_id(&mut self.rng.borrow_mut())
    }

    /// The batch that it made last.
    pub(crate) fn last_batch(&self) -> Option<Batch> {
        self.last.get()
    }

    /// Sends a batch until the gateway has confirmed it, first over a connection that the device already has, if any.
    ///
    /// Returns false if it gave up: a batch that is refused is not sent again after `end`.
    pub(crate) async fn deliver<'a>(
        &self,
        link: &'a Link,
        batch: &Batch,
        mut first: Option<Lease<'a>>,
        end: Option<Duration>,
    ) -> bool {
        let body = batch.body();
        for attempt in 1.. {
            let mut lease = match first.take() {
                Some(lease) => lease,
                None => link.connections.lease(self.number).await,
            };
            let request = self.batch_request(batch, attempt, body.clone());
            let began = link.clock.now();
            let replied = lease.exchange(request, link.time_limit).await;
            let latency = link.clock.now().saturating_sub(began);
            let is_refused = replied.as_ref().is_ok_and(|reply| is_throttled(reply.status));
            if is_refused && link.connections.closes_on_refusal() {
                lease.close();
            }
            drop(lease);
            link.tally.count_request(replied.as_ref().map(|reply| reply.status));
            match replied {
                Ok(reply) if reply.status == StatusCode::OK => {
                    link.tally.settle(batch, &decode_response(batch, &reply), latency);
                    return true;
                }
                Ok(reply) if is_throttled(reply.status) => {
                    let wait = self.draw_wait(link, reply.retry_after(), attempt);
                    // Without a look at the batch: nothing of it is in the ledger.
                    let is_unseen = reply.status == StatusCode::TOO_MANY_REQUESTS;
                    if is_unseen && end.is_some_and(|end| link.clock.now() + wait > end) {
                        return false;
                    }
                    sleep(wait).await;
                }
                Ok(reply) if is_unclear(reply.status) => {
                    if self.look_up(link, batch, latency).await {
                        return true;
                    }
                }
                Ok(reply) => panic!("a batch got {}: {}", reply.status, String::from_utf8_lossy(&reply.body)),
                Err(ExchangeFailure::NotSent) => self.back_off(link, None, attempt).await,
                Err(ExchangeFailure::Unclear) => {
                    if self.look_up(link, batch, latency).await {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Asks for the outcome until it is known. Returns false if the gateway never received the batch.
    async fn look_up(&self, link: &Link, batch: &Batch, latency: Duration) -> bool {
        for attempt in 1.. {
            let mut lease = link.connections.lease(self.number).await;
            let request = self.outcome_query(batch);
            let replied = lease.exchange(request, link.time_limit).await;
            drop(lease);
            link.tally.count_query();
            match replied {
                Ok(reply) if reply.status == StatusCode::OK => {
                    link.tally.settle(batch, &decode_response(batch, &reply), latency);
                    return true;
                }
                Ok(reply) if reply.status == StatusCode::NOT_FOUND => return false,
                Ok(reply) => self.back_off(link, reply.retry_after(), attempt).await,
                Err(_) => self.back_off(link, None, attempt).await,
            }
        }
        false
    }

    async fn back_off(&self, link: &Link, retry_after: Option<u64>, attempt: u32) {
        sleep(self.draw_wait(link, retry_after, attempt)).await;
    }

    fn draw_wait(&self, link: &Link, retry_after: Option<u64>, attempt: u32) -> Duration {
        link.tally.count_wait(retry_after);
        retry_after.map_or_else(|| self.draw_backoff(attempt), Duration::from_secs)
    }

    fn draw_backoff(&self, attempt: u32) -> Duration {
        let (least, most) = BACKOFF_RANGE;
        let longest = least.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(most);
        longest.mul_f64(0.5 + 0.5 * self.rng.borrow_mut().f64())
    }

    fn batch_request(&self, batch: &Batch, attempt: u32, body: Bytes) -> Request<Full<Bytes>> {
        self.request(Method::POST, BATCH_PATH.to_owned())
            .header(BATCH_ID, batch.id.to_string())
            .header(BATCH_SEQUENCE, "1/1")
            .header(BATCH_ATTEMPT, attempt)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("the headers are valid")
    }

    fn outcome_query(&self, batch: &Batch) -> Request<Full<Bytes>> {
        let path = format!("{BATCH_PATH}/{}", batch.id);
        self.request(Method::GET, path).body(Full::default()).expect("the headers are valid")
    }

    fn request(&self, method: Method, path: String) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "gateway")
            .header(DEVICE_ID, self.id.to_string())
            .header(DEVICE_NAME, &self.name)
    }
}

fn is_throttled(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
}

/// The gateway may have applied the batch, or is still processing it.
fn is_unclear(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::CONFLICT || status == StatusCode::REQUEST_TIMEOUT
}

/// The results of exactly this batch.
fn decode_response(batch: &Batch, reply: &Reply) -> BatchResponse {
    let response: BatchResponse = serde_json::from_slice(&reply.body).expect("a response of the protocol");
    assert_eq!(response.batch_id.0, batch.id);
    let results = response.results.iter().map(|result| result.id.0);
    assert!(results.eq(batch.record_ids()), "the results are not those of the batch's records");
    response
}
