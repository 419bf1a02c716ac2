//! Starts gateways, and speaks to them as a device would.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fieldsync::clock::Clock;
use fieldsync::transport::wire::{BATCH_PATH, BatchAnswer, RecordStatus};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, header::HeaderMap};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::device::Batch;

/// Nothing here takes longer on a sound machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const ANY_PORT: &str = "127.0.0.1:0";
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` yields something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(clock.now() < DEADLINE, "waited in vain for {what}");
        thread::park_timeout(POLL);
    }
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) scheme: String,
    pub(crate) address: SocketAddr,
    /// Holds the pipe open: the gateway must not fail to write.
    _stdout: BufReader<ChildStdout>,
}

/// A directory with room for a store.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn command(store: &str, listen: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync-gateway"));
    command
        .args(["--listen", listen, "--store", store])
        .args(arguments)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Starts a gateway that is to refuse to run: its exit code and what it says.
pub(crate) fn refuses(store: &str, arguments: &[&str]) -> (Option<i32>, String) {
    refuses_at(store, ANY_PORT, arguments)
}

/// As [`refuses`], told where to listen.
pub(crate) fn refuses_at(store: &str, listen: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = command(store, listen, arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr: ChildStderr = child.stderr.take().unwrap();
    let code = Guard(child).wait().code();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    (code, said)
}

struct Guard(Child);

impl Guard {
    fn wait(mut self) -> ExitStatus {
        wait_for("the process to end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It fails for a process that is gone, which is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Gateway {
    /// Starts a gateway on the store in `directory`.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let store = directory.join("ledger.redb");
        let mut child = command(store.to_str().unwrap(), ANY_PORT, arguments).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            sender.send((line, stdout)).unwrap();
        });
        let Ok((line, stdout)) = receiver.recv_timeout(DEADLINE) else {
            drop(Guard(child));
            panic!("the gateway never said where it listens");
        };
        let Some(address) = line.trim_end().strip_prefix("listening on ") else {
            drop(Guard(child));
            panic!("the gateway said `{line}`");
        };
        let (scheme, address) = address.split_once("://").unwrap();
        Self { scheme: scheme.to_owned(), address: address.parse().unwrap(), child, _stdout: stdout }
    }

    /// As `kill -9`: when this returns, the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal, without waiting for what it does.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -$0 $1", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// How it ended.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait_for("the gateway to end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new())
    }

    pub(crate) fn look_up(&self, batch: &Batch) -> Answer {
        let path = format!("{BATCH_PATH}/{}", batch.id);
        let device = batch.device.to_string();
        self.send(Method::GET, &path, &[("x-sync-device-id", &device)], Vec::new())
    }

    pub(crate) fn post(&self, batch: &Batch) -> Answer {
        self.post_raw(&batch.headers(), batch.body())
    }

    pub(crate) fn post_raw(&self, headers: &[(String, String)], body: Vec<u8>) -> Answer {
        self.send(Method::POST, BATCH_PATH, &borrowed(headers), body)
    }

    /// None when the gateway dies over it.
    pub(crate) fn try_post(&self, batch: &Batch) -> Option<Answer> {
        let headers = batch.headers();
        self.try_send(Method::POST, BATCH_PATH, &borrowed(&headers), batch.body())
    }

    pub(crate) fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Answer> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let exchange = exchange(self.address, request);
            tokio::time::timeout(DEADLINE, exchange).await.expect("an answer within the deadline")
        })
    }

    /// The append-only table.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let answer = self.get("/ledger");
        assert_eq!(answer.status, 200);
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The ids of the append-only table, in order of application.
    pub(crate) fn applied_ids(&self) -> Vec<Uuid> {
        self.ledger().iter().map(|line| line["id"].as_str().unwrap().parse().unwrap()).collect()
    }

    /// The value of a metric, 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(series, _)| *series == name)
            .map_or(0, |(_, value)| value.parse().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It fails for a process that is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.ok()?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    connection.abort();
    Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Headers as they are sent.
pub(crate) fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// As an answer to a batch.
    pub(crate) fn batch(&self) -> BatchAnswer {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Code and message of a refusal.
    pub(crate) fn error(&self) -> (String, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
        (text("code"), text("message"))
    }

    pub(crate) fn code(&self) -> String {
        self.error().0
    }
}

/// The statuses of an answer, in order.
pub(crate) fn statuses(answer: &BatchAnswer) -> Vec<RecordStatus> {
    answer.results.iter().map(|result| result.status).collect()
}
