//! Processes of other users than the one who runs the tests, which takes root.

use std::fs::{self, File, Permissions};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Group, geteuid};

use super::daemon::Daemon;
use super::process::{Ran, run};

/// A group that every Debian has.
pub(crate) const GROUP: &str = "daemon";

/// Whether several users can be played here; says so when not.
pub(crate) fn can_play() -> bool {
    if !geteuid().is_root() {
        println!("skipped: only root may call as other users");
        return false;
    }
    if !matches!(Group::from_name(GROUP), Ok(Some(_))) {
        println!("skipped: there is no group {GROUP} on this machine");
        return false;
    }
    true
}

/// A process of some user, with its groups.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) group: Option<u32>,
}

impl User {
    pub(crate) fn plain(uid: u32) -> Self {
        Self { uid, gid: uid, group: None }
    }

    /// Runs a program that the user may not be able to reach by its path: it is opened here.
    pub(crate) fn command(self, program: &str) -> Command {
        let file = File::open(program).unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        match self.group {
            Some(group) => command.arg(format!("--groups={group}")),
            None => command.arg("--clear-groups"),
        };
        // It stays open: the program is executed by it.
        command.arg(format!("/proc/self/fd/{}", file.into_raw_fd()));
        command
    }

    pub(crate) fn call(self, daemon: &Daemon, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_fieldsync"));
        command.arg("--socket").arg(daemon.home.socket()).args(arguments).current_dir("/");
        run(&mut command, input.as_bytes())
    }
}

pub(crate) fn open_to_all(daemon: &Daemon) {
    fs::set_permissions(daemon.home.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.home.socket(), Permissions::from_mode(0o666)).unwrap();
}

pub(crate) fn gid() -> u32 {
    Group::from_name(GROUP).unwrap().unwrap().gid.as_raw()
}
