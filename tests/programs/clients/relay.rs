//! A Unix socket in front of the daemon's, which loses requests, loses responses, and cuts them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use fieldsync::clock::Clock;
use tempfile::TempDir;

use super::scripted_socket::RawRequest;
use crate::support::server::Gate;
use crate::support::wait::{directory, wait_for};

/// `Retry-After` of the daemon for a queue that is full, and what the relay makes of it.
const SLOW_RETRY: (&str, &str) = ("retry-after: 60\r\n", "retry-after: 1\r\n");

/// What becomes of a request and its response.
#[derive(Clone)]
pub(super) enum Passage {
    Forward,
    /// As `Forward`; `Retry-After` becomes one second.
    Hasten,
    /// The request does not reach the daemon. The connection ends when the gate opens.
    LoseRequest(Gate),
    /// The response does not reach the client. The connection ends when the gate opens.
    LoseResponse(Gate),
    /// The connection ends when the gate opens.
    ForwardUntil(Gate),
    /// The connection ends after this many bytes of the response.
    CutAfter(usize),
}

/// The relay; it listens until the test ends.
pub(super) struct Relay {
    directory: TempDir,
    requests: Arc<Mutex<Vec<RawRequest>>>,
    /// How many responses were read from the daemon and lost.
    lost_responses: Arc<Mutex<usize>>,
}

struct Connection {
    client: UnixStream,
    daemon: PathBuf,
    lost_responses: Arc<Mutex<usize>>,
}

impl Relay {
    /// Starts it with what it does with the first request; it forwards all others.
    pub(super) fn start_with_first(daemon: &Path, first: Passage) -> Self {
        Self::start(daemon, move |number, _| if number == 0 { first.clone() } else { Passage::Forward })
    }

    /// Starts it with what it does with each request; the first has the number 0.
    pub(super) fn start(
        daemon: &Path,
        script: impl Fn(usize, &RawRequest) -> Passage + Send + Sync + 'static,
    ) -> Self {
        let relay = Self { directory: directory(), requests: Arc::default(), lost_responses: Arc::default() };
        let listener = UnixListener::bind(relay.path()).unwrap();
        let (requests, script, clock) = (Arc::clone(&relay.requests), Arc::new(script), Clock::start());
        let (daemon, lost_responses) = (daemon.to_owned(), Arc::clone(&relay.lost_responses));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                let (daemon, lost_responses) = (daemon.clone(), Arc::clone(&lost_responses));
                let connection = Connection { client: client.unwrap(), daemon, lost_responses };
                thread::spawn(move || {
                    let Ok(Some(request)) = RawRequest::read(&connection.client, &clock) else { return };
                    let mut all = requests.lock().unwrap();
                    let number = all.len();
                    all.push(request.clone());
                    drop(all);
                    // The daemon may be gone, and the client may be.
                    drop(connection.pass(&request, script(number, &request)));
                });
            }
        });
        relay
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("relay.sock")
    }

    pub(super) fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().unwrap().clone()
    }

    #[track_caller]
    pub(super) fn wait_for_requests(&self, count: usize) -> Vec<RawRequest> {
        wait_for("requests", || Some(self.requests()).filter(|requests| requests.len() >= count))
    }

    #[track_caller]
    pub(super) fn wait_for_lost_responses(&self, count: usize) {
        wait_for("lost responses", || (*self.lost_responses.lock().unwrap() >= count).then_some(()));
    }
}

impl Connection {
    fn pass(&self, request: &RawRequest, passage: Passage) -> io::Result<()> {
        match passage {
            Passage::Forward => self.forward(self.send(request)?, usize::MAX),
            Passage::CutAfter(bytes) => self.forward(self.send(request)?, bytes),
            Passage::ForwardUntil(gate) => {
                let daemon = self.send(request)?;
                let other = daemon.try_clone()?;
                thread::spawn(move || {
                    gate.wait_until_open();
                    // It may have ended before.
                    drop(other.shutdown(Shutdown::Both));
                });
                self.forward(daemon, usize::MAX)
            }
            Passage::Hasten => {
                let mut response = Vec::new();
                self.send(request)?.read_to_end(&mut response)?;
                let response = String::from_utf8(response).unwrap().replace(SLOW_RETRY.0, SLOW_RETRY.1);
                (&self.client).write_all(response.as_bytes())
            }
            Passage::LoseRequest(gate) => {
                gate.wait_until_open();
                Ok(())
            }
            Passage::LoseResponse(gate) => {
                self.send(request)?.read_to_end(&mut Vec::new())?;
                *self.lost_responses.lock().unwrap() += 1;
                gate.wait_until_open();
                Ok(())
            }
        }
    }

    /// Sends the request to the daemon, which closes the connection after its response.
    fn send(&self, request: &RawRequest) -> io::Result<UnixStream> {
        let mut daemon = UnixStream::connect(&self.daemon)?;
        let (line, headers) = request.head.split_once("\r\n").unwrap();
        let others =
            headers.split_inclusive("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:"));
        let head = format!("{line}\r\nconnection: close\r\n{}", others.collect::<String>());
        daemon.write_all(head.as_bytes())?;
        daemon.write_all(&request.body)?;
        Ok(daemon)
    }

    /// Forwards at most this many bytes of the response, as they arrive.
    fn forward(&self, mut daemon: UnixStream, mut bytes: usize) -> io::Result<()> {
        let (mut client, mut piece) = (&self.client, [0; 4096]);
        while bytes > 0 {
            let size = daemon.read(&mut piece)?.min(bytes);
            if size == 0 {
                break;
            }
            client.write_all(&piece[..size])?;
            bytes -= size;
        }
        Ok(())
    }
}
