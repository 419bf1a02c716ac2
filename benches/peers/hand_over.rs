//! Producers: they hand all records over, and note when the last one is accepted.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;

use crate::contestant::Intake;
use crate::http_client::HttpClient;
use crate::record::{RECORD_BYTES, id_of, write_record};

const RECORDS_PATH: &str = "/v1/records";
const NDJSON: &str = "application/x-ndjson";

/// How many records are handed over, by how many producers, and how many at once.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) records: usize,
    pub(crate) producers: usize,
    pub(crate) bulk: usize,
}

impl Load {
    /// Runs the producers, each of which takes the next records until none is left.
    pub(crate) fn run_producers(
        self,
        produce: impl Fn(&mut dyn Iterator<Item = Vec<usize>>) -> io::Result<()> + Sync,
    ) -> io::Result<()> {
        let next = AtomicUsize::new(0);
        let mut results = Vec::new();
        thread::scope(|scope| {
            let run_producer = || {
                let mut portions = std::iter::from_fn(|| {
                    let start = next.fetch_add(self.bulk, Ordering::Relaxed);
                    (start < self.records).then(|| (start..self.records.min(start + self.bulk)).collect())
                });
                produce(&mut portions)
            };
            let producers: Vec<_> = (0..self.producers).map(|_| scope.spawn(run_producer)).collect();
            results.extend(producers.into_iter().map(|producer| producer.join().expect("a producer ends")));
        });
        results.into_iter().collect()
    }
}

/// Starts to hand the records over. The receiver gets the time when the last one is accepted, or ends without it.
pub(crate) fn start(intake: &Intake, child: &mut Child, load: Load, clock: Clock) -> Receiver<Duration> {
    let (accepted, receiver) = sync_channel(1);
    let intake = intake.clone();
    let pipes = child.stdin.take().zip(child.stdout.take());
    thread::spawn(move || {
        let result = match intake {
            Intake::Api(socket) => load.run_producers(|portions| post_records(&socket, portions)),
            Intake::Lines(socket) => load.run_producers(|portions| write_lines(&socket, portions)),
            Intake::Own => run_own_producers(pipes.expect("the pipes are new")),
        };
        // Without a receiver, the run is over.
        result.ok().and_then(|()| accepted.send(clock.now()).ok())
    });
    receiver
}

fn post_records(socket: &Path, portions: &mut dyn Iterator<Item = Vec<usize>>) -> io::Result<()> {
    let mut daemon = HttpClient::new(UnixStream::connect(socket)?);
    let mut body = Vec::new();
    for portion in portions {
        body.clear();
        for number in portion {
            body.extend_from_slice(
                format!(r#"{{"id":"{}","type":"Visits","payload":"#, id_of(number)).as_bytes(),
            );
            write_record(number, &mut body);
            body.extend_from_slice(b"}\n");
        }
        let status = daemon.post(RECORDS_PATH, NDJSON, &body)?;
        if !(200..300).contains(&status) {
            return Err(io::Error::other(format!("the daemon responded {status}")));
        }
    }
    Ok(())
}

fn write_lines(socket: &Path, portions: &mut dyn Iterator<Item = Vec<usize>>) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let mut lines = Vec::new();
    for portion in portions {
        lines.clear();
        lines.reserve(portion.len() * (RECORD_BYTES + 1));
        for number in portion {
            write_record(number, &mut lines);
            lines.push(b'\n');
        }
        stream.write_all(&lines)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The program closes its half when it has taken everything.
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

fn run_own_producers((mut start, output): (impl Write, impl Read)) -> io::Result<()> {
    writeln!(start)?;
    let mut line = String::new();
    match BufReader::new(output).read_line(&mut line)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
