//! Requests over the one connection that is kept, and their results.
//!
//! Two defaults of awc would lose data here and are turned off: redirects (a redirected body is sent empty) and
//! its own time-out (it includes the upload). A request that met a dead connection is sent again over a new
//! one. That is safe even if the first request arrived: the server applies a batch id once.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::header::{self, HeaderMap};
use awc::{Client, ClientRequest, Connector};
use bytes::Bytes;
use hyper::Uri;
use tokio::sync::Mutex;

use super::failure::{check_body_length, check_framing, describe_body_error, describe_missing_response};
use super::{TransportError, failed_before_sending};
use crate::clock::{Clock, wall_ms};
use crate::config;
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ResponseBody};
use crate::protocol::wire::UNKNOWN_BATCH;
use crate::transport::dial::Dialer;
use crate::transport::encoding::{UndecodableResponse, decode_body};
use crate::transport::proxy::Proxy;
use crate::transport::request_limits::RequestLimits;
use crate::transport::response::DecodedResponse;
use crate::transport::transfer_trace::TransferTrace;
use crate::transport::{ConnectionInvalidation, Exchange, response};

/// A connection that was idle for longer is not used again: middleboxes forget connections silently.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// An older connection is not used for another request, even if it works: the server's name may have another
/// address now.
pub(super) const CONNECTION_AGE_MAX: Duration = Duration::from_mins(5);

/// The connection that is kept between requests. There is one request at a time.
pub(super) struct KeptConnection {
    clock: Clock,
    dialer: Rc<Dialer>,
    connect_timeout: Duration,
    age_max: Duration,
    response_bytes_max: usize,
    client: RefCell<Client>,
    turn: Mutex<()>,
    invalidation: Rc<ConnectionInvalidation>,
}

/// One attempt, and whether another is due at once.
struct Attempt {
    exchange: Exchange,
    met_dead_connection: bool,
}

impl KeptConnection {
    pub(super) fn new(
        config: &config::Server,
        server: Uri,
        invalidation: Rc<ConnectionInvalidation>,
        age_max: Duration,
    ) -> Result<Self, TransportError> {
        let proxy = Proxy::for_server(config, &server)?;
        let clock = Clock::start();
        let dialer = Rc::new(Dialer::new(config, server, proxy, clock)?);
        let connect_timeout = config.connect_timeout.0;
        Ok(Self {
            clock,
            client: RefCell::new(build_client(&dialer, connect_timeout, age_max)),
            dialer,
            connect_timeout,
            age_max,
            response_bytes_max: usize::try_from(config.max_answer_bytes.0).unwrap_or(usize::MAX),
            turn: Mutex::default(),
            invalidation,
        })
    }

    /// Existing connections are not used for further requests.
    pub(super) fn drop_connection(&self) {
        self.client.replace(build_client(&self.dialer, self.connect_timeout, self.age_max));
    }

    /// Waits until the connection can no longer be used.
    pub(super) async fn wait_for_invalidation(&self) {
        loop {
            tokio::select! {
                () = self.invalidation.link_down.notified() => return,
                () = self.invalidation.address_changed.notified() => if self.dialer.has_lost_address() { return },
            }
        }
    }

    pub(super) async fn send_request(
        &self,
        request: impl Fn(&Client) -> ClientRequest,
        body: Bytes,
        limits: &RequestLimits,
    ) -> Exchange {
        let _turn = self.turn.lock().await;
        let first = self.attempt_request(&request, body.clone(), limits).await;
        let RequestResult::Failure(RequestFailure { delivery, .. }) = first.exchange.result else {
            return first.exchange;
        };
        if !first.met_dead_connection {
            return first.exchange;
        }
        tracing::debug!("a kept connection was dead: the request is sent again over a new one");
        self.drop_connection();
        // The time lost on the dead connection says nothing about the server, so it is not measured.
        let mut second = self.attempt_request(&request, body, limits).await.exchange;
        if let RequestResult::Failure(failure) = &mut second.result
            && failure.delivery == Delivery::NotSent
        {
            failure.delivery = delivery;
        }
        second
    }

