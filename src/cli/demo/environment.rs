//! The environment of the demo: a temporary directory, with a gateway and a daemon, and the counts of the server.

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

use super::records::POISON_MARK;
use crate::cli::failure::CommandFailure;
use crate::model::RecordId;

/// A program that is not ready after this time has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The server's program. Its Debian package has the same name.
const GATEWAY_PROGRAM: &str = "fieldsync-gateway";
/// The gateway's counter of responses.
const RESPONSES_METRIC: &str = "fieldsync_gateway_batch_answers_total";

/// How slow the server is, and the time limit of the gateway in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerBehavior {
    pub(super) limit: Duration,
    pub(super) record_cost: Duration,
}

/// The counts of the server at the end.
#[derive(Debug, Default)]
pub(super) struct ServerCounts {
    /// How often each record was applied.
    pub(super) applied: HashMap<RecordId, u64>,
    /// Number of batches by the HTTP status of the response.
    pub(super) responses: BTreeMap<u16, u64>,
}

/// The programs of the demo. They are stopped when this is dropped.
pub(super) struct DemoEnvironment {
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

impl DemoEnvironment {
    /// Starts the gateway, then the daemon.
    pub(super) fn start_programs(timing: &ServerBehavior) -> Result<Self, CommandFailure> {
        let failed = |what: &str, error: std::io::Error| {
            CommandFailure::failed(format!("the demo cannot {what}: {error}."))
        };
        let dir = tempfile::Builder::new()
            .prefix("fieldsync-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir();
        let dir = dir.map_err(|error| failed("make a temporary directory", error))?;
        let path = dir.path().to_owned();
        let ready_path = path.join("ready");
        let ready =
            UnixDatagram::bind(&ready_path).map_err(|error| failed("listen for the daemon", error))?;
        ready
            .set_read_timeout(Some(START_TIMEOUT))
            .map_err(|error| failed("listen for the daemon", error))?;

        let mut gateway = program_command(GATEWAY_PROGRAM);
        gateway
            .args(["--listen", "127.0.0.1:0", "--hang-on", POISON_MARK, "--store"])
            .arg(path.join("server.redb"))
            .arg("--time-limit")
            .arg(humantime::format_duration(timing.limit).to_string())
            .arg("--record-cost")
            .arg(humantime::format_duration(timing.record_cost).to_string())
            .stdout(Stdio::piped());
        let mut gateway = start_program(gateway, &path.join("gateway.log"))?;
        let address = read_address(&mut gateway)
            .ok_or_else(|| CommandFailure::failed("the gateway of the demo did not start."))?;

        let config = path.join("config.toml");
        fs::write(&config, config_text(&path, address, timing))
            .map_err(|error| failed("write a file", error))?;
        let mut daemon = program_command("fieldsyncd");
        daemon.arg("--config").arg(&config).env("NOTIFY_SOCKET", &ready_path);
        let daemon = start_program(daemon, &path.join("daemon.log"))?;
        // Dropped in this order, so that the daemon stops before its server.
        Ok(Self {
            dir: Some(dir),
            path,
            ready: Some(ready),
            gateway: address,
            programs: vec![daemon, gateway],
        })
    }

    pub(super) fn socket_path(&self) -> PathBuf {
        self.path.join("fieldsync.sock")
    }

    /// Waits until the daemon reports that it is ready.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), CommandFailure> {
        // Later messages are not needed.
        let ready = self.ready.take();
        let mut message = [0; 4096];
        loop {
            let Some(Ok(length)) = ready.as_ref().map(|ready| ready.recv(&mut message)) else {
                return Err(CommandFailure::failed("the daemon of the demo did not start."));
            };
            let text = message.get(..length).map(String::from_utf8_lossy).unwrap_or_default();
            if text.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        }
    }

