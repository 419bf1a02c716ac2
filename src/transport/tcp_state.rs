//! What only the kernel knows of a TCP connection: the bytes sent, and the bytes confirmed by the peer.

use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// `TCP_CLOSE` of `linux/tcp_states.h`, which libc does not name.
const TCP_CLOSE: u8 = 7;

/// A connection as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpState {
    /// Bytes that the peer has confirmed, plus one for the opening of the connection.
    pub(super) confirmed_bytes: u64,
    /// Bytes that have not left this device.
    pub(super) unsent_bytes: u32,
    /// The connection has ended: no more bytes will leave.
    pub(super) is_closed: bool,
    /// Smoothed round-trip time, once there is a sample.
    pub(super) round_trip: Option<Duration>,
}

impl TcpState {
    /// The present state; `None` if this kernel does not report all of it.
    pub(super) fn read_from(socket: &impl AsFd) -> Option<Self> {
        let info = read_tcp_info(socket)?;
        Some(Self {
            confirmed_bytes: info.tcpi_bytes_acked,
            unsent_bytes: info.tcpi_notsent_bytes,
            is_closed: info.tcpi_state == TCP_CLOSE,
            round_trip: (info.tcpi_rtt > 0).then(|| Duration::from_micros(info.tcpi_rtt.into())),
        })
    }
}

/// A kernel fills in as much of the structure as it knows.
#[expect(
    unsafe_code,
    reason = "nix reads structures of fixed length only, and this one grows with the kernel"
)]
fn read_tcp_info(socket: &impl AsFd) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed and so open, and the kernel writes at most `length` bytes to `info`.
    let failed = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    // All fields that are used precede this one.
    let known = usize::try_from(length).ok()? >= offset_of!(libc::tcp_info, tcpi_min_rtt);
    // SAFETY: all fields are integers, for which zero is a valid value.
    (failed == 0 && known).then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_that_the_peer_received_are_confirmed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let opened = TcpState::read_from(&client).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let state = TcpState::read_from(&client).unwrap();
        assert_eq!(
            (state.confirmed_bytes - opened.confirmed_bytes, state.unsent_bytes, state.is_closed),
            (5, 0, false)
        );
        assert!(state.round_trip.is_some());
    }

    #[test]
    fn a_socket_that_is_not_tcp_has_no_state() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(TcpState::read_from(&one).is_none());
    }
}
