//! Tells when a credential may have been replaced.

use std::io;

use super::Files;
use crate::config;
use crate::file_watch::{FileWatch, SETTLES};

/// Sets a watch on the files of a configuration.
pub struct Watch(Option<FileWatch>);

impl Watch {
    /// From now on.
    pub fn on(config: &config::Server) -> Self {
        let files = Files::of(config);
        let mut paths = files.all().peekable();
        // None: not one wake-up for those who need no credential.
        if paths.peek().is_none() {
            return Self(None);
        }
        Self(FileWatch::on(paths).inspect_err(blind).ok())
    }

    /// Ends once something happened to one of the files, and has settled.
    pub async fn changed(&self) {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch.changed().await {
            blind(&error);
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLES).await;
    }
}

/// It goes on as before there was a watch: by asking the server now and then.
fn blind(error: &io::Error) {
    tracing::warn!(%error, "a new credential is noticed only at the next try, or by: fieldsync sync");
}