    /// Counts at the server, not at the daemon.
    pub(super) async fn count_at_server(&self) -> Result<ServerCounts, CommandFailure> {
        #[derive(Deserialize)]
        struct LedgerLine {
            id: RecordId,
        }
        let mut count = ServerCounts::default();
        for line in self.fetch("/ledger").await?.lines() {
            let line: LedgerLine = serde_json::from_str(line).map_err(|error| {
                CommandFailure::failed(format!("the gateway's ledger cannot be decoded: {error}."))
            })?;
            *count.applied.entry(line.id).or_default() += 1;
        }
        for line in self.fetch("/metrics").await?.lines() {
            if let Some((status, number)) = parse_response_count(line) {
                count.responses.insert(status, number);
            }
        }
        Ok(count)
    }

    async fn fetch(&self, path: &str) -> Result<String, CommandFailure> {
        let failed = |reason: String| {
            CommandFailure::failed(format!("the gateway of the demo does not respond: {reason}."))
        };
        let stream = TcpStream::connect(self.gateway).await.map_err(|error| failed(error.to_string()))?;
        let shaken =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) = shaken;
        let request = hyper::Request::get(path)
            .header("host", self.gateway.to_string())
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let body = async {
            let response = sender.send_request(request).await?;
            response.into_body().collect().await
        };
        let (body, _connection) = tokio::join!(body, async {
            // The response reports its errors.
            connection.await.ok()
        });
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Stops the programs.
    pub(super) fn stop_programs(&mut self) {
        for program in self.programs.drain(..) {
            drop(program);
        }
    }

    /// Keeps the directory after the end, and returns its path.
    pub(super) fn keep_directory(&mut self) -> PathBuf {
        self.dir.take().map_or_else(|| self.path.clone(), TempDir::keep)
    }
}

/// `name{status="200"} 12`
fn parse_response_count(line: &str) -> Option<(u16, u64)> {
    let (labels, number) = line.strip_prefix(RESPONSES_METRIC)?.rsplit_once(' ')?;
    let status = labels.strip_prefix("{status=\"")?.strip_suffix("\"}")?;
    Some((status.parse().ok()?, number.parse().ok()?))
}

/// The program in the directory of this one, else the one on `PATH`.
fn program_command(name: &str) -> Command {
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(name)));
    let path = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name));
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        // The settings of this device's daemon do not apply to the demo.
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

fn start_program(mut command: Command, log: &Path) -> Result<Program, CommandFailure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed =
        |error: std::io::Error| CommandFailure::failed(format!("the demo cannot start {name}: {error}."));
    let log = File::create(log).map_err(failed)?;
    command.stdin(Stdio::null()).stderr(log).spawn().map(Program).map_err(|error| match error.kind() {
        ErrorKind::NotFound => not_installed(&name),
        _ => failed(error),
    })
}

/// The program is neither in the directory of this one nor on `PATH`.
fn not_installed(name: &str) -> CommandFailure {
    let package = if name == GATEWAY_PROGRAM { GATEWAY_PROGRAM } else { "fieldsync" };
    CommandFailure::failed(format!(
        "the demo needs {name}, which is not installed. Install it with \"sudo apt install {package}\". In a clone of \
         the repository, \"cargo build\" builds it."
    ))
}

fn read_address(gateway: &mut Program) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(gateway.0.stdout.take()?).read_line(&mut line).ok()?;
    line.trim().rsplit_once("://")?.1.parse().ok()
}

/// Pauses are shortened like the time limit, which is usually a minute: with few records left around the faulty one, or on
/// a slow machine, a pause of the usual length would be too long to watch.
fn config_text(dir: &Path, gateway: SocketAddr, timing: &ServerBehavior) -> String {
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
    fn the_response_counter_of_the_gateway_is_parsed() {
        assert_eq!(
            parse_response_count("fieldsync_gateway_batch_answers_total{status=\"504\"} 3"),
            Some((504, 3))
        );
        assert_eq!(parse_response_count("fieldsync_gateway_lookups_total{status=\"200\"} 3"), None);
        assert_eq!(parse_response_count("# TYPE fieldsync_gateway_batch_answers counter"), None);
    }
}
