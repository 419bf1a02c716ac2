//! A PostgreSQL server of the bench's own, with the settings that it ships with: what it confirms is on disk.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::gateway::command_on;
use crate::generator::process_tree::kill_process_tree;
use crate::generator::run_fleet;

/// No other process uses this address, so a port stays free while the server is started again.
const ADDRESS: &str = "127.77.0.10";
const INSTALLED: &str = "/usr/lib/postgresql";
const USER: &str = "fleet";
const START_TIMEOUT: Duration = Duration::from_mins(1);
const START_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A server; killed when dropped.
pub(crate) struct Postgres {
    directory: TempDir,
    port: u16,
    cpus: Option<String>,
    server: Option<Child>,
}

impl Postgres {
    /// Creates and starts one. PostgreSQL refuses to run as root, and then runs as another user.
    pub(crate) fn start(dir: &Path, cpus: Option<&str>) -> Self {
        let directory = tempfile::tempdir_in(dir).expect("a directory");
        if let Some(user) = other_user() {
            chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("root may do this");
        }
        let listener = TcpListener::bind((ADDRESS, 0)).expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        drop(listener);
        let mut postgres = Self { directory, port, cpus: cpus.map(str::to_owned), server: None };
        let made = postgres
            .command("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username", USER])
            .arg("--pgdata")
            .arg(postgres.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.run_server();
        postgres
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().expect("it was started").id()
    }

    /// As `kill -9` of all its processes, and a start.
    pub(crate) fn kill_and_restart(mut self) -> Self {
        self.kill();
        self.run_server();
        self
    }

    /// Creates a database and returns its URL.
    pub(crate) fn create_database(&self, name: &str) -> String {
        run_fleet(async {
            let client = connect(&self.url("postgres")).await.expect("the server was started");
            let created = client.batch_execute(&format!("CREATE DATABASE {name}")).await;
            created.expect("the database is new");
        });
        self.url(name)
    }

    fn run_server(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-c", &format!("listen_addresses={ADDRESS}")]);
        command.args(["-c", &format!("port={}", self.port), "-c", "unix_socket_directories="]);
        command.args(["-c", "max_connections=200", "-c", "log_min_messages=panic"]);
        self.server = Some(command.spawn().expect("PostgreSQL starts"));
        let clock = Clock::start();
        while run_fleet(connect(&self.url("postgres"))).is_none() {
            assert!(clock.now() < START_TIMEOUT, "PostgreSQL does not accept connections");
            thread::park_timeout(START_CHECK_INTERVAL);
        }
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_process_tree(server.id());
            server.wait().expect("it is a child of this process");
        }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{ADDRESS}:{}/{database}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = program_path(program);
        let mut command = command_on(program.to_str().expect("the path is text"), self.cpus.as_deref());
        command.current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = other_user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a server is installed.
pub(crate) fn is_installed() -> bool {
    newest_version().is_some()
}

/// A session, if the server accepts one.
pub(crate) async fn connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    // It ends with the client, or with the server, which the client reports.
    tokio::spawn(async move { drop(connection.await) });
    Some(client)
}

fn program_path(program: &str) -> PathBuf {
    newest_version().expect("PostgreSQL is installed").join("bin").join(program)
}

fn newest_version() -> Option<PathBuf> {
    let versions = fs::read_dir(INSTALLED).ok()?.flatten().map(|version| version.path());
    versions
        .filter(|path| path.join("bin/initdb").is_file())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()))
}

fn other_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten())
}
