//! The built gateway, as it ships.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::cpu_share::CpuShare;

/// No other process uses this address, so a port stays free while a gateway is started again.
pub(crate) const ANY_PORT: &str = "127.77.0.11:0";

/// How a gateway is started.
#[derive(Clone)]
pub(crate) struct GatewaySetup {
    /// The program and its options.
    pub(crate) command: Vec<String>,
    /// The processors that it may use, as `taskset` takes them.
    pub(crate) cpus: Option<String>,
    /// Percent of one processor that it may use.
    pub(crate) share: Option<u32>,
}

impl GatewaySetup {
    pub(crate) fn new(program: &Path, store: &str, arguments: &[String]) -> Self {
        let program = program.to_str().expect("the path is text").to_owned();
        let store = ["--store".to_owned(), store.to_owned()];
        let command = [program].into_iter().chain(store).chain(arguments.iter().cloned()).collect();
        Self { command, cpus: None, share: None }
    }
}

/// A server that prints its address; killed when dropped.
pub(crate) struct RunningGateway {
    pub(crate) address: SocketAddr,
    child: Child,
    share: Option<CpuShare>,
    /// Keeps the pipe open, so that the program can write.
    _stdout: BufReader<ChildStdout>,
}

impl RunningGateway {
    pub(crate) fn start(setup: &GatewaySetup, listen: &str) -> Self {
        let mut command = command_on(&setup.command[0], setup.cpus.as_deref());
        command.args(&setup.command[1..]).args(["--listen", listen]);
        let mut child =
            command.stderr(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("the output is piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("the gateway prints its address");
        let address = ready.trim_end().rsplit_once("://").expect("an address").1;
        let share = setup.share.map(|percent| CpuShare::limit(child.id(), percent));
        Self { address: address.parse().expect("an address"), child, share, _stdout: stdout }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9`, and a start at the same address.
    pub(crate) fn kill_and_restart(self, setup: &GatewaySetup) -> Self {
        let address = self.address.to_string();
        drop(self);
        Self::start(setup, &address)
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the process ends");
        drop(self.share.take());
    }
}

/// A command that is limited to some processors, if any are named.
pub(crate) fn command_on(program: &str, cpus: Option<&str>) -> Command {
    let Some(cpus) = cpus else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cpus, program]);
    command
}
