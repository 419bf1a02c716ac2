//! Reads the configuration again while the daemon runs.

use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::notify::{Notifier, SystemdMessage};
use crate::config::Config;
use crate::config_file::ConfigLocation;
use crate::journal;
use crate::logging::LogControl;

/// Applies a valid configuration. An invalid one is refused, and the present one stays.
pub(super) fn reload_config(
    location: &ConfigLocation,
    current: &watch::Sender<Arc<Config>>,
    log: &LogControl,
    notifier: &Notifier,
) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notifier.notify(SystemdMessage::Reloading(now)),
        Err(error) => tracing::debug!(%error, "the reload cannot be announced to systemd"),
    }
    match location.load().map(|loaded| loaded.config) {
        Ok(config) => {
            let old = current.send_replace(Arc::new(config.clone()));
            log.set_level(&config.log.level);
            for key in needs_restart(&old, &config) {
                tracing::warn!(name: journal::NEEDS_RESTART, "{key} changed and takes effect at the next start");
            }
            tracing::info!(name: journal::RELOADED, "the configuration was read again");
        }
        Err(error) => {
            tracing::error!(name: journal::RELOAD_REFUSED, "the configuration was not changed: {error}");
        }
    }
    notifier.notify(SystemdMessage::Ready);
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("queue.state_dir", old.state_dir() != new.state_dir()),
        ("queue.shared_keys", old.queue.shared_keys != new.queue.shared_keys),
        ("ipc.socket", old.socket() != new.socket()),
        ("ipc.socket_mode", old.ipc.socket_mode != new.ipc.socket_mode),
        ("ipc.max_connections", old.ipc.max_connections != new.ipc.max_connections),
        ("ipc.max_event_streams", old.ipc.max_event_streams != new.ipc.max_event_streams),
        ("log.target", old.log.target != new.log.target),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
