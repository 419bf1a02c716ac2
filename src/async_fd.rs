//! Waits until a descriptor (netlink, timers, file events, signals) can be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::inotify::Inotify;
use nix::sys::timerfd::TimerFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An owner of one descriptor, which is open and the same as long as the owner exists.
pub(crate) trait DescriptorOwner: AsFd {}

impl DescriptorOwner for OwnedFd {}
impl DescriptorOwner for TimerFd {}
impl DescriptorOwner for Inotify {}
impl DescriptorOwner for Arc<UnixStream> {}

/// An owner whose descriptor is registered itself: a duplicate would be a second descriptor for each source of events.
/// Nothing can replace the owner meanwhile.
#[derive(Debug)]
pub(crate) struct Registered<T>(T);

impl<T> Registered<T> {
    pub(crate) fn owner(&self) -> &T {
        &self.0
    }
}

impl<T: DescriptorOwner> AsRawFd for Registered<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers a non-blocking descriptor: the result is ready when it can be read.
#[expect(unsafe_code, reason = "the descriptor is owned: it stays open and the same while it is registered")]
pub(crate) fn watch_readable<T: DescriptorOwner + 'static>(owner: T) -> io::Result<AsyncFd<Registered<T>>> {
    // SAFETY: a DescriptorOwner always gives the same open descriptor.
    Ok(unsafe { AsyncFd::register_with_interest(Registered(owner), Interest::READABLE) }?)
}
