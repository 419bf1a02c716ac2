//! What systemd is told, from a thread of its own: nothing waits for a service manager that does not read.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

/// Messages that wait; more are dropped, for whoever does not read them misses nothing.
const WAITING: usize = 16;

/// Between two signs of progress of a repair, at most.
const REPAIR_STEP: Duration = Duration::from_mins(5);

/// One thing to tell.
#[derive(Clone, Debug)]
pub(super) enum News {
    Ready,
    Reloading,
    Stopping,
    Watchdog,
    Status(String),
    /// The store is being repaired, from 0 to 1: the start may take longer.
    Repairing(f64),
}

/// Tells systemd, where it listens.
#[derive(Clone)]
pub(super) struct Notifier(Option<SyncSender<News>>);

impl Notifier {
    /// Starts the thread when there is somebody to tell.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (sender, news) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("notify".into()).spawn(move || {
            for news in news {
                tell(&news);
            }
        });
        if let Err(error) = &thread {
            tracing::warn!(%error, "systemd will not be told of anything");
        }
        Self(thread.is_ok().then_some(sender))
    }

    pub(super) fn tell(&self, news: News) {
        if let Some(sender) = &self.0
            && let Err(error) = sender.try_send(news)
        {
            tracing::debug!(%error, "systemd does not read");
        }
    }
}

fn tell(news: &News) {
    let told = match news {
        News::Ready => sd_notify::notify(&[NotifyState::Ready]),
        News::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        News::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        News::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
        News::Repairing(done) => {
            let text = format!("Repairing the store after a crash: {:.0} %", done * 100.0);
            let longer = u32::try_from(REPAIR_STEP.as_micros()).unwrap_or(u32::MAX);
            // In the middle of life it is the watchdog that must be patient.
            let patience = [NotifyState::ExtendTimeoutUsec(longer), NotifyState::Watchdog];
            sd_notify::notify(&patience).and_then(|()| sd_notify::notify(&[NotifyState::Status(&text)]))
        }
        News::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "systemd was not told");
    }
}
