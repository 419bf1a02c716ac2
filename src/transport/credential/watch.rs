//! Watches the credential files for changes.

use std::io;

use super::CredentialFiles;
use crate::config;
use crate::file_watch::{FileWatch, SETTLE_TIME};

/// A watch on the files that a configuration names.
pub struct CredentialWatch(Option<FileWatch>);

impl CredentialWatch {
    /// Starts to watch.
    pub fn start(config: &config::Server) -> Self {
        let files = CredentialFiles::configured_by(config);
        let mut paths = files.all().peekable();
        // Without files there is nothing to wake up for.
        if paths.peek().is_none() {
            return Self(None);
        }
        Self(FileWatch::on(paths).inspect_err(warn_of_failed_watch).ok())
    }

    /// Waits until one of the files has changed, and the change has settled.
    pub async fn changed(&self) {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch.changed().await {
            warn_of_failed_watch(&error);
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLE_TIME).await;
    }
}

/// Without a watch, a new credential is read at the next attempt.
fn warn_of_failed_watch(error: &io::Error) {
    tracing::warn!(%error, "a new token is noticed only at the next attempt, or by: fieldsync sync");
}
