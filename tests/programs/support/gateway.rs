//! Starts gateways, and sends them requests as a device would.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::device::Batch;
use super::http::{HttpResponse, borrow_headers, exchange, request};
use super::postgres::ledger_in;
use super::process::{Guard, run, signal};
use super::wait::DEADLINE;

pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Guard,
    pub(crate) scheme: String,
    pub(crate) address: SocketAddr,
    /// Keeps the pipe open, so that the gateway can write.
    _stdout: BufReader<ChildStdout>,
}

/// The gateway's program is beside those of this package. Cargo builds it for the tests of its own package.
pub(crate) fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway");
    assert!(program.exists(), "{} is missing: cargo build -p fieldsync-gateway", program.display());
    program
}

/// The command that starts a gateway.
pub(crate) fn command(store: &str, listen: &str, arguments: &[&str]) -> Command {
    let mut command = command_of(&["--listen", listen, "--store", store]);
    command.args(arguments);
    command
}

/// A command with these arguments alone.
pub(crate) fn command_of(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .env("RUST_LOG", "warn")
        .env_remove("PGPASSWORD")
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Starts a gateway that must refuse to run. Returns its exit code and its message.
pub(crate) fn refuses(store: &str, arguments: &[&str]) -> (Option<i32>, String) {
    refuses_at(store, ANY_PORT, arguments)
}

/// As [`refuses`], at the given address.
pub(crate) fn refuses_at(store: &str, listen: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let ran = run(&mut command(store, listen, arguments), b"");
    (ran.code, ran.stderr)
}

impl Gateway {
    /// Starts a gateway on the store in `directory`.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_at(directory, ANY_PORT, arguments)
    }

    /// As [`Self::start`], at the given address.
    pub(crate) fn start_at(directory: &Path, listen: &str, arguments: &[&str]) -> Self {
        Self::start_by(command(&ledger_in(directory), listen, arguments))
    }

    /// Starts a gateway on this store.
    pub(crate) fn start_on(store: &str, arguments: &[&str]) -> Self {
        Self::start_by(command(store, ANY_PORT, arguments))
    }

    /// As [`Self::start_on`], with its output in a file.
    pub(crate) fn start_logging(store: &str, log: &Path, arguments: &[&str]) -> Self {
        let mut command = command(store, ANY_PORT, arguments);
        command.env_remove("RUST_LOG").stderr(File::create(log).unwrap());
        Self::start_by(command)
    }

    pub(crate) fn start_by(mut command: Command) -> Self {
        let mut child = Guard(command.spawn().unwrap());
        let stdout = child.0.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            sender.send((line, stdout)).unwrap();
        });
        let (line, stdout) = receiver.recv_timeout(DEADLINE).expect("the gateway says where it listens");
        let address = line.trim_end().strip_prefix("listening on ").expect("an address");
        let (scheme, address) = address.split_once("://").unwrap();
        Self { scheme: scheme.to_owned(), address: address.parse().unwrap(), child, _stdout: stdout }
    }

    /// The URL for devices.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// As `kill -9`: when this returns, the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Sends a signal, without waiting for its effect.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.0.id(), name);
    }

    /// Waits for its end, and returns the exit code.
    pub(crate) fn wait_for_exit(mut self) -> ExitStatus {
        self.child.wait()
    }

    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        self.send(Method::GET, path, &[], Vec::new())
    }

    pub(crate) fn query_outcome(&self, batch: &Batch) -> HttpResponse {
        let path = format!("{BATCH_PATH}/{}", batch.id);
        let device = batch.device.to_string();
        self.send(Method::GET, &path, &[("x-sync-device-id", &device)], Vec::new())
    }

    pub(crate) fn post(&self, batch: &Batch) -> HttpResponse {
        self.post_raw(&batch.headers(), batch.body())
    }

    pub(crate) fn post_raw(&self, headers: &[(String, String)], body: Vec<u8>) -> HttpResponse {
        self.send(Method::POST, BATCH_PATH, &borrow_headers(headers), body)
    }

    /// `None` if the gateway ends during the request.
    pub(crate) fn try_post(&self, batch: &Batch) -> Option<HttpResponse> {
        let headers = batch.headers();
        self.try_send(Method::POST, BATCH_PATH, &borrow_headers(&headers), batch.body())
    }

    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> HttpResponse {
        self.try_send(method, path, headers, body).unwrap()
    }

    pub(crate) fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<HttpResponse> {
        let request = request(method, path, &self.address.to_string(), headers, body);
        exchange(TcpStream::connect(self.address), request)
    }

    /// The append-only table.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let response = self.get("/ledger");
        assert_eq!(response.status, 200);
        response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The ids of the append-only table, in order of application.
    pub(crate) fn applied_ids(&self) -> Vec<Uuid> {
        self.ledger().iter().map(|line| line["id"].as_str().unwrap().parse().unwrap()).collect()
    }

    /// The value of a metric, 0 if it is missing.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(series, _)| *series == name)
            .map_or(0, |(_, value)| value.parse().unwrap())
    }
}
