//! A caller of the local API that keeps its connection and uses little processor time, because it competes with the
//! daemon for the processor.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// How much of a response is read at once.
const STEP_BYTES: usize = 64 << 10;

pub(crate) struct Caller {
    stream: BufReader<UnixStream>,
    room: Vec<u8>,
}

impl Caller {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the daemon listens");
        Self { stream: BufReader::with_capacity(STEP_BYTES, stream), room: vec![0; STEP_BYTES] }
    }

    /// Sends a request such as `GET /path`, and returns the body of the response, which must be a success.
    pub(crate) fn call(&mut self, request: &str, body: &[u8]) -> Vec<u8> {
        let mut response = Vec::new();
        self.exchange(request, body, |piece| {
            response.extend_from_slice(piece);
            true
        });
        response
    }

    /// As [`Caller::call`], but discards the response. Returns false if `continues` ended it early; then the connection
    /// cannot be used again.
    pub(crate) fn call_while(&mut self, request: &str, continues: impl Fn() -> bool) -> bool {
        self.exchange(request, b"", |_| continues())
    }

    fn exchange(&mut self, request: &str, body: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: device\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("the daemon reads");
        let status = self.line();
        assert!(status.starts_with("HTTP/1.1 20"), "{request}: {status}");
        let mut length = None;
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = Some(bytes.parse().expect("a number"));
            }
        }
        if let Some(length) = length {
            return self.piece(length, &mut take);
        }
        loop {
            let bytes = usize::from_str_radix(&self.line(), 16).expect("the length of a chunk");
            if !self.piece(bytes, &mut take) {
                return false;
            }
            self.line();
            if bytes == 0 {
                return true;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the daemon responds");
        line.trim_end().to_owned()
    }

    fn piece(&mut self, mut left: usize, take: &mut impl FnMut(&[u8]) -> bool) -> bool {
        while left > 0 {
            let step = left.min(STEP_BYTES);
            let room = &mut self.room[..step];
            self.stream.read_exact(room).expect("the response continues");
            if !take(room) {
                return false;
            }
            left -= step;
        }
        true
    }
}
