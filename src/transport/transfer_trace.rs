//! How far one request came: what the connection took of it, and when.
//!
//! From this follows whether a request that failed can be with the server. It cannot when part of
//! it never left this device. That a part was not *confirmed* is less: what arrived and what was
//! confirmed differ whenever the way back breaks first.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use actix_http::body::SizedStream;
use bytes::Bytes;
use tokio::sync::Notify;

use super::connection::Meter;
use super::request_limits::{Limits, Passed};
use crate::clock::Clock;
use crate::model::Network;
use crate::protocol::exchange::Delivery;

/// Bytes of a body that are handed to the connection at a time.
const CHUNK: usize = 16 << 10;

/// The connection that was made last. There is one at a time, and so it is the one in use.
pub(super) type Newest = Rc<RefCell<Option<Rc<Meter>>>>;

/// One request on its way.
pub(super) struct Journey {
    clock: Clock,
    newest: Newest,
    /// The connection that was there before.
    kept: Option<Rc<Meter>>,
    body_bytes: u64,
    started: Duration,
    asked: Cell<Option<Duration>>,
    /// Bytes of earlier requests, and of TLS.
    before: Cell<u64>,
    /// How often the connection had been flushed when it took the last of the body.
    taken: Cell<Option<u64>>,
    head: Cell<Option<Duration>>,
    stir: Rc<Notify>,
}

impl Journey {
    /// Sets out; `stir` is what connections notify when something moves.
    pub(super) fn start(clock: Clock, newest: &Newest, stir: &Rc<Notify>, body_bytes: u64) -> Rc<Self> {
        let kept = newest.borrow().clone();
        Rc::new(Self {
            clock,
            newest: Rc::clone(newest),
            before: Cell::new(kept.as_ref().map_or(0, |kept| kept.written())),
            kept,
            body_bytes,
            started: clock.now(),
            asked: Cell::default(),
            taken: Cell::default(),
            head: Cell::default(),
            stir: Rc::clone(stir),
        })
    }

    /// The body as a stream that remembers when it was asked for first, and when it was taken whole.
    pub(super) fn body(
        self: &Rc<Self>,
        bytes: Bytes,
    ) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Infallible>> + use<>> {
        let (this, size) = (Rc::clone(self), bytes.len() as u64);
        let chunks = futures_util::stream::unfold(bytes, move |mut rest| {
            this.asks();
            let next = (!rest.is_empty()).then(|| rest.split_to(rest.len().min(CHUNK)));
            if rest.is_empty() && this.taken.get().is_none() {
                this.taken.set(Some(this.meter().map_or(0, |meter| meter.flushes())));
            }
            std::future::ready(next.map(|chunk| (Ok(chunk), rest)))
        });
        SizedStream::new(size, chunks)
    }

    /// The connection stands, and the head of the request is about to go out.
    fn asks(&self) {
        if self.asked.get().is_none() {
            self.asked.set(Some(self.clock.now()));
            self.before.set(self.meter().map_or(0, |meter| meter.written()));
            self.stir.notify_one();
        }
    }

    /// The answer's head is here.
    pub(super) fn is_answered(&self) {
        self.head.set(Some(self.clock.now()));
        self.stir.notify_one();
    }

    fn meter(&self) -> Option<Rc<Meter>> {
        self.newest.borrow().clone()
    }

    /// When the whole request was with the kernel.
    fn out(&self) -> Option<Duration> {
        let (taken, meter) = (self.taken.get()?, self.meter()?);
        (meter.flushes() > taken).then(|| meter.flushed())
    }

    /// How far the request came, when by what happened to it it came no further than `at_most`.
    pub(super) fn reached(&self, at_most: Delivery) -> Delivery {
        let is_nothing = if self.body_bytes == 0 {
            // A look-up changes nothing at the server: at most the server was too slow for it.
            at_most != Delivery::TimedOut
        } else {
            self.asked.get().is_none() || (self.is_unconfirmed() && self.is_withheld())
        };
        match at_most {
            _ if is_nothing => Delivery::NotSent,
            Delivery::Partial if self.out().is_some() => Delivery::Sent,
            at_most => at_most,
        }
    }

