//! The other end of `$NOTIFY_SOCKET`, with a file descriptor store like that of systemd.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::wait::wait_for;

/// A datagram socket in place of systemd's.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
    received: Vec<String>,
    stored: BTreeMap<String, Vec<OwnedFd>>,
}

impl NotifySocket {
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, received: Vec::new(), stored: BTreeMap::new() }
    }

    /// Every line that was received so far.
    pub(crate) fn received_lines(&mut self) -> &[String] {
        while let Some((text, descriptors)) = self.receive() {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
            if lines.iter().any(|line| line == "FDSTOREREMOVE=1") {
                self.stored.remove(name);
            }
            if lines.iter().any(|line| line == "FDSTORE=1") {
                self.stored.entry(name.to_owned()).or_default().extend(descriptors);
            }
            self.received.extend(lines);
        }
        &self.received
    }

    /// The next message, with its descriptors.
    #[expect(unsafe_code, reason = "the kernel gives descriptors as numbers")]
    fn receive(&self) -> Option<(String, Vec<OwnedFd>)> {
        let (mut text, mut control) = ([0; 4096], nix::cmsg_space!([i32; 8]));
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
        let descriptors = message
            .cmsgs()
            .unwrap()
            .filter_map(|part| if let ControlMessageOwned::ScmRights(fds) = part { Some(fds) } else { None })
            .flatten()
            // SAFETY: the kernel has made this descriptor for us just now.
            .map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
            .collect();
        let size = message.bytes;
        Some((String::from_utf8_lossy(&text[..size]).into_owned(), descriptors))
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, line: &str) {
        wait_for(line, || self.received_lines().iter().any(|received| received == line).then_some(()));
    }

    /// The descriptors of this name that are in the store now.
    pub(crate) fn stored(&mut self, name: &str) -> &[OwnedFd] {
        self.received_lines();
        self.stored.get(name).map_or(&[], Vec::as_slice)
    }
}
