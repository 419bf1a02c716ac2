//! A Unix socket whose responses are scripted byte by byte, and a record of every request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::wait::{directory, pace};

/// The pause between two pieces of a slow response.
const DRIP: Duration = Duration::from_millis(5);

/// A request as it was received.
#[derive(Clone, Debug)]
pub(super) struct RawRequest {
    /// With its line end.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Since the socket exists.
    pub(super) at: Duration,
}

impl RawRequest {
    /// Reads one; none if the connection ended before.
    pub(super) fn read(stream: &UnixStream, clock: &Clock) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let mut request = Self { head: String::new(), body: Vec::new(), at: clock.now() };
        while !request.head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut request.head)? == 0 {
                return Ok(None);
            }
        }
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
        assert!(reader.buffer().is_empty(), "a client does not send more before the response");
        Ok(Some(request))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The path, with its query.
    pub(super) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The ids of the records in its body.
    pub(super) fn ids(&self) -> Vec<String> {
        let records: Vec<Value> = if self.header("content-type").is_some_and(|kind| kind.contains("ndjson")) {
            let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
        } else {
            match serde_json::from_slice(&self.body).unwrap() {
                Value::Array(records) => records,
                record => vec![record],
            }
        };
        records.iter().map(|record| record["id"].as_str().expect("an id of the client").to_owned()).collect()
    }
}

/// What happens after a request was read.
#[derive(Clone)]
pub(super) enum Act {
    /// Sends these bytes, and closes the connection.
    Send(Vec<u8>),
    /// Sends these bytes one by one, and closes the connection.
    Drip(Vec<u8>),
    /// Sends these bytes, and then nothing more.
    Stall(Vec<u8>),
    /// Sends the first bytes, and then the others again and again.
    Endless(Vec<u8>, Vec<u8>),
}

impl Act {
    /// A response with JSON.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::Send(response(status, "", body))
    }

    /// An error of the local API, with further headers.
    pub(super) fn error(status: u16, code: &str, headers: &str) -> Self {
        Self::Send(response(status, headers, &json!({"error": {"code": code, "message": "a reason"}})))
    }

    /// All of these records are accepted.
    pub(super) fn accepted(request: &RawRequest) -> Self {
        let ids = request.ids();
        Self::json(201, &json!({"accepted": ids.len(), "duplicates": 0, "ids": ids}))
    }

    /// A stream of events that ends after these bytes.
    pub(super) fn events(stream: &[u8]) -> Self {
        Self::Send([EVENT_STREAM_HEAD, stream].concat())
    }

    fn perform(self, mut stream: &UnixStream) -> io::Result<()> {
        match self {
            Self::Send(bytes) => stream.write_all(&bytes),
            Self::Drip(bytes) => bytes.iter().try_for_each(|byte| {
                pace(DRIP);
                stream.write_all(&[*byte])
            }),
            Self::Stall(bytes) => {
                stream.write_all(&bytes)?;
                // The client closes the connection.
                stream.read(&mut [0]).map(drop)
            }
            Self::Endless(first, again) => {
                stream.write_all(&first)?;
                loop {
                    stream.write_all(&again)?;
                }
            }
        }
    }
}

/// The head of a stream of events that ends with the connection.
pub(super) const EVENT_STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A complete response; each header ends with a line end.
pub(super) fn response(status: u16, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let kind = "content-type: application/json";
    format!("HTTP/1.1 {status} Status\r\n{kind}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into()
}

/// The socket; it listens until the test ends.
pub(super) struct ScriptedSocket {
    directory: TempDir,
    requests: Arc<Mutex<Vec<RawRequest>>>,
}

impl ScriptedSocket {
    /// Starts it with what it does after each request; the first has the number 0.
    pub(super) fn start(script: impl Fn(usize, &RawRequest) -> Act + Send + Sync + 'static) -> Self {
        let socket = Self { directory: directory(), requests: Arc::default() };
        let listener = UnixListener::bind(socket.path()).unwrap();
        let (requests, script, clock) = (Arc::clone(&socket.requests), Arc::new(script), Clock::start());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, requests, script, clock) =
                    (stream.unwrap(), Arc::clone(&requests), Arc::clone(&script), clock);
                thread::spawn(move || {
                    let Ok(Some(request)) = RawRequest::read(&stream, &clock) else { return };
                    let mut all = requests.lock().unwrap();
                    let number = all.len();
                    all.push(request.clone());
                    drop(all);
                    // In many scenes, the client disconnects.
                    drop(script(number, &request).perform(&stream));
                });
            }
        });
        socket
    }

    /// Starts it with what it does after each request, in this order; the last again and again.
    pub(super) fn play(acts: Vec<Act>) -> Self {
        Self::start(move |number, _| acts[number.min(acts.len() - 1)].clone())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub(super) fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().unwrap().clone()
    }
}
