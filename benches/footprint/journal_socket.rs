//! A socket in place of journald's: the daemon sends its log there and holds the descriptors that it holds as a service.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

pub(crate) struct JournalSocket {
    /// Entries stay unread: the few of a start fit.
    _socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl JournalSocket {
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join("journal");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { _socket: socket, path }
    }
}
