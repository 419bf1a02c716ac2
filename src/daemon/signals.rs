//! Signals as values, by signal-hook: a byte in a socket that the loop reads, no thread, no polling.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Stop,
    Reload,
    SyncNow,
}

pub(super) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
    sync_now: UnixStream,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { stop: on(&[SIGTERM, SIGINT])?, reload: on(&[SIGHUP])?, sync_now: on(&[SIGUSR1])? })
    }

    pub(super) async fn next(&mut self) -> Signal {
        // Several of one kind that came together are one.
        let mut bytes = [[0; 64]; 3];
        let [stop, reload, sync_now] = &mut bytes;
        tokio::select! {
            _ = self.stop.read(stop) => Signal::Stop,
            _ = self.reload.read(reload) => Signal::Reload,
            _ = self.sync_now.read(sync_now) => Signal::SyncNow,
        }
    }
}

fn on(signals: &[i32]) -> io::Result<UnixStream> {
    let (reader, writer) = StdStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}
