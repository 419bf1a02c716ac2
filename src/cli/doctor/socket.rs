//! Whether the daemon responds, and if it does not, why.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::access::{FileOwner, User, WRITE_BIT, group_name};
use super::finding::Finding;
use crate::api::{Configuration, Status};
use crate::cli::format::strip_controls;
use crate::client::{Client, ClientError, decode_json};
use crate::store::is_state_dir_in_use;

/// A healthy daemon responds at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
const START_DAEMON: &str = "systemctl start fieldsync; if it stops again: journalctl -u fieldsync";
const RESTART_SOCKET: &str = "systemctl restart fieldsync.socket, or without that unit: systemctl restart fieldsync (this loses no \
                              record); if the daemon listens elsewhere, name its socket with --socket";

/// Asks the daemon for its status.
pub(super) async fn fetch_status(client: &Client) -> Result<Status, ClientError> {
    let response = timeout(STATUS_TIMEOUT, client.get("/v1/status")).await;
    let body = response.unwrap_or_else(|_| {
        let source = io::Error::new(ErrorKind::TimedOut, format!("no response within {STATUS_TIMEOUT:?}"));
        Err(ClientError::Lost { source })
    })?;
    decode_json(&body)
}

/// Asks the daemon what is in effect. `None` for a daemon that is older than the call.
pub(super) async fn fetch_configuration(client: &Client) -> Option<Configuration> {
    let body = timeout(STATUS_TIMEOUT, client.get("/v1/configuration")).await.ok()?.ok()?;
    decode_json(&body).ok()
}

/// `state_dir`, if it is known, shows whether a daemon runs that cannot be reached.
pub(super) fn judge_socket(
    socket: &Path,
    status: &Result<Status, ClientError>,
    caller: &User,
    state_dir: Option<&Path>,
) -> Vec<Finding> {
    let at = socket.display();
    let finding = match status {
        Ok(status) => return compare_versions(&at.to_string(), &status.version),
        Err(ClientError::NoDaemon { source, .. }) => match source.kind() {
            ErrorKind::PermissionDenied => judge_closed_socket(socket, caller),
            ErrorKind::NotFound => judge_unreachable(
                &format!("there is no socket at {at}"),
                "its socket file was removed, or it listens elsewhere",
                state_dir,
            ),
            _ if is_other_file(socket) => Finding::problem(
                format!("{at} is not a socket: the daemon cannot listen there, or listens elsewhere"),
                "name the socket with --socket, or move that file away and: systemctl restart fieldsync.socket",
            ),
            ErrorKind::ConnectionRefused => {
                judge_unreachable(&format!("no program listens at {at}"), "it listens elsewhere", state_dir)
            }
            _ => Finding::problem(format!("{at} cannot be opened: {source}"), START_DAEMON),
        },
        Err(ClientError::Lost { source }) if source.kind() == ErrorKind::TimedOut => Finding::problem(
            format!("the daemon at {at} does not respond ({source}): it is stuck, or it is starting"),
            "systemctl status fieldsync; if nothing changes: systemctl restart fieldsync (this loses no record)",
        ),
        Err(ClientError::Lost { .. }) => Finding::problem(
            format!("the daemon at {at} closed the connection before it had responded"),
            "journalctl -u fieldsync",
        ),
        Err(ClientError::Refused { status, message, .. }) => Finding::problem(
            format!(
                "the daemon at {at} refused the request for its status (HTTP {status}): {}",
                strip_controls(message)
            ),
            "journalctl -u fieldsync",
        ),
        Err(ClientError::Protocol(error)) => Finding::problem(
            format!(
                "the response from {at} is not from a fieldsync daemon of this version ({})",
                strip_controls(error)
            ),
            "check --socket and ipc.socket; after an upgrade: systemctl restart fieldsync",
        ),
    };
    vec![finding]
}

fn compare_versions(at: &str, version: &str) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    if version == own {
        return vec![Finding::ok(format!("a daemon of version {version} responds at {at}"))];
    }
    vec![Finding::warning(
        format!(
            "the daemon at {at} has version {}, but this program has version {own}",
            strip_controls(version)
        ),
        "systemctl restart fieldsync starts the installed version",
    )]
}

/// No program responds at the socket. The lock on the state directory shows whether a daemon runs nevertheless.
fn judge_unreachable(found: &str, reason: &str, state_dir: Option<&Path>) -> Finding {
    match state_dir.map(is_state_dir_in_use) {
        Some(Ok(true)) => {
            let state = state_dir.unwrap_or(Path::new("")).display();
            Finding::problem(
                format!(
                    "{found}, but a daemon runs, because the state directory {state} is in use: {reason}"
                ),
                RESTART_SOCKET,
            )
        }
        Some(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Finding::problem(
            format!("{found}; this user cannot see whether a daemon runs"),
            format!("sudo fieldsync doctor; if none runs: {START_DAEMON}"),
        ),
        _ => Finding::problem(format!("{found}: no daemon runs"), START_DAEMON),
    }
}

fn is_other_file(socket: &Path) -> bool {
    fs::metadata(socket).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

/// The caller is not in the group of the socket, or joined it after its session began.
fn judge_closed_socket(socket: &Path, caller: &User) -> Finding {
    let at = socket.display();
    let Ok(metadata) = fs::metadata(socket) else {
        return Finding::problem(
            format!("{} may not enter the directory of {at}", caller.name),
            "sudo fieldsync doctor; the directory of the socket must have mode 0755",
        );
    };
    let (owner, group) = (FileOwner::from_metadata(&metadata), group_name(metadata.gid()));
    let user = User::from_uid(caller.uid);
    if owner.mode & (WRITE_BIT << 3) == 0 {
        return Finding::problem(
            format!("only its owner may open {at} (mode {:04o})", owner.mode),
            "ipc.socket_mode, or SocketMode= of fieldsync.socket, must be 0660",
        );
    }
    if user.is_in(owner.gid) {
        return Finding::problem(
            format!("{} joined the group {group} of {at} after this session began", caller.name),
            "log out and in again",
        );
    }
    Finding::problem(
        format!("{} is not in the group {group}, whose members may open {at}", caller.name),
        format!("sudo usermod -aG {group} {}, then log out and in again", caller.name),
    )
}
