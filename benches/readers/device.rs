//! A daemon with a large queue, and its gateway.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::Value;
use tempfile::TempDir;

use super::Readers;
use super::caller::Caller;

/// Records in one request: the maximum of the API.
const FILL_STEP: usize = 50_000;
/// How long a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long confirmed records are counted.
const COUNT_TIME: Duration = Duration::from_secs(5);

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
    pub(crate) fn start(dir: &Path, connections: usize) -> Self {
        let dir = tempfile::tempdir_in(dir).expect("a directory");
        let mut gateway = Command::new(gateway_program());
        gateway
            .stderr(Stdio::null())
            .args(["--listen", "127.0.0.1:0", "--store"])
            .arg(dir.path().join("ledger.redb"));
        let mut gateway = gateway.stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        let stdout = gateway.stdout.take().expect("the output is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("the gateway prints its address");
        let url = ready.split_whitespace().find(|word| word.starts_with("http")).expect("an address");
        let config = dir.path().join("config.toml");
        let settings = format!(
            "[server]\nurl = \"{url}\"\n[queue]\nstate_dir = \"{0}\"\n[ipc]\nsocket = \"{0}/fieldsync.sock\"\n\
             max_connections = {connections}\n[log]\nlevel = \"warn\"\n",
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
        Caller::connect(&device.socket()).call("POST /v1/pause", b"");
        device
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("fieldsync.sock")
    }

    /// Enqueues this many records, without sending any.
    pub(crate) fn fill(&self, records: usize) {
        let mut caller = Caller::connect(&self.socket());
        for start in (0..records).step_by(FILL_STEP) {
            let lines = (start..records.min(start + FILL_STEP)).map(|number| {
                format!("{{\"type\":\"Type{}\",\"payload\":{{\"number\":{number}}}}}\n", number % 7)
            });
            caller.call("POST /v1/records", lines.collect::<String>().as_bytes());
        }
    }

    /// Records that the gateway confirms per second while readers repeat `calls`.
    pub(crate) fn settled_per_second(&self, calls: &'static [&'static str], connections: usize) -> f64 {
        let readers = (!calls.is_empty()).then(|| Readers::start(self, calls, connections));
        // An idle connection would be closed before the next call.
        let call = |request| Caller::connect(&self.socket()).call(request, b"");
        let before = synced(&call("GET /v1/status"));
        let clock = Clock::start();
        call("POST /v1/resume");
        thread::park_timeout(COUNT_TIME);
        call("POST /v1/pause");
        let settled = synced(&call("GET /v1/status")) - before;
        let rate = settled as f64 / clock.now().as_secs_f64();
        if let Some(readers) = readers {
            readers.stop();
        }
        rate
    }
}

fn synced(status: &[u8]) -> u64 {
    let status: Value = serde_json::from_slice(status).expect("a status");
    status["records"]["synced"].as_u64().expect("a number")
}

/// It is in the directory of this package's programs: `cargo build --release -p fieldsync-gateway`.
fn gateway_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway")
}
