//! The environment of the demo: a temporary directory, the programs that run in it, and a client for its servers.

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
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::cli::failure::CommandFailure;

/// A program that is not ready after this time has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The server's program. Its Debian package has the same name.
pub(super) const GATEWAY_PROGRAM: &str = "fieldsync-gateway";
/// Plays a CRM. It is in no package, because it is for tests.
pub(super) const STAND_IN_PROGRAM: &str = "fieldsync-crm-stand-in";

/// The programs of the demo, in the order of their starts. They are stopped when this is dropped.
pub(super) struct DemoEnvironment {
    dir: Option<TempDir>,
    path: PathBuf,
    /// Where the daemon reports that it is ready.
    ready: Option<UnixDatagram>,
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

impl Drop for DemoEnvironment {
    fn drop(&mut self) {
        self.stop_programs();
    }
}

impl DemoEnvironment {
    /// A directory without programs.
    pub(super) fn create() -> Result<Self, CommandFailure> {
        let dir = tempfile::Builder::new()
            .prefix("fieldsync-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir();
        let dir = dir.map_err(|error| cannot("make a temporary directory", &error))?;
        let path = dir.path().to_owned();
        Ok(Self { dir: Some(dir), path, ready: None, programs: Vec::new() })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn socket_path(&self) -> PathBuf {
        self.path("fieldsync.sock")
    }

    pub(super) fn write_file(&self, name: &str, content: &str) -> Result<PathBuf, CommandFailure> {
        let path = self.path(name);
        fs::write(&path, content).map_err(|error| cannot("write a file", &error))?;
        Ok(path)
    }

    /// Starts a server that prints its address, and waits for it.
    pub(super) fn start_server(
        &mut self,
        name: &str,
        set_arguments: impl FnOnce(&mut Command, &Path),
    ) -> Result<SocketAddr, CommandFailure> {
        let mut command = program_command(name);
        set_arguments(&mut command, &self.path);
        command.stdout(Stdio::piped());
        let mut server = start_program(command, &self.path(&format!("{name}.log")))?;
        let address = read_address(&mut server);
        self.programs.push(server);
        address.ok_or_else(|| CommandFailure::failed(format!("{name} did not start.")))
    }

    /// Starts the daemon that sends to this server.
    pub(super) fn start_daemon(
        &mut self,
        server: SocketAddr,
        time_limit: Duration,
    ) -> Result<(), CommandFailure> {
        let ready_path = self.path("ready");
        let ready = UnixDatagram::bind(&ready_path)
            .and_then(|ready| ready.set_read_timeout(Some(START_TIMEOUT)).map(|()| ready))
            .map_err(|error| cannot("listen for the daemon", &error))?;
        self.ready = Some(ready);
        let config = self.write_file("config.toml", &config_text(&self.path, server, time_limit))?;
        let mut daemon = program_command("fieldsyncd");
        daemon.arg("--config").arg(&config).env("NOTIFY_SOCKET", &ready_path);
        let daemon = start_program(daemon, &self.path("daemon.log"))?;
        self.programs.push(daemon);
        Ok(())
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

    /// Stops the programs, those that started last first: the daemon before its server.
    pub(super) fn stop_programs(&mut self) {
        while let Some(program) = self.programs.pop() {
            drop(program);
        }
    }

    /// Keeps the directory after the end, and returns its path.
    pub(super) fn keep_directory(&mut self) -> PathBuf {
        self.dir.take().map_or_else(|| self.path.clone(), TempDir::keep)
    }
}

fn cannot(what: &str, error: &std::io::Error) -> CommandFailure {
    CommandFailure::failed(format!("the demo cannot {what}: {error}."))
}

/// The body of a server's response.
pub(super) async fn fetch_text(server: SocketAddr, path: &str) -> Result<String, CommandFailure> {
    let failed = |reason: String| {
        CommandFailure::failed(format!("the server {server} of the demo does not respond: {reason}."))
    };
    let stream = TcpStream::connect(server).await.map_err(|error| failed(error.to_string()))?;
    let shaken = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) = shaken;
    let request = hyper::Request::get(path)
        .header("host", server.to_string())
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
    let install = match name {
        STAND_IN_PROGRAM => "It is a part of the repository, and in no package.",
        GATEWAY_PROGRAM => "Install it with \"sudo apt install fieldsync-gateway\".",
        _ => "Install it with \"sudo apt install fieldsync\".",
    };
    CommandFailure::failed(format!(
        "the demo needs {name}, which is not installed. {install} In a clone of the repository, \"cargo build\" \
         builds it."
    ))
}

fn read_address(server: &mut Program) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(server.0.stdout.take()?).read_line(&mut line).ok()?;
    line.trim().rsplit_once("://")?.1.parse().ok()
}

/// Pauses are shortened like the time limit, which is usually a minute: with few records left around the faulty one, or on
/// a slow machine, a pause of the usual length would be too long to watch.
fn config_text(dir: &Path, server: SocketAddr, time_limit: Duration) -> String {
    let text = |path: PathBuf| toml::Value::String(path.display().to_string());
    format!(
        "[server]\nurl = \"http://{server}\"\nproxy = \"none\"\nrequest_timeout = \"{}\"\n\
         [breaker]\nopen_min = \"500ms\"\nopen_max = \"2s\"\n\
         [queue]\nstate_dir = {}\n[ipc]\nsocket = {}\n[log]\ntarget = \"stderr\"\n",
        humantime::format_duration(time_limit),
        text(dir.join("state")),
        text(dir.join("fieldsync.sock")),
    )
}
