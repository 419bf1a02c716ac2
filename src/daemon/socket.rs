//! The socket: handed over by systemd, or made here. Nothing is removed for it but the socket of a process that has
//! ended, and its file comes back when another program removes it.

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
use crate::file_watch::{FileWatch, SETTLES};
use crate::journal;

/// The socket cannot be listened on.
#[derive(Debug, Error)]
pub(super) enum SocketError {
    /// Another process listens on it.
    #[error(
        "another process answers on the socket {}; stop it first, or give this daemon its own ipc.socket. Nothing was \
         changed", .0.display()
    )]
    InUse(PathBuf),
    /// The path belongs to something else.
    #[error(
        "{} is {kind}, not a socket: move it away, or set another ipc.socket. Nothing was changed", path.display()
    )]
    NotASocket { path: PathBuf, kind: &'static str },
    /// The system does not permit it.
    #[error("cannot listen on {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl SocketError {
    /// Says it, and gives the exit code of a daemon that cannot start for it.
    pub(super) fn report(&self) -> u8 {
        match self {
            Self::InUse(_) => {
                tracing::error!(name: journal::ANOTHER_DAEMON, "{self}");
                exit::ALREADY_RUNNING
            }
            // As with any wrong configuration, starting again does not help.
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

/// Which file it is: device and inode.
type FileId = (u64, u64);

/// The socket that the daemon listens on. Its file is removed at the end, if it was made here.
pub(super) struct ApiSocket {
    path: PathBuf,
    mode: u32,
    /// None: systemd made the file, and has to do so again.
    created: Option<FileId>,
    listener: watch::Sender<Arc<UnixListener>>,
    /// Since before the last look at the file; none where that is not possible.
    watch: Option<FileWatch>,
    /// Something happened to the file, and it was not looked at since.
    is_unsettled: bool,
}

impl ApiSocket {
    /// Listens, on the socket that systemd handed over where there is one.
    pub(super) fn listen(
        path: &Path,
        mode: u32,
        inherited: io::Result<Option<StdUnixListener>>,
    ) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        let (listener, path, created) = if let Some(inherited) = inherited.map_err(failed)? {
            inherited.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(inherited).map_err(failed)?;
            // systemd may have handed over another one than the configuration names.
            let address = listener.local_addr().ok();
            let named = address.as_ref().and_then(|address| address.as_pathname());
            let path = named.unwrap_or(path).to_owned();
            (listener, path, None)
        } else {
            let (listener, created) = bind(path, mode)?;
            (listener, path.to_owned(), Some(created))
        };
        let listener = watch::Sender::new(Arc::new(listener));
        let mut socket = Self { path, mode, created, listener, watch: None, is_unsettled: false };
        socket.restore();
        Ok(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The listener; another one each time that the file had to be made again.
    pub(super) fn listeners(&self) -> watch::Receiver<Arc<UnixListener>> {
        self.listener.subscribe()
    }

    /// Ends when something happened to the file. Nothing is lost when this is dropped before.
    pub(super) async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        if !self.is_unsettled {
            if let Err(error) = watch.changed().await {
                is_unwatched(&error);
                self.watch = None;
                return std::future::pending().await;
            }
            self.is_unsettled = true;
        }
        tokio::time::sleep(SETTLES).await;
    }

    /// Makes the file again where it is gone, or says who can.
    pub(super) fn restore(&mut self) {
        self.is_unsettled = false;
        self.watch = FileWatch::on([&self.path]).inspect_err(is_unwatched).ok();
        let found = fs::symlink_metadata(&self.path).ok();
        let path = self.path.display();
        let Some(created) = self.created else {
            if !found.is_some_and(|found| found.file_type().is_socket()) {
                tracing::error!(
                    "the socket file {path} was removed: callers cannot reach the daemon; records are kept and sent. \
                     systemd made the file: systemctl restart fieldsync.socket"
                );
            }
            return;
        };
        if found.is_some_and(|found| id(&found) == created) {
            return;
        }
        match bind(&self.path, self.mode) {
            Ok((listener, created)) => {
                self.created = Some(created);
                self.listener.send_replace(Arc::new(listener));
                tracing::warn!("the socket file {path} was removed and has been created again");
            }
            Err(error) => tracing::error!(
                "callers cannot reach the daemon, because its socket file was removed and cannot be created again: {error}. \
                 Records are kept and sent; once the place is free: systemctl reload fieldsync"
            ),
        }
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|found| Some(id(&found)) == self.created);
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket file stays");
        }
    }
}

fn is_unwatched(error: &io::Error) {
    tracing::warn!(%error, "if another program removes the socket file, it comes back only by: systemctl reload fieldsync");
}

fn id(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

fn bind(path: &Path, mode: u32) -> Result<(UnixListener, FileId), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    make_room(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    let created = fs::symlink_metadata(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok((listener, id(&created)))
}

/// Removes the socket of a process that has ended.
fn make_room(path: &Path) -> Result<(), SocketError> {
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
    match connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // One that does not take this connection, because too many wait, is alive too.
        Ok(()) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn connect(path: &Path) -> io::Result<()> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?.connect(&SockAddr::unix(path)?)
}
