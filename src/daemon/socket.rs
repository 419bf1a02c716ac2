//! The socket: handed over by systemd, or made here.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use thiserror::Error;
use tokio::net::UnixListener;

/// The socket cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {}: {source}", path.display())]
pub(super) struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// Removes the socket that was made here, when the daemon ends.
pub(super) struct Unlink(Option<PathBuf>);

impl Drop for Unlink {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

/// Listens. The state directory is locked by now: a socket that is there is a dead daemon's.
pub(super) fn listen(path: &Path, mode: u32) -> Result<(UnixListener, Unlink), SocketError> {
    let failed = |source| SocketError { path: path.to_owned(), source };
    if let Some(inherited) = ListenFd::from_env().take_unix_listener(0).map_err(failed)? {
        inherited.set_nonblocking(true).map_err(failed)?;
        return Ok((UnixListener::from_std(inherited).map_err(failed)?, Unlink(None)));
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok((listener, Unlink(Some(path.to_owned()))))
}
