//! The replies of a scripted server: correct ones, wrong ones, none, and their timing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;

use super::server::Request;
use super::wait::pace;
use super::workers::Workers;

/// The pause between two bytes of a slow reply.
const DRIP: Duration = Duration::from_millis(20);
const ENDLESS_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
const ENDLESS_CHUNK: &[u8] = b"10\r\n{\"results\":[{  \r\n";

/// How the server handles a request.
#[derive(Clone)]
pub(crate) enum Reply {
    Response {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Closes the connection without a response.
    Close,
    /// Never responds.
    Hang,
    /// Sends raw bytes, and closes the connection.
    Raw(Vec<u8>),
    /// A response without an end, as fast as the client reads it.
    Endless,
    /// The first bytes at once, the others one by one, and then nothing more.
    Drip(Vec<u8>, Vec<u8>),
    /// Ends the connection with a reset.
    Reset,
    /// Waits until the gate is open.
    Held(Gate, Box<Reply>),
    /// Works on the batch of this id for some time.
    Worked(Workers, String, Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn text(status: u16, kind: &'static str, body: &str) -> Self {
        Self::Response { status, headers: vec![("content-type", kind.into())], body: body.into() }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub(crate) fn html(status: u16) -> Self {
        Self::text(status, "text/html", "<html><h1>Welcome to the hotel</h1></html>")
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({"error": {"code": code, "message": format!("{code}, says the server")}}))
    }

    pub(crate) fn unknown_batch() -> Self {
        Self::error(404, "UNKNOWN_BATCH")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Response { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    /// A response with the result of `result` for each of these records; `None` omits the record.
    pub(crate) fn results(batch: &str, ids: &[String], result: impl Fn(&str) -> Option<Value>) -> Self {
        let results: Vec<Value> = ids
            .iter()
            .filter_map(|id| {
                let mut result = result(id)?;
                result["id"] = id.as_str().into();
                Some(result)
            })
            .collect();
        Self::json(200, &json!({"batch_id": batch, "replayed": false, "results": results}))
    }

    /// Every record of the batch is applied.
    pub(crate) fn applied(request: &Request) -> Self {
        Self::results(request.batch_id(), &request.ids(), |_| Some(json!({"status": "applied"})))
    }

    /// The response of a correct server that knows no earlier batch.
    pub(crate) fn correct(request: &Request) -> Self {
        if request.is_batch() { Self::applied(request) } else { Self::unknown_batch() }
    }

    /// Half of the response at once, and the rest byte by byte.
    pub(crate) fn dripping(self) -> Self {
        let Self::Response { status, headers, body } = self else { panic!("only a response can drip") };
        let mut first = encode_response(status, &headers, &body);
        let others = first.split_off(first.len() - body.len() / 2);
        Self::Drip(first, others)
    }

    pub(crate) fn held_by(self, gate: &Gate) -> Self {
        Self::Held(gate.clone(), Box::new(self))
    }
}

/// Holds back replies until it is opened, or until its server is dropped. A daemon that must not give up meanwhile needs
/// a long `server.request_timeout`.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait_until_open(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

/// Whether the connection continues after a reply.
pub(super) type KeepsConnection = bool;

impl Reply {
    /// Waits for the gate if there is one, and replies.
    pub(super) fn send(self, mut stream: &TcpStream) -> io::Result<KeepsConnection> {
        match self {
            Self::Response { status, headers, body } => {
                stream.write_all(&encode_response(status, &headers, &body))?;
                return Ok(true);
            }
            Self::Held(gate, then) => {
                gate.wait_until_open();
                return then.send(stream);
            }
            Self::Worked(workers, batch, time, then) => {
                workers.work(&batch, time);
                return then.send(stream);
            }
            Self::Close => stream.shutdown(Shutdown::Both)?,
            Self::Hang => until_hung_up(stream)?,
            Self::Raw(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(Shutdown::Write)?;
                // If it were closed before the other side has read it, a reset could discard it.
                until_hung_up(stream)?;
            }
            Self::Endless => {
                stream.write_all(ENDLESS_HEAD)?;
                loop {
                    stream.write_all(ENDLESS_CHUNK)?;
                }
            }
            Self::Drip(first, others) => {
                stream.write_all(&first)?;
                for byte in others {
                    pace(DRIP);
                    stream.write_all(&[byte])?;
                }
                until_hung_up(stream)?;
            }
            Self::Reset => SockRef::from(stream).set_linger(Some(Duration::ZERO))?,
        }
        Ok(false)
    }
}

fn until_hung_up(mut stream: &TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

fn encode_response(status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
