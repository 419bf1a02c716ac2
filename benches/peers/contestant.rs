//! What a contestant is to the scenes: a program that takes records and sends them to the server.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;

use crate::hand_over::Load;

/// How long a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const LOG_FILE: &str = "stderr.log";

pub(crate) trait Contestant {
    /// Its name in the tables.
    fn name(&self) -> String;

    /// Whether accepted records are synced to the disk.
    fn is_synced(&self) -> bool;

    /// Why it cannot be measured here.
    fn find_obstacle(&self) -> Option<String> {
        None
    }

    /// Writes its configuration, and returns its command line. The same directory continues an earlier run.
    fn command(&self, setup: &Setup<'_>) -> Command;

    /// Where it takes records.
    fn intake(&self, dir: &Path) -> Intake;

    /// Asks it to send now what waits, if it can be asked.
    fn ask_to_send(&self, _dir: &Path) {}
}

/// What a contestant is configured with.
pub(crate) struct Setup<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) server: SocketAddr,
    /// The gateway's, if it has one.
    pub(crate) time_limit: Option<Duration>,
    pub(crate) load: Load,
}

/// How records are handed over.
#[derive(Clone)]
pub(crate) enum Intake {
    /// `POST /v1/records` on this socket: accepted when each request has its response.
    Api(PathBuf),
    /// Lines on this socket: accepted when the program has read them all and closes the connections.
    Lines(PathBuf),
    /// The program has the producers, starts them by a line on its standard input, and reports on its standard output
    /// that all records are accepted.
    Own,
}

/// A started program; killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
}

impl Program {
    /// Returns when the program is ready for records.
    pub(crate) fn start(contestant: &dyn Contestant, setup: &Setup<'_>) -> Self {
        let log = setup.dir.join(LOG_FILE);
        let mut command = contestant.command(setup);
        let stderr = File::options().create(true).append(true).open(&log).expect("a log file");
        let intake = contestant.intake(setup.dir);
        if matches!(intake, Intake::Own) {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        command.stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| fail(&format!("{}: {error}", contestant.name())));
        let mut program = Self { child };
        if let Intake::Api(socket) | Intake::Lines(socket) = intake {
            let clock = Clock::start();
            while UnixStream::connect(&socket).is_err() {
                let ended = program.child.try_wait().expect("the process is a child");
                if ended.is_some() || clock.now() > START_TIMEOUT {
                    let mut text = String::new();
                    File::open(&log).and_then(|mut log| log.read_to_string(&mut text)).expect("a log file");
                    drop(program);
                    fail(&format!("{} did not start: {text}", contestant.name()));
                }
                thread::park_timeout(POLL_INTERVAL);
            }
        }
        program
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if the process has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1)
}