    async fn attempt_request(
        &self,
        request: impl Fn(&Client) -> ClientRequest,
        body: Bytes,
        limits: &RequestLimits,
    ) -> Attempt {
        let trace = TransferTrace::start(
            self.clock,
            self.dialer.current_connection(),
            self.dialer.activity(),
            body.len() as u64,
        );
        let request = request(&self.client.borrow());
        let sending =
            if body.is_empty() { request.send() } else { request.send_body(trace.stream_body(body)) };
        let response = async {
            let mut response = sending
                .await
                .map_err(|error| describe_missing_response(&error, limits, !trace.is_on_kept_connection()))?;
            trace.record_response_start();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            if let Some(failure) = check_framing(&response) {
                // The next request on this connection would get the rest of this response.
                self.drop_connection();
                // From a portal or a failing gateway, the status is enough.
                if !matches!(status, 300..=399 | 500..=599) {
                    return Err(failure);
                }
            }
            let body = response
                .body()
                .limit(self.response_bytes_max)
                .await
                .map_err(|error| describe_body_error(&error))?;
            match check_body_length(status, &headers, &body) {
                Some(failure) => Err(failure),
                None => decode_response(status, &headers, body, self.response_bytes_max),
            }
        };
        // The losing branches are dropped, and with them a connection in the middle of a request.
        let result = tokio::select! {
            result = response => result,
            exceeded = trace.watch_limits(limits) => {
                Err(RequestFailure {
                    connect_failure: exceeded.connect_failure(),
                    ..RequestFailure::new(exceeded.delivery(), exceeded.to_string())
                })
            }
            () = self.wait_for_invalidation() => {
                Err(RequestFailure::new(Delivery::Sent, "the link went down"))
            }
        };
        let mut exchange = Exchange {
            network: trace.measure_network(),
            elapsed: trace.elapsed(),
            ..failed_before_sending(String::new())
        };
        match result {
            Ok(decoded) => {
                exchange.set_response(decoded);
                if !is_from_healthy_server(&exchange.result) {
                    self.drop_connection();
                }
            }
            Err(failure) => {
                let delivery = trace.delivery(failure.delivery);
                exchange.result = RequestResult::Failure(RequestFailure { delivery, ..failure });
            }
        }
        Attempt { exchange, met_dead_connection: trace.met_dead_connection() }
    }
}

impl Exchange {
    fn set_response(&mut self, decoded: DecodedResponse) {
        (self.hints, self.accepts, self.date) = (decoded.hints, decoded.accepts, decoded.date);
        self.result = RequestResult::Response(decoded.response);
    }
}

/// Decodes a response, after undoing its content encoding.
fn decode_response(
    status: u16,
    headers: &HeaderMap,
    body: Bytes,
    limit: usize,
) -> Result<DecodedResponse, RequestFailure> {
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let decode = |body: &[u8]| response::decode_response(status, field, body, wall_ms());
    match decode_body(field("content-encoding"), body, limit) {
        Ok(plain) => Ok(decode(&plain)),
        Err(error @ UndecodableResponse::TooLarge) => {
            Err(RequestFailure::new(Delivery::Sent, error.to_string()))
        }
        Err(error) => {
            let mut decoded = decode(&[]);
            decoded.response.body = ResponseBody::Undecodable(error.to_string());
            Ok(decoded)
        }
    }
}

/// Whether a response shows that its connection is good: it is the protocol's own response to the request.
/// After any other response, the next request opens a new connection, and so resolves the server's name again.
/// The sender may have been taken out of service, or may be an intermediary.
fn is_from_healthy_server(result: &RequestResult) -> bool {
    let RequestResult::Response(response) = result else { return false };
    match (response.status, &response.body) {
        (200..=299, ResponseBody::Batch(_) | ResponseBody::Processing(_))
        | (400 | 409 | 413 | 415 | 422, ResponseBody::Error(_)) => true,
        (404, ResponseBody::Error(detail)) => detail.code == UNKNOWN_BATCH,
        _ => false,
    }
}

fn build_client(dialer: &Rc<Dialer>, connect_timeout: Duration, age_max: Duration) -> Client {
    let dialer = Rc::clone(dialer);
    let open_connection = fn_service(move |connect: ConnectInfo<awc::http::Uri>| {
        let dialer = Rc::clone(&dialer);
        async move {
            let stream =
                dialer.open_connection().await.map_err(|error| ConnectError::Io(io::Error::other(error)))?;
            Ok::<_, ConnectError>(Connection::new(connect.request().clone(), stream))
        }
    });
    let connector = Connector::new()
        .connector(open_connection)
        .timeout(connect_timeout)
        .conn_keep_alive(IDLE_TIME_MAX)
        .conn_lifetime(age_max)
        .limit(1);
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .add_default_header((header::USER_AGENT, concat!("fieldsync/", env!("CARGO_PKG_VERSION"))))
        .finish()
}
