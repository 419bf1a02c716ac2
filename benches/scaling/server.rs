//! The server: it confirms every record of every batch at once, and measures how fast batches arrive.
//!
//! It serves one thread of its own. What it does for a record is the same in every row of every table.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::model::{BatchId, RecordId};
use fieldsync::protocol::wire::{BatchResponse, HOLDS_KEYS, RecordResult, RecordStatus};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

/// A server; it serves until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    /// Whether responses say that the server keeps the order of records of one key.
    holds_keys: bool,
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
}

/// The batches that arrived since [`Server::start_count`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Arrivals {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    first: Duration,
    last: Duration,
    /// Records of all batches but the last.
    records_before_last: u64,
}

impl Arrivals {
    /// The time between the first batch and the last: each batch before the last was sent, confirmed and settled in it,
    /// and its successor claimed.
    pub(crate) fn seconds_per_record(&self) -> f64 {
        self.last.saturating_sub(self.first).as_secs_f64() / self.records_before_last as f64
    }

    fn add_batch(&mut self, records: usize, now: Duration) {
        if self.batches == 0 {
            self.first = now;
        }
        self.last = now;
        self.records_before_last = self.records;
        self.batches += 1;
        self.records += records as u64;
    }
}

/// What the server reads of a batch.
#[derive(Deserialize)]
struct ReceivedBatch {
    batch_id: BatchId,
    records: Vec<ReceivedRecord>,
}

#[derive(Deserialize)]
struct ReceivedRecord {
    id: RecordId,
}

impl Server {
    pub(crate) fn start(holds_keys: bool) -> Self {
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            holds_keys,
            arrivals: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        listener.set_nonblocking(true).expect("the listener is open");
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(accept_connections(listener, serving));
        });
        Self { address, shared }
    }

    /// Forgets the batches so far.
    pub(crate) fn start_count(&self) {
        *self.lock_arrivals() = Arrivals::default();
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        *self.lock_arrivals()
    }

    /// Waits until this many records have arrived; returns false after the time.
    pub(crate) fn wait_for_records(&self, records: u64, time_limit: Duration) -> bool {
        let (_arrivals, wait) = self
            .shared
            .changed
            .wait_timeout_while(self.lock_arrivals(), time_limit, |arrivals| arrivals.records < records)
            .unwrap_or_else(PoisonError::into_inner);
        !wait.timed_out()
    }

    fn lock_arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept_connections(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).expect("the connection is open");
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, Arc::clone(&shared)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A daemon that is killed breaks its connection.
            drop(connection.await);
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(empty_response(StatusCode::BAD_REQUEST)),
    };
    // Outcome queries and reports of the status have no records.
    let Ok(batch) = serde_json::from_slice::<ReceivedBatch>(&body) else {
        return Ok(empty_response(StatusCode::NOT_FOUND));
    };
    let mut arrivals = shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    arrivals.add_batch(batch.records.len(), shared.clock.now());
    drop(arrivals);
    shared.changed.notify_all();
    let results = batch.records.iter().map(|record| RecordResult::new(record.id, RecordStatus::Applied));
    let reply = BatchResponse { batch_id: batch.batch_id, replayed: false, results: results.collect() };
    let mut response = empty_response(StatusCode::OK);
    *response.body_mut() = serde_json::to_vec(&reply).expect("a response is JSON").into();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
    if shared.holds_keys {
        headers.insert(HOLDS_KEYS, "true".parse().expect("a header value"));
    }
    Ok(response)
}

fn empty_response(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
