//! A connection to the server: what goes over it is counted, and what the kernel knows of it can be asked.
//!
//! HTTP and TLS lie over it. They drop it when they are done with it or when it broke; its [`Meter`]
//! stays with whoever wants to know how far a request came.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_rt::net::{ActixStream, Ready};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

use super::tcp_state::TcpState;
use crate::clock::Clock;

/// The kernel takes no more of a body than it can nearly send. Its usual buffer would swallow a
/// whole body at once, and nobody could say when that was sent.
const UNSENT_BYTES: u32 = 16 << 10;

/// What is known of one connection, for longer than it lives.
#[derive(Debug)]
pub(super) struct Meter {
    clock: Clock,
    /// The connection, for the kernel to be asked about; none once it is gone.
    socket: RefCell<Option<OwnedFd>>,
    last: Cell<Option<TcpState>>,
    /// Our side of it.
    from: Option<IpAddr>,
    /// What the kernel calls confirmed before anything was written.
    offset: Option<u64>,
    written: Cell<u64>,
    moved: Cell<Duration>,
    flushes: Cell<u64>,
    flushed: Cell<Duration>,
    stir: Rc<Notify>,
}

impl Meter {
    /// The address on our side.
    pub(super) fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// Bytes that the kernel took, TLS and all.
    pub(super) fn written(&self) -> u64 {
        self.written.get()
    }

    /// When it last took one.
    pub(super) fn moved(&self) -> Duration {
        self.moved.get()
    }

    /// How often it had everything that was meant to go out.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.get()
    }

    /// When that was so last.
    pub(super) fn flushed(&self) -> Duration {
        self.flushed.get()
    }

    /// As it is now, or was at its end.
    pub(super) fn state(&self) -> Option<TcpState> {
        match &*self.socket.borrow() {
            Some(socket) => TcpState::of(socket),
            None => self.last.get(),
        }
    }

    /// How many of the written bytes the other side has confirmed.
    pub(super) fn confirmed(&self) -> Option<u64> {
        Some(self.state()?.confirmed.saturating_sub(self.offset?))
    }

    fn is_all_confirmed(&self) -> bool {
        self.confirmed().is_some_and(|bytes| bytes >= self.written())
    }

    fn stirred(&self) {
        self.moved.set(self.clock.now());
        self.stir.notify_one();
    }
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    meter: Rc<Meter>,
    is_closing: bool,
}

impl Tcp {
    /// Takes a connection over; `stir` is notified whenever something goes out on it.
    pub(super) fn new(stream: TcpStream, clock: Clock, stir: Rc<Notify>) -> io::Result<Self> {
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        let meter = Rc::new(Meter {
            clock,
            socket: RefCell::new(Some(stream.as_fd().try_clone_to_owned()?)),
            last: Cell::default(),
            from: stream.local_addr().ok().map(|local| local.ip()),
            offset: TcpState::of(&stream).map(|state| state.confirmed),
            written: Cell::default(),
            moved: Cell::new(clock.now()),
            flushes: Cell::default(),
            flushed: Cell::default(),
            stir,
        });
        Ok(Self { stream, meter, is_closing: false })
    }

    pub(super) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.meter.written.set(self.meter.written.get() + *bytes as u64);
            self.meter.stirred();
        }
    }
}

impl Drop for Tcp {
    /// What the other side has not confirmed is withdrawn. After a plain close the kernel would go
    /// on sending it: a batch that was given up could arrive after all, behind its own look-up.
    fn drop(&mut self) {
        self.meter.last.set(TcpState::of(&self.stream));
        self.meter.socket.take();
        if !self.is_closing
            && !self.meter.is_all_confirmed()
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection is closed without a reset");
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever lies over it flushes it only when nothing is left with themselves.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.meter.flushes.set(self.meter.flushes.get() + 1);
        self.meter.flushed.set(self.meter.clock.now());
        self.meter.stir.notify_one();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closing = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What HTTP is given: TCP, or TLS with the server, with its proxy, or with both, one inside the other.
#[derive(Debug)]
pub(super) enum Line {
    /// To the server, or through a proxy that passes everything on.
    Plain(Tcp),
    /// TLS over another line.
    OverTls(Box<TlsStream<Line>>),
}

impl Line {
    fn tcp(&self) -> &Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::OverTls(tls) => tls.get_ref().0.tcp(),
        }
    }
}

impl Drop for Line {
    /// Ends TLS as its peer expects, without waiting, unless a request is to be withdrawn.
    fn drop(&mut self) {
        if let Self::OverTls(tls) = self
            && tls.get_ref().0.tcp().meter.is_all_confirmed()
            && let Poll::Ready(Err(error)) =
                Pin::new(tls.as_mut()).poll_shutdown(&mut Context::from_waker(Waker::noop()))
        {
            tracing::debug!(%error, "a TLS connection ended without a notice to its peer");
        }
    }
}

/// Calls the same method of whatever the line is.
macro_rules! forward {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Line::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            Line::OverTls(tls) => Pin::new(tls).$method($($argument),*),
        }
    };
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::OverTls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.poll_shutdown(cx))
    }
}

impl ActixStream for Line {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.tcp().stream, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.tcp().stream, cx)
    }
}
