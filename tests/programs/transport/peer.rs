//! A server that is near its sockets: each connection is served as its test says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};

/// It listens until the tests end; connections are counted from 0.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    attempts: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub(super) fn start(serve: impl Fn(usize, Talk<TcpStream>) + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    pub(super) fn start_at(
        listener: TcpListener,
        serve: impl Fn(usize, Talk<TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, attempts, serve) = (Arc::default(), Arc::default(), Arc::new(serve));
        let peer = Self { address, connections, attempts };
        let (connections, attempts) = (Arc::clone(&peer.connections), Arc::clone(&peer.attempts));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let talk = Talk::new(stream.unwrap(), Arc::clone(&attempts));
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(number, talk));
            }
        });
        peer
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// `X-Sync-Attempt` of every batch that came whole.
    pub(super) fn attempts(&self) -> Vec<String> {
        self.attempts.lock().unwrap().clone()
    }
}

/// One connection, and what is said on it.
pub(super) struct Talk<S: Read + Write> {
    stream: BufReader<S>,
    attempts: Arc<Mutex<Vec<String>>>,
}

/// A request.
pub(super) struct Asked {
    pub(super) is_batch: bool,
    body: Vec<u8>,
}

impl Asked {
    /// What a server says that applies the whole batch.
    pub(super) fn applied(&self) -> Value {
        let batch: Value = serde_json::from_slice(&self.body).unwrap();
        let records = batch["records"].as_array().unwrap();
        let results: Vec<_> =
            records.iter().map(|record| json!({"id": record["id"], "status": "applied"})).collect();
        json!({"batch_id": batch["batch_id"], "replayed": false, "results": results})
    }
}

impl<S: Read + Write> Talk<S> {
    pub(super) fn new(stream: S, attempts: Arc<Mutex<Vec<String>>>) -> Self {
        Self { stream: BufReader::new(stream), attempts }
    }

    /// The same conversation, over something that lies on it.
    pub(super) fn over<T: Read + Write>(self, wrap: impl FnOnce(S) -> T) -> Talk<T> {
        Talk { stream: BufReader::new(wrap(self.stream.into_inner())), attempts: self.attempts }
    }

    /// The next request; none when the client has gone.
    pub(super) fn next(&mut self) -> Option<Asked> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        let is_batch = head[0].starts_with("post ");
        if is_batch {
            self.attempts.lock().unwrap().push(field("x-sync-attempt:").unwrap().to_owned());
        }
        Some(Asked { is_batch, body })
    }

    /// The next batch; look-ups before it are answered.
    pub(super) fn next_batch(&mut self) -> Option<Asked> {
        loop {
            let asked = self.next()?;
            if asked.is_batch {
                return Some(asked);
            }
            self.answer(&asked)?;
        }
    }

    /// Answers as a server that nothing is wrong with, and that knows no earlier batch.
    pub(super) fn answer(&mut self, asked: &Asked) -> Option<()> {
        let (status, answer) = if asked.is_batch {
            (200, asked.applied())
        } else {
            (404, json!({"error": {"code": "UNKNOWN_BATCH", "message": "never heard of it"}}))
        };
        let body = answer.to_string();
        self.say(&format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    /// None when the client has gone.
    pub(super) fn say(&mut self, text: &str) -> Option<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).ok()
    }

    /// Answers everything until the client goes.
    pub(super) fn serve(mut self) {
        while let Some(asked) = self.next() {
            if self.answer(&asked).is_none() {
                return;
            }
        }
    }

    /// Reads until the client goes.
    pub(super) fn hang(self) {
        // It may go by a reset.
        drop(self.read_to_end());
    }

    /// How the client goes: what it said before, or in which way it broke off.
    pub(super) fn read_to_end(mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }
}

impl Talk<TcpStream> {
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// From now on every packet with something in it is lost before TCP sees it, as behind a middlebox
/// that has forgotten the connection. A listener hands it on to its connections.
pub(super) fn swallow<'s>(socket: impl Into<SockRef<'s>>) {
    // The length of the packet less that of its TCP header: nothing is let through but empty ones.
    let program = [
        SockFilter::new(0x30, 0, 0, 12),       // load the byte with the header's length
        SockFilter::new(0x74, 0, 0, 4),        // shift it right: words
        SockFilter::new(0x64, 0, 0, 2),        // shift it left: bytes
        SockFilter::new(0x07, 0, 0, 0),        // keep it
        SockFilter::new(0x80, 0, 0, 0),        // load the packet's length
        SockFilter::new(0x1c, 0, 0, 0),        // subtract what was kept
        SockFilter::new(0x15, 0, 1, 0),        // is nothing left?
        SockFilter::new(0x06, 0, 0, u32::MAX), // let it through
        SockFilter::new(0x06, 0, 0, 0),        // lose it
    ];
    let socket: SockRef<'s> = socket.into();
    socket.attach_filter(&program).unwrap();
}
