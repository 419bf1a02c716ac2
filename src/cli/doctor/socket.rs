//! Whether the daemon answers, and if not, why.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::access::{Owned, User, WRITE, group_name};
use super::finding::Finding;
use crate::api::Status;
use crate::cli::words::plain;
use crate::client::{Client, ClientError, decode_json};
use crate::store::is_state_dir_in_use;

/// A daemon that is well answers at once.
const DAEMON_WITHIN: Duration = Duration::from_secs(10);
const START: &str = "systemctl start fieldsync; if it does not stay: journalctl -u fieldsync";
const RESTART: &str = "systemctl restart fieldsync.socket, or without that unit: systemctl restart fieldsync (no record is lost by \
                       that); where the daemon listens elsewhere, name its socket by --socket";

/// Asks the daemon for its status.
pub(super) async fn ask(client: &Client) -> Result<Status, ClientError> {
    let asked = timeout(DAEMON_WITHIN, client.get("/v1/status")).await;
    let answer = asked.unwrap_or_else(|_| {
        let source = io::Error::new(ErrorKind::TimedOut, format!("none within {DAEMON_WITHIN:?}"));
        Err(ClientError::Lost { source })
    })?;
    decode_json(&answer)
}

/// `state_dir`, where it is known, tells whether a daemon runs that cannot be reached.
pub(super) fn judge(
    socket: &Path,
    asked: &Result<Status, ClientError>,
    me: &User,
    state_dir: Option<&Path>,
) -> Vec<Finding> {
    let at = socket.display();
    let finding = match asked {
        Ok(status) => return answered(&at.to_string(), &status.version),
        Err(ClientError::NoDaemon { source, .. }) => match source.kind() {
            ErrorKind::PermissionDenied => closed(socket, me),
            ErrorKind::NotFound => unreachable(
                &format!("there is no socket at {at}"),
                "its socket file was removed, or it listens elsewhere",
                state_dir,
            ),
            _ if is_no_socket(socket) => Finding::problem(
                format!("{at} is no socket: the daemon cannot listen there, or listens elsewhere"),
                "name the socket by --socket, or move that file away and: systemctl restart fieldsync.socket",
            ),
            ErrorKind::ConnectionRefused => {
                unreachable(&format!("nobody listens at {at}"), "it listens elsewhere", state_dir)
            }
            _ => Finding::problem(format!("{at} cannot be opened: {source}"), START),
        },
        Err(ClientError::Lost { source }) if source.kind() == ErrorKind::TimedOut => Finding::problem(
            format!("the daemon at {at} does not answer ({source}): it is stuck, or starting"),
            "systemctl status fieldsync; if nothing moves: systemctl restart fieldsync (no record is lost by that)",
        ),
        Err(ClientError::Lost { .. }) => Finding::problem(
            format!("the daemon at {at} went away before it had answered"),
            "journalctl -u fieldsync",
        ),
        Err(ClientError::Refused { status, message, .. }) => Finding::problem(
            format!("the daemon at {at} does not tell its status (HTTP {status}): {}", plain(message)),
            "journalctl -u fieldsync",
        ),
        Err(ClientError::Protocol(what)) => Finding::problem(
            format!("what answers at {at} is no fieldsync daemon of this version ({})", plain(what)),
            "check --socket and ipc.socket; after an upgrade: systemctl restart fieldsync",
        ),
    };
    vec![finding]
}

fn answered(at: &str, version: &str) -> Vec<Finding> {
    let mine = env!("CARGO_PKG_VERSION");
    if version == mine {
        return vec![Finding::ok(format!("a daemon of version {version} answers at {at}"))];
    }
    vec![Finding::warning(
        format!("the daemon at {at} is of version {}, this command line of {mine}", plain(version)),
        "systemctl restart fieldsync, so that it runs as it is installed",
    )]
}

/// Nobody answers at the socket. The lock on the state directory tells whether a daemon runs all the same.
fn unreachable(found: &str, why: &str, state_dir: Option<&Path>) -> Finding {
    match state_dir.map(is_state_dir_in_use) {
        Some(Ok(true)) => {
            let state = state_dir.unwrap_or(Path::new("")).display();
            Finding::problem(
                format!("{found}, but a daemon runs, for the state directory {state} is in use: {why}"),
                RESTART,
            )
        }
        Some(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Finding::problem(
            format!("{found}; whether a daemon runs cannot be seen by this user"),
            format!("sudo fieldsync doctor; if none runs: {START}"),
        ),
        _ => Finding::problem(format!("{found}: no daemon runs"), START),
    }
}

fn is_no_socket(socket: &Path) -> bool {
    fs::metadata(socket).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

/// Who may not open it is a member too little, or too recent.
fn closed(socket: &Path, me: &User) -> Finding {
    let at = socket.display();
    let Ok(metadata) = fs::metadata(socket) else {
        return Finding::problem(
            format!("{} may not enter the directory of {at}", me.name),
            "sudo fieldsync doctor; the directory of the socket is to have mode 0755",
        );
    };
    let (owned, group) = (Owned::of(&metadata), group_name(metadata.gid()));
    let member = User::of(me.uid);
    if owned.mode & (WRITE << 3) == 0 {
        return Finding::problem(
            format!("only its owner may open {at} (mode {:04o})", owned.mode),
            "ipc.socket_mode, or SocketMode= of fieldsync.socket, is to be 0660",
        );
    }
    if member.is_in(owned.gid) {
        return Finding::problem(
            format!("{} is in the group {group} of {at}, but was not yet when this session began", me.name),
            "log out and in again",
        );
    }
    Finding::problem(
        format!("{} is not in the group {group}, whose members may open {at}", me.name),
        format!("sudo usermod -aG {group} {}, then log out and in again", me.name),
    )
}
