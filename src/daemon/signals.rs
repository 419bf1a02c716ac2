//! Signals as values, with signal-hook: each writes a byte to a socket that the main loop reads. No thread, no polling.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::exit;

const STOP_SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Stop,
    Reload,
    SyncNow,
}

/// Signals are caught from the start. Until [`Self::listen`] is called, a stop signal ends the process at once: nothing
/// has begun, and a repair of the store may be interrupted. Other signals wait.
pub(super) struct CaughtSignals {
    starting: Arc<AtomicBool>,
    stop: StdStream,
    reload: StdStream,
    sync_now: StdStream,
}

impl CaughtSignals {
    pub(super) fn catch() -> io::Result<Self> {
        let starting = Arc::new(AtomicBool::new(true));
        for signal in STOP_SIGNALS {
            flag::register_conditional_shutdown(signal, i32::from(exit::DONE), Arc::clone(&starting))?;
        }
        // By default it would end the process. Caught, the write fails instead and is handled as a full disk.
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(Self {
            starting,
            stop: signal_stream(&STOP_SIGNALS)?,
            reload: signal_stream(&[SIGHUP])?,
            sync_now: signal_stream(&[SIGUSR1])?,
        })
    }

    /// To be called in the runtime.
    pub(super) fn listen(self) -> io::Result<Signals> {
        let signals = Signals {
            stop: UnixStream::from_std(self.stop)?,
            reload: UnixStream::from_std(self.reload)?,
            sync_now: UnixStream::from_std(self.sync_now)?,
        };
        self.starting.store(false, Ordering::Relaxed);
        Ok(signals)
    }
}

pub(super) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
    sync_now: UnixStream,
}

impl Signals {
    pub(super) async fn next(&mut self) -> Signal {
        // Several signals of one kind that arrive together count as one.
        let mut bytes = [[0; 64]; 3];
        let [stop, reload, sync_now] = &mut bytes;
        tokio::select! {
            _ = self.stop.read(stop) => Signal::Stop,
            _ = self.reload.read(reload) => Signal::Reload,
            _ = self.sync_now.read(sync_now) => Signal::SyncNow,
        }
    }
}

fn signal_stream(signals: &[i32]) -> io::Result<StdStream> {
    let (reader, writer) = StdStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    Ok(reader)
}
