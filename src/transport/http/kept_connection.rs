//! Requests over the one connection that is kept, and what came of them.
//!
//! Defaults of awc that would lose data here are turned off: redirects (a redirected body is sent
//! empty) and its own time-out (it includes the upload). A request that met a dead connection is
//! sent once more over a fresh one: the server has promised to apply the same batch under the same
//! id once, so that this is safe even where it was not dead at all.

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

use super::failure::{broken_off, cut_short, unanswered, unfinished};
use super::{TransportError, unsent};
use crate::clock::{Clock, wall_ms};
use crate::config;
use crate::protocol::exchange::{Delivery, RequestFailure, RequestResult, ResponseBody};
use crate::protocol::wire::UNKNOWN_BATCH;
use crate::transport::dial::Dialer;
use crate::transport::encoding::{UndecodableAnswer, decode_answer};
use crate::transport::proxy::Proxy;
use crate::transport::request_limits::Limits;
use crate::transport::response::Decoded;
use crate::transport::transfer_trace::Journey;
use crate::transport::{Exchange, Parting, response};

/// A connection that was idle for longer is not used again: middleboxes forget them silently.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// A connection that is older is not used for another request, however well it serves: the name of the
/// server may lead to another address by now.
pub(super) const AGE_LIMIT: Duration = Duration::from_mins(5);

/// The connection that is kept between requests, of which there is one at a time.
pub(super) struct Pool {
    clock: Clock,
    dialer: Rc<Dialer>,
    connect_limit: Duration,
    age_limit: Duration,
    answer_bytes: usize,
    client: RefCell<Client>,
    turn: Mutex<()>,
    parting: Rc<Parting>,
}

/// One try, and whether it says so little that another is due at once.
struct Try {
    exchange: Exchange,
    met_dead_connection: bool,
}

impl Pool {
    pub(super) fn new(
        config: &config::Server,
        server: Uri,
        parting: Rc<Parting>,
        age_limit: Duration,
    ) -> Result<Self, TransportError> {
        let proxy = Proxy::find(config, &server)?;
        let clock = Clock::start();
        let dialer = Rc::new(Dialer::new(config, server, proxy, clock)?);
        let connect_limit = config.connect_timeout.0;
        Ok(Self {
            clock,
            client: RefCell::new(client(&dialer, connect_limit, age_limit)),
            dialer,
            connect_limit,
            age_limit,
            answer_bytes: usize::try_from(config.max_answer_bytes.0).unwrap_or(usize::MAX),
            turn: Mutex::default(),
            parting,
        })
    }

    /// No connection of before is used again.
    pub(super) fn renew(&self) {
        self.client.replace(client(&self.dialer, self.connect_limit, self.age_limit));
    }

    /// Ends when the connection is of no use any more.
    pub(super) async fn parted(&self) {
        loop {
            tokio::select! {
                () = self.parting.gone.notified() => return,
                () = self.parting.moved.notified() => if self.dialer.has_lost_its_address() { return },
            }
        }
    }

    pub(super) async fn exchange(
        &self,
        request: impl Fn(&Client) -> ClientRequest,
        body: Bytes,
        limits: &Limits,
    ) -> Exchange {
        let _turn = self.turn.lock().await;
        let first = self.attempt(&request, body.clone(), limits).await;
        let RequestResult::Failure(RequestFailure { delivery, .. }) = first.exchange.result else {
            return first.exchange;
        };
        if !first.met_dead_connection {
            return first.exchange;
        }
        tracing::debug!("a kept connection was dead: the request is sent once more over a fresh one");
        self.renew();
        // What the dead one took says nothing of the server, and so is no part of the measurements.
        let mut second = self.attempt(&request, body, limits).await.exchange;
        if let RequestResult::Failure(failure) = &mut second.result
            && failure.delivery == Delivery::NotSent
        {
            failure.delivery = delivery;
        }
        second
    }

