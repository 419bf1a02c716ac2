//! Sends entries to journald without blocking the caller. An entry is lost only if the queue is full.
//!
//! journald's socket holds few entries: ten, with the default of the kernel's `net.unix.max_dgram_qlen`. If journald is
//! not scheduled for a moment, it would miss all others. So an entry that does not fit into the socket is queued, and a
//! thread sends it when journald has read. Most processes never need that thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::Level;

use super::journal_entry::JournalEntry;

const SOCKET_PATH: &str = "/run/systemd/journal/socket";
/// How long journald may take, at the start, to make room in its socket. After that it counts as stuck.
const CONNECT_TIMEOUT_MS: u16 = 1000;
/// Size of the queue. Entries that do not fit are lost and counted.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// How long journald may take, at the end, to read the queue.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket, and the entries that wait for room in it.
pub(super) struct JournalSender {
    socket: UnixDatagram,
    queue: Mutex<EntryQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct EntryQueue {
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Number of lost entries that the journal does not mention yet.
    lost: u64,
    /// The thread that sends the queue runs.
    has_thread: bool,
}

#[derive(PartialEq)]
enum SendResult {
    Sent,
    NoRoom,
    /// It cannot be sent, neither now nor later.
    Lost,
}

static SENDER: OnceLock<JournalSender> = OnceLock::new();

/// Waits, for a limited time, until journald has read the queue. To be called before the process ends.
pub(super) fn drain_queue() {
    if let Some(sender) = SENDER.get() {
        let queue = sender.lock_queue();
        // After the timeout, the rest is lost.
        drop(sender.changed.wait_timeout_while(queue, DRAIN_TIMEOUT, |queue| !queue.entries.is_empty()));
    }
}

impl JournalSender {
    /// Connects the sender of this process. Fails if there is no journald, or if it does not read from its socket.
    pub(super) fn connect() -> io::Result<&'static Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET_PATH)?;
        socket.set_nonblocking(true)?;
        if !wait_for_room(&socket, CONNECT_TIMEOUT_MS.into())? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let sender = Self { socket, queue: Mutex::default(), changed: Condvar::new() };
        Ok(SENDER.get_or_init(|| sender))
    }

    /// Sends an entry now, or as soon as journald has room for it. Never blocks.
    pub(super) fn send(&'static self, entry: Vec<u8>) {
        let mut queue = self.lock_queue();
        if queue.bytes + entry.len() > QUEUED_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.bytes += entry.len();
        queue.entries.push_back(entry);
        if queue.entries.len() == 1 || !queue.has_thread {
            self.send_while_room(&mut queue);
        }
        if !queue.entries.is_empty() && self.ensure_thread(&mut queue) {
            self.changed.notify_all();
        }
    }

    fn ensure_thread(&'static self, queue: &mut EntryQueue) -> bool {
        if !queue.has_thread {
            let started = thread::Builder::new().name("journal".into()).spawn(move || self.send_queued());
            queue.has_thread = started.is_ok();
        }
        queue.has_thread
    }

    /// The thread: waits for entries, then for room for them.
    fn send_queued(&self) {
        loop {
            let queue = self.lock_queue();
            let queue = self.changed.wait_while(queue, |queue| queue.entries.is_empty());
            drop(queue);
            // If waiting fails, sending fails, too, and drops the entries. So this is not a busy loop.
            drop(wait_for_room(&self.socket, PollTimeout::NONE));
            self.send_while_room(&mut self.lock_queue());
        }
    }

    fn send_while_room(&self, queue: &mut EntryQueue) {
        while let Some(entry) = queue.entries.front() {
            match self.try_send(entry) {
                SendResult::NoRoom => return,
                SendResult::Sent => {}
                SendResult::Lost => queue.lost += 1,
            }
            queue.bytes = queue.entries.pop_front().map_or(0, |sent| queue.bytes.saturating_sub(sent.len()));
        }
        if queue.lost > 0 {
            let message =
                format!("{} entries are missing here: journald did not read them in time", queue.lost);
            let notice = JournalEntry::with_message(Level::WARN, &message).into_bytes();
            match self.try_send(&notice) {
                SendResult::Sent => queue.lost = 0,
                SendResult::NoRoom => {
                    queue.lost = 0;
                    queue.bytes += notice.len();
                    queue.entries.push_back(notice);
                    return;
                }
                // The next notice includes these.
                SendResult::Lost => {}
            }
        }
        self.changed.notify_all();
    }

    fn try_send(&self, entry: &[u8]) -> SendResult {
        let sent = self.socket.send(entry).or_else(|error| match error.kind() {
            // journald was restarted.
            ErrorKind::ConnectionRefused | ErrorKind::NotConnected | ErrorKind::ConnectionReset => {
                self.socket.connect(SOCKET_PATH)?;
                self.socket.send(entry)
            }
            ErrorKind::Interrupted => self.socket.send(entry),
            _ => Err(error),
        });
        match sent {
            Ok(_) => SendResult::Sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => SendResult::NoRoom,
            Err(_) => SendResult::Lost,
        }
    }

    fn lock_queue(&self) -> MutexGuard<'_, EntryQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_for_room(socket: &UnixDatagram, timeout: PollTimeout) -> io::Result<bool> {
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    Ok(poll(&mut descriptors, timeout)? > 0)
}
