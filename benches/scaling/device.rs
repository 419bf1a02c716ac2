//! The built daemon with a state directory of its own: starts, calls and kills it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::caller::Caller;
use crate::process::{Resident, Usage};
use crate::server::Server;

/// Records in a batch: the same in all rows, because what the daemon learns would differ between them.
pub(crate) const BATCH_RECORDS: u64 = 100;
/// A repair of millions of records takes long.
const START_TIME_LIMIT: Duration = Duration::from_mins(10);
const SETTLE_TIME_LIMIT: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
const NOTICE_BYTES_MAX: usize = 4096;

pub(crate) struct Device {
    program: PathBuf,
    dir: TempDir,
    daemon: Child,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.send_signal(Signal::SIGKILL);
    }
}

impl Device {
    /// A paused daemon with an empty queue, in a directory below `parent`.
    pub(crate) fn start(program: &Path, parent: &Path, server: &Server) -> Self {
        let dir = tempfile::tempdir_in(parent).expect("room for a directory");
        fs::write(dir.path().join("config.toml"), configuration(dir.path(), server))
            .expect("the configuration is written");
        let (daemon, _) = start_daemon(program, dir.path());
        let device = Self { program: program.to_owned(), dir, daemon };
        device.call("POST /v1/pause");
        device
    }

    /// Stops the daemon with a signal and starts it again. Returns how long it took to be ready.
    pub(crate) fn restart(&mut self, signal: Signal) -> Duration {
        self.send_signal(signal);
        let (daemon, ready) = start_daemon(&self.program, self.dir.path());
        self.daemon = daemon;
        ready
    }

    fn send_signal(&mut self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.daemon.id()).expect("a process id"));
        kill(pid, signal).expect("the daemon runs");
        let end = self.daemon.wait().expect("the daemon ends");
        assert!(end.success() || end.signal() == Some(signal as i32), "the daemon ended with {end}");
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::connect(&self.dir.path().join("fieldsync.sock"))
    }

    /// An idle connection would be closed before the next call.
    pub(crate) fn call(&self, request: &str) -> Vec<u8> {
        self.caller().call(request, b"")
    }

    /// How many records are in a state.
    pub(crate) fn count_records(&self, state: &str) -> u64 {
        let status: Value = serde_json::from_slice(&self.call("GET /v1/status")).expect("a status");
        status["records"][state].as_u64().expect("a number")
    }

    /// Records that are not settled.
    pub(crate) fn count_waiting(&self) -> u64 {
        ["pending", "syncing", "failed"].map(|state| self.count_records(state)).iter().sum()
    }

    /// Sends until about this many records have arrived at the server, then pauses. Waits for the last response.
    pub(crate) fn send_records(&self, server: &Server, records: u64, time_limit: Duration) {
        server.start_count();
        self.call("POST /v1/resume");
        let arrived = server.wait_for_records(records, time_limit);
        self.call("POST /v1/pause");
        assert!(arrived, "{} of {records} records were sent", server.arrivals().records);
        let clock = Clock::start();
        while self.count_records("syncing") > 0 {
            assert!(clock.now() < SETTLE_TIME_LIMIT, "a batch is not settled");
            thread::park_timeout(POLL_INTERVAL);
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of_process(self.daemon.id())
    }

    pub(crate) fn resident(&self) -> Resident {
        Resident::of_process(self.daemon.id())
    }

    pub(crate) fn reset_peak(&self) {
        Resident::reset_peak(self.daemon.id());
    }

    /// Bytes that the database occupies on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        let status: Value = serde_json::from_slice(&self.call("GET /v1/status")).expect("a status");
        status["queue"]["file_bytes"].as_u64().expect("a number")
    }
}

/// The limits leave room for every row; otherwise as it ships, but for the batches.
fn configuration(dir: &Path, server: &Server) -> String {
    format!(
        "[server]\nurl = \"http://{address}\"\nproxy = \"none\"\n\
         [queue]\nstate_dir = \"{dir}/state\"\nmax_records = 20000000\nmax_bytes = \"64GiB\"\n\
         max_disk_bytes = \"64GiB\"\n\
         [batch]\nlearn = false\nmax_in_flight = 1\nmax_batch_records = {BATCH_RECORDS}\n\
         large_queue_batch = {BATCH_RECORDS}\nlarge_payload_batch = {BATCH_RECORDS}\n\
         standard_batch = {BATCH_RECORDS}\n\
         [ipc]\nsocket = \"{dir}/fieldsync.sock\"\n\
         [log]\ntarget = \"stderr\"\nlevel = \"error\"\n",
        address = server.address,
        dir = dir.display(),
    )
}

/// Starts the daemon as systemd does, and waits until it says that it is ready.
fn start_daemon(program: &Path, dir: &Path) -> (Child, Duration) {
    let notices = notice_socket(dir);
    let socket = UnixDatagram::bind(&notices).expect("the name is free");
    socket.set_read_timeout(Some(START_TIME_LIMIT)).expect("the socket is open");
    let mut command = Command::new(program);
    command.arg("--config").arg(dir.join("config.toml")).env("NOTIFY_SOCKET", &notices);
    command.env_remove("WATCHDOG_USEC");
    let clock = Clock::start();
    let daemon = command.spawn().expect("the daemon starts");
    wait_until_ready(&socket);
    (daemon, clock.now())
}

fn wait_until_ready(socket: &UnixDatagram) {
    let mut notice = [0; NOTICE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut notice).expect("the daemon starts in time");
        if String::from_utf8_lossy(&notice[..length]).lines().any(|line| line == "READY=1") {
            return;
        }
    }
}

/// Free for each start: the daemon of the last one has ended.
fn notice_socket(dir: &Path) -> PathBuf {
    let path = dir.join("notify.sock");
    drop(fs::remove_file(&path));
    path
}
