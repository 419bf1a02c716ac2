//! A daemon, started as systemd starts it: with a socket for notifications, and with or without a link.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fieldsync::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::journal_socket::JournalSocket;
use crate::process::Process;

/// Records in one request: the maximum of the API.
const FILL_STEP: usize = 50_000;
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Larger than any notification.
const NOTIFICATION_BYTES: usize = 4096;

/// Where the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine, with a server that nothing has to be sent to.
    WithLink,
    /// In a network namespace with nothing but a loopback interface that is down. Only root can create it; for others
    /// the daemon has a link.
    WithoutLink,
}

pub(crate) struct Daemon {
    child: Child,
    time_to_ready: Duration,
    /// The daemon keeps reporting to it.
    _notifications: (UnixDatagram, TempDir),
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("the daemon runs");
        self.child.wait().expect("the daemon stops");
    }
}

impl Daemon {
    /// Starts a daemon with the queue in `home`, and returns when it is ready.
    pub(crate) fn start(programs: &Path, home: &Path, place: Place, journal: Option<&JournalSocket>) -> Self {
        let config = write_config(home, journal.is_some());
        let directory = tempfile::tempdir_in(home).expect("a directory");
        let path = directory.path().join("notify");
        let notifications = UnixDatagram::bind(&path).expect("a socket");
        notifications.set_read_timeout(Some(START_TIMEOUT)).expect("a time limit");
        let mut command = wrap_command(place, journal);
        command.arg(programs.join("fieldsyncd")).arg("--config").arg(config).env("NOTIFY_SOCKET", &path);
        // With systemd, the watchdog would be the only timer of an idle daemon.
        command.env_remove("WATCHDOG_USEC").stdin(Stdio::null());
        let clock = Clock::start();
        let child = command.spawn().expect("the daemon starts");
        let mut notification = [0; NOTIFICATION_BYTES];
        loop {
            let bytes = notifications.recv(&mut notification).expect("the daemon gets ready");
            let text = String::from_utf8_lossy(notification.get(..bytes).unwrap_or_default());
            if text.lines().any(|line| line == "READY=1") {
                break;
            }
        }
        Self { child, time_to_ready: clock.now(), _notifications: (notifications, directory) }
    }

    pub(crate) fn time_to_ready(&self) -> Duration {
        self.time_to_ready
    }

    /// `unshare` and the shell run the daemon in their place, so it has their id.
    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

/// Starts a daemon without a link, and enqueues records.
pub(crate) fn start_and_fill(programs: &Path, home: &Path, records: usize) -> Daemon {
    let daemon = Daemon::start(programs, home, Place::WithoutLink, None);
    let socket = home.join("fieldsync.sock");
    Caller::connect(&socket).call("POST /v1/pause", b"");
    let mut caller = Caller::connect(&socket);
    for start in (0..records).step_by(FILL_STEP) {
        let lines = (start..records.min(start + FILL_STEP)).map(|number| {
            let filling = "x".repeat(100);
            format!(
                "{{\"type\":\"Type{}\",\"payload\":{{\"number\":{number},\"text\":\"{filling}\"}}}}\n",
                number % 7
            )
        });
        caller.call("POST /v1/records", lines.collect::<String>().as_bytes());
    }
    daemon
}

fn write_config(home: &Path, has_journal: bool) -> PathBuf {
    let target = if has_journal { "journald" } else { "stderr" };
    let config = home.join("config.toml");
    // Port 9 discards. An empty queue sends nothing.
    let settings = format!(
        "[server]\nurl = \"http://127.0.0.1:9\"\n[queue]\nstate_dir = \"{0}/state\"\n[ipc]\nsocket = \
         \"{0}/fieldsync.sock\"\n[log]\nlevel = \"warn\"\ntarget = \"{target}\"\n",
        home.display()
    );
    fs::create_dir_all(home.join("state")).expect("a directory");
    fs::write(&config, settings).expect("the configuration is written");
    config
}

/// A command that runs the program in its arguments in another namespace, if that is possible and needed.
fn wrap_command(place: Place, journal: Option<&JournalSocket>) -> Command {
    if !geteuid().is_root() {
        return Command::new("env");
    }
    let mut command = Command::new("unshare");
    if place == Place::WithoutLink {
        command.arg("--net");
    }
    let Some(journal) = journal else {
        command.arg("--");
        return command;
    };
    // journald's path leads to our socket, for this process alone.
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                  ln -s \"$0\" /run/systemd/journal/socket && exec \"$@\"";
    command.args(["--mount", "--", "sh", "-c", script]).arg(&journal.path);
    command
}
