//! Sends messages to systemd from a separate thread: a service manager that stops reading must not block the daemon.
//!
//! Of each kind of message only the latest waits, in order of arrival: so no message that matters is lost, and the
//! queue is bounded. A reload that was announced is always completed.

use std::collections::VecDeque;
use std::io;
use std::mem::discriminant;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use super::inherited_sockets::PAGE_FD_NAME;

/// The longest time between two reports of progress of a repair.
const REPAIR_STEP_TIMEOUT: Duration = Duration::from_mins(5);

/// A message to systemd.
#[derive(Clone, Debug)]
pub(super) enum SystemdMessage {
    Ready,
    /// With the time of the start, which systemd compares with the time of its request.
    Reloading(NotifyState<'static>),
    Stopping,
    Watchdog,
    Status(String),
    /// Progress of the repair of the store, from 0 to 1: the start may take longer.
    Repairing(f64),
    /// The sockets of the page, which systemd keeps open until the next run: so no other user's process can take the
    /// port. They replace the previous ones.
    PageListeners(Arc<[OwnedFd]>),
}

/// Sends messages to systemd, if the service manager asked for them.
#[derive(Clone)]
pub(super) struct Notifier(Option<Arc<Outbox>>);

impl Notifier {
    /// Starts the thread if the service manager listens.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let outbox = Arc::new(Outbox::default());
        let sender = Arc::clone(&outbox);
        let thread = thread::Builder::new().name("notify".into()).spawn(move || {
            loop {
                send_message(&sender.wait_for_next());
            }
        });
        if let Err(error) = &thread {
            tracing::warn!(%error, "systemd will get no messages");
        }
        Self(thread.is_ok().then_some(outbox))
    }

    pub(super) fn notify(&self, message: SystemdMessage) {
        if let Some(outbox) = &self.0 {
            outbox.push(message);
        }
    }
}

/// The messages that systemd has not read yet.
#[derive(Default)]
struct Outbox {
    waiting: Mutex<VecDeque<SystemdMessage>>,
    arrived: Condvar,
}

impl Outbox {
    fn push(&self, message: SystemdMessage) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| discriminant(other) != discriminant(&message));
        waiting.push_back(message);
        self.arrived.notify_one();
    }

    /// Waits for a message.
    fn wait_for_next(&self) -> SystemdMessage {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(message) = waiting.pop_front() {
                return message;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn send_message(message: &SystemdMessage) {
    let sent = match message {
        SystemdMessage::Ready => sd_notify::notify(&[NotifyState::Ready]),
        SystemdMessage::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        SystemdMessage::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        SystemdMessage::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
        SystemdMessage::Repairing(done) => {
            let text = format!("Repairing the store after a crash: {:.0} %", done * 100.0);
            let longer = u32::try_from(REPAIR_STEP_TIMEOUT.as_micros()).unwrap_or(u32::MAX);
            // After the start, the watchdog needs the sign of life instead.
            let extension = [NotifyState::ExtendTimeoutUsec(longer), NotifyState::Watchdog];
            sd_notify::notify(&extension).and_then(|()| sd_notify::notify(&[NotifyState::Status(&text)]))
        }
        SystemdMessage::PageListeners(listeners) => store_page_listeners(listeners),
        SystemdMessage::Reloading(since) => sd_notify::notify(&[NotifyState::Reloading, since.clone()]),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a message could not be sent to systemd");
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
