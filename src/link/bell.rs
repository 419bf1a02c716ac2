//! Events of the kernel, read only to know that there were any: what is so now is then looked up.
//!
//! Nothing that an event says has to be believed, and losing some (the socket's buffer is bounded)
//! is as good as hearing of them: the kernel says that it dropped some, and that is a ring, too.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use crate::async_fd::readable;

/// rtnetlink(7): links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const ROUTE_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// The kernel's own messages about devices.
const DEVICE_GROUP: u32 = 1;
/// nlmsghdr: length and type are its first six bytes, and messages are aligned to four.
const HEADER: usize = 16;
const ALIGNMENT: usize = 4;
/// `RTM_NEWLINK` and `RTM_DELLINK`; what comes after them is of addresses and routes.
const LINK_TYPES: std::ops::RangeInclusive<u16> = 16..=17;
const POWER: &[u8] = b"SUBSYSTEM=power_supply";
/// Larger messages are cut, which does not matter.
const BUFFER: usize = 8 << 10;

/// What rang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Some link changed, perhaps in nothing but the noise of its radio.
    pub link: bool,
    /// An address or a route came or went.
    pub route: bool,
}

/// Rings when links, addresses or routes change.
#[derive(Debug)]
pub struct Links(AsyncFd<OwnedFd>);

impl Links {
    /// Hears from now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self(open(SockProtocol::NetlinkRoute, ROUTE_GROUPS)?))
    }

    /// Waits until something rings, and empties the buffer.
    pub async fn rung(&self) -> io::Result<Ring> {
        let mut ring = Ring::default();
        while ring == Ring::default() {
            self.0.readable().await?.clear_ready();
            drain(&self.0, |messages| heard(messages, &mut ring))?;
        }
        Ok(ring)
    }
}

/// Rings when a power supply changes.
#[derive(Debug)]
pub struct Supplies(AsyncFd<OwnedFd>);

impl Supplies {
    /// Hears from now on; events of other devices wake it, too.
    pub fn new() -> io::Result<Self> {
        Ok(Self(open(SockProtocol::NetlinkKObjectUEvent, DEVICE_GROUP)?))
    }

    /// Waits until one rings, and empties the buffer.
    pub async fn rung(&self) -> io::Result<()> {
        let is_power = |event: &[u8]| event.windows(POWER.len()).any(|part| part == POWER);
        let mut rang = false;
        while !rang {
            self.0.readable().await?.clear_ready();
            drain(&self.0, |event| rang |= event.is_none_or(is_power))?;
        }
        Ok(())
    }
}

fn open(protocol: SockProtocol, groups: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    readable(fd)
}

/// Reads until nothing is left; `None` stands for messages that the kernel dropped.
fn drain(socket: &AsyncFd<OwnedFd>, mut hear: impl FnMut(Option<&[u8]>)) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match recv(socket.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => hear(buffer.get(..length)),
            Err(Errno::ENOBUFS) => hear(None),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn heard(messages: Option<&[u8]>, ring: &mut Ring) {
    let Some(mut rest) = messages else {
        *ring = Ring { link: true, route: true };
        return;
    };
    while let Some([a, b, c, d, e, f]) = rest.first_chunk::<6>() {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let is_link = LINK_TYPES.contains(&u16::from_ne_bytes([*e, *f]));
        ring.link |= is_link;
        ring.route |= !is_link;
        rest = rest.get(length.max(HEADER).next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    }

    fn ring_of(messages: Option<&[u8]>) -> Ring {
        let mut ring = Ring::default();
        heard(messages, &mut ring);
        ring
    }

    #[test]
    fn news_of_links_are_told_from_those_of_addresses_and_routes() {
        let (link, route) = (message(16, 32), message(24, 28));
        assert_eq!(ring_of(Some(&link)), Ring { link: true, ..Ring::default() });
        assert_eq!(ring_of(Some(&route)), Ring { route: true, ..Ring::default() });
        let both = [link, route].concat();
        assert_eq!(ring_of(Some(&both)), Ring { link: true, route: true });
        assert_eq!(ring_of(None), Ring { link: true, route: true }, "what was dropped");
    }

    #[test]
    fn nonsense_ends() {
        for length in [0, 1, 15, 1000, u32::MAX] {
            let mut bytes = message(16, 64);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(ring_of(Some(&bytes)).link);
        }
        assert_eq!(ring_of(Some(&[1, 2, 3])), Ring::default());
    }
}
