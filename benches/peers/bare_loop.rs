//! What a drain costs at least: a loop that posts batches one after the other from memory, gets a result for each record,
//! and syncs a line of a log for each batch. It keeps nothing, so it is no peer; it is the physical limit of the scene `backlog`.

use std::fs::File;
use std::io::{BufRead, Write, stdin, stdout};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use fieldsync::protocol::wire::{BATCH_ID, BATCH_PATH};

use crate::contestant::{Contestant, Intake, Setup};
use crate::http_client::HttpClient;
use crate::record::{id_of, write_record};

pub(crate) struct BareLoop {
    /// Records in a batch.
    pub(crate) batch: usize,
}

impl Contestant for BareLoop {
    fn name(&self) -> String {
        format!("bare loop, batch {}", self.batch)
    }

    fn is_synced(&self) -> bool {
        false
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("bare-loop").arg(setup.dir).arg(setup.server.to_string());
        command.args([self.batch, setup.load.records].map(|number| number.to_string()));
        command
    }

    fn intake(&self, _dir: &Path) -> Intake {
        Intake::Own
    }
}

/// The process of a bare loop.
#[derive(clap::Args)]
pub(crate) struct BareLoopProcess {
    dir: PathBuf,
    server: SocketAddr,
    batch: usize,
    records: usize,
}

impl BareLoopProcess {
    /// Runs until the process is killed.
    pub(crate) fn run(self) {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).expect("the bench writes a line");
        writeln!(stdout(), "accepted").expect("the bench reads");
        let mut log = File::create(self.dir.join("settled.log")).expect("a log file");
        let stream = TcpStream::connect(self.server).expect("the server listens");
        stream.set_nodelay(true).expect("the connection is open");
        let mut client = HttpClient::new(stream);
        let mut body = Vec::new();
        for first in (0..self.records).step_by(self.batch) {
            body.clear();
            for number in first..self.records.min(first + self.batch) {
                body.push(if number == first { b'[' } else { b',' });
                write_record(number, &mut body);
            }
            body.push(b']');
            let fields = format!("Content-Type: application/json\r\n{BATCH_ID}: {}\r\n", id_of(first));
            let status = client.post_with_fields(BATCH_PATH, &fields, &body).expect("the server responds");
            assert_eq!(status, 200, "a healthy server applies each batch");
            writeln!(log, "{first}").and_then(|()| log.sync_data()).expect("the disk is well");
        }
        loop {
            thread::park();
        }
    }
}
