//! The memory of the daemon is neither in core files nor readable by other processes of its user.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use crate::support::daemon::Home;
use crate::support::process::{Guard, signal};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// The group of the user `nobody`.
const NOGROUP: u32 = 65534;

/// The same program with the same arguments, allowed to leave a core of any size in `directory`.
fn with_cores(command: &Command, directory: &Path) -> Command {
    let mut allowed = Command::new("sh");
    allowed.args(["-c", r#"ulimit -c unlimited && exec "$0" "$@""#]).current_dir(directory);
    allowed.arg(command.get_program()).args(command.get_args());
    // With root as well, so that the owner of the files in /proc can be checked.
    if geteuid().is_root() {
        allowed.gid(NOGROUP);
    }
    allowed
}

/// The kernel makes root and its group the owner of /proc/PID of a process that is not dumpable.
fn is_closed(pid: u32) -> bool {
    let files = fs::metadata(format!("/proc/{pid}/fd")).unwrap();
    (files.uid(), files.gid()) == (0, 0)
}

#[test]
fn an_aborted_daemon_leaves_no_core_file() {
    let home = Home::new(&Settings::default());
    let directory = home.path("");
    let mut control = Guard(with_cores(Command::new("sleep").arg("60"), &directory).spawn().unwrap());
    let pid = control.0.id();
    wait_for("the control to run", || {
        (fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n").then_some(())
    });
    assert!(!is_closed(pid));
    signal(pid, "ABRT");
    let status = control.wait();
    // On a machine that writes no core files at all, the owner and the limit must be enough.
    println!("cores are left here: {}", status.core_dumped());
    assert_eq!(status.signal(), Some(6));

    let log = File::options().append(true).create(true).open(home.path("log")).unwrap();
    let mut command = with_cores(&home.command(), &directory);
    command.stderr(log);
    let mut daemon = home.start_by(command);
    let pid = daemon.child.0.id();
    assert!(is_closed(pid));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    daemon.signal("ABRT");
    let status = daemon.child.wait();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
