//! Private PostgreSQL servers, each in a temporary directory.
//!
//! PostgreSQL refuses to run as root; started by root, it runs as `postgres` or `nobody`. It does not wait for the
//! disk: here its processes crash, and never the machine.
//!
//! All servers listen at one address with one password. So a test could get the server of another test process, and
//! lose it with that process: each start checks that its own server responds.

use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use super::pgbouncer::PgBouncer;
use super::ports::free_port_at;
use super::process::{Guard, ProgramOutput, run, signal};
use super::wait::wait_for;

/// The URL of a server, without a database, on which the gateways of all tests have their ledgers.
pub(crate) const LEDGERS_VARIABLE: &str = "FIELDSYNC_TEST_LEDGERS";
/// Set where gateways are to use their databases through a pooler.
pub(crate) const POOLER_VARIABLE: &str = "FIELDSYNC_TEST_POOLER";
pub(crate) const PASSWORD: &str = "s3cret-of-the-database";
pub(super) const USER: &str = "crm";
/// No other process listens at this address, so a port that is free for a moment stays free.
pub(crate) const ADDRESS: &str = "127.77.0.9";
const LOG_NAME: &str = "server.log";
const INSTALLED: &str = "/usr/lib/postgresql";
/// Another process may take a port between the check and the start.
const PORTS_TRIED_MAX: u32 = 8;
/// Lines of the server's log in the message of a failure.
const LOG_TAIL_LINES: usize = 40;

/// A server; stopped when dropped.
pub(crate) struct Postgres {
    directory: TempDir,
    port: u16,
    server: Option<Guard>,
    pooler: Option<PgBouncer>,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let mut postgres = Self::without_data();
        let password = postgres.path("password");
        fs::write(&password, PASSWORD).unwrap();
        chown_to_other_user(&password);
        // On a busy machine this takes longer than anything else here.
        let made = postgres
            .command("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"])
            .args(["--username", USER, "--pgdata", postgres.text("data").as_str()])
            .args(["--pwfile", postgres.text("password").as_str()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Each new database is written to the WAL, so without its limit the WAL would grow to a gigabyte.
        let settings = format!(
            "listen_addresses = '{ADDRESS}'\nunix_socket_directories = '{}'\nshared_buffers = 16MB\n\
             max_connections = 1000\nlog_min_messages = log\nfsync = off\nmin_wal_size = 32MB\n\
             max_wal_size = 64MB\n",
            postgres.directory.path().display()
        );
        postgres.configure(&settings);
        postgres.start_at_free_port();
        if env::var_os(POOLER_VARIABLE).is_some() {
            postgres.pooler = Some(PgBouncer::start(postgres.port));
        }
        postgres
    }

    /// Starts a server, and a pooler that gateways connect to.
    pub(crate) fn start_behind_pooler() -> Self {
        let mut postgres = Self::start();
        postgres.pooler = Some(PgBouncer::start(postgres.port));
        postgres
    }

    fn without_data() -> Self {
        let directory = TempDir::new().unwrap();
        chown_to_other_user(directory.path());
        Self { directory, port: 0, server: None, pooler: None }
    }

    /// Starts a standby of this server, on which each commit of this server is from now on, too, when it is confirmed.
    pub(crate) fn start_synchronous_standby(&self) -> Self {
        let mut standby = Self::without_data();
        let copied = standby
            .command("pg_basebackup")
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "--pgdata",
                &standby.text("data"),
            ])
            .args(["--dbname", &format!("{}/postgres", url_at(self.port))])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let sockets = format!("unix_socket_directories = '{}'", standby.directory.path().display());
        standby.configure(&sockets);
        standby.start_at_free_port();
        self.query("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.query("postgres", "SELECT pg_reload_conf()");
        wait_for("the standby to be synchronous", || {
            let state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            (self.query("postgres", state) == "1").then_some(())
        });
        standby
    }

    /// As when its machine fails: all its processes are gone at once.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let pid = server.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        // Some of them may have ended by then.
        let pids: Vec<&str> = children.split_whitespace().collect();
        drop(Command::new("kill").args(["-KILL", &pid.to_string()]).args(pids).status());
        server.wait();
        self.remove_shared_memory();
    }

    /// The server that was killed cannot do it.
    fn remove_shared_memory(&self) {
        let lock_file = fs::read_to_string(self.path("data/postmaster.pid")).unwrap_or_default();
        // The line with two numbers: the key and the id of the segment.
        let ids = lock_file.lines().filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse::<i64>);
            words.next()?.ok().and(words.next()?.ok())
        });
        for id in ids {
            drop(Command::new("ipcrm").args(["--shmem-id", &id.to_string()]).status());
        }
    }

    fn start_at_free_port(&mut self) {
        let is_started = (0..PORTS_TRIED_MAX).any(|_| {
            self.port = free_port_at(ADDRESS);
            self.configure(&format!("port = {}", self.port));
            self.try_start()
        });
        assert!(is_started, "the server does not start; its log:\n{}", self.log_tail());
    }

    /// Adds to the server's configuration, for its next start.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.path("data/postgresql.conf");
        let known = fs::read_to_string(&path).unwrap();
        fs::write(path, known + "\n" + settings).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that only the server can read.
    pub(crate) fn write_private(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        chown_to_other_user(&path);
    }

    /// As in a crash of the server or its machine: nothing is completed.
    pub(crate) fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.0.id(), "QUIT");
            server.wait();
        }
    }

    /// Starts the server at its address again, as soon as that is free.
    pub(crate) fn start_again(&mut self) {
        wait_for("the database to start", || self.try_start().then_some(()));
    }

    /// Starts the server, and waits until it responds. Returns false if it ended.
    fn try_start(&mut self) -> bool {
        let log = File::options().create(true).append(true).open(self.path(LOG_NAME)).unwrap();
        let child = self
            .command("postgres")
            .args(["-D", &self.text("data")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Guard(child);
        let own_data = self.text("data");
        // A server of another test process may respond at this address, too.
        let is_started = wait_for("the database to respond, or to end", || {
            if !server.is_running() {
                return Some(false);
            }
            let ran = self.psql("postgres", "SHOW data_directory");
            (ran.code == Some(0) && ran.stdout.trim_end() == own_data).then_some(true)
        });
        self.server = is_started.then_some(server);
        is_started
    }

    /// The last lines of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.path(LOG_NAME)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Suspends the server's processes at any point, until the result is dropped. The system still accepts connections
    /// for it.
    pub(crate) fn freeze(&self) -> SuspendedProcesses {
        let pid = self.server.as_ref().expect("the server runs").0.id();
        // The first one starts the others.
        let mut suspended = SuspendedProcesses::new(vec![pid]);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        suspended.0.append(&mut SuspendedProcesses::new(children).0);
        suspended
    }

    /// Runs statements in a session of its own, which lasts until the result is dropped.
    pub(crate) fn run_in_background(&self, database: &str, text: &str) -> Guard {
        let url = format!("{}/{database}", url_at(self.port));
        let mut command = Command::new(program_path("psql"));
        command.args(["-X", "-q", "-c", text, &url]);
        Guard(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Ends all sessions with a database.
    pub(crate) fn end_sessions(&self, database: &str) {
        let text = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'"
        );
        self.query("postgres", &text);
    }

    /// The URL of a database, for gateways.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server_url())
    }

    /// The URL for gateways, without a database.
    pub(crate) fn server_url(&self) -> String {
        url_at(self.pooler.as_ref().map_or(self.port, PgBouncer::port))
    }

    /// The port of the server itself.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database and returns its URL.
    pub(crate) fn create(&self, database: &str) -> String {
        self.query("postgres", &format!("CREATE DATABASE {database}"));
        self.url(database)
    }

    /// The result of a query, one row on each line.
    #[track_caller]
    pub(crate) fn query(&self, database: &str, text: &str) -> String {
        let ran = self.psql(database, text);
        assert_eq!(ran.code, Some(0), "{}\nthe server's log:\n{}", ran.stderr, self.log_tail());
        ran.stdout.trim_end().to_owned()
    }

    fn psql(&self, database: &str, text: &str) -> ProgramOutput {
        psql(&format!("{}/{database}", url_at(self.port)), text)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program_path(program));
        command.current_dir(self.directory.path());
        run_as_other_user(&mut command);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed like any other child, it would leave shared memory behind.
        if let Some(server) = &self.server {
            drop(Command::new("kill").args(["-QUIT", &server.0.id().to_string()]).status());
        }
        if let Some(server) = &mut self.server {
            drop(server.0.wait());
        }
    }
}

