//! A connection to the server that counts what is written, and can ask the kernel what was confirmed.
//!
//! HTTP and TLS are layered on top of it, and drop it at its end. [`ConnectionStats`] outlives it, so that a
//! request can still find out how much of it was sent.

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

/// Limits the unsent bytes in the kernel. With its default buffer, the kernel could accept a whole body at once,
/// and the time of sending would be unknown.
const UNSENT_BYTES_MAX: u32 = 16 << 10;

/// What is known of one connection, even after its end.
#[derive(Debug)]
pub(super) struct ConnectionStats {
    clock: Clock,
    /// For asking the kernel; `None` after the end.
    socket: RefCell<Option<OwnedFd>>,
    final_state: Cell<Option<TcpState>>,
    local_address: Option<IpAddr>,
    /// What the kernel counts as confirmed before the first write.
    confirmed_at_start: Option<u64>,
    written_bytes: Cell<u64>,
    last_write: Cell<Duration>,
    flush_count: Cell<u64>,
    last_flush: Cell<Duration>,
    /// Notified on every write and flush.
    activity: Rc<Notify>,
}

impl ConnectionStats {
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// Bytes that the kernel accepted, including TLS.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    /// When the kernel last accepted bytes.
    pub(super) fn last_write(&self) -> Duration {
        self.last_write.get()
    }

    /// How often the kernel had accepted everything there was to send.
    pub(super) fn flush_count(&self) -> u64 {
        self.flush_count.get()
    }

    /// When that was last the case.
    pub(super) fn last_flush(&self) -> Duration {
        self.last_flush.get()
    }

    /// The state now, or at the end of the connection.
    pub(super) fn tcp_state(&self) -> Option<TcpState> {
        match &*self.socket.borrow() {
            Some(socket) => TcpState::read_from(socket),
            None => self.final_state.get(),
        }
    }

    /// How many of the written bytes the peer has confirmed.
    pub(super) fn confirmed_bytes(&self) -> Option<u64> {
        Some(self.tcp_state()?.confirmed_bytes.saturating_sub(self.confirmed_at_start?))
    }

    fn is_fully_confirmed(&self) -> bool {
        self.confirmed_bytes().is_some_and(|bytes| bytes >= self.written_bytes())
    }

    fn record_progress(&self) {
        self.last_write.set(self.clock.now());
        self.activity.notify_one();
    }
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct TcpConnection {
    stream: TcpStream,
    stats: Rc<ConnectionStats>,
    is_closing: bool,
}

impl TcpConnection {
    /// Wraps a connection; `activity` is notified on every write and flush.
    pub(super) fn new(stream: TcpStream, clock: Clock, activity: Rc<Notify>) -> io::Result<Self> {
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        let stats = Rc::new(ConnectionStats {
            clock,
            socket: RefCell::new(Some(stream.as_fd().try_clone_to_owned()?)),
            final_state: Cell::default(),
            local_address: stream.local_addr().ok().map(|local| local.ip()),
            confirmed_at_start: TcpState::read_from(&stream).map(|state| state.confirmed_bytes),
            written_bytes: Cell::default(),
            last_write: Cell::new(clock.now()),
            flush_count: Cell::default(),
            last_flush: Cell::default(),
            activity,
        });
        Ok(Self { stream, stats, is_closing: false })
    }

    pub(super) fn stats(&self) -> Rc<ConnectionStats> {
        Rc::clone(&self.stats)
    }

    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.stats.written_bytes.set(self.stats.written_bytes.get() + *bytes as u64);
            self.stats.record_progress();
        }
    }
}

impl Drop for TcpConnection {
    /// Resets the connection unless everything was confirmed. After a plain close the kernel would continue
    /// to send: a batch that was given up could still arrive, after the query for its outcome.
    fn drop(&mut self) {
        self.stats.final_state.set(TcpState::read_from(&self.stream));
        self.stats.socket.take();
        if !self.is_closing
            && !self.stats.is_fully_confirmed()
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection could not be reset before its close");
        }
    }
}

impl AsyncRead for TcpConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The layers above call this only when they hold no more data themselves.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stats.flush_count.set(self.stats.flush_count.get() + 1);
        self.stats.last_flush.set(self.stats.clock.now());
        self.stats.activity.notify_one();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closing = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The stream below HTTP: TCP, or TLS with the server, with its proxy, or with both, one inside the other.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// To the server directly, or through the tunnel of a proxy.
    Plain(TcpConnection),
    /// TLS over another stream.
    Tls(Box<TlsStream<ClientStream>>),
}

impl ClientStream {
    fn tcp_connection(&self) -> &TcpConnection {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0.tcp_connection(),
        }
    }
}

impl Drop for ClientStream {
    /// Sends the TLS close notice without waiting, unless the connection is to be reset.
    fn drop(&mut self) {
        if let Self::Tls(tls) = self
            && tls.get_ref().0.tcp_connection().stats.is_fully_confirmed()
            && let Poll::Ready(Err(error)) =
                Pin::new(tls.as_mut()).poll_shutdown(&mut Context::from_waker(Waker::noop()))
        {
            tracing::debug!(%error, "a TLS connection ended without a close notice");
        }
    }
}

/// Calls the same method of the stream inside.
macro_rules! delegate {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            ClientStream::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            ClientStream::Tls(tls) => Pin::new(tls).$method($($argument),*),
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_shutdown(cx))
    }
}

impl ActixStream for ClientStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.tcp_connection().stream, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.tcp_connection().stream, cx)
    }
}
