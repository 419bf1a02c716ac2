//! A scripted daemon for tests: each connection is one request and one step of the script.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use tempfile::TempDir;

/// What the daemon does with one connection.
pub(crate) enum ScriptStep {
    /// Writes these pieces one after the other, and closes.
    Respond(Vec<Vec<u8>>),
    /// Reads the request and closes.
    HangUp,
}

/// The daemon. Its socket is removed at the end of the script.
pub(crate) struct ScriptedDaemon {
    dir: TempDir,
    thread: JoinHandle<Vec<RecordedCall>>,
}

/// A received request.
pub(crate) struct RecordedCall {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl ScriptedDaemon {
    pub(crate) fn new(script: Vec<ScriptStep>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("daemon.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let calls =
                script.into_iter().map(|step| play_step(&listener.accept().unwrap().0, step)).collect();
            std::fs::remove_file(&socket).unwrap();
            calls
        });
        Self { dir, thread }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("daemon.sock")
    }

    /// The received requests. Waits for the end of the script.
    pub(crate) fn into_calls(self) -> Vec<RecordedCall> {
        self.thread.join().unwrap()
    }
}

fn play_step(stream: &UnixStream, step: ScriptStep) -> RecordedCall {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if let ScriptStep::Respond(pieces) = step {
        let mut stream = stream;
        for piece in pieces {
            // The client may have closed the connection.
            stream.write_all(&piece).ok();
        }
    }
    RecordedCall { head, body }
}

/// A complete response.
pub(crate) fn response_step(status: u16, body: &str) -> ScriptStep {
    let length = body.len();
    ScriptStep::Respond(vec![
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n").into_bytes(),
        body.as_bytes().to_vec(),
    ])
}

/// A chunked response, with its final chunk if `ends`.
pub(crate) fn stream_step(pieces: &[&str], ends: bool) -> ScriptStep {
    let mut parts = vec![b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    parts.extend(pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()).into_bytes()));
    if ends {
        parts.push(b"0\r\n\r\n".to_vec());
    }
    ScriptStep::Respond(parts)
}
