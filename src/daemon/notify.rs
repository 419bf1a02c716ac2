//! What systemd is told, from a thread of its own: nothing waits for a service manager that does not read.
//!
//! Of each kind of news the latest waits, in the order in which they came: so none that counts is lost, and their
//! number has a bound. A reload that was begun is always ended.

use std::collections::VecDeque;
use std::io;
use std::mem::discriminant;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use super::handed_over::PAGE_FD_NAME;

/// Between two signs of progress of a repair, at most.
const REPAIR_STEP: Duration = Duration::from_mins(5);

/// One thing to tell.
#[derive(Clone, Debug)]
pub(super) enum News {
    Ready,
    /// Since then, which systemd compares with when it asked.
    Reloading(NotifyState<'static>),
    Stopping,
    Watchdog,
    Status(String),
    /// The store is being repaired, from 0 to 1: the start may take longer.
    Repairing(f64),
    /// The sockets of the page, which systemd is to hold open until the next run takes them back: so their port is
    /// never free for another user's process. They replace those that were told before.
    PageListeners(Arc<[OwnedFd]>),
}

/// Tells systemd, where it listens.
#[derive(Clone)]
pub(super) struct Notifier(Option<Arc<Outbox>>);

impl Notifier {
    /// Starts the thread when there is somebody to tell.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let outbox = Arc::new(Outbox::default());
        let sent = Arc::clone(&outbox);
        let thread = thread::Builder::new().name("notify".into()).spawn(move || {
            loop {
                tell(&sent.next());
            }
        });
        if let Err(error) = &thread {
            tracing::warn!(%error, "systemd will not be told of anything");
        }
        Self(thread.is_ok().then_some(outbox))
    }

    pub(super) fn tell(&self, news: News) {
        if let Some(outbox) = &self.0 {
            outbox.put(news);
        }
    }
}

/// What systemd has not read yet.
#[derive(Default)]
struct Outbox {
    waiting: Mutex<VecDeque<News>>,
    arrived: Condvar,
}

impl Outbox {
    fn put(&self, news: News) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| discriminant(other) != discriminant(&news));
        waiting.push_back(news);
        self.arrived.notify_one();
    }

    /// Waits for news.
    fn next(&self) -> News {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(news) = waiting.pop_front() {
                return news;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
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
        News::PageListeners(listeners) => store_page_listeners(listeners),
        News::Reloading(since) => sd_notify::notify(&[NotifyState::Reloading, since.clone()]),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Replaces the sockets of the page in the file descriptor store.
fn store_page_listeners(listeners: &[OwnedFd]) -> io::Result<()> {
    let name = NotifyState::FdName(PAGE_FD_NAME);
    sd_notify::notify(&[NotifyState::FdStoreRemove, name.clone()])?;
    if listeners.is_empty() {
        return Ok(());
    }
    let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    sd_notify::notify_with_fds(&[NotifyState::FdStore, name], &descriptors)
}
