//! Logs: to journald with fields of our own where it is there, to stderr else. Never blocks on either's reader.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::os::fd::RawFd;
use std::path::Path;

use thiserror::Error;
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{self, LogTarget};

/// Event fields become `FIELDSYNC_BATCH_ID=…` in the journal.
const FIELD_PREFIX: &str = "FIELDSYNC";
const SHOWS_HEADERS: &str = "awc::client::h2proto";
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.target = "journald"`, and there is none.
    #[error("log.target is journald, but its socket cannot be used: {0}")]
    Journald(#[from] io::Error),
    /// The filter does not read.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// Set up before.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Changes the level while running.
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// Applies another level.
    pub fn set_level(&self, level: &str) {
        match targets(level) {
            Ok(targets) => {
                if let Err(error) = self.0.reload(targets) {
                    tracing::warn!(%error, "the log level stays as it was");
                }
            }
            Err(error) => tracing::warn!(%error, "the log level stays as it was"),
        }
    }
}

/// What a level lets through, whatever it says: awc would show the token with the other headers of a request.
fn targets(level: &str) -> Result<Targets, ParseError> {
    Ok(level.parse::<Targets>()?.with_target(SHOWS_HEADERS, LevelFilter::OFF))
}

/// Sets logging up. To be called while the process has one thread.
pub fn init(config: &config::Log) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(targets(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let journald = match config.target {
        LogTarget::Journald => Some(journald()?),
        // A daemon that a person started by hand speaks to that person.
        LogTarget::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => journald().ok(),
        LogTarget::Auto | LogTarget::Stderr => None,
    };
    if let Some(layer) = journald {
        registry.with(layer).try_init()?;
    } else {
        let stderr =
            fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
        registry.with(stderr).try_init()?;
    }
    Ok(LogControl(handle))
}

fn journald<S>() -> io::Result<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let before = open_files()?;
    let layer = tracing_journald::layer()?
        .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
        .with_syslog_identifier("fieldsyncd".to_owned())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            ..PriorityMappings::new()
        });
    if !Path::new(JOURNAL_SOCKET).exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    for fd in open_files()?.difference(&before) {
        do_not_block(*fd)?;
    }
    Ok(layer)
}

fn open_files() -> io::Result<BTreeSet<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// A journald that does not read would hold up whoever logs, the store among them. What finds no room is lost.
#[expect(unsafe_code, reason = "the crate gives no access to its socket; it lives as long as the process")]
fn do_not_block(fd: RawFd) -> io::Result<()> {
    use std::os::fd::BorrowedFd;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    // The listing's own descriptor is among them and closed already: that it is not there is no error.
    // SAFETY: called with one thread, so that nothing closes or reuses `fd` in between.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let Ok(flags) = fcntl(file, FcntlArg::F_GETFL) else {
        return Ok(());
    };
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(file, FcntlArg::F_SETFL(flags)).map(drop).map_err(io::Error::from)
}

/// For the panic hook: a bug is an error in the journal, too.
pub fn bug(message: &str) {
    tracing::event!(Level::ERROR, "a bug ends the daemon; records are safe on disk: {message}");
}
