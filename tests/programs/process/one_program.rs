//! One program with two names, as packages have it: the daemon is a link to the command line. Also what it holds open.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::support::daemon::{Counts, Home, leave_surroundings};
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// The aim is fewer than 24. In a test, the daemon has neither the journal, the system bus nor a token file.
const DESCRIPTORS_MAX: usize = 20;

#[test]
fn a_link_with_the_name_of_the_daemon_is_the_daemon() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let link = home.path("fieldsyncd");
    symlink(env!("CARGO_BIN_EXE_fieldsync"), &link).unwrap();
    let version = run(Command::new(&link).arg("--version"), b"");
    assert_eq!(version.stdout, format!("fieldsyncd {}\n", env!("CARGO_PKG_VERSION")));
    let own_command = home.command();
    let mut command = Command::new(&link);
    leave_surroundings(&mut command);
    command.args(own_command.get_args());
    let daemon = home.start_by(command);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn any_other_name_is_the_command_line() {
    let home = Home::new(&Settings::default());
    for name in ["fieldsync", "fieldsyncd-status"] {
        let link = home.path(name);
        symlink(env!("CARGO_BIN_EXE_fieldsync"), &link).unwrap();
        let version = run(Command::new(&link).arg("--version"), b"");
        assert_eq!(version.stdout, format!("fieldsync {}\n", env!("CARGO_PKG_VERSION")), "{name}");
    }
}

/// Only root may list the descriptors of a daemon that protects its memory.
#[test]
fn an_idle_daemon_holds_few_descriptors() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Home::new(&Settings::for_server(&server.url())).start();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let pid = daemon.child.0.id().to_string();
    wait_for("few descriptors, once the connections of this test have ended", || {
        // What the daemon inherited from this process is not its own.
        let inherited = open_files("self");
        let own = open_files(&pid).into_iter().filter(|file| !inherited.contains(file)).count();
        (own <= DESCRIPTORS_MAX).then_some(())
    });
}

/// What the descriptors of a process lead to.
fn open_files(process: &str) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).collect()
}
