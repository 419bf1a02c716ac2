//! The connections to the server: one for each batch under way, one for outcome queries and probes, and one for reports
//! of the device's status.
//!
//! A connection is kept for further requests only while its responses are the protocol's own. After any other result,
//! the idle connections end as well: the next request opens one, and so resolves the server's name again. A request
//! that met a dead connection is sent again over a new one. That is safe even if the first request arrived: the server
//! applies a batch id once.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use awc::{Client, ClientRequest};
use bytes::Bytes;
use hyper::Uri;
use tokio::sync::{Notify, Semaphore};

use super::TransportError;
use super::kept_connection::{ConnectionSettings, IDLE_TIME_MAX, KeptConnection};
use crate::clock::Clock;
use crate::config;
use crate::policy::status_schedule::ReportReply;
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ResponseBody};
use crate::protocol::wire::UNKNOWN_BATCH;
use crate::transport::dial::Dialer;
use crate::transport::proxy::Proxy;
use crate::transport::request_limits::RequestLimits;
use crate::transport::{ConnectionInvalidation, Exchange};

/// An older connection is not used for another request, even if it works: the server's name may have another
/// address now.
pub(super) const CONNECTION_AGE_MAX: Duration = Duration::from_mins(5);
/// Outcome queries and probes at a time. No upload takes their slot.
const QUERIES_MAX: usize = 1;
/// Reports at a time. No batch and no query waits for their slot.
const REPORTS_MAX: usize = 1;

/// What a slot is used for.
#[derive(Clone, Copy)]
pub(super) enum SlotUse {
    /// A batch, perhaps over a connection that carried no request before.
    Upload { new_connection: bool },
    /// An outcome query or a probe.
    Query,
    /// A report of the device's status.
    Report,
}

/// A connection that no request uses.
struct IdleConnection {
    connection: KeptConnection,
    since: Duration,
}

/// The connections to one server, as many as slots.
pub(super) struct ConnectionPool {
    settings: Rc<ConnectionSettings>,
    uploads_max: usize,
    uploads: Semaphore,
    queries: Semaphore,
    reports: Semaphore,
    /// The one that was used last is at the end, and is used first.
    idle: RefCell<Vec<IdleConnection>>,
    became_idle: Notify,
}

impl ConnectionPool {
    pub(super) fn new(
        config: &config::Server,
        uploads_max: usize,
        server: Uri,
        invalidation: Rc<ConnectionInvalidation>,
        age_max: Duration,
    ) -> Result<Self, TransportError> {
        let proxy = Proxy::for_server(config, &server)?;
        let clock = Clock::start();
        let settings = ConnectionSettings {
            clock,
            dialer: Dialer::new(config, server, proxy, clock)?,
            connect_timeout: config.connect_timeout.0,
            age_max,
            response_bytes_max: usize::try_from(config.max_answer_bytes.0).unwrap_or(usize::MAX),
            invalidation,
        };
        Ok(Self {
            settings: Rc::new(settings),
            uploads_max,
            uploads: Semaphore::new(uploads_max),
            queries: Semaphore::new(QUERIES_MAX),
            reports: Semaphore::new(REPORTS_MAX),
            idle: RefCell::default(),
            became_idle: Notify::new(),
        })
    }

    /// Sends a request once a slot for it is free.
    pub(super) async fn send_request(
        &self,
        slot_use: SlotUse,
        request: impl Fn(&Client) -> ClientRequest,
        body: Bytes,
        limits: &RequestLimits,
    ) -> Exchange {
        let (slots, is_new) = match slot_use {
            SlotUse::Upload { new_connection } => (&self.uploads, new_connection),
            SlotUse::Query => (&self.queries, false),
            SlotUse::Report => (&self.reports, false),
        };
        // The semaphores are never closed.
        let _slot = slots.acquire().await;
        let connection = self.take_connection(is_new);
        let first = connection.attempt_request(&request, body.clone(), limits).await;
        let RequestResult::Failure(RequestFailure { delivery, .. }) = first.exchange.result else {
            self.return_connection(connection, slot_use, &first.exchange.result);
            return first.exchange;
        };
        self.drop_idle_connections();
        if !first.met_dead_connection {
            return first.exchange;
        }
        tracing::debug!("a kept connection was dead: the request is sent again over a new one");
        drop(connection);
        let connection = KeptConnection::new(&self.settings);
        // The time lost on the dead connection says nothing about the server, so it is not measured.
        let mut second = connection.attempt_request(&request, body, limits).await.exchange;
        self.return_connection(connection, slot_use, &second.result);
        if let RequestResult::Failure(failure) = &mut second.result
            && failure.delivery == Delivery::NotSent
        {
            failure.delivery = delivery;
        }
        second
    }