/// Processes that are suspended until this is dropped.
pub(crate) struct SuspendedProcesses(Vec<u32>);

impl SuspendedProcesses {
    fn new(pids: Vec<u32>) -> Self {
        for pid in &pids {
            signal(*pid, "STOP");
        }
        Self(pids)
    }
}

impl Drop for SuspendedProcesses {
    fn drop(&mut self) {
        for pid in &self.0 {
            drop(Command::new("kill").args(["-CONT", &pid.to_string()]).status());
        }
    }
}

/// Where a gateway of a test keeps its ledger: a file, or where [`LEDGERS_VARIABLE`] says so, a database.
pub(crate) fn ledger_in(directory: &Path) -> String {
    static MADE: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let Ok(server) = env::var(LEDGERS_VARIABLE) else {
        return directory.join("ledger.redb").to_str().unwrap().to_owned();
    };
    let name = directory.file_name().unwrap().to_str().unwrap();
    let database = name.bytes().fold("test_".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    if MADE.lock().unwrap().insert(database.clone()) {
        let ran = psql(&format!("{server}/postgres"), &format!("CREATE DATABASE {database}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    format!("{server}/{database}")
}

pub(super) fn psql(url: &str, text: &str) -> ProgramOutput {
    run(Command::new(program_path("psql")).args(["-X", "-A", "-t", "-q", "-c", text, url]), b"")
}

fn program_path(program: &str) -> PathBuf {
    let versions = fs::read_dir(INSTALLED).expect("PostgreSQL is installed");
    let newest = versions
        .map(|version| version.unwrap().path())
        .filter(|path| path.join("bin/initdb").is_file())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()))
        .expect("a PostgreSQL server is installed");
    newest.join("bin").join(program)
}

fn url_at(port: u16) -> String {
    format!("postgres://{USER}:{PASSWORD}@{ADDRESS}:{port}")
}

/// Gives a file to the user that the servers run as.
pub(super) fn chown_to_other_user(path: &Path) {
    if let Some(user) = other_user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

pub(super) fn run_as_other_user(command: &mut Command) {
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

fn other_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).unwrap())
}
