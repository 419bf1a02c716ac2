//! A pooler in front of a PostgreSQL server: it runs each transaction of its clients in any session of a few.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::ports::free_port_at;
use super::postgres::{ADDRESS, PASSWORD, USER, chown_to_other_user, psql, run_as_other_user};
use super::process::Guard;
use super::wait::wait_for;

const PROGRAM: &str = "pgbouncer";
/// Fewer than a gateway has sessions, so that these share them.
const SESSIONS_PER_DATABASE: u32 = 3;

/// A pooler; stopped when dropped.
pub(crate) struct PgBouncer {
    port: u16,
    _directory: TempDir,
    _program: Guard,
}

impl PgBouncer {
    /// Starts it in front of the server at this port.
    pub(crate) fn start(server_port: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let port = free_port_at(ADDRESS);
        let path = |name: &str| directory.path().join(name);
        let settings = format!(
            "[databases]\n* = host={ADDRESS} port={server_port}\n[pgbouncer]\nlisten_addr = {ADDRESS}\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {SESSIONS_PER_DATABASE}\nmax_client_conn = 1000\n\
             server_idle_timeout = 5\nlogfile = {}\n",
            path("users").display(),
            path("log").display()
        );
        fs::write(path("users"), format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        fs::write(path("settings"), settings).unwrap();
        for file in [directory.path().to_owned(), path("users"), path("settings")] {
            chown_to_other_user(&file);
        }
        let mut command = Command::new(PROGRAM);
        run_as_other_user(&mut command);
        command.arg(path("settings")).current_dir(directory.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut program = Guard(child.expect("pgbouncer is installed"));
        let url = format!("postgres://{USER}:{PASSWORD}@{ADDRESS}:{port}/postgres");
        wait_for("the pooler to respond", || {
            let log = || fs::read_to_string(path("log")).unwrap_or_default();
            assert!(program.is_running(), "the pooler ended; its log:\n{}", log());
            (psql(&url, "SELECT 1").code == Some(0)).then_some(())
        });
        Self { port, _directory: directory, _program: program }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}
