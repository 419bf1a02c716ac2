//! Requests as they arrive, whole or not, and responses as they are sent.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// A request of which the head arrived.
pub(super) struct Arrived {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// The connection ended before the body did.
    pub(super) is_truncated: bool,
}

impl Arrived {
    /// The value of a header, empty if it is missing or not text.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.iter().find(|(known, _)| known == name);
        value.and_then(|(_, value)| str::from_utf8(value).ok()).unwrap_or_default()
    }

    pub(super) fn is_encoded(&self) -> bool {
        !self.header("content-encoding").is_empty()
    }
}

/// A response that is not the last one to its request.
pub(super) fn send_interim(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </style>\r\n\r\n")
}

/// Waits until the client closes its side.
pub(super) fn wait_for_hang_up(mut stream: &TcpStream) {
    // Only the end counts.
    io::copy(&mut stream, &mut io::sink()).ok();
}

/// The next request of a connection; `None` at its end.
pub(super) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Arrived>> {
    let first = read_line(reader)?;
    let first = String::from_utf8_lossy(&first).into_owned();
    let mut words = first.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let mut request = Arrived { method, path, headers, body: Vec::new(), is_truncated: false };
    if request.header("transfer-encoding") == "chunked" {
        request.is_truncated = !read_chunks(reader, &mut request.body)?;
    } else {
        let length: usize = request.header("content-length").parse().unwrap_or(0);
        request.is_truncated = !read_part(reader, length, &mut request.body)?;
    }
    Ok(Some(request))
}

/// Whether all of it arrived.
fn read_part(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> io::Result<bool> {
    let count = reader.take(length as u64).read_to_end(body)?;
    Ok(count == length)
}

/// Whether the last chunk arrived.
fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let line = read_line(reader)?;
        let Ok(length) = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16) else {
            return Ok(false);
        };
        if !read_part(reader, length, body)? {
            return Ok(false);
        }
        read_line(reader)?;
        if length == 0 {
            return Ok(true);
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(line)
}

/// A response to a request.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: String,
}

impl Response {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { status, kind: "application/json", headers: Vec::new(), body: body.to_string() }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({"error": {"code": code, "message": format!("{code}, says the server")}}))
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} Status\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        stream.write_all(format!("{head}\r\n{}", self.body).as_bytes())
    }
}
