//! Serves HTTP/1.1 on one connection of the local API or of the page, with timeouts for slow peers.
//!
//! hyper handles one request at a time, and buffers little of further ones. This file adds deadlines: for the head of each
//! request, and for each step in which the peer reads a response. Timers run only while the daemon waits for the peer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
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
use super::http::{HttpBody, HttpResponse};

/// How long a connection may idle before a request, and how long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays open after the last response, so that the peer can read it.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How much hyper buffers of requests and of responses.
const BUFFER_BYTES: usize = 64 << 10;
const DRAIN_STEP_BYTES: usize = 16 << 10;

const REQUEST_TIMEOUT_RESPONSE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub(super) struct ConnectionOptions {
    /// How long the peer may pause while it reads a response.
    pub(super) stall_timeout: Duration,
    /// With the stream here, a peer that shuts down its sending half still gets its response, as `nc -N` expects.
    /// Otherwise, the connection ends then.
    pub(super) half_closable: Option<Rc<UnixStream>>,
}

/// Serves requests until the connection ends. On `shutdown`, it ends after the current response.
pub(super) async fn serve_connection<S, R>(
    stream: S,
    options: ConnectionOptions,
    shutdown: impl Future,
    handle: impl Fn(Request<Incoming>) -> R,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Future<Output = HttpResponse>,
{
    let activity = Rc::new(Activity::default());
    let service = service_fn(|request| {
        let responding = RespondingGuard::new(&activity);
        let response = handle(request);
        Box::pin(async move {
            let response = response.await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody { body, _responding: responding }))
        })
    });
    let io = TokioIo::new(TrackedStream { stream, activity: Rc::clone(&activity) });
    let mut http = http1::Builder::new()
        .half_close(options.half_closable.is_some())
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut hang_up = pin!(wait_for_hang_up(options.half_closable));
    let (mut shutdown, mut is_stopping) = (pin!(shutdown), false);
    let mut deadline = PeerDeadline::default();
    let result = poll_fn(|cx| {
        if !is_stopping && shutdown.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        if let Poll::Ready(served) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(served.map_err(ConnectionError::Http));
        }
        if hang_up.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ConnectionError::HangUp));
        }
        // hyper would wait for the rest of the first head on a connection.
        if is_stopping && activity.awaited_step() == Some(PeerStep::FinishHead) {
            return Poll::Ready(Ok(()));
        }
        deadline
            .poll_missed(&activity, options.stall_timeout, cx)
            .map(|step| Err(ConnectionError::Timeout(step)))
    })
    .await;
    let stream = http.into_parts().io.into_inner().stream;
    match result {
        Ok(()) | Err(ConnectionError::Http(_)) if !is_stopping => {
            close_gracefully(stream, &[]).await;
        }
        Err(ConnectionError::Timeout(PeerStep::FinishHead)) => {
            close_gracefully(stream, REQUEST_TIMEOUT_RESPONSE).await;
        }
        _ => {}
    }
    result
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Http(hyper::Error),
    #[error("the peer hung up before it had its response")]
    HangUp,
    #[error("the peer was too slow: {0:?}")]
    Timeout(PeerStep),
}

/// Sends the last bytes, and closes the connection after the peer has, or after a timeout. Closing it while data is unread
/// would reset it, and the peer could not read its response.
async fn close_gracefully(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let closing = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        drain(&mut stream, usize::MAX).await
    };
    if let Ok(Err(error)) = timeout(LINGER_TIMEOUT, closing).await {
        tracing::debug!(%error, "a connection was not closed gracefully");
    }
}

pub(super) async fn drain(stream: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; DRAIN_STEP_BYTES];
    let mut drained_bytes = 0;
    while drained_bytes < max_bytes {
        match stream.read(&mut buffer).await? {
            0 => break,
            bytes => drained_bytes += bytes,
        }
    }
    Ok(())
}

