//! A daemon for tests that follows a script: one connection, one request, one step after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use tempfile::TempDir;

/// What is done with one connection.
pub(crate) enum Step {
    /// Answers with these bytes, written one by one piece, and closes.
    Answer(Vec<Vec<u8>>),
    /// Reads the request and closes.
    HangUp,
}

/// The daemon; its socket goes away with the end of its script.
pub(crate) struct Scripted {
    dir: TempDir,
    thread: JoinHandle<Vec<Call>>,
}

/// A request as it came.
pub(crate) struct Call {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Scripted {
    pub(crate) fn new(script: Vec<Step>) -> Self {
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

    /// What it was asked. Waits for the end of the script.
    pub(crate) fn into_calls(self) -> Vec<Call> {
        self.thread.join().unwrap()
    }
}

fn play_step(stream: &UnixStream, step: Step) -> Call {
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
    if let Step::Answer(pieces) = step {
        let mut stream = stream;
        for piece in pieces {
            // A client that has seen enough may be gone.
            stream.write_all(&piece).ok();
        }
    }
    Call { head, body }
}

/// A complete answer.
pub(crate) fn answer_step(status: u16, body: &str) -> Step {
    let length = body.len();
    Step::Answer(vec![
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n").into_bytes(),
        body.as_bytes().to_vec(),
    ])
}

/// An answer in chunks that ends properly when `ends`.
pub(crate) fn stream_step(pieces: &[&str], ends: bool) -> Step {
    let mut parts = vec![b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    parts.extend(pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()).into_bytes()));
    if ends {
        parts.push(b"0\r\n\r\n".to_vec());
    }
    Step::Answer(parts)
}
