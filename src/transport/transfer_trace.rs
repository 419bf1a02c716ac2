//! How much of one request was sent, and when.
//!
//! This decides whether the server can have a request that failed. It cannot if part of the request never left
//! this device. A missing *confirmation* proves less: if the return path breaks first, bytes arrive without
//! being confirmed.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use actix_http::body::SizedStream;
use bytes::Bytes;

use super::connection::ConnectionStats;
use super::request_limits::{ExceededLimit, RequestLimits};
use super::slot::Slot;
use crate::clock::Clock;
use crate::model::Network;
use crate::protocol::exchange::Delivery;

/// Bytes of a body that are handed to the connection at a time.
const BODY_CHUNK_BYTES: usize = 16 << 10;

/// The progress of one request.
pub(super) struct TransferTrace {
    clock: Clock,
    slot: Rc<Slot>,
    /// The connection before the request, which may be reused for it.
    kept: Option<Rc<ConnectionStats>>,
    body_bytes: u64,
    started: Duration,
    /// When the connection asked for the body, just before it sent the head of the request.
    send_started: Cell<Option<Duration>>,
    /// Bytes that were written before: earlier requests, and TLS.
    written_before: Cell<u64>,
    /// The connection's flush count when it took the last of the body.
    flushes_before_end: Cell<Option<u64>>,
    response_started: Cell<Option<Duration>>,
}

impl TransferTrace {
    /// Starts to trace the one request of a slot.
    pub(super) fn start(clock: Clock, slot: &Rc<Slot>, body_bytes: u64) -> Rc<Self> {
        let kept = slot.connection();
        Rc::new(Self {
            clock,
            slot: Rc::clone(slot),
            written_before: Cell::new(kept.as_ref().map_or(0, |kept| kept.written_bytes())),
            kept,
            body_bytes,
            started: clock.now(),
            send_started: Cell::default(),
            flushes_before_end: Cell::default(),
            response_started: Cell::default(),
        })
    }

    /// The body as a stream that records when the connection first asked for it, and when it had taken all of it.
    pub(super) fn stream_body(
        self: &Rc<Self>,
        bytes: Bytes,
    ) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Infallible>> + use<>> {
        let (this, size) = (Rc::clone(self), bytes.len() as u64);
        let chunks = futures_util::stream::unfold(bytes, move |mut rest| {
            this.record_send_start();
            let next = (!rest.is_empty()).then(|| rest.split_to(rest.len().min(BODY_CHUNK_BYTES)));
            if rest.is_empty() && this.flushes_before_end.get().is_none() {
                this.flushes_before_end.set(Some(this.stats().map_or(0, |stats| stats.flush_count())));
            }
            std::future::ready(next.map(|chunk| (Ok(chunk), rest)))
        });
        SizedStream::new(size, chunks)
    }

    /// The connection is open, and the head of the request is sent next.
    fn record_send_start(&self) {
        if self.send_started.get().is_none() {
            self.send_started.set(Some(self.clock.now()));
            self.written_before.set(self.stats().map_or(0, |stats| stats.written_bytes()));
            self.slot.activity().notify_one();
        }
    }

    /// The head of the response has arrived.
    pub(super) fn record_response_start(&self) {
        self.response_started.set(Some(self.clock.now()));
        self.slot.activity().notify_one();
    }

    fn stats(&self) -> Option<Rc<ConnectionStats>> {
        self.slot.connection()
    }

    /// When the kernel had accepted the whole request.
    fn sent_at(&self) -> Option<Duration> {
        let (flushes, stats) = (self.flushes_before_end.get()?, self.stats()?);
        (stats.flush_count() > flushes).then(|| stats.last_flush())
    }

    /// How much of a failed request was sent, given that the failure itself allows for `at_most`.
    pub(super) fn delivery(&self, at_most: Delivery) -> Delivery {
        let is_not_sent = if self.body_bytes == 0 {
            // An outcome query changes nothing at the server; at most the server was too slow for it.
            at_most != Delivery::TimedOut
        } else {
            self.send_started.get().is_none() || (self.is_unconfirmed() && self.is_withheld())
        };
        match at_most {
            _ if is_not_sent => Delivery::NotSent,
            Delivery::Partial if self.sent_at().is_some() => Delivery::Sent,
            at_most => at_most,
        }
    }

