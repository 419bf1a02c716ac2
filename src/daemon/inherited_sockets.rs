//! The sockets that systemd passes at the start: the socket of the local API, which the socket unit opened, and those of
//! the page, which the previous run of the daemon put into systemd's file descriptor store.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The name of the page's sockets in the file descriptor store.
pub(super) const PAGE_FD_NAME: &str = "web";

/// The sockets that systemd passed.
pub(super) struct InheritedSockets {
    /// An error if the descriptor is not a Unix socket.
    pub(super) api: io::Result<Option<UnixListener>>,
    pub(super) page: Vec<TcpListener>,
}

impl InheritedSockets {
    /// Takes all of them. A second call finds none.
    pub(super) fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let mut taken = Self { api: Ok(None), page: Vec::new() };
        for index in 0..descriptors.len() {
            if names.next() == Some(PAGE_FD_NAME) {
                match descriptors.take_tcp_listener(index) {
                    Ok(listener) => taken.page.extend(listener),
                    Err(error) => {
                        tracing::warn!(%error, "a socket of the page from systemd's descriptor store cannot be used");
                    }
                }
            } else if matches!(taken.api, Ok(None)) {
                taken.api = descriptors.take_unix_listener(index);
            }
        }
        taken
    }
}
