//! Who may read the records on disk, who may call the daemon, and what the caller may do.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::Group;

use super::access::{FileOwner, User, WRITE_BIT, user_name};
use super::finding::{Finding, or_ok};
use crate::config::Config;

/// Neither the group nor other users may have a right on the state directory.
const GROUP_AND_OTHERS_BITS: u32 = 0o077;

/// The owner of the state directory, to which systemd gives it.
pub(super) fn find_daemon_user(state_dir: &Path) -> Option<User> {
    fs::metadata(state_dir).ok().map(|directory| User::from_uid(directory.uid()))
}

pub(super) fn check_permissions(
    config: &Config,
    socket: &Path,
    caller: &User,
    daemon: Option<&User>,
) -> Vec<Finding> {
    let mut findings = check_state_dir(&config.state_dir());
    findings.extend(check_socket_mode(socket));
    findings.extend(check_admin_group(&config.ipc.admin_group));
    let mut findings = or_ok(findings, || {
        let owner = daemon.map_or_else(|| "the daemon's user".to_owned(), |user| user.name.clone());
        format!("only {owner} may use {}", config.state_dir().display())
    });
    findings.push(Finding::ok(describe_rights(caller, daemon, &config.ipc.admin_group)));
    findings
}

fn check_state_dir(path: &Path) -> Vec<Finding> {
    let at = path.display();
    let directory = match fs::metadata(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![Finding::ok(format!(
                "{at} does not exist yet: the daemon creates it when it starts"
            ))];
        }
        Err(error) => {
            return vec![Finding::unchecked(
                format!("{at} cannot be examined: {error}"),
                "sudo fieldsync doctor",
            )];
        }
    };
    if !directory.is_dir() {
        return vec![Finding::problem(
            format!("{at} is not a directory: the daemon cannot keep records there"),
            "move it away, or set queue.state_dir",
        )];
    }
    check_mode(path, &directory).into_iter().chain(check_owners(path, &directory)).collect()
}

fn check_mode(path: &Path, directory: &Metadata) -> Option<Finding> {
    let mode = FileOwner::from_metadata(directory).mode;
    (mode & GROUP_AND_OTHERS_BITS != 0).then(|| {
        Finding::warning(
            format!(
                "{} contains records and is open to users other than its owner (mode {mode:04o})",
                path.display()
            ),
            format!("chmod 0700 {}", path.display()),
        )
    })
}

/// Prefixes of the names of files that the daemon opens. Other files do no harm: the root of a file system contains
/// `lost+found`.
const OPENED_FILE_PREFIXES: [&str; 2] = ["queue.redb", "lock"];

/// If root starts the daemon by hand, it creates files that the service cannot open.
fn check_owners(path: &Path, directory: &Metadata) -> Option<Finding> {
    let entries = fs::read_dir(path).ok()?;
    let is_opened =
        |name: &OsStr| OPENED_FILE_PREFIXES.iter().any(|own| name.as_bytes().starts_with(own.as_bytes()));
    let found = entries.flatten().filter(|entry| is_opened(&entry.file_name())).find_map(|entry| {
        let owner = entry.metadata().ok()?.uid();
        (owner != directory.uid()).then(|| (entry.path(), owner))
    });
    let (file, owner) = found?;
    let user = user_name(directory.uid());
    Some(Finding::problem(
        format!(
            "{} belongs to {}, but its directory belongs to {user}: the daemon, which runs as {user}, cannot use the file",
            file.display(),
            user_name(owner)
        ),
        format!("sudo chown -R {user}: {}", path.display()),
    ))
}

fn check_socket_mode(socket: &Path) -> Option<Finding> {
    let mode = FileOwner::from_metadata(&fs::metadata(socket).ok()?).mode;
    (mode & WRITE_BIT != 0).then(|| {
        Finding::warning(
            format!("every user of this device may open {} and enqueue (mode {mode:04o})", socket.display()),
            "set ipc.socket_mode, or SocketMode= of fieldsync.socket, to 0660",
        )
    })
}

fn check_admin_group(name: &str) -> Option<Finding> {
    (!name.is_empty() && matches!(Group::from_name(name), Ok(None))).then(|| {
        Finding::problem(
            format!("ipc.admin_group is {name}, which does not exist on this device: only root may pause and discard"),
            format!("sudo groupadd --system {name}, or set ipc.admin_group to another"),
        )
    })
}

fn describe_rights(caller: &User, daemon: Option<&User>, admin_group: &str) -> String {
    let is_daemon = daemon.is_some_and(|daemon| daemon.uid == caller.uid);
    // As the daemon does: from the group database, not from this session.
    let group = Some(admin_group).filter(|name| !name.is_empty());
    let group = group.and_then(|name| Group::from_name(name).ok().flatten());
    let is_admin = group.is_some_and(|group| User::from_uid(caller.uid).is_in(group.gid.as_raw()));
    if caller.is_root() || is_daemon || is_admin {
        return format!("{} may make every call, including pause, resume and discard", caller.name);
    }
    let admins = match admin_group {
        "" => "root".to_owned(),
        group => format!("root and members of {group}"),
    };
    format!(
        "{} may read the status and enqueue if the socket can be opened; {admins} may also pause and discard",
        caller.name
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::CheckResult;
    use super::*;

    #[test]
    fn a_state_directory_must_be_closed_to_all_but_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(check_state_dir(&path)[0].result, CheckResult::Ok);
        fs::write(&path, "").unwrap();
        assert_eq!(check_state_dir(&path)[0].result, CheckResult::Problem);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for (mode, findings) in [(0o700, 0), (0o750, 1), (0o701, 1)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_state_dir(&path).len(), findings, "{mode:o}");
        }
    }

    #[test]
    fn an_admin_group_that_does_not_exist_is_reported() {
        assert_eq!(check_admin_group(""), None);
        assert_eq!(check_admin_group("root"), None);
        let finding = check_admin_group("no-such-group").unwrap();
        assert!(finding.remedy.unwrap().contains("groupadd --system no-such-group"));
    }
}
