//! Loads the configuration at the start, and again while the daemon runs.

use std::future::pending;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};

use super::last_good;
use super::notify::{Notifier, SystemdMessage};
use crate::api::ConfigurationRefusal;
use crate::clock::wall_ms;
use crate::config::{Config, ConfigError, ConfigSource, LoadedConfig};
use crate::config_file::ConfigLocation;
use crate::config_state::ConfigState;
use crate::device_name::device_name;
use crate::journal;
use crate::logging::{self, LogControl};
use crate::model::DeviceId;

/// The configuration that the daemon starts with.
pub(super) struct StartConfig {
    pub(super) config: Config,
    pub(super) state: ConfigState,
    pub(super) location: ConfigLocation,
    /// The file with the last good configuration, if it is used because the present one has a mistake.
    last_good: Option<PathBuf>,
}

impl StartConfig {
    /// Loads the configuration. If it has a mistake, the last good one is used.
    pub(super) fn load(mut location: ConfigLocation) -> Result<Self, ConfigError> {
        location.keep_found();
        let read_at = wall_ms();
        let (loaded, refusal, last_good) = match location.load() {
            Ok(loaded) => (loaded, None, None),
            Err(error) => match last_good::find(&location) {
                Some((loaded, path)) => {
                    (loaded, Some(ConfigurationRefusal::new(&error, refused_since(&error))), Some(path))
                }
                None => return Err(error),
            },
        };
        let LoadedConfig { config, sources } = loaded;
        let state = ConfigState { path: location.path().into(), sources, refusal, read_at };
        Ok(Self { config, state, location, last_good })
    }

    /// To be called once logs can be written.
    pub(super) fn log_refusal(&self) {
        if let (Some(refusal), Some(path)) = (&self.state.refusal, &self.last_good) {
            tracing::error!(
                name: journal::STARTED_WITH_LAST_GOOD,
                "the configuration was refused: {}; the last good one is used instead: {}",
                refusal.message,
                path.display()
            );
        }
    }

    /// Keeps it for a later start, unless it is itself the last good one.
    pub(super) fn keep(&self) {
        if self.state.refusal.is_none() {
            last_good::keep(&self.config, &self.location, &self.config.state_dir());
        }
    }
}

/// Since when the mistake is there: when its file was written last. A restart does not change that.
fn refused_since(error: &ConfigError) -> u64 {
    let changed = error.mistakes().into_iter().filter_map(|mistake| {
        let ConfigSource::File { path, .. } = mistake.source else { return None };
        let metadata = std::fs::metadata(path).ok()?;
        // Not the time of modification: copies keep that of the original.
        let at = metadata.ctime().checked_mul(1000)?.checked_add(metadata.ctime_nsec() / 1_000_000)?;
        u64::try_from(at).ok()
    });
    let now = wall_ms();
    changed.max().map_or(now, |at| at.min(now))
}

/// Reads the configuration again, and publishes it.
pub(super) struct ConfigReloader<'a> {
    location: ConfigLocation,
    /// The directory of the queue that is open.
    state_dir: PathBuf,
    device: DeviceId,
    config: watch::Sender<Arc<Config>>,
    state: watch::Sender<ConfigState>,
    log: &'a LogControl,
    notifier: Notifier,
    /// The files are being read.
    loading: Option<oneshot::Receiver<LoadOutcome>>,
    /// They changed since, maybe.
    is_requested_again: bool,
}

/// The files as they were read for a reload.
pub(super) struct LoadOutcome {
    location: ConfigLocation,
    /// When the reading began: a later change may be missing.
    read_at: u64,
    result: Result<LoadedConfig, ConfigError>,
}

/// What the reloader publishes.
pub(super) struct ConfigReceivers {
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) state: watch::Receiver<ConfigState>,
}

impl<'a> ConfigReloader<'a> {
    pub(super) fn new(
        start: StartConfig,
        device: DeviceId,
        log: &'a LogControl,
        notifier: Notifier,
    ) -> (Self, ConfigReceivers) {
        let StartConfig { config, state, location, .. } = start;
        let state_dir = config.state_dir();
        let (config, config_receiver) = watch::channel(Arc::new(config));
        let (state, state_receiver) = watch::channel(state);
        let receivers = ConfigReceivers { config: config_receiver, state: state_receiver };
        let reloader = Self {
            location,
            state_dir,
            device,
            config,
            state,
            log,
            notifier,
            loading: None,
            is_requested_again: false,
        };
        (reloader, receivers)
    }

    /// Starts to read the files, in a thread of its own: a file system that does not respond must stop neither the
    /// daemon nor its end. While it reads, a further request is remembered.
    pub(super) fn start(&mut self) {
        if self.loading.is_some() {
            self.is_requested_again = true;
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notifier.notify(SystemdMessage::Reloading(now)),
            Err(error) => tracing::debug!(%error, "the reload cannot be announced to systemd"),
        }
        let (sender, receiver) = oneshot::channel();
        let mut location = self.location.clone();
        let read = move || {
            location.keep_found();
            let read_at = wall_ms();
            let result = location.load();
            // The daemon may have ended.
            drop(sender.send(LoadOutcome { location, read_at, result }));
        };
        match thread::Builder::new().name("configuration".into()).spawn(read) {
            Ok(_) => self.loading = Some(receiver),
            Err(error) => {
                tracing::error!(%error, "the configuration was not changed: no thread can be started to read it");
                self.notifier.notify(SystemdMessage::Ready);
            }
        }
    }

    /// Waits until the files are read, if they are being read. It may be cancelled.
    pub(super) async fn loaded(&mut self) -> Option<LoadOutcome> {
        match &mut self.loading {
            Some(loading) => loading.await.ok(),
            None => pending().await,
        }
    }

    /// Applies a valid configuration. An invalid one is refused, and the present one stays.
    pub(super) fn finish(&mut self, outcome: Option<LoadOutcome>) {
        self.loading = None;
        if let Some(LoadOutcome { location, read_at, result }) = outcome {
            self.location = location;
            match result {
                Ok(loaded) => self.apply(loaded, read_at),
                Err(error) => {
                    tracing::error!(name: journal::RELOAD_REFUSED, "the configuration was not changed: {error}");
                    let refusal = ConfigurationRefusal::new(&error, refused_since(&error));
                    self.state.send_modify(|state| {
                        state.refusal = Some(refusal);
                        state.read_at = read_at;
                    });
                }
            }
        }
        self.notifier.notify(SystemdMessage::Ready);
        if mem::take(&mut self.is_requested_again) {
            self.start();
        }
    }

    fn apply(&self, loaded: LoadedConfig, read_at: u64) {
        let LoadedConfig { config, sources } = loaded;
        last_good::keep(&config, &self.location, &self.state_dir);
        let old = self.config.send_replace(Arc::new(config.clone()));
        self.state.send_modify(|state| {
            state.sources = sources;
            state.refusal = None;
            state.read_at = read_at;
        });
        self.log.set_level(&config.log.level);
        logging::name_device(&self.device.to_string(), &device_name(&config));
        for key in needs_restart(&old, &config) {
            tracing::warn!(name: journal::NEEDS_RESTART, "{key} changed and takes effect at the next start");
        }
        tracing::info!(name: journal::RELOADED, "the configuration was read again");
    }
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
