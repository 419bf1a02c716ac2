//! The journal of the service, by the program that reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::support::daemon::cli_command;
use crate::support::process::{ProgramOutput, run};
use crate::support::wait::directory;

fn logs(path: &Path, arguments: &[&str]) -> ProgramOutput {
    let mut command = cli_command(PathBuf::from("/nowhere"), &[&["logs"], arguments].concat());
    run(command.env("PATH", path), b"")
}

#[test]
fn the_journal_of_the_service_is_shown_by_journalctl() {
    if !geteuid().is_root() {
        println!("skipped: other users may not read the journal of every machine");
        return;
    }
    let programs = directory();
    let journalctl = programs.path().join("journalctl");
    fs::write(&journalctl, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&journalctl, fs::Permissions::from_mode(0o755)).unwrap();
    for (arguments, expected) in [
        (&[][..], "--unit=fieldsync --catalog\n"),
        (&["-f", "--since", "2h"], "--unit=fieldsync --catalog --follow --since=-7200s\n"),
        (&["--since", "2 min ago"], "--unit=fieldsync --catalog --since=2 min ago\n"),
        (&["-n", "9", "-o", "json"], "--unit=fieldsync --output=json --lines=9\n"),
        (&["--no-pager"], "--unit=fieldsync --catalog --no-pager\n"),
    ] {
        let ran = logs(programs.path(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{ran:?}");
        assert_eq!(ran.stderr, "");
    }
    fs::write(&journalctl, "#!/bin/sh\n").unwrap();
    let ran = logs(programs.path(), &[]);
    assert!(ran.code == Some(0) && ran.stderr.contains("no entry of the service"), "{ran:?}");
}

#[test]
fn a_missing_journalctl_is_explained() {
    if geteuid().is_root() {
        let ran = logs(directory().path(), &[]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("journalctl was not found"), "{ran:?}");
    }
}
