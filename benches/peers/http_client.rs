//! A client that posts over one connection and uses little processor time, because it competes with what is measured.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

/// A connection to an HTTP server whose responses have a `Content-Length`.
pub(crate) struct HttpClient<S> {
    stream: BufReader<S>,
    body: Vec<u8>,
}

impl<S: Read + Write> HttpClient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream), body: Vec::new() }
    }

    /// Posts a body, and returns the status of the response.
    pub(crate) fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> io::Result<u16> {
        self.post_with_fields(path, &format!("Content-Type: {content_type}\r\n"), body)
    }

    /// As [`Self::post`], with these lines as header fields.
    pub(crate) fn post_with_fields(&mut self, path: &str, fields: &str, body: &[u8]) -> io::Result<u16> {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let status = self.read_line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut length = 0;
        loop {
            let line = self.read_line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().map_err(|_| ErrorKind::InvalidData)?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        status.ok_or_else(|| ErrorKind::InvalidData.into())
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
