//! The stage of the demo: a temporary directory, a gateway and a daemon in it, and the count at the server.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::records::POISON;
use crate::cli::failure::Failure;
use crate::model::RecordId;

/// The server's program, which has a package of its own under this name.
const GATEWAY: &str = "fieldsync-gateway";
/// A program that is not ready by then will not be.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The gateway counts its answers under this name.
const ANSWERS: &str = "fieldsync_gateway_batch_answers_total";

/// How slow the server is, and how impatient the gateway in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) limit: Duration,
    pub(super) record_cost: Duration,
}

/// What the server says at the end.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// How often each record was applied.
    pub(super) applied: HashMap<RecordId, u64>,
    /// Batches by the status of their answer.
    pub(super) answers: BTreeMap<u16, u64>,
}

/// The programs of the demo; ended when dropped.
pub(super) struct Stage {
    dir: Option<TempDir>,
    path: PathBuf,
    ready: Option<UnixDatagram>,
    gateway: SocketAddr,
    programs: Vec<Program>,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id())
            && kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok()
        {
            self.0.wait().ok();
        }
    }
}

impl Stage {
    /// Starts the gateway, then the daemon.
    pub(super) fn set(timing: &Timing) -> Result<Self, Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::failed(format!("the demo cannot {what}: {error}."));
        let dir = tempfile::Builder::new()
            .prefix("fieldsync-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir();
        let dir = dir.map_err(|error| failed("make a temporary directory", error))?;
        let path = dir.path().to_owned();
        let ready_path = path.join("ready");
        let ready =
            UnixDatagram::bind(&ready_path).map_err(|error| failed("listen for the daemon", error))?;
        ready.set_read_timeout(Some(START_LIMIT)).map_err(|error| failed("listen for the daemon", error))?;

        let mut gateway = program(GATEWAY);
        gateway
            .args(["--listen", "127.0.0.1:0", "--hang-on", POISON, "--store"])
            .arg(path.join("server.redb"))
            .arg("--time-limit")
            .arg(humantime::format_duration(timing.limit).to_string())
            .arg("--record-cost")
            .arg(humantime::format_duration(timing.record_cost).to_string())
            .stdout(Stdio::piped());
        let mut gateway = start(gateway, &path.join("gateway.log"))?;
        let address = address_of(&mut gateway)
            .ok_or_else(|| Failure::failed("the gateway of the demo did not start."))?;

        let config = path.join("config.toml");
        fs::write(&config, configuration(&path, address, timing))
            .map_err(|error| failed("write a file", error))?;
        let mut daemon = program("fieldsyncd");
        daemon.arg("--config").arg(&config).env("NOTIFY_SOCKET", &ready_path);
        let daemon = start(daemon, &path.join("daemon.log"))?;
        // Dropped in this order: the daemon ends before its server does.
        Ok(Self {
            dir: Some(dir),
            path,
            ready: Some(ready),
            gateway: address,
            programs: vec![daemon, gateway],
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("fieldsync.sock")
    }

    /// Waits for the daemon's own word.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), Failure> {
        // Nobody reads what it says later.
        let ready = self.ready.take();
        let mut message = [0; 4096];
        loop {
            let Some(Ok(length)) = ready.as_ref().map(|ready| ready.recv(&mut message)) else {
                return Err(Failure::failed("the daemon of the demo did not start."));
            };
            let text = message.get(..length).map(String::from_utf8_lossy).unwrap_or_default();
            if text.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        }
    }

    /// Asks the server, not the daemon.
    pub(super) async fn count_at_server(&self) -> Result<Count, Failure> {
        #[derive(Deserialize)]
        struct Line {
            id: RecordId,
        }
        let mut count = Count::default();
        for line in self.get("/ledger").await?.lines() {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| Failure::failed(format!("the gateway's ledger does not read: {error}.")))?;
            *count.applied.entry(line.id).or_default() += 1;
        }
        for line in self.get("/metrics").await?.lines() {
            if let Some((status, number)) = answers(line) {
                count.answers.insert(status, number);
            }
        }
        Ok(count)
    }

