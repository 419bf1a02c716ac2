//! Waiting for a descriptor of the kernel's (netlink, timers, file events) to have something to read.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes when `fd`, which must not block, has something to read.
#[expect(
    unsafe_code,
    reason = "the descriptor is owned: it stays the same and open as long as it is registered"
)]
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always gives the same open descriptor.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
