//! Log lines on standard error: for a person, or for the journal if it collects the output of the service.
//!
//! Writing never blocks: if the reader of a pipe has stopped and the pipe is full, the line is dropped.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::hidden::replace_hidden;

/// A pipe that can be written at all takes this many bytes (`PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;

/// Sets up logging to standard error in the daemon's format, for programs without a configuration file.
pub fn init_stderr_log(filter: EnvFilter) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(filter).with(stderr_layer()).try_init()
}

/// The syslog number of a level.
pub fn syslog_priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// A layer that writes to standard error.
pub fn stderr_layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let line = if is_journal() {
        LineFormat::Journal(Format::default().without_time().with_level(false).with_target(false))
    } else {
        LineFormat::Person(Format::default().with_target(false))
    };
    lines::layer()
        .with_writer(|| NonBlockingStderr)
        .with_ansi(io::stderr().is_terminal())
        .fmt_fields(VisibleFields)
        .event_format(line)
}

/// Whether standard error is connected to the journal, and was not redirected.
pub fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let ours = nix::sys::stat::fstat(io::stderr());
    ours.is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

enum LineFormat {
    Person(Format),
    /// The journal adds the time, and reads the level from a number at the start of the line.
    Journal(Format<Full, ()>),
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Person(format) => format.format_event(ctx, writer, event),
            Self::Journal(format) => {
                write!(writer, "<{}>", syslog_priority(*event.metadata().level()))?;
                format.format_event(ctx, writer, event)
            }
        }
    }
}

/// Formats message and fields without hidden characters and line breaks, because they may contain foreign text.
struct VisibleFields;

impl<'writer> FormatFields<'writer> for VisibleFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&replace_hidden(&text))
    }
}

struct NonBlockingStderr;

impl Write for NonBlockingStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let ready = {
            let mut asked = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            poll(&mut asked, PollTimeout::ZERO)? > 0
        };
        if !ready {
            return Ok(bytes.len());
        }
        stderr.write(bytes.get(..WRITE_BYTES_MAX).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
