//! One program with two names, as packages have it: the daemon is a link to the command line. Also what it holds open.

use std::os::unix::fs::symlink;
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
    // Those of cargo are inherited, and are pipes; the connections of this test end.
    wait_for("few descriptors", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.0.id())).unwrap();
        let open = open.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
        let own = open.filter(|target| !target.to_string_lossy().starts_with("pipe:")).count();
        (own <= DESCRIPTORS_MAX).then_some(())
    });
}
