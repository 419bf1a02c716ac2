//! The socket of the local API: passed by systemd, or created here. To create it, only the socket of a process that has
//! ended is removed. If another program removes the file, the daemon creates it again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::exit;
use crate::file_watch::{FileWatch, SETTLE_TIME};
use crate::journal;

/// Why the daemon cannot listen on the socket.
#[derive(Debug, Error)]
pub(super) enum SocketError {
    /// Another process listens on it.
    #[error(
        "another process listens on the socket {}; stop it first, or give this daemon its own ipc.socket. Nothing was \
         changed", .0.display()
    )]
    InUse(PathBuf),
    /// The path is another kind of file.
    #[error(
        "{} is {kind}, not a socket: move it away, or set another ipc.socket. Nothing was changed", path.display()
    )]
    NotASocket { path: PathBuf, kind: &'static str },
    /// The system does not allow it.
    #[error("cannot listen on {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl SocketError {
    /// Logs the error, and returns the exit code of the daemon.
    pub(super) fn report(&self) -> u8 {
        match self {
            Self::InUse(_) => {
                tracing::error!(name: journal::ANOTHER_DAEMON, "{self}");
                exit::ALREADY_RUNNING
            }
            // As with an invalid configuration, a restart does not help.
            Self::NotASocket { .. } => {
                tracing::error!("{self}");
                exit::CONFIG
            }
            Self::Io { .. } => {
                tracing::error!("{self}");
                exit::FAILED
            }
        }
    }
}

/// Identifies a file: device and inode.
type FileId = (u64, u64);

/// The socket on which the daemon listens. Its file is removed at the end if the daemon created it.
pub(super) struct ApiSocket {
    path: PathBuf,
    mode: u32,
    /// `None` if systemd created the file, which must then also create it again.
    created: Option<FileId>,
    listener: watch::Sender<Arc<UnixListener>>,
    /// Set before the file was last examined; `None` if watching is not possible.
    watch: Option<FileWatch>,
    /// The file changed and was not examined since.
    is_unexamined: bool,
}

impl ApiSocket {
    /// Listens on the socket that systemd passed, or on a new one.
    pub(super) fn listen(
        path: &Path,
        mode: u32,
        inherited: io::Result<Option<StdUnixListener>>,
    ) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        let (listener, path, created) = if let Some(inherited) = inherited.map_err(failed)? {
            inherited.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(inherited).map_err(failed)?;
            // The unit may name another path than the configuration.
            let address = listener.local_addr().ok();
            let named = address.as_ref().and_then(|address| address.as_pathname());
            let path = named.unwrap_or(path).to_owned();
            (listener, path, None)
        } else {
            let (listener, created) = bind_socket(path, mode)?;
            (listener, path.to_owned(), Some(created))
        };
        let listener = watch::Sender::new(Arc::new(listener));
        let mut socket = Self { path, mode, created, listener, watch: None, is_unexamined: false };
        socket.restore();
        Ok(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The listener. A new one each time the file was created again.
    pub(super) fn listeners(&self) -> watch::Receiver<Arc<UnixListener>> {
        self.listener.subscribe()
    }

    /// Ends when the file may have changed. Dropping it earlier loses nothing.
    pub(super) async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        if !self.is_unexamined {
            if let Err(error) = watch.changed().await {
                warn_unwatched(&error);
                self.watch = None;
                return std::future::pending().await;
            }
            self.is_unexamined = true;
        }
        tokio::time::sleep(SETTLE_TIME).await;
    }

    /// Creates the file again if it is gone, or logs how to do so.
    pub(super) fn restore(&mut self) {
        self.is_unexamined = false;
        self.watch = FileWatch::on([&self.path]).inspect_err(warn_unwatched).ok();
        let found = fs::symlink_metadata(&self.path).ok();
        let path = self.path.display();
        let Some(created) = self.created else {
            if !found.is_some_and(|found| found.file_type().is_socket()) {
                tracing::error!(
                    "the socket file {path} was removed: callers cannot reach the daemon; records are kept and sent. \
                     systemd created the file: systemctl restart fieldsync.socket"
                );
            }
            return;
        };
        if found.is_some_and(|found| file_id(&found) == created) {
            return;
        }
        match bind_socket(&self.path, self.mode) {
            Ok((listener, created)) => {
                self.created = Some(created);
                self.listener.send_replace(Arc::new(listener));
                tracing::warn!("the socket file {path} was removed and has been created again");
            }
            Err(error) => tracing::error!(
                "callers cannot reach the daemon, because its socket file was removed and cannot be created again: {error}. \
                 Records are kept and sent. Once the path is free: systemctl reload fieldsync"
            ),
        }
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let is_own =
            fs::symlink_metadata(&self.path).is_ok_and(|found| Some(file_id(&found)) == self.created);
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket file could not be removed");
        }
    }
}

fn warn_unwatched(error: &io::Error) {
    tracing::warn!(%error, "if another program removes the socket file, only this creates it again: systemctl reload fieldsync");
}

fn file_id(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

fn bind_socket(path: &Path, mode: u32) -> Result<(UnixListener, FileId), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    remove_stale_socket(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    let created = fs::symlink_metadata(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok((listener, file_id(&created)))
}

/// Removes the socket of a process that has ended.
fn remove_stale_socket(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?.file_type(),
    };
    if !found.is_socket() {
        let kind = match () {
            () if found.is_symlink() => "a symbolic link",
            () if found.is_dir() => "a directory",
            () if found.is_fifo() => "a named pipe",
            () if found.is_file() => "a file",
            () => "a device",
        };
        return Err(SocketError::NotASocket { path: path.to_owned(), kind });
    }
    match try_connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A process whose queue of connections is full is alive, too.
        Ok(()) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn try_connect(path: &Path) -> io::Result<()> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?.connect(&SockAddr::unix(path)?)
}
