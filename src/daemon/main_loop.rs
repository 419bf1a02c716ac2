//! The main loop: reacts to signals, to the socket file and to fatal errors until the daemon must stop.

use actix::Addr;

use super::reload::ConfigReloader;
use super::signals::{Signal, Signals};
use super::socket::ApiSocket;
use super::start_actors::ActorHandles;
use crate::actors::TryNow;
use crate::actors::batch_planner::BatchPlanner;
use crate::exit;
use crate::model::DiskState;

pub(super) struct MainLoop<'a> {
    pub(super) signals: Signals,
    pub(super) socket: ApiSocket,
    pub(super) reloader: ConfigReloader<'a>,
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
                outcome = self.reloader.loaded() => {
                    self.reloader.finish(outcome);
                    self.socket.restore();
                    continue;
                }
                () = self.socket.changed() => {
                    self.socket.restore();
                    continue;
                }
            };
            match signal {
                Signal::Reload => self.reloader.start(),
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
