//! A private journal: systemd-journald in a mount namespace where `/run` is empty. Needs root.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::daemon::{Daemon, Home};
use super::process::{Guard, run, signal};
use super::wait::wait_for;

/// `$1` is the catalog with the explanations of messages.
const SCRIPT: &str = "
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal
mount -t tmpfs tmpfs /var/lib/systemd
mkdir /var/lib/systemd/catalog
mount -t tmpfs tmpfs /usr/lib/systemd/catalog
cp \"$1\" /usr/lib/systemd/catalog/
journalctl --update-catalog
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nRateLimitIntervalSec=0\\n' \
    >/run/systemd/journald.conf.d/test.conf
exec /usr/lib/systemd/systemd-journald
";
const CATALOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/fieldsync.catalog");

/// The journald. Dropping it ends it and deletes its journal.
pub(crate) struct Journald(Guard);

impl Journald {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]);
        command.arg(CATALOG).stdin(Stdio::null());
        let mut journal = Self(Guard(command.spawn().unwrap()));
        wait_for("journald to listen", || {
            assert!(journal.0.is_running(), "journald cannot be started here");
            run(&mut journal.inside("test", ["-S", "/run/systemd/journal/socket"]), b"")
                .code
                .filter(|code| *code == 0)
        });
        journal
    }

    fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// A program that sees this journald.
    fn inside<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.pid())).arg("--").arg(program).args(arguments);
        command
    }

    /// A daemon that sees this journald.
    pub(crate) fn daemon(&self, home: Home) -> Daemon {
        let daemon = home.command();
        let mut command = self.inside(daemon.get_program(), daemon.get_args());
        for (variable, value) in daemon.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        let log = std::fs::File::options().append(true).open(home.path("log")).unwrap();
        command.stdin(Stdio::null()).stderr(log);
        home.start_by(command)
    }

    /// The entries that match, in the syntax of `journalctl`.
    pub(crate) fn entries(&self, matching: &[&str]) -> Vec<Value> {
        let text = self.journalctl(&[&["--all", "--output=json"], matching].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The output of `journalctl`.
    pub(crate) fn journalctl(&self, arguments: &[&str]) -> String {
        let mut command =
            self.inside("journalctl", ["--no-pager", "--quiet", "--directory=/run/log/journal"]);
        let ran = run(command.args(arguments), b"");
        // Exit code 1 means that no entry matches.
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        ran.stdout
    }

    /// Suspends it until [`Self::go_on`].
    pub(crate) fn stop(&self) {
        signal(self.pid(), "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(self.pid(), "CONT");
    }
}