/// Waits until the peer has closed both directions. A read cannot tell this from a shutdown of the sending half; the state
/// that the kernel reports for writes can.
async fn wait_for_hang_up(stream: Option<Rc<UnixStream>>) {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    // This also waits for the end of the input, without interfering with reads.
    let input_ended = stream.ready(Interest::PRIORITY).await;
    // A duplicate, because hyper relies on the write readiness of the stream, and the loop below clears it.
    let duplicate = input_ended.and_then(|_| stream.as_fd().try_clone_to_owned());
    let Ok(duplicate) = duplicate.and_then(|stream| UnixStream::from_std(stream.into())) else {
        return std::future::pending().await;
    };
    while let Ok(ready) = duplicate.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        let would_block = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(duplicate.try_io(Interest::WRITABLE, would_block));
    }
}

/// The state of a connection, as its stream and its service see it.
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
    /// Until the response is complete.
    Responding,
}

/// What the daemon waits for the peer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerStep {
    StartRequest,
    FinishHead,
    ReadResponse,
}

impl Activity {
    fn awaited_step(&self) -> Option<PeerStep> {
        match self.phase.get() {
            _ if self.is_write_blocked.get() => Some(PeerStep::ReadResponse),
            RequestPhase::Idle => Some(PeerStep::StartRequest),
            RequestPhase::ReadingHead => Some(PeerStep::FinishHead),
            RequestPhase::Responding => None,
        }
    }
}

/// Marks the connection as responding until it is dropped.
struct RespondingGuard(Rc<Activity>);

impl RespondingGuard {
    fn new(activity: &Rc<Activity>) -> Self {
        activity.phase.set(RequestPhase::Responding);
        Self(Rc::clone(activity))
    }
}

impl Drop for RespondingGuard {
    fn drop(&mut self) {
        self.0.phase.set(RequestPhase::Idle);
    }
}

/// A response body. hyper drops it once the response is complete.
struct TrackedBody {
    body: HttpBody,
    _responding: RespondingGuard,
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

#[derive(Default)]
struct PeerDeadline {
    step: Option<PeerStep>,
    /// How much was written when the timer started. After further writes, a step has a new timer.
    written_bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl PeerDeadline {
    /// Ready when the peer has missed the deadline of its step.
    fn poll_missed(
        &mut self,
        activity: &Activity,
        stall_timeout: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<PeerStep> {
        let (step, written_bytes) = (activity.awaited_step(), activity.written_bytes.get());
        if (self.step, self.written_bytes) != (step, written_bytes) {
            let timeout = if step == Some(PeerStep::ReadResponse) { stall_timeout } else { HEAD_TIMEOUT };
            let timer = step.map(|_| Box::pin(sleep(timeout)));
            *self = Self { step, written_bytes, timer };
        }
        let (Some(step), Some(timer)) = (step, &mut self.timer) else {
            return Poll::Pending;
        };
        timer.as_mut().poll(cx).map(|()| step)
    }
}

/// A stream that records its reads and writes.
struct TrackedStream<S> {
    stream: S,
    activity: Rc<Activity>,
}

impl<S> TrackedStream<S> {
    fn record_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.is_write_blocked.set(written.is_pending());
        let bytes = ready!(written)?;
        self.activity.written_bytes.update(|total| total.wrapping_add(bytes as u64));
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled_before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > filled_before && self.activity.phase.get() == RequestPhase::Idle {
            self.activity.phase.set(RequestPhase::ReadingHead);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.record_write(written)
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

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::ipc::http::text_response;

    #[actix_rt::test]
    async fn a_stop_does_not_wait_for_the_rest_of_a_head() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET /v1/st").await.unwrap();
        let stop = Notify::new();
        let options = ConnectionOptions { stall_timeout: HEAD_TIMEOUT, half_closable: None };
        let respond = |_| async { text_response("text/plain", "") };
        let serving = serve_connection(server, options, stop.notified(), respond);
        let stopping = async {
            tokio::task::yield_now().await;
            stop.notify_one();
        };
        let (served, ()) =
            timeout(HEAD_TIMEOUT / 2, async { tokio::join!(serving, stopping) }).await.unwrap();
        served.unwrap();
    }
}
