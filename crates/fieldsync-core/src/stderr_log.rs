//! Lines on standard error: for a person, or for the journal where it gathers what services write there.
//!
//! Whoever should read may have stopped: a line that finds no room is lost, and nobody waits.

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

/// Where a pipe has any room, it has room for this (`PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;

/// For a program that no file configures: lines on standard error, as the daemon writes them there.
pub fn init_stderr_log(filter: EnvFilter) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(filter).with(stderr_layer()).try_init()
}

/// The level as syslog numbers it.
pub fn syslog_priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Standard error.
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

/// Whether it leads to the journal, and not to where somebody redirected it.
pub fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let ours = nix::sys::stat::fstat(io::stderr());
    ours.is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

enum LineFormat {
    Person(Format),
    /// The journal has a clock, and takes the level from a number in front.
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

/// Message and fields without hidden characters, line breaks among them: they hold text that others wrote.
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
