//! The sockets that the page is served on: one at the configured address, and one at the loopback address of the other
//! family with the same port.
//!
//! A browser may connect to `localhost` by either family. If another user's process listens on the other one, that process
//! receives what is meant for the page. So the daemon takes both, and accepts the name only if it has both.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};

/// Empty if no page is served.
#[derive(Default)]
pub(super) struct PageListeners(Vec<TcpListener>);

impl PageListeners {
    /// Adopts the sockets that systemd kept open while the daemon was not running.
    pub(super) fn adopt(kept: Vec<StdTcpListener>) -> Self {
        let adopted = kept.into_iter().filter_map(|listener| into_tokio(listener).ok());
        Self(adopted.collect())
    }

    /// Listens at an address. Reuses sockets of `previous` where possible, and closes the others.
    pub(super) fn open(address: SocketAddr, mut previous: Self) -> io::Result<Self> {
        let main = previous.take_or_bind(address)?;
        let main_address = main.local_addr()?;
        let mut listeners = vec![main];
        if let Some(ip) = other_family(address.ip()) {
            let sibling = SocketAddr::new(ip, main_address.port());
            match previous.take_or_bind(sibling) {
                Ok(listener) => listeners.push(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tracing::warn!(
                    "another process listens on {sibling}: what a browser sends to the name localhost may reach it, so the \
                     page is not served under that name. Open http://{main_address}/. To fix it: stop that process, then \
                     systemctl restart fieldsync"
                ),
                Err(error) => tracing::info!(
                    "{sibling} cannot be listened on ({error}), so the page is not served under the name localhost: open \
                     http://{main_address}/"
                ),
            }
        }
        Ok(Self(listeners))
    }

    /// Port 0 means any port.
    fn take_or_bind(&mut self, wanted: SocketAddr) -> io::Result<TcpListener> {
        let is_suitable = |listener: &TcpListener| {
            let is_wanted = |address: SocketAddr| {
                address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port())
            };
            listener.local_addr().is_ok_and(is_wanted)
        };
        match self.0.iter().position(is_suitable) {
            Some(index) => Ok(self.0.swap_remove(index)),
            None => into_tokio(StdTcpListener::bind(wanted)?),
        }
    }

    /// The configured address is the first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Duplicates the sockets, so that systemd can keep them open.
    pub(super) fn duplicate_all(&self) -> io::Result<Vec<OwnedFd>> {
        self.0.iter().map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }

    /// Accepts a connection on any of the sockets.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| {
            for listener in &self.0 {
                if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                    return Poll::Ready(accepted.map(|(stream, _)| stream));
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn into_tokio(listener: StdTcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The other address that `localhost` means.
fn other_family(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Ipv4Addr::LOCALHOST.into()),
        _ => None,
    }
}
