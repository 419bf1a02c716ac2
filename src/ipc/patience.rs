//! How long a caller is waited for, byte by byte: whoever began a request has to end its head, and whoever
//! is answered has to read. A caller that lets us wait holds a connection that others need, and loses it.
//!
//! actix-http has a limit for the head of the first request; here is what it leaves open: later heads, the rest
//! of a body that was refused, the pause between two requests, and answers. A timer runs only while somebody
//! is waited for.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The head of a request is short and written in one go: longer than this, nobody is waited for.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// A connection is kept for so long after an answer.
const REST: Duration = Duration::from_secs(5);

/// A caller's connection.
pub(super) struct Patient<S> {
    stream: S,
    turn: Turn,
    stall: Duration,
    /// Until when the next request has to begin.
    rest: Timer,
    /// Until when the head that has begun has to end.
    head: Timer,
    /// Until when a part of the answer has to be taken.
    answer: Timer,
}

type Timer = Option<Pin<Box<Sleep>>>;

impl<S> Patient<S> {
    /// The caller may take `stall` for each step in reading its answer.
    pub(super) fn new(stream: S, stall: Duration) -> Self {
        Self { stream, turn: Turn::default(), stall, rest: None, head: None, answer: None }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            self.answer = None;
            return Poll::Ready(written);
        }
        if late(&mut self.answer, self.stall, cx) {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the caller does not read its answer");
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}

/// Whether the time is over that began with the first call. Whoever is told that it is not is woken then.
fn late(timer: &mut Timer, limit: Duration, cx: &mut Context<'_>) -> bool {
    timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx).is_ready()
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.turn.is_ours() {
            (this.rest, this.head) = (None, None);
            return read;
        }
        if read.is_ready() {
            this.rest = None;
            // It goes on from the first byte, however many come.
            late(&mut this.head, HEAD_WITHIN, cx);
            return read;
        }
        let is_late = |timer: &mut Timer, cx: &mut Context<'_>| {
            timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
        };
        if is_late(&mut this.head, cx) || is_late(&mut this.rest, cx) {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the caller does not go on with its request");
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // All of the answer was taken, and nothing is read before something comes: this is the end of our turn.
        if this.turn.ends() {
            (this.rest, this.head) = (None, None);
            late(&mut this.rest, REST, cx);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Whose turn it is on a connection: ours from the end of a request's head to the end of its answer.
#[derive(Clone, Default)]
pub(super) struct Turn(Rc<TurnState>);

#[derive(Default)]
struct TurnState {
    whose: Cell<Whose>,
    /// The request that waits for the answer before it to be taken.
    next: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Whose {
    /// The caller's.
    #[default]
    Theirs,
    Ours,
    /// It was ours, and the answer is on its way.
    Over,
    /// It was ours, and is again: the next request waits for it.
    OursNext,
}

impl Turn {
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.0.whose.get(), Whose::Ours | Whose::OursNext)
    }

    pub(super) fn is_theirs(&self) -> bool {
        self.0.whose.get() == Whose::Theirs
    }

    /// Whether it is the caller's again since the last time that somebody asked.
    fn ends(&self) -> bool {
        if self.0.whose.get() != Whose::Over {
            return false;
        }
        let next = self.0.next.take();
        self.0.whose.set(if next.is_some() { Whose::OursNext } else { Whose::Theirs });
        next.is_none_or(|next| {
            next.wake();
            false
        })
    }

    /// Ours once the answer before was taken, until what is returned is dropped. So of requests that come together
    /// one is answered at a time, and no answers gather for a caller that reads nothing.
    async fn take(&self) -> Ours {
        poll_fn(|cx| {
            if matches!(self.0.whose.get(), Whose::Theirs | Whose::OursNext) {
                return Poll::Ready(());
            }
            self.0.next.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        self.0.whose.set(Whose::Ours);
        Ours(self.clone())
    }
}

/// As [`Turn::take`], on a connection that may have no turns.
pub(super) async fn take_turn(turn: Option<Turn>) -> Option<Ours> {
    Some(turn?.take().await)
}

/// It is our turn.
pub(super) struct Ours(Turn);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.0.whose.set(Whose::Over);
    }
}

/// An answer: with its end the turn ends.
pub(super) struct Answer {
    body: BoxBody,
    _ours: Option<Ours>,
}

impl Answer {
    pub(super) fn new(body: BoxBody, ours: Option<Ours>) -> Self {
        Self { body, _ours: ours }
    }
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
