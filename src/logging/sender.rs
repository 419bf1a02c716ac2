//! The way of entries to journald. Nobody waits for it, and an entry is lost only when far too many wait.
//!
//! A socket of journald has room for few entries: ten, where the kernel's `net.unix.max_dgram_qlen` is as it comes.
//! A journald that does not get the processor for a moment would miss all others. So an entry that finds no room is
//! queued, and a thread sends it as soon as journald has read. Most processes never need that thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::Level;

use super::journald::Entry;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The time that a journald has, at the start, to read what is before it. Else it is stuck.
const CONNECT_TIMEOUT_MS: u16 = 1000;
/// Entries that wait for journald, in bytes. What finds no room here is lost, and counted.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// The time that a journald has, at the end, to read what is queued.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket, and what waits for room in it.
pub(super) struct Sender {
    socket: UnixDatagram,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Entries that found no room, of which the journal does not know yet.
    lost: u64,
    /// The thread that sends what is queued runs.
    has_thread: bool,
}

#[derive(PartialEq)]
enum Sent {
    Yes,
    NoRoom,
    /// It cannot be sent, now or later.
    Lost,
}

static SENDER: OnceLock<Sender> = OnceLock::new();

/// Lets journald read what is queued, for a while. To be called before the process ends.
pub(super) fn drain() {
    if let Some(sender) = SENDER.get() {
        let queue = sender.queue();
        // A journald that does not read in time misses the rest.
        drop(sender.changed.wait_timeout_while(queue, DRAIN_TIMEOUT, |queue| !queue.entries.is_empty()));
    }
}

impl Sender {
    /// The one of this process. An error where there is no journald, or one that does not read.
    pub(super) fn connect() -> io::Result<&'static Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        socket.set_nonblocking(true)?;
        if !has_room(&socket, CONNECT_TIMEOUT_MS.into())? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let sender = Self { socket, queue: Mutex::default(), changed: Condvar::new() };
        Ok(SENDER.get_or_init(|| sender))
    }

    /// Sends an entry, now or as soon as journald has room for it. Never waits.
    pub(super) fn send(&'static self, entry: Vec<u8>) {
        let mut queue = self.queue();
        if queue.bytes + entry.len() > QUEUED_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.bytes += entry.len();
        queue.entries.push_back(entry);
        if queue.entries.len() == 1 || !queue.has_thread {
            self.send_while_room(&mut queue);
        }
        if !queue.entries.is_empty() && self.has_thread(&mut queue) {
            self.changed.notify_all();
        }
    }

    fn has_thread(&'static self, queue: &mut Queue) -> bool {
        if !queue.has_thread {
            let started = thread::Builder::new().name("journal".into()).spawn(move || self.send_queued());
            queue.has_thread = started.is_ok();
        }
        queue.has_thread
    }

    /// The thread: waits for entries, and for room for them, in turn.
    fn send_queued(&self) {
        loop {
            let queue = self.queue();
            let queue = self.changed.wait_while(queue, |queue| queue.entries.is_empty());
            drop(queue);
            // Where the wait fails, sending does so, too, and the entries are given up: no loop without an end.
            drop(has_room(&self.socket, PollTimeout::NONE));
            self.send_while_room(&mut self.queue());
        }
    }

    fn send_while_room(&self, queue: &mut Queue) {
        while let Some(entry) = queue.entries.front() {
            match self.try_send(entry) {
                Sent::NoRoom => return,
                Sent::Yes => {}
                Sent::Lost => queue.lost += 1,
            }
            queue.bytes = queue.entries.pop_front().map_or(0, |sent| queue.bytes.saturating_sub(sent.len()));
        }
        if queue.lost > 0 {
            let message =
                format!("{} entries are missing here: journald did not read them in time", queue.lost);
            let told = Entry::plain(Level::WARN, &message);
            match self.try_send(&told) {
                Sent::Yes => queue.lost = 0,
                Sent::NoRoom => {
                    queue.lost = 0;
                    queue.bytes += told.len();
                    queue.entries.push_back(told);
                    return;
                }
                // It is told with those that will be lost later.
                Sent::Lost => {}
            }
        }
        self.changed.notify_all();
    }

    fn try_send(&self, entry: &[u8]) -> Sent {
        let sent = self.socket.send(entry).or_else(|error| match error.kind() {
            // Another journald has taken the place of the one that was there.
            ErrorKind::ConnectionRefused | ErrorKind::NotConnected | ErrorKind::ConnectionReset => {
                self.socket.connect(SOCKET)?;
                self.socket.send(entry)
            }
            ErrorKind::Interrupted => self.socket.send(entry),
            _ => Err(error),
        });
        match sent {
            Ok(_) => Sent::Yes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::NoRoom,
            Err(_) => Sent::Lost,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(socket: &UnixDatagram, timeout: PollTimeout) -> io::Result<bool> {
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    Ok(poll(&mut asked, timeout)? > 0)
}
