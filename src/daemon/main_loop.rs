//! The main loop: reacts to signals, to the socket file and to fatal errors until the daemon must stop.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;
use tokio::sync::watch;

use super::ActorHandles;
use super::notify::Notifier;
use super::reload::reload_config;
use super::signals::{Signal, Signals};
use super::socket::ApiSocket;
use crate::actors::TryNow;
use crate::actors::batch_planner::BatchPlanner;
use crate::config::Config;
use crate::config_file::find_config_file;
use crate::exit;
use crate::logging::LogControl;
use crate::model::DiskState;

pub(super) struct MainLoop<'a> {
    pub(super) signals: Signals,
    pub(super) socket: ApiSocket,
    pub(super) config_file: Option<PathBuf>,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) log: &'a LogControl,
    pub(super) notifier: Notifier,
}

impl MainLoop<'_> {
    /// Returns the exit code when the daemon must stop.
    pub(super) async fn run(&mut self, planner: &Addr<BatchPlanner>, handles: &mut ActorHandles) -> u8 {
        loop {
            let signal = tokio::select! {
                signal = self.signals.next() => signal,
                fatal = handles.fatal.wait_for(Option::is_some) => {
                    drop(fatal);
                    return exit::DISK;
                }
                () = self.socket.changed() => {
                    self.socket.restore();
                    continue;
                }
            };
            match signal {
                Signal::Reload => {
                    // The default file may exist now. A file that was used before must not disappear.
                    let file = find_config_file(self.config_file.as_deref());
                    reload_config(file.as_deref(), &self.config, self.log, &self.notifier);
                    self.socket.restore();
                }
                Signal::SyncNow => {
                    if let Err(error) = planner.send(TryNow).await {
                        tracing::warn!(%error, "the planner could not be reached");
                    }
                }
                Signal::Stop if handles.disk_state() == DiskState::Failing => return exit::DISK,
                Signal::Stop => return exit::DONE,
            }
        }
    }
}
