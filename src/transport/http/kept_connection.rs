//! One connection: requests over it one after the other, and their results.
//!
//! Two defaults of awc would lose data here and are turned off: redirects (a redirected body is sent empty) and
//! its own time-out (it includes the upload).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::header::{self, HeaderMap};
use awc::{Client, ClientRequest, Connector};
use bytes::Bytes;

use super::failed_before_sending;
use super::failure::{check_body_length, check_framing, describe_body_error, describe_missing_response};
use crate::clock::{Clock, wall_ms};
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ResponseBody};
use crate::transport::dial::Dialer;
use crate::transport::encoding::{UndecodableResponse, decode_body};
use crate::transport::request_limits::RequestLimits;
use crate::transport::response::DecodedResponse;
use crate::transport::slot::Slot;
use crate::transport::transfer_trace::TransferTrace;
use crate::transport::{ConnectionInvalidation, Exchange, response};

/// A connection that was idle for longer is not used again: middleboxes forget connections silently.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// What the connections of a transport have in common.
pub(super) struct ConnectionSettings {
    pub(super) clock: Clock,
    pub(super) dialer: Dialer,
    pub(super) connect_timeout: Duration,
    pub(super) age_max: Duration,
    pub(super) response_bytes_max: usize,
    pub(super) invalidation: Rc<ConnectionInvalidation>,
}

/// A connection, which is opened with the first request. It has one request at a time, and is not used again after a
/// failure.
pub(super) struct KeptConnection {
    settings: Rc<ConnectionSettings>,
    slot: Rc<Slot>,
    client: Client,
}

/// One attempt, and whether another is due at once.
pub(super) struct Attempt {
    pub(super) exchange: Exchange,
    pub(super) met_dead_connection: bool,
}

impl KeptConnection {
    pub(super) fn new(settings: &Rc<ConnectionSettings>) -> Self {
        let slot = Rc::default();
        Self { client: build_client(settings, &slot), settings: Rc::clone(settings), slot }
    }

    /// Whether its local address is gone.
    pub(super) fn has_lost_address(&self) -> bool {
        self.slot.has_lost_address()
    }

    /// Waits until the connection can no longer be used.
    async fn wait_for_invalidation(&self) {
        let invalidation = &self.settings.invalidation;
        loop {
            tokio::select! {
                () = invalidation.link_down.notified() => return,
                () = invalidation.address_changed.notified() => if self.has_lost_address() { return },
            }
        }
    }

    pub(super) async fn attempt_request(
        &self,
        request: impl Fn(&Client) -> ClientRequest,
        body: Bytes,
        limits: &RequestLimits,
    ) -> Attempt {
        let trace = TransferTrace::start(self.settings.clock, &self.slot, body.len() as u64);
        let response_bytes_max = self.settings.response_bytes_max;
        let request = request(&self.client);
        let sending =
            if body.is_empty() { request.send() } else { request.send_body(trace.stream_body(body)) };
        let response = async {
            let mut response = sending
                .await
                .map_err(|error| describe_missing_response(&error, limits, !trace.is_on_kept_connection()))?;
            trace.record_response_start();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            // From a portal or a failing gateway, the status is enough.
            if let Some(failure) = check_framing(&response)
                && !matches!(status, 300..=399 | 500..=599)
            {
                return Err(failure);
            }
            let body = response
                .body()
                .limit(response_bytes_max)
                .await
                .map_err(|error| describe_body_error(&error))?;
            match check_body_length(status, &headers, &body) {
                Some(failure) => Err(failure),
                None => decode_response(status, &headers, body, response_bytes_max),
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
            Ok(decoded) => exchange.set_response(decoded),
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

/// A client whose connections are opened for a slot.
pub(super) fn build_client(settings: &Rc<ConnectionSettings>, slot: &Rc<Slot>) -> Client {
    let (dialing, slot) = (Rc::clone(settings), Rc::clone(slot));
    let open_connection = fn_service(move |connect: ConnectInfo<awc::http::Uri>| {
        let (settings, slot) = (Rc::clone(&dialing), Rc::clone(&slot));
        async move {
            let opened = settings.dialer.open_connection(&slot).await;
            let stream = opened.map_err(|error| ConnectError::Io(io::Error::other(error)))?;
            Ok::<_, ConnectError>(Connection::new(connect.request().clone(), stream))
        }
    });
    let connector = Connector::new()
        .connector(open_connection)
        .timeout(settings.connect_timeout)
        .conn_keep_alive(IDLE_TIME_MAX)
        .conn_lifetime(settings.age_max)
        .limit(1);
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .add_default_header((header::USER_AGENT, concat!("fieldsync/", env!("CARGO_PKG_VERSION"))))
        .finish()
}
