//! Logs to journald if it runs, else to standard error. Never blocks on either's reader.

mod journal_entry;
mod journal_sender;
mod journald;

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

/// This module of awc logs the headers of requests.
const MODULE_THAT_LOGS_HEADERS: &str = "awc::client::h2proto";

/// Logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.target` is `journald`, but its socket cannot be used.
    #[error("log.target is journald, but its socket cannot be used: {0}")]
    Journald(#[from] io::Error),
    /// The filter cannot be parsed.
    #[error("log.level: {0}")]
    Level(#[from] LevelError),
    /// Logging was already set up.
    #[error(transparent)]
    AlreadySetUp(#[from] TryInitError),
}

/// Changes the log level of the running process.
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// Applies another level.
    pub fn set_level(&self, level: &str) {
        match parse_filter(level) {
            Ok(targets) => {
                if let Err(error) = self.0.reload(targets) {
                    tracing::warn!(%error, "the log level was not changed");
                }
            }
            Err(error) => tracing::warn!(%error, "the log level was not changed"),
        }
    }
}

/// The filter of a level, always without the module that would log the token with the other headers.
fn parse_filter(level: &str) -> Result<Targets, LevelError> {
    Ok(read_log_filter(level)?.with_target(MODULE_THAT_LOGS_HEADERS, LevelFilter::OFF))
}

/// Sets up logging.
pub fn init(config: &config::Log) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(parse_filter(&config.level)?);
    let connected = match config.target {
        LogTarget::Journald => Some(Journald::connect()),
        // A person who starts the daemon by hand reads standard error.
        LogTarget::Auto => stderr_log::is_journal().then(Journald::connect),
        LogTarget::Stderr => None,
    };
    let is_stuck = matches!(&connected, Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock);
    let journald = match connected {
        // A stuck journald may recover. Until then, standard error has the lines.
        Some(Err(error)) if config.target == LogTarget::Journald && !is_stuck => return Err(error.into()),
        connected => connected.and_then(Result::ok),
    };
    let stderr = journald.is_none().then(stderr_log::stderr_layer);
    tracing_subscriber::registry().with(filter).with(journald).with(stderr).try_init()?;
    if is_stuck {
        tracing::warn!("journald did not read in time: log lines have no fields until the next start");
    }
    Ok(LogControl(handle))
}

/// From now on, every entry of the journal names the device, so that the journals of many devices can be told apart.
pub fn name_device(id: &str, name: &str) {
    journal_entry::set_device(id, name);
}

/// To be called before the process ends: waits up to two seconds until journald has read the last entries.
pub fn drain_journal() {
    journal_sender::drain_queue();
}

/// For the panic hook: writes a bug to the log.
pub fn log_bug(message: &str) {
    tracing::error!(name: journal::BUG, "a bug ends the daemon; records are safe on disk: {message}");
}
