//! Daemons in temporary directories, and the command line for them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream as StdStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::http::{HttpResponse, exchange, request};
use super::process::{Guard, ProgramOutput, Running, signal};
use super::settings::Settings;
use super::wait::{DEADLINE, directory, wait_for};

const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// The files of a daemon, whether it runs or not.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new(settings: &Settings) -> Self {
        let home = Self { directory: directory() };
        home.configure(settings);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("fieldsync.sock")
    }

    /// Writes the configuration file. Records are kept in the home, unless the settings name another directory.
    pub(crate) fn configure(&self, settings: &Settings) {
        let settings = settings
            .clone()
            .or("queue.state_dir", self.path("state").to_str().unwrap())
            .with("ipc.socket", self.socket().to_str().unwrap());
        fs::write(self.path("config.toml"), settings.toml()).unwrap();
    }

    /// The command that starts it; its log is appended to a file.
    pub(crate) fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = daemon_command();
        command.arg("--config").arg(self.path("config.toml")).stdin(Stdio::null()).stderr(log);
        command
    }

    /// The command with a socket of systemd.
    pub(crate) fn activated_by(&self, listener: UnixListener) -> Command {
        self.handed(vec![("fieldsync.socket", listener.into())])
    }

    /// The command with these sockets of systemd, three at most, under their names.
    pub(crate) fn handed(&self, sockets: Vec<(&str, OwnedFd)>) -> Command {
        const SCRIPT: &str =
            "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>>\"$LOG\"; export LISTEN_PID=$$; exec \"$@\"";
        let daemon = self.command();
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new("sh");
        leave_surroundings(&mut command);
        command
            .env("LOG", self.path("log"))
            .env("LISTEN_FDS", sockets.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .args(["-c", SCRIPT, "sh"])
            .arg(daemon.get_program())
            .args(daemon.get_args());
        assert!(sockets.len() <= 3, "the shell is given each as one of its own");
        let mut sockets = sockets.into_iter().map(|(_, socket)| Stdio::from(socket));
        let mut next = || sockets.next().unwrap_or_else(Stdio::null);
        command.stdin(next()).stdout(next()).stderr(next());
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Starts the daemon and waits until it responds.
    pub(crate) fn start(self) -> Daemon {
        let command = self.command();
        self.start_by(command)
    }

    pub(crate) fn start_by(self, mut command: Command) -> Daemon {
        let child = Guard(command.spawn().unwrap());
        let mut daemon = Daemon { home: self, child };
        wait_for("the daemon to respond", || {
            assert!(daemon.child.is_running(), "the daemon ended: {}", daemon.log());
            daemon.try_call(Method::GET, "/v1/status", JSON, b"").map(drop)
        });
        daemon
    }
}

/// `fieldsyncd` with an empty environment.
pub(crate) fn daemon_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsyncd"));
    leave_surroundings(&mut command);
    command
}

/// Removes the environment of the user who runs the tests.
pub(crate) fn leave_surroundings(command: &mut Command) {
    for variable in [
        "FIELDSYNC_SOCKET",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "JOURNAL_STREAM",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "CREDENTIALS_DIRECTORY",
    ] {
        command.env_remove(variable);
    }
}

/// `fieldsync` against a socket.
pub(crate) fn cli_command(socket: PathBuf, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
    command.arg("--socket").arg(socket).args(arguments).env_remove("VISUAL").env_remove("EDITOR");
    command
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    pub(crate) home: Home,
    pub(crate) child: Guard,
}

impl Daemon {
    pub(crate) fn start(settings: &Settings) -> Self {
        Home::new(settings).start()
    }

    /// As `kill -9`: when this returns, the process is gone.
    pub(crate) fn kill9(mut self) -> Home {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
        self.home
    }

