//! Runs the built programs: compares learning with the best fixed size.
//!
//! The gateway responds 504 to a batch that takes too long, and each record takes the same time. So there is a best
//! size. One daemon is configured with it and does not learn; the other knows only the time limit. They run one after
//! the other, each with a new store. The figures are the gateway's, because a client's own figures would prove nothing.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use comfy_table::{Table, presets};
use fieldsync::clock::Clock;
use tempfile::TempDir;

/// How long a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The default size of micro-batches; a smaller fixed size lowers it.
const MICRO_BATCH_RECORDS: u32 = 10;
const TABLE_HEAD: [&str; 6] =
    ["", "records/s", "ratio", "504s", "records sent per record", "requests: batches + look-ups"];

/// Runs the built gateway and daemon, learning and with the best fixed size; prints a Markdown table.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of records that each daemon sends
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    records: u32,
    /// The gateway's time limit, which both daemons know
    #[arg(long, default_value = "330ms", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// The server's time for each record
    #[arg(long, default_value = "10ms", value_parser = humantime::parse_duration)]
    record_cost: Duration,
}

/// The figures of a run.
struct Run {
    took: Duration,
    applied: u64,
    /// Records that were applied, or that the server already had.
    received: u64,
    timeouts: u64,
    batches: u64,
    look_ups: u64,
}

pub(crate) fn measure(options: &Options) {
    let size = best_size(options);
    let fixed = format!(
        "[batch]\nlearn = false\nstandard_batch = {size}\nlarge_queue_batch = {size}\n\
         large_payload_batch = {size}\nmicro_batch = {}\n",
        size.min(MICRO_BATCH_RECORDS)
    );
    let known = run(options, &fixed);
    let learning = run(options, "");
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(TABLE_HEAD);
    for (name, run) in [("learning".to_owned(), &learning), (format!("fixed at {size}"), &known)] {
        table.add_row([
            name,
            format!("{:.1}", run.rate()),
            format!("{:.3}", run.rate() / known.rate()),
            run.timeouts.to_string(),
            format!("{:.3}", run.received as f64 / run.applied as f64),
            format!("{} + {}", run.batches, run.look_ups),
        ]);
    }
    println!("{table}");
}

/// The largest number of records within the time limit.
fn best_size(options: &Options) -> u32 {
    let reach = options.time_limit.as_nanos().div_ceil(options.record_cost.as_nanos().max(1));
    u32::try_from(reach.saturating_sub(1)).unwrap_or(u32::MAX).clamp(1, options.records)
}

impl Run {
    fn rate(&self) -> f64 {
        self.applied as f64 / self.took.as_secs_f64()
    }
}

/// Measures from the first batch until no record is left.
fn run(options: &Options, batch_section: &str) -> Run {
    let room = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let gateway = Gateway::start(&room, options);
    let daemon = Daemon::start(&room, &gateway, options, batch_section);
    daemon.run_command(&["pause"]);
    daemon.run_command(&["enqueue", records(room.path(), options.records).to_str().expect("a path")]);
    let clock = Clock::start();
    daemon.run_command(&["resume"]);
    daemon.run_command(&["sync", "--wait"]);
    let took = clock.now();
    let metrics = gateway.metrics();
    let total = |series: &str| -> u64 {
        let values = metrics.lines().filter(|line| line.starts_with(series));
        values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    let applied = total(r#"fieldsync_gateway_records_total{result="applied"}"#);
    assert_eq!(applied, u64::from(options.records), "every record is applied once");
    Run {
        took,
        applied,
        received: total("fieldsync_gateway_records_total{"),
        timeouts: total(r#"fieldsync_gateway_batch_answers_total{status="504"}"#),
        batches: total("fieldsync_gateway_batch_answers_total{"),
        look_ups: total("fieldsync_gateway_lookups_total{"),
    }
}

/// Writes a file of records as an application would submit them.
fn records(room: &Path, count: u32) -> PathBuf {
    let line = |n| format!("{{\"type\":\"Visits\",\"payload\":{{\"Subject\":\"Site visit\",\"n\":{n}}}}}\n");
    let file = room.join("records.ndjson");
    fs::write(&file, (0..count).map(line).collect::<String>()).expect("room for the records");
    file
}

/// A program; killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if the process has already ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Gateway {
    address: String,
    /// Holds the pipe open: the gateway must not fail to write.
    _stdout: BufReader<ChildStdout>,
    _program: Program,
}

impl Gateway {
    fn start(room: &TempDir, options: &Options) -> Self {
        let span = |span| humantime::format_duration(span).to_string().replace(' ', "");
        let mut command = Command::new(gateway_program());
        command
            .args(["--listen", "127.0.0.1:0"])
            .arg("--store")
            .arg(room.path().join("ledger.redb"))
            .args(["--time-limit", &span(options.time_limit)])
            .args(["--record-cost", &span(options.record_cost)])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped());
        let mut program = Program(command.spawn().expect("the gateway starts"));
        let mut stdout = BufReader::new(program.0.stdout.take().expect("its output"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the gateway prints its address");
        let address = line.trim_end().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { address, _stdout: stdout, _program: program }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the gateway listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("the gateway reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("the gateway responds");
        response
    }
}

struct Daemon {
    socket: PathBuf,
    _program: Program,
}

impl Daemon {
    fn start(room: &TempDir, gateway: &Gateway, options: &Options, batch_section: &str) -> Self {
        let socket = room.path().join("fieldsync.sock");
        let config = format!(
            "[server]\nurl = \"http://{}\"\nproxy = \"none\"\nrequest_timeout = \"{}\"\n{batch_section}\
             [queue]\nstate_dir = \"{}\"\n[ipc]\nsocket = \"{}\"\n\
             [log]\ntarget = \"stderr\"\nlevel = \"error\"\n",
            gateway.address,
            humantime::format_duration(options.time_limit),
            room.path().join("state").display(),
            socket.display(),
        );
        let file = room.path().join("config.toml");
        fs::write(&file, config).expect("room for the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsyncd"));
        command.arg("--config").arg(&file).env_remove("NOTIFY_SOCKET");
        let daemon = Self { socket, _program: Program(command.spawn().expect("the daemon starts")) };
        let clock = Clock::start();
        while !daemon.try_command(&["status"]).status.success() {
            assert!(clock.now() < START_TIMEOUT, "the daemon does not respond");
            thread::park_timeout(POLL_INTERVAL);
        }
        daemon
    }

    fn try_command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
        command.arg("--socket").arg(&self.socket).args(arguments).stdin(Stdio::null());
        command.output().expect("the command line starts")
    }

    fn run_command(&self, arguments: &[&str]) {
        let output = self.try_command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// It is in the directory of this package's programs: `cargo build --release -p fieldsync-gateway`.
fn gateway_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway")
}
