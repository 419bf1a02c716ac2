//! Signals as values, with signal-hook: each is noted and writes a byte to one socket, which the main loop reads. No
//! thread, no polling.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use tokio::io::unix::AsyncFd;

use crate::async_fd::{Registered, watch_readable};
use crate::exit;

const STOP_SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// What a signal asks for. If several wait, the first one of this list is handled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    Stop,
    Reload,
    SyncNow,
}

impl Signal {
    fn from_number(number: i32) -> Option<Self> {
        match number {
            SIGTERM | SIGINT => Some(Self::Stop),
            SIGHUP => Some(Self::Reload),
            SIGUSR1 => Some(Self::SyncNow),
            _ => None,
        }
    }
}

/// One socket for all signals; its reading end is shared with the runtime.
type Delivery = SignalDelivery<Arc<UnixStream>, SignalOnly>;

/// Signals are caught from the start. Until [`Self::listen`] is called, a stop signal ends the process at once: nothing
/// has begun, and a repair of the store may be interrupted. Other signals wait.
pub(super) struct CaughtSignals {
    starting: Arc<AtomicBool>,
    delivery: Delivery,
}

impl CaughtSignals {
    pub(super) fn catch() -> io::Result<Self> {
        let starting = Arc::new(AtomicBool::new(true));
        for signal in STOP_SIGNALS {
            flag::register_conditional_shutdown(signal, i32::from(exit::DONE), Arc::clone(&starting))?;
        }
        // By default it would end the process. Caught, the write fails instead and is handled as a full disk.
        flag::register(SIGXFSZ, Arc::default())?;
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let delivery = SignalDelivery::with_pipe(
            Arc::new(reader),
            writer,
            SignalOnly,
            [SIGTERM, SIGINT, SIGHUP, SIGUSR1],
        )?;
        Ok(Self { starting, delivery })
    }

    /// To be called in the runtime.
    pub(super) fn listen(self) -> io::Result<Signals> {
        let arrived = watch_readable(Arc::clone(self.delivery.get_read()))?;
        self.starting.store(false, Ordering::Relaxed);
        Ok(Signals { arrived, delivery: self.delivery, waiting: Vec::new() })
    }
}

pub(super) struct Signals {
    arrived: AsyncFd<Registered<Arc<UnixStream>>>,
    delivery: Delivery,
    /// Signals that arrived with another one, the next one last. Several of one kind count as one.
    waiting: Vec<Signal>,
}

impl Signals {
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.waiting.pop() {
                return signal;
            }
            match self.arrived.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down.
                Err(_) => return Signal::Stop,
            }
            self.waiting = self.delivery.pending().filter_map(Signal::from_number).collect();
            self.waiting.sort_unstable_by(|one, other| other.cmp(one));
            self.waiting.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    #[tokio::test]
    async fn signals_that_arrive_together_are_handled_once_each_and_a_stop_first() {
        let mut signals = CaughtSignals::catch().unwrap().listen().unwrap();
        for number in [Number::SIGUSR1, Number::SIGHUP, Number::SIGHUP, Number::SIGTERM, Number::SIGINT] {
            raise(number).unwrap();
        }
        let mut handled = Vec::new();
        for _ in 0..3 {
            handled.push(signals.next().await);
        }
        assert_eq!(handled, [Signal::Stop, Signal::Reload, Signal::SyncNow]);
        let more = tokio::time::timeout(std::time::Duration::from_millis(1), signals.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