    async fn attempt(&self, request: impl Fn(&Client) -> ClientRequest, body: Bytes, limits: &Limits) -> Try {
        let journey = Journey::start(self.clock, self.dialer.newest(), self.dialer.stir(), body.len() as u64);
        let request = request(&self.client.borrow());
        let sending = if body.is_empty() { request.send() } else { request.send_body(journey.body(body)) };
        let whole = async {
            let mut response = sending
                .await
                .map_err(|error| unanswered(&error, limits, !journey.is_on_kept_connection()))?;
            journey.is_answered();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            if let Some(failure) = unfinished(&response) {
                // Whoever asked next on this connection would get what is still to come.
                self.renew();
                // What a portal or a gateway in trouble has to say is in its status.
                if !matches!(status, 300..=399 | 500..=599) {
                    return Err(failure);
                }
            }
            let body = response.body().limit(self.answer_bytes).await.map_err(|error| cut_short(&error))?;
            match broken_off(status, &headers, &body) {
                Some(failure) => Err(failure),
                None => read_answer(status, &headers, body, self.answer_bytes),
            }
        };
        // Whatever does not win is dropped, and with it a connection in the middle of something.
        let ended = tokio::select! {
            ended = whole => ended,
            passed = journey.watch(limits) => {
                Err(RequestFailure { delivery: passed.reached(), message: passed.to_string() })
            }
            () = self.parted() => {
                Err(RequestFailure { delivery: Delivery::Sent, message: "the link went away".into() })
            }
        };
        let mut exchange =
            Exchange { network: journey.network(), took: journey.took(), ..unsent(String::new()) };
        match ended {
            Ok(decoded) => {
                exchange.take(decoded);
                if !is_from_healthy_server(&exchange.result) {
                    self.renew();
                }
            }
            Err(RequestFailure { delivery, message }) => {
                let delivery = journey.reached(delivery);
                exchange.result = RequestResult::Failure(RequestFailure { delivery, message });
            }
        }
        Try { exchange, met_dead_connection: journey.met_dead_connection() }
    }
}

impl Exchange {
    /// Takes an answer in.
    fn take(&mut self, decoded: Decoded) {
        (self.hints, self.accepts, self.date) = (decoded.hints, decoded.accepts, decoded.date);
        self.result = RequestResult::Response(decoded.answer);
    }
}

/// Takes an answer apart, once its encoding is undone.
fn read_answer(
    status: u16,
    headers: &HeaderMap,
    body: Bytes,
    limit: usize,
) -> Result<Decoded, RequestFailure> {
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let read = |body: &[u8]| response::decode(status, field, body, wall_ms());
    match decode_answer(field("content-encoding"), body, limit) {
        Ok(plain) => Ok(read(&plain)),
        Err(error @ UndecodableAnswer::TooLarge) => {
            Err(RequestFailure { delivery: Delivery::Sent, message: error.to_string() })
        }
        Err(error) => {
            let mut decoded = read(&[]);
            decoded.answer.body = ResponseBody::Undecodable(error.to_string());
            Ok(decoded)
        }
    }
}

/// Whether an answer speaks for the connection that it came over: the protocol's own answer to what was
/// asked. After any other answer the next request makes a connection of its own, and so resolves the name
/// of the server again: who turned this one away may have been taken out of service, or stand in between.
fn is_from_healthy_server(seen: &RequestResult) -> bool {
    let RequestResult::Response(answer) = seen else { return false };
    match (answer.status, &answer.body) {
        (200..=299, ResponseBody::Batch(_) | ResponseBody::Processing(_))
        | (400 | 409 | 413 | 415 | 422, ResponseBody::Error(_)) => true,
        (404, ResponseBody::Error(detail)) => detail.code == UNKNOWN_BATCH,
        _ => false,
    }
}

fn client(dialer: &Rc<Dialer>, connect_limit: Duration, age_limit: Duration) -> Client {
    let dialer = Rc::clone(dialer);
    let dial = fn_service(move |connect: ConnectInfo<awc::http::Uri>| {
        let dialer = Rc::clone(&dialer);
        async move {
            let line = dialer.dial().await.map_err(|error| ConnectError::Io(io::Error::other(error)))?;
            Ok::<_, ConnectError>(Connection::new(connect.request().clone(), line))
        }
    });
    let connector = Connector::new()
        .connector(dial)
        .timeout(connect_limit)
        .conn_keep_alive(IDLE_LIMIT)
        .conn_lifetime(age_limit)
        .limit(1);
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .add_default_header((header::USER_AGENT, concat!("fieldsync/", env!("CARGO_PKG_VERSION"))))
        .finish()
}