    /// Sends `SIGTERM`, and returns the exit code.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Home) {
        self.signal("TERM");
        (self.child.wait(), self.home)
    }

    pub(crate) fn restart(self) -> Self {
        let (status, home) = self.terminate();
        assert_eq!(status.code(), Some(0), "{}", home.log());
        home.start()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.0.id(), name);
    }

    /// Reloads these settings, and waits until they are in effect.
    #[track_caller]
    pub(crate) fn reload(&self, settings: &Settings) {
        let reloads = || self.log().matches("the configuration was read again").count();
        let before = reloads();
        self.home.configure(settings);
        self.signal("HUP");
        wait_for("the reload", || (reloads() > before).then_some(()));
    }

    pub(crate) fn log(&self) -> String {
        self.home.log()
    }

    /// Its resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits for a text in the log.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    fn try_call(&self, method: Method, path: &str, kind: &str, body: &[u8]) -> Option<HttpResponse> {
        let request = request(method, path, "localhost", &[("content-type", kind)], body.to_vec());
        exchange(UnixStream::connect(self.home.socket()), request)
    }

    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl AsRef<[u8]>,
    ) -> HttpResponse {
        let response = self.try_call(method, path, kind, body.as_ref());
        response.unwrap_or_else(|| panic!("no response to {path}: {}", self.log()))
    }

    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        self.call(Method::GET, path, JSON, "")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> HttpResponse {
        self.call(Method::POST, path, JSON, body)
    }

    pub(crate) fn put(&self, path: &str, body: impl AsRef<[u8]>) -> HttpResponse {
        self.call(Method::PUT, path, JSON, body)
    }

    /// Sends raw bytes, and returns the response until the other side closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = StdStream::connect(self.home.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // It may close before it has read all of it.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut response = Vec::new();
        drop(stream.read_to_end(&mut response));
        String::from_utf8_lossy(&response).into_owned()
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/v1/status").expect_json(200)
    }

    /// Enqueues records in one request and returns their ids.
    #[track_caller]
    pub(crate) fn enqueue(&self, records: &[Value]) -> Vec<String> {
        let response = self.post("/v1/records", json!(records).to_string()).expect_json(201);
        assert_eq!(response["accepted"], records.len());
        response["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Enqueues this many simple records.
    pub(crate) fn enqueue_many(&self, count: usize) -> Vec<String> {
        let records: Vec<Value> =
            (0..count).map(|n| json!({"type": "Visits", "payload": {"n": n}})).collect();
        self.enqueue(&records)
    }

    /// Enqueues while sending is paused.
    pub(crate) fn paused<T>(&self, enqueue: impl FnOnce(&Self) -> T) -> T {
        self.post("/v1/pause", "").expect_json(200);
        let enqueued = enqueue(self);
        self.post("/v1/resume", "").expect_json(200);
        enqueued
    }

    /// The manifest entry of a record.
    pub(crate) fn record(&self, id: &str) -> Value {
        let mut detail = self.detail(id);
        for besides in ["receipt", "waiting_for"] {
            detail.as_object_mut().unwrap().remove(besides);
        }
        detail
    }

    /// The manifest entry of a record, its receipt, and its reason to wait.
    pub(crate) fn detail(&self, id: &str) -> Value {
        self.get(&format!("/v1/records/{id}")).expect_json(200)
    }

    /// The manifest entry of a record, its reason to wait, and its lineage.
    pub(crate) fn record_with_lineage(&self, id: &str) -> Value {
        self.get(&format!("/v1/records/{id}?lineage=true")).expect_json(200)
    }

    /// The ids of the records in a state.
    pub(crate) fn in_state(&self, state: &str) -> HashSet<String> {
        let page = self.get(&format!("/v1/records?limit=1000&state={state}")).expect_json(200);
        assert_eq!(page["next"], Value::Null);
        let records = page["records"].as_array().unwrap();
        records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        serde_json::from_value(self.status()["records"].clone()).unwrap()
    }

    /// Waits until the status meets a condition.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let clock = fieldsync::clock::Clock::start();
        loop {
            assert!(clock.now() < DEADLINE, "timed out waiting for {what}: {last:#}\n{}", self.log());
            last = self.status();
            if wanted(&last) {
                return last;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub(crate) fn wait_for_phase(&self, phase: &str) -> Value {
        self.wait_until(phase, |status| status["sync"]["phase"] == phase)
    }

    /// Waits until nothing is left to send and no batch is under way, and returns the counts.
    #[track_caller]
    pub(crate) fn wait_until_done(&self) -> Counts {
        self.wait_until("everything to be settled", |status| {
            let (records, sync) = (&status["records"], &status["sync"]);
            let is_settled = ["pending", "syncing", "failed"].iter().all(|state| records[state] == 0);
            // What happened to a batch is told once the outcomes of its records are stored.
            is_settled && sync["batch"].is_null()
        });
        self.counts()
    }

    /// Runs the command line to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> ProgramOutput {
        self.cli_with(arguments, b"")
    }

    /// As [`Self::cli`], with standard input.
    pub(crate) fn cli_with(&self, arguments: &[&str], input: &[u8]) -> ProgramOutput {
        self.cli_start(arguments, input).end()
    }

    pub(crate) fn cli_start(&self, arguments: &[&str], input: &[u8]) -> Running {
        Running::start(&mut cli_command(self.home.socket(), arguments), input)
    }
}

/// A status without what the disk may change at any time.
pub(crate) fn without_disk(mut status: Value) -> Value {
    for name in ["disk_free_bytes", "file_bytes"] {
        status["queue"].as_object_mut().unwrap().remove(name);
    }
    status
}

/// Counts by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) syncing: u64,
    pub(crate) failed: u64,
    pub(crate) synced: u64,
    pub(crate) quarantined: u64,
}

impl Counts {
    /// All records are synced.
    pub(crate) fn all_synced(synced: u64) -> Self {
        Self::settled(synced, 0)
    }

    /// No record is left to send.
    pub(crate) fn settled(synced: u64, quarantined: u64) -> Self {
        Self { pending: 0, syncing: 0, failed: 0, synced, quarantined }
    }
}
