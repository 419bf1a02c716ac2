//! Opens the store: reports the progress of a repair, and why the store cannot be opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::notify::{Notifier, SystemdMessage};
use crate::config::Config;
use crate::exit;
use crate::journal;
use crate::store::{KeySpace, OpenError, Queue};

/// Returns the exit code if the store cannot be opened.
pub(super) fn open_store(config: &Config, notifier: &Notifier) -> Result<Queue, u8> {
    let progress = Arc::new(repair_reporter(notifier.clone()));
    Queue::open(&config.state_dir(), KeySpace::from(config), progress)
        .map_err(|error| report_open_error(&error))
}

/// Logs each tenth of the repair, and reports every step to systemd.
fn repair_reporter(notifier: Notifier) -> impl Fn(f64) {
    let logged = AtomicU64::new(u64::MAX);
    move |done| {
        let tenth = (done * 10.0).floor();
        if logged.swap(tenth.to_bits(), Ordering::Relaxed) != tenth.to_bits() {
            tracing::info!("the store is being repaired: {:.0} %", tenth * 10.0);
        }
        notifier.notify(SystemdMessage::Repairing(done));
    }
}

fn report_open_error(error: &OpenError) -> u8 {
    match error {
        OpenError::InUse(_) => {
            tracing::error!(name: journal::ANOTHER_DAEMON, "{error}");
            exit::ALREADY_RUNNING
        }
        OpenError::Io { .. } | OpenError::Store { .. } => {
            tracing::error!(name: journal::STORE_UNUSABLE, "{error}");
            exit::DISK
        }
        // As with an invalid configuration, a restart does not help.
        OpenError::NewerSchema { .. } => {
            tracing::error!(name: journal::STORE_NEWER, "{error}");
            exit::CONFIG
        }
    }
}