    /// Drops idle connections as soon as they can no longer be used.
    pub(super) async fn drop_unusable_connections(&self) {
        let invalidation = &self.settings.invalidation;
        loop {
            tokio::select! {
                () = invalidation.link_down.notified() => self.drop_idle_connections(),
                () = invalidation.address_changed.notified() => {
                    self.idle.borrow_mut().retain(|idle| !idle.connection.has_lost_address());
                }
                () = self.wait_for_expiry() => self.drop_expired_connections(),
            }
        }
    }

    /// Waits until the connection that has been idle for the longest time is idle for too long.
    async fn wait_for_expiry(&self) {
        loop {
            let oldest = self.idle.borrow().iter().map(|idle| idle.since).min();
            let Some(oldest) = oldest else {
                self.became_idle.notified().await;
                continue;
            };
            let now = self.settings.clock.now();
            let Some(left) = (oldest + IDLE_TIME_MAX).checked_sub(now).filter(|left| !left.is_zero()) else {
                return;
            };
            tokio::time::sleep(left).await;
        }
    }

    fn drop_expired_connections(&self) {
        let now = self.settings.clock.now();
        self.idle.borrow_mut().retain(|idle| now.saturating_sub(idle.since) < IDLE_TIME_MAX);
    }

    fn drop_idle_connections(&self) {
        self.idle.borrow_mut().clear();
    }

    /// A connection for a slot that was acquired.
    fn take_connection(&self, is_new: bool) -> KeptConnection {
        self.drop_expired_connections();
        let mut idle = self.idle.borrow_mut();
        let kept = if is_new { None } else { idle.pop().map(|idle| idle.connection) };
        kept.unwrap_or_else(|| {
            let excess = (idle.len() + self.slots_in_use()).saturating_sub(self.slots());
            let excess = excess.min(idle.len());
            idle.drain(..excess);
            KeptConnection::new(&self.settings)
        })
    }

    /// Keeps the connection, if the result shows that it and the server behind it are good.
    fn return_connection(&self, connection: KeptConnection, slot_use: SlotUse, result: &RequestResult) {
        if !is_from_healthy_server(slot_use, result) {
            return self.drop_idle_connections();
        }
        self.idle.borrow_mut().push(IdleConnection { connection, since: self.settings.clock.now() });
        self.became_idle.notify_one();
    }

    fn slots(&self) -> usize {
        self.uploads_max + QUERIES_MAX + REPORTS_MAX
    }

    fn slots_in_use(&self) -> usize {
        let available = [&self.uploads, &self.queries, &self.reports].map(Semaphore::available_permits);
        self.slots().saturating_sub(available.iter().sum())
    }
}

/// Whether a response shows that its connection is good: it is the protocol's own response to the request.
/// After any other response, the next request opens a new connection, and so resolves the server's name again.
/// The sender may have been taken out of service, or may be an intermediary.
fn is_from_healthy_server(slot_use: SlotUse, result: &RequestResult) -> bool {
    let RequestResult::Response(response) = result else { return false };
    if matches!(slot_use, SlotUse::Report) {
        return ReportReply::from_result(result) == ReportReply::Taken;
    }
    match (response.status, &response.body) {
        (200..=299, ResponseBody::Batch(_) | ResponseBody::Processing(_))
        | (400 | 409 | 413 | 415 | 422, ResponseBody::Error(_)) => true,
        (404, ResponseBody::Error(detail)) => detail.code == UNKNOWN_BATCH,
        _ => false,
    }
}
