//! Readers of `GET /v1/events` that see the raw stream, ids included.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;

use super::wait::DEADLINE;

/// An event as it was received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReceivedEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl ReceivedEvent {
    /// The number in its id.
    pub(crate) fn number(&self) -> u64 {
        self.id.rsplit_once('-').unwrap().1.parse().unwrap()
    }
}

/// A reader of events.
pub(crate) struct EventReader<S = UnixStream>(BufReader<S>);

impl EventReader {
    /// Reads from now on, or after the event that was seen last.
    pub(crate) fn open(socket: &Path, last_seen: Option<&str>) -> Self {
        let header = last_seen.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        Self::with_request(socket, &format!("GET /v1/events HTTP/1.1\r\nhost: x\r\n{header}\r\n"))
    }

    /// Sends a custom request.
    pub(crate) fn with_request(socket: &Path, request: &str) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads on a thread of its own, so that events do not wait for a test that is busy.
    pub(crate) fn read_in_background(mut self) -> Receiver<ReceivedEvent> {
        let (sender, events) = mpsc::channel();
        thread::spawn(move || while self.next().is_some_and(|event| sender.send(event).is_ok()) {});
        events
    }

    /// Closes the sending half of the connection.
    pub(crate) fn shutdown_write(&self) {
        self.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl<S: Read> EventReader<S> {
    /// Reads from a connection whose request was already sent.
    pub(crate) fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// The status of the response.
    pub(crate) fn status(&mut self) -> u16 {
        let line = self.line().expect("a response");
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The next event; `None` when the stream ends.
    pub(crate) fn next(&mut self) -> Option<ReceivedEvent> {
        let (mut id, mut event) = (String::new(), String::new());
        loop {
            // Other lines belong to HTTP: the head, and the sizes of chunks.
            let line = self.line()?;
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut event);
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Some(ReceivedEvent { id, event, data: serde_json::from_str(text).unwrap() });
            }
        }
    }

    /// The events up to and including the first that meets a condition.
    pub(crate) fn read_until(&mut self, wanted: impl Fn(&ReceivedEvent) -> bool) -> Vec<ReceivedEvent> {
        let mut seen: Vec<ReceivedEvent> = Vec::new();
        while !seen.last().is_some_and(&wanted) {
            seen.push(self.next().expect("the event before the end"));
        }
        seen
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }
}