    /// Whether it met a kept connection that was dead in all likelihood: nothing of it was confirmed.
    pub(super) fn met_dead_connection(&self) -> bool {
        self.is_on_kept_connection() && self.is_unconfirmed()
    }

    /// Whether it went over a connection that had served before.
    pub(super) fn is_on_kept_connection(&self) -> bool {
        match (&self.kept, self.meter()) {
            (Some(kept), Some(used)) => Rc::ptr_eq(kept, &used),
            _ => false,
        }
    }

    /// Whether the other side confirmed no byte of the request. Not when the kernel does not tell.
    fn is_unconfirmed(&self) -> bool {
        let confirmed = self.meter().and_then(|meter| meter.confirmed());
        confirmed.is_some_and(|bytes| bytes <= self.before.get())
    }

    /// Whether part of the request surely never left: it is still with us, or with a kernel that has
    /// ended the connection.
    fn is_withheld(&self) -> bool {
        let kernel = self.meter().and_then(|meter| meter.state());
        self.out().is_none() || kernel.is_some_and(|state| state.is_over && state.unsent > 0)
    }

    /// Since it set out.
    pub(super) fn took(&self) -> Duration {
        self.clock.now().saturating_sub(self.started)
    }

    /// What the network was like.
    pub(super) fn network(&self) -> Network {
        let since_start = |at: Duration| at.saturating_sub(self.started);
        let end = self.head.get().unwrap_or_else(|| self.clock.now());
        Network {
            connect: self.asked.get().map(since_start),
            body_bytes: self.body_bytes,
            sent: self.out().map(since_start),
            exchange: self.asked.get().map(|asked| end.saturating_sub(asked)),
            round_trip: self.meter().and_then(|meter| meter.state()?.round_trip),
            interface: None,
            signal_dbm: None,
        }
    }

    /// Ends when a limit passes.
    pub(super) async fn watch(&self, limits: &Limits) -> Passed {
        let out = if self.body_bytes == 0 {
            // Its first byte is the request itself, which is out as soon as there is a connection.
            self.started + limits.connect
        } else {
            match self.sending(limits).await {
                Ok(out) => out,
                Err(passed) => return passed,
            }
        };
        let Some(head) = self.until(out + limits.answer, || self.head.get()).await else {
            return Passed::Answer(limits.answer);
        };
        let never = self.until(head + limits.read, || None::<Infallible>).await;
        never.map_or(Passed::Read(limits.read), |never| match never {})
    }

    /// Waits until the body is out.
    async fn sending(&self, limits: &Limits) -> Result<Duration, Passed> {
        let Some(asked) = self.until(self.started + limits.connect, || self.asked.get()).await else {
            return Err(Passed::Connect(limits.connect));
        };
        let end = asked + limits.send;
        let confirmed = || self.meter().and_then(|meter| meter.confirmed());
        // What was confirmed already is no progress.
        let mut known = confirmed();
        let mut moved = asked;
        loop {
            let out = self
                .until(end.min(moved + limits.stall), || {
                    // A byte that is taken puts the end of the stall off.
                    let meter = self.meter();
                    moved = moved.max(meter.map_or(moved, |meter| meter.moved()));
                    self.out()
                })
                .await;
            let now = self.clock.now();
            // On a slow link the other side confirms long before the kernel takes more.
            let progress = confirmed();
            if progress > known {
                (known, moved) = (progress, now);
            }
            match out {
                Some(out) => return Ok(out),
                None if now >= end => return Err(Passed::Send(limits.send)),
                None if now >= moved + limits.stall => return Err(Passed::Stall(limits.stall)),
                None => {}
            }
        }
    }

    /// Waits for something to be there; none when it is not by then.
    async fn until<T>(&self, due: Duration, mut there: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = there() {
                return Some(found);
            }
            let left = due.checked_sub(self.clock.now()).filter(|left| !left.is_zero())?;
            tokio::select! {
                () = self.stir.notified() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}
