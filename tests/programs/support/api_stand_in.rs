//! A Unix socket that returns fixed documents of the local API, for reports about weeks that no test can wait for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::wait::directory;

pub(crate) struct ApiStandIn {
    directory: TempDir,
}

impl ApiStandIn {
    /// Returns each document at its path until the test ends.
    pub(crate) fn start(documents: BTreeMap<&'static str, Value>) -> Self {
        let stand_in = Self { directory: directory() };
        let listener = UnixListener::bind(stand_in.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // The client may leave early.
                respond(&stream.unwrap(), &documents).ok();
            }
        });
        stand_in
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }
}

fn respond(mut stream: &UnixStream, documents: &BTreeMap<&'static str, Value>) -> std::io::Result<()> {
    let mut request = String::new();
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut request)? > 2 {}
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let body = documents.get(path).unwrap_or_else(|| panic!("{path} is not expected")).to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
