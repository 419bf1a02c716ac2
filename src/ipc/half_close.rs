//! A caller that ends its half of the connection behind its request, as `nc -N` does, still gets its answer;
//! one that has gone altogether is noticed at once, and not at the next byte for it.
//!
//! Both look the same to whoever reads: the end of what comes. What tells them apart is whether we may still
//! write, and the kernel says so without being written to. So the end is not told to HTTP while an answer is due,
//! unless the caller is gone, or the rest of a body is waited for that cannot come any more.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::patience::{Patient, Turn};
use super::read_ahead::ReadAhead;

/// A connection whose caller may have said all that it will say.
pub(super) struct HalfClosable {
    inner: Patient<UnixStream>,
    turn: Turn,
    hunger: Hunger,
    /// Nothing more will come.
    has_ended: bool,
    /// That was to be told, once no answer was due any more.
    is_told: bool,
    /// Whether we may still write, while nothing more comes and an answer is due.
    line: Option<UnixStream>,
    ahead: ReadAhead,
}

impl HalfClosable {
    pub(super) fn new(inner: Patient<UnixStream>) -> Self {
        Self {
            turn: inner.turn(),
            inner,
            hunger: Hunger::default(),
            has_ended: false,
            is_told: false,
            line: None,
            ahead: ReadAhead::default(),
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        self.inner.stream()
    }

    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    pub(super) fn hunger(&self) -> Hunger {
        self.hunger.clone()
    }

    /// Nothing more will come: whether that is told now.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What came before it may not have been looked at, and may be the request, or the rest of its body.
        if !self.has_ended || self.hunger.is_new() {
            self.has_ended = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.turn.is_theirs() || self.hunger.is_vain() {
            return Poll::Ready(Ok(()));
        }
        self.gone(cx)
    }

    /// Waits until the caller is gone altogether.
    fn gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(again(self.inner.stream())?),
        };
        while !is_gone(line)? {
            ready!(line.poll_write_ready(cx))?;
            // From now on the kernel says so when that changes.
            let blocks = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            drop(line.try_io(Interest::WRITABLE, blocks));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the caller is gone")))
    }
}

/// The same connection, to wait for it without touching what is known of the first.
fn again(stream: &UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}

/// Whether neither side can say anything any more.
fn is_gone(stream: &UnixStream) -> io::Result<bool> {
    let mut line = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut line, PollTimeout::ZERO)?;
    Ok(line[0].any().unwrap_or_default())
}

impl AsyncRead for HalfClosable {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(if this.hunger.is_waiting() {
            Pin::new(&mut this.inner).poll_read(cx, buffer)
        } else {
            this.ahead.poll_read(&mut this.inner, !this.turn.is_theirs(), cx, buffer)
        })?;
        if buffer.filled().len() == before { this.end(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for HalfClosable {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        if this.turn.is_theirs() {
            let is_withheld = this.ahead.renew();
            // The answer is given: now the end may be told, and nothing else would ask for it.
            if is_withheld || (this.has_ended && !this.is_told) {
                this.is_told |= this.has_ended;
                cx.waker().wake_by_ref();
            }
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Whether somebody waits for more of a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Hunger(Rc<Cell<Appetite>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Appetite {
    #[default]
    Sated,
    /// What has come already may not have been handed on.
    Hungry,
    /// All that has come was handed on since.
    InVain,
}

impl Hunger {
    /// How a look for more of a body ended. Whoever looks is woken together with the connection.
    pub(super) fn note(&self, is_waiting: bool, cx: &Context<'_>) {
        match (is_waiting, self.0.get()) {
            (false, _) => self.0.set(Appetite::Sated),
            (true, Appetite::Sated) => {
                self.0.set(Appetite::Hungry);
                cx.waker().wake_by_ref();
            }
            (true, Appetite::Hungry | Appetite::InVain) => {}
        }
    }

    /// The body before is over.
    pub(super) fn forget(&self) {
        self.0.set(Appetite::Sated);
    }

    /// Whether what came may still be handed on, which it is before the next time that this is asked.
    fn is_new(&self) -> bool {
        let is_new = self.0.get() == Appetite::Hungry;
        if is_new {
            self.0.set(Appetite::InVain);
        }
        is_new
    }

    /// Whether somebody waits for more of a body.
    fn is_waiting(&self) -> bool {
        self.0.get() != Appetite::Sated
    }

    fn is_vain(&self) -> bool {
        self.0.get() == Appetite::InVain
    }
}