    async fn get(&self, path: &str) -> Result<String, Failure> {
        let failed =
            |reason: String| Failure::failed(format!("the gateway of the demo does not answer: {reason}."));
        let stream = TcpStream::connect(self.gateway).await.map_err(|error| failed(error.to_string()))?;
        let shaken =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) = shaken;
        let request = hyper::Request::get(path)
            .header("host", self.gateway.to_string())
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            response.into_body().collect().await
        };
        let (answer, _connection) = tokio::join!(answer, async {
            // Its end is told by the answer.
            connection.await.ok()
        });
        let body = answer.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Ends the programs.
    pub(super) fn clear(&mut self) {
        for program in self.programs.drain(..) {
            drop(program);
        }
    }

    /// Leaves the directory where it is.
    pub(super) fn keep(&mut self) -> PathBuf {
        self.dir.take().map_or_else(|| self.path.clone(), TempDir::keep)
    }
}

/// `name{status="200"} 12`
fn answers(line: &str) -> Option<(u16, u64)> {
    let (labels, number) = line.strip_prefix(ANSWERS)?.rsplit_once(' ')?;
    let status = labels.strip_prefix("{status=\"")?.strip_suffix("\"}")?;
    Some((status.parse().ok()?, number.parse().ok()?))
}

/// The program beside this one, or whatever the system knows under its name.
fn program(name: &str) -> Command {
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(name)));
    let path = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name));
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        // Settings for the daemon of this device are not the demo's.
        if variable.to_string_lossy().starts_with("FIELDSYNC_") {
            command.env_remove(variable);
        }
    }
    for variable in
        ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "WATCHDOG_USEC"]
    {
        command.env_remove(variable);
    }
    command
}

fn start(mut command: Command, log: &Path) -> Result<Program, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Failure::failed(format!("the demo cannot start {name}: {error}."));
    let log = File::create(log).map_err(failed)?;
    command.stdin(Stdio::null()).stderr(log).spawn().map(Program).map_err(|error| match error.kind() {
        ErrorKind::NotFound => not_installed(&name),
        _ => failed(error),
    })
}

/// Neither beside this program nor in `$PATH`.
fn not_installed(name: &str) -> Failure {
    let package = if name == GATEWAY { GATEWAY } else { "fieldsync" };
    Failure::failed(format!(
        "the demo needs {name}, which is not installed. Install it with \"sudo apt install {package}\". In a clone of \
         the repository, \"cargo build\" builds it."
    ))
}

fn address_of(gateway: &mut Program) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(gateway.0.stdout.take()?).read_line(&mut line).ok()?;
    line.trim().rsplit_once("://")?.1.parse().ok()
}

/// Pauses are as short as the time limit, of which a minute is usual: where few records are left around the one
/// at fault, or the machine is slow, a pause of the usual length would outlast whoever watches.
fn configuration(dir: &Path, gateway: SocketAddr, timing: &Timing) -> String {
    let text = |path: PathBuf| toml::Value::String(path.display().to_string());
    format!(
        "[server]\nurl = \"http://{gateway}\"\nproxy = \"none\"\nrequest_timeout = \"{}\"\n\
         [breaker]\nopen_min = \"500ms\"\nopen_max = \"2s\"\n\
         [queue]\nstate_dir = {}\n[ipc]\nsocket = {}\n[log]\ntarget = \"stderr\"\n",
        humantime::format_duration(timing.limit),
        text(dir.join("state")),
        text(dir.join("fieldsync.sock")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_count_is_read() {
        assert_eq!(answers("fieldsync_gateway_batch_answers_total{status=\"504\"} 3"), Some((504, 3)));
        assert_eq!(answers("fieldsync_gateway_lookups_total{status=\"200\"} 3"), None);
        assert_eq!(answers("# TYPE fieldsync_gateway_batch_answers counter"), None);
    }
}
