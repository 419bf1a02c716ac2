//! One connection of the local API or of the page: HTTP/1.1, and limits on how long its peer may keep it waiting.
//!
//! hyper reads one request at a time, and of later ones no more than its buffer holds. It limits no time, so here the
//! head of each request has a deadline, and each step in which the peer reads its response. A timer runs only while the
//! daemon waits for the peer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep, timeout};

use super::error::ApiError;
use super::http::{Response, ResponseBody};

/// How long a connection may idle before a request, and how long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer whose request was refused may go on sending before the connection is closed.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// What hyper gathers of requests and responses. A body is read and written in pieces of about this size.
const BUFFER_BYTES: usize = 64 << 10;
const DRAIN_STEP_BYTES: usize = 16 << 10;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How a connection treats its peer.
pub(super) struct Options {
    /// The longest pause of the peer while it reads a response.
    pub(super) stall_timeout: Duration,
    /// The same connection once more, where a peer that has ended its half of it gets its response, as `nc -N` expects.
    /// Without it, that is the end of the connection.
    pub(super) half_closable: Option<UnixStream>,
}

/// Serves one request after the other until the connection ends. `shutdown` ends it after the response that is due.
pub(super) async fn serve<S, R>(
    stream: S,
    options: Options,
    shutdown: impl Future,
    respond: impl Fn(Request<Incoming>) -> R,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Future<Output = Response>,
{
    let activity = Rc::new(Activity::default());
    let service = service_fn(|request| {
        let responding = Responding::start(&activity);
        let response = respond(request);
        Box::pin(async move {
            let response = response.await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody { body, _responding: responding }))
        })
    });
    let io = TokioIo::new(WatchedStream { stream, activity: Rc::clone(&activity) });
    let mut http = http1::Builder::new()
        .half_close(options.half_closable.is_some())
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut hang_up = pin!(wait_for_hang_up(options.half_closable));
    let (mut shutdown, mut is_ending) = (pin!(shutdown), false);
    let mut deadline = Deadline::default();
    let end = poll_fn(|cx| {
        if !is_ending && shutdown.as_mut().poll(cx).is_ready() {
            is_ending = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        if let Poll::Ready(end) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(end.map_err(ConnectionError::Http));
        }
        if hang_up.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ConnectionError::HangUp));
        }
        deadline.poll(&activity, options.stall_timeout, cx).map(|wait| Err(ConnectionError::Timeout(wait)))
    })
    .await;
    let stream = http.into_parts().io.into_inner().stream;
    match end {
        Ok(()) | Err(ConnectionError::Http(_)) if !is_ending => {
            linger(stream, &[]).await;
        }
        Err(ConnectionError::Timeout(Wait::Head)) => {
            linger(stream, REQUEST_TIMEOUT).await;
        }
        _ => {}
    }
    end
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Http(hyper::Error),
    #[error("the peer closed the connection before its response")]
    HangUp,
    #[error("the peer took too long: {0:?}")]
    Timeout(Wait),
}

/// Sends the last bytes and closes the connection once the peer has done so. Data that is left unread would reset the
/// connection, and keep the peer from reading its response.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let farewell = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        drain(&mut stream, usize::MAX).await
    };
    if let Ok(Err(error)) = timeout(LINGER_TIMEOUT, farewell).await {
        tracing::debug!(%error, "the end of a connection broke off");
    }
}

/// Reads and discards what the peer still sends.
pub(super) async fn drain(stream: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; DRAIN_STEP_BYTES];
    let mut drained = 0;
    while drained < max_bytes {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => drained += read,
        }
    }
    Ok(())
}

/// Waits until the peer has closed both directions. Who has ended only its half of the connection may still read, and a
/// read sees the same in both cases; what the kernel says of writes tells them apart.
async fn wait_for_hang_up(stream: Option<UnixStream>) {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    while let Ok(ready) = stream.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // From now on the kernel says so when that changes.
        let blocks = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(stream.try_io(Interest::WRITABLE, blocks));
    }
}

/// What happens on a connection, as its stream and its service see it.
#[derive(Debug, Default)]
struct Activity {
    phase: Cell<RequestPhase>,
    written_bytes: Cell<u64>,
    is_write_blocked: Cell<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RequestPhase {
    #[default]
    Idle,
    ReadingHead,
    /// From the end of a head to the end of the response.
    Responding,
}

/// What the daemon waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte of a request.
    Request,
    /// The rest of its head.
    Head,
    /// That the peer reads more of a response.
    Reader,
}

impl Activity {
    fn wait(&self) -> Option<Wait> {
        match self.phase.get() {
            _ if self.is_write_blocked.get() => Some(Wait::Reader),
            RequestPhase::Idle => Some(Wait::Request),
            RequestPhase::ReadingHead => Some(Wait::Head),
            RequestPhase::Responding => None,
        }
    }
}

/// A response is due, until this is dropped.
struct Responding(Rc<Activity>);

impl Responding {
    fn start(activity: &Rc<Activity>) -> Self {
        activity.phase.set(RequestPhase::Responding);
        Self(Rc::clone(activity))
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.0.phase.set(RequestPhase::Idle);
    }
}

/// The body of a response, which is complete when hyper drops it.
struct TrackedBody {
    body: ResponseBody,
    _responding: Responding,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        self.body.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The deadline of what is waited for at present.
#[derive(Default)]
struct Deadline {
    wait: Option<Wait>,
    /// How much was written when it began: what is waited for after that has a deadline of its own.
    written_bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready when the peer is late.
    fn poll(&mut self, activity: &Activity, stall_timeout: Duration, cx: &mut Context<'_>) -> Poll<Wait> {
        let (wait, written_bytes) = (activity.wait(), activity.written_bytes.get());
        if (self.wait, self.written_bytes) != (wait, written_bytes) {
            let timeout = if wait == Some(Wait::Reader) { stall_timeout } else { HEAD_TIMEOUT };
            let timer = wait.map(|_| Box::pin(sleep(timeout)));
            *self = Self { wait, written_bytes, timer };
        }
        let (Some(wait), Some(timer)) = (wait, &mut self.timer) else {
            return Poll::Pending;
        };
        timer.as_mut().poll(cx).map(|()| wait)
    }
}

/// A stream that notes what is read and written.
struct WatchedStream<S> {
    stream: S,
    activity: Rc<Activity>,
}

impl<S> WatchedStream<S> {
    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.is_write_blocked.set(written.is_pending());
        let bytes = ready!(written)?;
        self.activity.written_bytes.update(|total| total.wrapping_add(bytes as u64));
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before && self.activity.phase.get() == RequestPhase::Idle {
            self.activity.phase.set(RequestPhase::ReadingHead);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
