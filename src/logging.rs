//! Logs: to journald where it is there, to standard error else. Never waits for either's reader.

mod journald;
mod sender;

use std::io;

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use crate::config::{self, LevelError, LogTarget, read_log_filter};
use crate::journal;
use fieldsync_core::stderr_log;
use journald::Journald;

const SHOWS_HEADERS: &str = "awc::client::h2proto";

/// Logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.target = "journald"`, and there is none.
    #[error("log.target is journald, but its socket cannot be used: {0}")]
    Journald(#[from] io::Error),
    /// The filter does not read.
    #[error("log.level: {0}")]
    Level(#[from] LevelError),
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
fn targets(level: &str) -> Result<Targets, LevelError> {
    Ok(read_log_filter(level)?.with_target(SHOWS_HEADERS, LevelFilter::OFF))
}

/// Sets logging up.
pub fn init(config: &config::Log) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(targets(&config.level)?);
    let found = match config.target {
        LogTarget::Journald => Some(Journald::find()),
        // A daemon that a person started by hand speaks to that person.
        LogTarget::Auto => stderr_log::is_journal().then(Journald::find),
        LogTarget::Stderr => None,
    };
    let is_stuck = matches!(&found, Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock);
    let journald = match found {
        // One that is stuck will be mended; what it misses is on standard error.
        Some(Err(error)) if config.target == LogTarget::Journald && !is_stuck => return Err(error.into()),
        found => found.and_then(Result::ok),
    };
    let stderr = journald.is_none().then(stderr_log::stderr_layer);
    tracing_subscriber::registry().with(filter).with(journald).with(stderr).try_init()?;
    if is_stuck {
        tracing::warn!("journald did not read in time: until the next start, lines have no fields");
    }
    Ok(LogControl(handle))
}

/// To be called before the process ends: lets journald read the last entries, for at most two seconds.
pub fn drain() {
    sender::drain();
}

/// For the panic hook: a bug is an error in the journal, too.
pub fn bug(message: &str) {
    tracing::error!(name: journal::BUG, "a bug ends the daemon; records are safe on disk: {message}");
}
