//! The server of all contestants, with the gateway in front of it: an HTTP server on a thread of its own.
//!
//! It understands the protocol of fieldsync, with outcome queries, and a plain POST of several records. Both come from
//! the same address, cost the same and fail alike. A batch that has begun is completed, whatever becomes of the client.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::protocol::wire::{BATCH_ID, BATCH_PATH};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::ledger::{BatchState, Ledger};
use crate::record::RecordFinder;
use crate::replies::{self, Reply};
use crate::scene::{Fault, ServerBehavior};

/// Where clients without the protocol post.
pub(crate) const PLAIN_PATH: &str = "/records";
/// Batches that the server processes at the same time.
const WORKERS: usize = 4;

/// A server; it serves until the process ends, but costs nothing once its clients are gone.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    behavior: Mutex<ServerBehavior>,
    ledger: Mutex<Ledger>,
    changed: Condvar,
    is_released: watch::Sender<bool>,
    workers: Semaphore,
    finder: RecordFinder,
}

impl Server {
    /// Starts one that expects this many records; its times are those of `clock`.
    pub(crate) fn start(records: usize, behavior: ServerBehavior, clock: Clock) -> Self {
        let faulty_record = behavior.faulty_record.map(|(number, _)| number);
        let shared = Arc::new(Shared {
            clock,
            behavior: Mutex::new(behavior),
            ledger: Mutex::new(Ledger::new(records, faulty_record)),
            changed: Condvar::new(),
            is_released: watch::Sender::new(false),
            workers: Semaphore::new(WORKERS),
            finder: RecordFinder::new(),
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

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.shared.ledger)
    }

    /// Waits until something holds for the ledger; returns false after the time.
    pub(crate) fn wait_until(&self, time: Duration, holds: impl Fn(&Ledger) -> bool) -> bool {
        let (_ledger, wait) = self
            .shared
            .changed
            .wait_timeout_while(self.ledger(), time, |ledger| !holds(ledger))
            .unwrap_or_else(PoisonError::into_inner);
        !wait.timed_out()
    }

    /// Continues with the batches that are held.
    pub(crate) fn release(&self) {
        self.shared.is_released.send_replace(true);
    }

    /// From now on, the server is healthy.
    pub(crate) fn heal(&self) {
        *lock(&self.shared.behavior) = ServerBehavior::default();
        self.release();
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
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
            // A client that is killed breaks its connection.
            drop(connection.await);
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let reply = if let Some(batch) = path.strip_prefix(&format!("{BATCH_PATH}/")) {
        replies::to_query(batch, lock(&shared.ledger).batch(batch))
    } else if *request.method() == Method::POST && (path == BATCH_PATH || path == PLAIN_PATH) {
        let id = request.headers().get(BATCH_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        match request.into_body().collect().await {
            Ok(body) => pass_gateway(id, shared.finder.find_numbers(&body.to_bytes()), shared).await,
            Err(_) => replies::with_status(StatusCode::BAD_REQUEST),
        }
    } else {
        replies::with_status(StatusCode::NOT_FOUND)
    };
    Ok(reply)
}

/// What the firewall and the gateway in front of the server let through, and for how long.
async fn pass_gateway(id: Option<String>, numbers: Vec<usize>, shared: Arc<Shared>) -> Reply {
    let behavior = lock(&shared.behavior).clone();
    let fault = behavior.faulty_record.filter(|(number, _)| numbers.contains(number)).map(|(_, fault)| fault);
    lock(&shared.ledger).requests += 1;
    if fault == Some(Fault::Forbidden) {
        return replies::forbidden();
    }
    let time_limit = behavior.time_limit;
    let processing = tokio::spawn(process_batch(id, numbers, behavior, fault, Arc::clone(&shared)));
    let processed = match time_limit {
        Some(limit) => timeout(limit, processing).await,
        None => Ok(processing.await),
    };
    let Ok(processed) = processed else {
        lock(&shared.ledger).timeouts += 1;
        return replies::with_status(StatusCode::GATEWAY_TIMEOUT);
    };
    processed.expect("the server does not panic")
}

/// Processes a batch, of the protocol if it has an id.
async fn process_batch(
    id: Option<String>,
    numbers: Vec<usize>,
    behavior: ServerBehavior,
    fault: Option<Fault>,
    shared: Arc<Shared>,
) -> Reply {
    {
        let mut ledger = lock(&shared.ledger);
        if fault.is_none() {
            ledger.receive(&numbers);
        }
        if let Some(id) = &id {
            if let Some(known) = ledger.batch(id) {
                return replies::to_resend(id, known);
            }
            ledger.set_batch(id, BatchState::Processing);
        }
    }
    let worker = shared.workers.acquire().await.expect("the semaphore is open");
    let records = u32::try_from(numbers.len()).expect("a batch is small");
    let cost = behavior.batch_cost + behavior.record_cost * records;
    if !cost.is_zero() {
        sleep(cost).await;
    }
    if fault.is_some() {
        if let Some(id) = &id {
            lock(&shared.ledger).forget_batch(id);
        }
        return replies::with_status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    wait_for_release(&numbers, &behavior, &shared).await;
    drop(worker);
    let mut ledger = lock(&shared.ledger);
    let applied = ledger.apply(&numbers, shared.clock.now(), id.is_some());
    shared.changed.notify_all();
    let Some(id) = id else { return replies::to_plain_post(applied.len()) };
    let reply = replies::to_batch(&id, &applied, false);
    ledger.set_batch(&id, BatchState::Applied(applied));
    reply
}

/// Waits if the server is to hold a batch that exceeds this many records.
async fn wait_for_release(numbers: &[usize], behavior: &ServerBehavior, shared: &Shared) {
    let Some(hold_at) = behavior.hold_at else { return };
    let mut is_released = shared.is_released.subscribe();
    let holds = {
        let mut ledger = lock(&shared.ledger);
        let holds = !*is_released.borrow() && ledger.delivered + numbers.len() > hold_at;
        ledger.holds |= holds;
        holds
    };
    if holds {
        shared.changed.notify_all();
        is_released
            .wait_for(|is_released| *is_released)
            .await
            .expect("the server lives as long as its process");
    }
}
