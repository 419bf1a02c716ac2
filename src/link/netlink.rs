//! Events of the kernel, used as triggers: after an event, the daemon reads the present state.
//!
//! So the content of an event does not matter, and losing some is harmless: if the socket's buffer overflows, the
//! kernel reports that, and the report is a trigger, too.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use crate::async_fd::{Registered, watch_readable};

/// rtnetlink(7): links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const ROUTE_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// The kernel's own messages about devices.
const DEVICE_GROUP: u32 = 1;
/// nlmsghdr: length and type are its first six bytes, and messages are aligned to four.
const HEADER_BYTES: usize = 16;
const ALIGNMENT_BYTES: usize = 4;
/// `RTM_NEWLINK` and `RTM_DELLINK`; higher types are about addresses and routes.
const LINK_MESSAGE_TYPES: std::ops::RangeInclusive<u16> = 16..=17;
const POWER_SUBSYSTEM: &[u8] = b"SUBSYSTEM=power_supply";
/// Larger messages are cut, which does no harm.
const BUFFER_BYTES: usize = 8 << 10;

/// What may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChanges {
    /// A link changed, perhaps only the noise level of its radio.
    pub link: bool,
    /// An address or a route was added or removed.
    pub route: bool,
}

/// Reports when links, addresses or routes change.
#[derive(Debug)]
pub struct LinkEvents(AsyncFd<Registered<OwnedFd>>);

impl LinkEvents {
    /// Listens from now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self(open_socket(SockProtocol::NetlinkRoute, ROUTE_GROUPS)?))
    }

    /// Waits for an event, and empties the buffer.
    pub async fn changed(&self) -> io::Result<LinkChanges> {
        let mut changes = LinkChanges::default();
        while changes == LinkChanges::default() {
            self.0.readable().await?.clear_ready();
            read_all(&self.0, |messages| record_changes(messages, &mut changes))?;
        }
        Ok(changes)
    }
}

/// Reports when a power supply changes.
#[derive(Debug)]
pub struct PowerEvents(AsyncFd<Registered<OwnedFd>>);

impl PowerEvents {
    /// Listens from now on. Events of other devices wake the process, too.
    pub fn new() -> io::Result<Self> {
        Ok(Self(open_socket(SockProtocol::NetlinkKObjectUEvent, DEVICE_GROUP)?))
    }

    /// Waits for an event, and empties the buffer.
    pub async fn changed(&self) -> io::Result<()> {
        let is_power =
            |event: &[u8]| event.windows(POWER_SUBSYSTEM.len()).any(|part| part == POWER_SUBSYSTEM);
        let mut has_changed = false;
        while !has_changed {
            self.0.readable().await?.clear_ready();
            read_all(&self.0, |event| has_changed |= event.is_none_or(is_power))?;
        }
        Ok(())
    }
}

fn open_socket(protocol: SockProtocol, groups: u32) -> io::Result<AsyncFd<Registered<OwnedFd>>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    watch_readable(fd)
}

/// Reads until the buffer is empty. `None` stands for messages that the kernel dropped.
fn read_all(
    socket: &AsyncFd<Registered<OwnedFd>>,
    mut on_messages: impl FnMut(Option<&[u8]>),
) -> io::Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match recv(socket.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => on_messages(buffer.get(..length)),
            Err(Errno::ENOBUFS) => on_messages(None),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn record_changes(messages: Option<&[u8]>, changes: &mut LinkChanges) {
    let Some(mut rest) = messages else {
        *changes = LinkChanges { link: true, route: true };
        return;
    };
    while let Some([a, b, c, d, e, f]) = rest.first_chunk::<6>() {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let is_link = LINK_MESSAGE_TYPES.contains(&u16::from_ne_bytes([*e, *f]));
        changes.link |= is_link;
        changes.route |= !is_link;
        rest = rest.get(length.max(HEADER_BYTES).next_multiple_of(ALIGNMENT_BYTES)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    }

    fn changes_of(messages: Option<&[u8]>) -> LinkChanges {
        let mut changes = LinkChanges::default();
        record_changes(messages, &mut changes);
        changes
    }

    #[test]
    fn changes_of_links_are_distinguished_from_changes_of_routes() {
        let (link, route) = (message_of(16, 32), message_of(24, 28));
        assert_eq!(changes_of(Some(&link)), LinkChanges { link: true, ..LinkChanges::default() });
        assert_eq!(changes_of(Some(&route)), LinkChanges { route: true, ..LinkChanges::default() });
        let both = [link, route].concat();
        assert_eq!(changes_of(Some(&both)), LinkChanges { link: true, route: true });
        assert_eq!(changes_of(None), LinkChanges { link: true, route: true }, "dropped messages");
    }

    #[test]
    fn invalid_messages_are_read_without_a_panic_or_a_loop() {
        for length in [0, 1, 15, 1000, u32::MAX] {
            let mut bytes = message_of(16, 64);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(changes_of(Some(&bytes)).link);
        }
        assert_eq!(changes_of(Some(&[1, 2, 3])), LinkChanges::default());
    }
}
