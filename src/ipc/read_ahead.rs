//! How much HTTP is given of requests, and of what comes while one is answered: a little at a time. It takes apart all
//! requests that it is given, at a hundred times their size in memory, and a caller may send thousands of them at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Given at once: some dozen of the shortest requests.
const STEP_BYTES: usize = 512;

/// What was given of late.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// HTTP has not looked at what it was given last.
    has_news: bool,
    /// Bytes that were given while an answer was due.
    bytes: usize,
    /// There was no room for more of them.
    is_withheld: bool,
}

impl ReadAhead {
    /// Reads as much as may be given now. `is_due` says whether an answer is due.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        is_due: bool,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !is_due && std::mem::take(&mut self.has_news) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = if is_due { STEP_BYTES.saturating_sub(self.bytes) } else { STEP_BYTES };
        if room == 0 {
            self.is_withheld = true;
            return Poll::Pending;
        }
        let mut bytes = [0; STEP_BYTES];
        let mut step = ReadBuf::new(&mut bytes[..room.min(buffer.remaining())]);
        ready!(Pin::new(stream).poll_read(cx, &mut step))?;
        let given = step.filled();
        buffer.put_slice(given);
        if is_due {
            self.bytes += given.len();
        } else {
            self.has_news = !given.is_empty();
        }
        Poll::Ready(Ok(()))
    }

    /// No answer is due any more; whether there may be something to read that was withheld.
    pub(super) fn renew(&mut self) -> bool {
        self.bytes = 0;
        std::mem::take(&mut self.is_withheld)
    }
}