    /// Whether the request used a kept connection that was probably dead: none of it was confirmed.
    pub(super) fn met_dead_connection(&self) -> bool {
        self.is_on_kept_connection() && self.is_unconfirmed()
    }

    /// Whether the request used a connection that had carried another one before.
    pub(super) fn is_on_kept_connection(&self) -> bool {
        match (&self.kept, self.stats()) {
            (Some(kept), Some(used)) => Rc::ptr_eq(kept, &used),
            _ => false,
        }
    }

    /// Whether the peer confirmed no byte of the request. False if the kernel does not say.
    fn is_unconfirmed(&self) -> bool {
        let confirmed = self.stats().and_then(|stats| stats.confirmed_bytes());
        confirmed.is_some_and(|bytes| bytes <= self.written_before.get())
    }

    /// Whether part of the request certainly never left: this process still has it, or a kernel that has closed
    /// the connection.
    fn is_withheld(&self) -> bool {
        let state = self.stats().and_then(|stats| stats.tcp_state());
        self.sent_at().is_none() || state.is_some_and(|state| state.is_closed && state.unsent_bytes > 0)
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now().saturating_sub(self.started)
    }

    /// The measurements of the network.
    pub(super) fn measure_network(&self) -> Network {
        let since_start = |at: Duration| at.saturating_sub(self.started);
        let end = self.response_started.get().unwrap_or_else(|| self.clock.now());
        Network {
            connect: self.send_started.get().map(since_start),
            body_bytes: self.body_bytes,
            sent: self.sent_at().map(since_start),
            exchange: self.send_started.get().map(|at| end.saturating_sub(at)),
            round_trip: self.stats().and_then(|stats| stats.tcp_state()?.round_trip),
            // The transport does not know the link.
            ..Network::default()
        }
    }

    /// Ends when a limit is exceeded.
    pub(super) async fn watch_limits(&self, limits: &RequestLimits) -> ExceededLimit {
        let sent_at = if self.body_bytes == 0 {
            // The request has no body, and is sent as soon as there is a connection.
            self.started + limits.connect
        } else {
            match self.watch_sending(limits).await {
                Ok(sent_at) => sent_at,
                Err(exceeded) => return exceeded,
            }
        };
        let response_started =
            self.wait_until(sent_at + limits.response, || self.response_started.get()).await;
        let Some(response_started) = response_started else {
            return ExceededLimit::Response(limits.response);
        };
        let never = self.wait_until(response_started + limits.read, || None::<Infallible>).await;
        never.map_or(ExceededLimit::Read(limits.read), |never| match never {})
    }

    /// Waits until the body is sent.
    async fn watch_sending(&self, limits: &RequestLimits) -> Result<Duration, ExceededLimit> {
        let send_started = self.wait_until(self.started + limits.connect, || self.send_started.get()).await;
        let Some(send_started) = send_started else {
            return Err(ExceededLimit::Connect(limits.connect));
        };
        let end = send_started + limits.send;
        let read_confirmed = || self.stats().and_then(|stats| stats.confirmed_bytes());
        // Bytes that were confirmed before are not progress.
        let mut confirmed = read_confirmed();
        let mut last_progress = send_started;
        loop {
            let sent_at = self
                .wait_until(end.min(last_progress + limits.stall), || {
                    // Each write postpones the end of the stall.
                    let stats = self.stats();
                    last_progress =
                        last_progress.max(stats.map_or(last_progress, |stats| stats.last_write()));
                    self.sent_at()
                })
                .await;
            let now = self.clock.now();
            // On a slow link, confirmations arrive long before the kernel accepts more.
            let confirmed_now = read_confirmed();
            if confirmed_now > confirmed {
                (confirmed, last_progress) = (confirmed_now, now);
            }
            match sent_at {
                Some(sent_at) => return Ok(sent_at),
                None if now >= end => return Err(ExceededLimit::Send(limits.send)),
                None if now >= last_progress + limits.stall => {
                    return Err(ExceededLimit::Stall(limits.stall));
                }
                None => {}
            }
        }
    }

    /// Waits until `probe` finds something; `None` if it does not before `due`.
    async fn wait_until<T>(&self, due: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = probe() {
                return Some(found);
            }
            let left = due.checked_sub(self.clock.now()).filter(|left| !left.is_zero())?;
            tokio::select! {
                () = self.slot.activity().notified() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}
