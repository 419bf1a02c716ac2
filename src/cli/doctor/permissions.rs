//! Who may get at the records on disk, who may speak to the daemon, and what the caller may do.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::Group;

use super::access::{Owned, User, WRITE, user_name};
use super::finding::{Finding, or_well};
use crate::config::Config;

/// What others and the group may do with the state directory: nothing.
const OTHERS: u32 = 0o077;

/// The daemon's user: the one to whom the state directory belongs, as systemd sees to it.
pub(super) fn user_of_daemon(state_dir: &Path) -> Option<User> {
    fs::metadata(state_dir).ok().map(|directory| User::of(directory.uid()))
}

pub(super) fn check(config: &Config, socket: &Path, me: &User, daemon: Option<&User>) -> Vec<Finding> {
    let mut findings = state_directory(&config.state_dir());
    findings.extend(socket_mode(socket));
    findings.extend(admin_group(&config.ipc.admin_group));
    let mut findings = or_well(findings, || {
        let owner = daemon.map_or_else(|| "the daemon's user".to_owned(), |user| user.name.clone());
        format!("{} is open to {owner} alone", config.state_dir().display())
    });
    findings.push(Finding::ok(caller(me, daemon, &config.ipc.admin_group)));
    findings
}

fn state_directory(path: &Path) -> Vec<Finding> {
    let at = path.display();
    let directory = match fs::metadata(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![Finding::ok(format!("{at} is not there yet: the daemon makes it when it starts"))];
        }
        Err(error) => {
            return vec![Finding::unchecked(
                format!("{at} cannot be looked at: {error}"),
                "sudo fieldsync doctor",
            )];
        }
    };
    if !directory.is_dir() {
        return vec![Finding::problem(
            format!("{at} is no directory: the daemon cannot keep records there"),
            "move it away, or set queue.state_dir",
        )];
    }
    open_to_others(path, &directory).into_iter().chain(of_another_user(path, &directory)).collect()
}

fn open_to_others(path: &Path, directory: &Metadata) -> Option<Finding> {
    let mode = Owned::of(directory).mode;
    (mode & OTHERS != 0).then(|| {
        Finding::warning(
            format!(
                "{} is open to others than its owner (mode {mode:04o}), and it holds records",
                path.display()
            ),
            format!("chmod 0700 {}", path.display()),
        )
    })
}

/// What the daemon opens, by the beginning of its name. Others may keep something next to it: the root of a
/// file system has its `lost+found`.
const OPENED: [&str; 2] = ["queue.redb", "lock"];

/// A daemon that root started once by hand leaves files that the service cannot open.
fn of_another_user(path: &Path, directory: &Metadata) -> Option<Finding> {
    let entries = fs::read_dir(path).ok()?;
    let strange = |owner: u32| owner != directory.uid();
    let opened = |name: &OsStr| OPENED.iter().any(|own| name.as_bytes().starts_with(own.as_bytes()));
    let found = entries.flatten().filter(|entry| opened(&entry.file_name())).find_map(|entry| {
        let owner = entry.metadata().ok()?.uid();
        strange(owner).then(|| (entry.path(), owner))
    });
    let (file, owner) = found?;
    let user = user_name(directory.uid());
    Some(Finding::problem(
        format!(
            "{} belongs to {}, and its directory to {user}: the daemon, which runs as {user}, cannot use it",
            file.display(),
            user_name(owner)
        ),
        format!("sudo chown -R {user}: {}", path.display()),
    ))
}

fn socket_mode(socket: &Path) -> Option<Finding> {
    let mode = Owned::of(&fs::metadata(socket).ok()?).mode;
    (mode & WRITE != 0).then(|| {
        Finding::warning(
            format!("every user of this device may open {} (mode {mode:04o}) and enqueue", socket.display()),
            "set ipc.socket_mode, or SocketMode= of fieldsync.socket, to 0660",
        )
    })
}

fn admin_group(name: &str) -> Option<Finding> {
    (!name.is_empty() && matches!(Group::from_name(name), Ok(None))).then(|| {
        Finding::problem(
            format!("ipc.admin_group is {name}, and this device knows no such group: only root may pause and discard"),
            format!("sudo groupadd --system {name}, or set ipc.admin_group to another"),
        )
    })
}

fn caller(me: &User, daemon: Option<&User>, admin_group: &str) -> String {
    let is_daemon = daemon.is_some_and(|daemon| daemon.uid == me.uid);
    // As the daemon looks it up: by the group database, and not by this session.
    let member = Some(admin_group).filter(|name| !name.is_empty());
    let member = member.and_then(|name| Group::from_name(name).ok().flatten());
    let is_admin = member.is_some_and(|group| User::of(me.uid).is_in(group.gid.as_raw()));
    if me.is_root() || is_daemon || is_admin {
        return format!("{} may make every call, pause, resume and discard among them", me.name);
    }
    let others = match admin_group {
        "" => "root".to_owned(),
        group => format!("root and members of {group}"),
    };
    format!(
        "{} may read the status and enqueue once the socket opens; {others} may pause and discard",
        me.name
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::Outcome;
    use super::*;

    #[test]
    fn a_state_directory_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(state_directory(&path)[0].result, Outcome::Ok);
        fs::write(&path, "").unwrap();
        assert_eq!(state_directory(&path)[0].result, Outcome::Problem);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for (mode, findings) in [(0o700, 0), (0o750, 1), (0o701, 1)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(state_directory(&path).len(), findings, "{mode:o}");
        }
    }

    #[test]
    fn a_group_that_is_not_there_makes_nobody_an_admin() {
        assert_eq!(admin_group(""), None);
        assert_eq!(admin_group("root"), None);
        let finding = admin_group("no-such-group").unwrap();
        assert!(finding.remedy.unwrap().contains("groupadd --system no-such-group"));
    }
}
