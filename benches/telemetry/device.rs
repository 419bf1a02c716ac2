//! A daemon with a queue to drain, and its gateway.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fieldsync::api::{BatchList, BatchReport};
use fieldsync::clock::Clock;
use serde_json::Value;
use tempfile::TempDir;

use crate::caller::Caller;

/// The types of the records, in turn.
pub(crate) const RECORD_TYPES: [&str; 7] =
    ["Accounts", "Contacts", "Deals", "Notes", "Orders", "Tasks", "Visits"];
/// Records in one request: the maximum of the API.
const FILL_STEP: usize = 50_000;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN_TIMEOUT: Duration = Duration::from_mins(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct Device {
    dir: TempDir,
    daemon: Child,
    gateway: Child,
}

impl Drop for Device {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.gateway] {
            child.kill().and_then(|()| child.wait()).expect("the process ends");
        }
    }
}

impl Device {
    /// A paused daemon with batches of at most this many records.
    pub(crate) fn start(dir: &Path, max_batch: usize) -> Self {
        let dir = tempfile::tempdir_in(dir).expect("a directory");
        let program = Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway");
        let mut gateway = Command::new(program);
        gateway.stderr(Stdio::null()).args(["--listen", "127.0.0.1:0", "--store"]);
        gateway.arg(dir.path().join("ledger.redb"));
        let mut gateway = gateway.stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        let stdout = gateway.stdout.take().expect("the output is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("the gateway prints its address");
        let url = ready.split_whitespace().find(|word| word.starts_with("http")).expect("an address");
        let config = dir.path().join("config.toml");
        let settings = format!(
            "[server]\nurl = \"{url}\"\n[batch]\nmax_batch_records = {max_batch}\n\
             [queue]\nstate_dir = \"{0}\"\n[ipc]\nsocket = \"{0}/fieldsync.sock\"\n[log]\nlevel = \"warn\"\n",
            dir.path().display()
        );
        fs::write(&config, settings).expect("the configuration is written");
        let daemon = Command::new(env!("CARGO_BIN_EXE_fieldsyncd")).arg("--config").arg(config).spawn();
        let device = Self { dir, daemon: daemon.expect("the daemon starts"), gateway };
        let clock = Clock::start();
        while !device.socket().exists() {
            assert!(clock.now() < START_TIMEOUT, "the daemon does not listen");
            thread::park_timeout(POLL_INTERVAL);
        }
        device.call("POST /v1/pause");
        device
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("fieldsync.sock")
    }

    /// An idle connection would be closed before the next call.
    fn call(&self, request: &str) -> Vec<u8> {
        Caller::connect(&self.socket()).call(request, b"")
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.call(&format!("GET {path}"))).expect("JSON")
    }

    /// Enqueues this many records, without sending any.
    pub(crate) fn fill(&self, records: usize) {
        let mut caller = Caller::connect(&self.socket());
        let types = RECORD_TYPES.iter().cycle();
        let lines: Vec<String> = (0..records)
            .zip(types)
            .map(|(number, name)| format!("{{\"type\":\"{name}\",\"payload\":{{\"number\":{number}}}}}\n"))
            .collect();
        for step in lines.chunks(FILL_STEP) {
            caller.call("POST /v1/records", step.concat().as_bytes());
        }
    }

    /// Sends everything, and returns how long that took.
    pub(crate) fn drain(&self, records: usize) -> Duration {
        let clock = Clock::start();
        self.call("POST /v1/resume");
        while self.get("/v1/status")["records"]["synced"].as_u64() != Some(records as u64) {
            assert!(clock.now() < DRAIN_TIMEOUT, "the daemon does not drain its queue");
            thread::park_timeout(POLL_INTERVAL);
        }
        clock.now()
    }

    pub(crate) fn count_batches(&self) -> u64 {
        let report = self.get("/v1/telemetry");
        let sizes = report["by_batch_size"].as_array().expect("a list");
        sizes.iter().filter_map(|bucket| bucket["batches"].as_u64()).sum()
    }

    /// The batches that the history has, at most 500.
    pub(crate) fn latest_batches(&self) -> Vec<BatchReport> {
        let list = self.call("GET /v1/batches?limit=500");
        serde_json::from_slice::<BatchList>(&list).expect("a list of batches").batches
    }
}
