//! What only the kernel knows of a TCP connection: what left this device, and what the other side confirmed.

use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// `TCP_CLOSE` of `linux/tcp_states.h`, which libc does not name.
const CLOSED: u8 = 7;

/// A connection as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpState {
    /// Bytes that the other side has confirmed, with one for having opened the connection.
    pub(super) confirmed: u64,
    /// Bytes that never left this device.
    pub(super) unsent: u32,
    /// It is over: nothing will leave any more.
    pub(super) is_over: bool,
    /// Smoothed round trip, once there was one.
    pub(super) round_trip: Option<Duration>,
}

impl TcpState {
    /// As it is now. None when this kernel does not tell all of it.
    pub(super) fn of(socket: &impl AsFd) -> Option<Self> {
        let info = tcp_info(socket)?;
        Some(Self {
            confirmed: info.tcpi_bytes_acked,
            unsent: info.tcpi_notsent_bytes,
            is_over: info.tcpi_state == CLOSED,
            round_trip: (info.tcpi_rtt > 0).then(|| Duration::from_micros(info.tcpi_rtt.into())),
        })
    }
}

/// Kernels fill in as much of the structure as they know.
#[expect(unsafe_code, reason = "nix reads structures of one length only, and this one grows with the kernel")]
fn tcp_info(socket: &impl AsFd) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed and so open, and the kernel writes at most `length` bytes to `info`.
    let failed = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    // What is read lies before this field.
    let known = usize::try_from(length).ok()? >= offset_of!(libc::tcp_info, tcpi_min_rtt);
    // SAFETY: it is made of integers alone, for which zeroes are a value, too.
    (failed == 0 && known).then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_confirms_what_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let opened = TcpState::of(&client).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let state = TcpState::of(&client).unwrap();
        assert_eq!((state.confirmed - opened.confirmed, state.unsent, state.is_over), (5, 0, false));
        assert!(state.round_trip.is_some());
    }

    #[test]
    fn what_is_no_tcp_connection_has_no_state() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(TcpState::of(&one).is_none());
    }
}
