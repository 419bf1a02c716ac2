//! The other end of `$NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::wait::wait_for;

/// A datagram socket in place of systemd's.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
    heard: Vec<String>,
}

impl NotifySocket {
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, heard: Vec::new() }
    }

    /// Every line that was received until now.
    pub(crate) fn heard(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(size) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        &self.heard
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, line: &str) {
        wait_for(line, || self.heard().iter().any(|heard| heard == line).then_some(()));
    }
}
