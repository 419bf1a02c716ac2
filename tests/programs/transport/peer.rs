//! A server at the level of sockets: the test scripts each connection.

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
    pub(super) fn start(serve: impl Fn(usize, PeerConnection<TcpStream>) + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    pub(super) fn start_at(
        listener: TcpListener,
        serve: impl Fn(usize, PeerConnection<TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, attempts, serve) = (Arc::default(), Arc::default(), Arc::new(serve));
        let peer = Self { address, connections, attempts };
        let (connections, attempts) = (Arc::clone(&peer.connections), Arc::clone(&peer.attempts));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let talk = PeerConnection::new(stream.unwrap(), Arc::clone(&attempts));
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

    /// `X-Sync-Attempt` of every batch that arrived completely.
    pub(super) fn attempts(&self) -> Vec<String> {
        self.attempts.lock().unwrap().clone()
    }
}

/// One connection of a client.
pub(super) struct PeerConnection<S: Read + Write> {
    stream: BufReader<S>,
    attempts: Arc<Mutex<Vec<String>>>,
}

/// A request.
pub(super) struct PeerRequest {
    pub(super) is_batch: bool,
    body: Vec<u8>,
}

impl PeerRequest {
    /// The response of a server that applies the whole batch.
    pub(super) fn applied(&self) -> Value {
        let batch: Value = serde_json::from_slice(&self.body).unwrap();
        let records = batch["records"].as_array().unwrap();
        let results: Vec<_> =
            records.iter().map(|record| json!({"id": record["id"], "status": "applied"})).collect();
        json!({"batch_id": batch["batch_id"], "replayed": false, "results": results})
    }
}

impl<S: Read + Write> PeerConnection<S> {
    pub(super) fn new(stream: S, attempts: Arc<Mutex<Vec<String>>>) -> Self {
        Self { stream: BufReader::new(stream), attempts }
    }

    /// The same connection, with a layer such as TLS on top.
    pub(super) fn over<T: Read + Write>(self, wrap: impl FnOnce(S) -> T) -> PeerConnection<T> {
        PeerConnection { stream: BufReader::new(wrap(self.stream.into_inner())), attempts: self.attempts }
    }

    /// The next request; `None` when the client has closed.
    pub(super) fn next(&mut self) -> Option<PeerRequest> {
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
        Some(PeerRequest { is_batch, body })
    }

    /// The next batch; outcome queries before it get a response.
    pub(super) fn next_batch(&mut self) -> Option<PeerRequest> {
        loop {
            let asked = self.next()?;
            if asked.is_batch {
                return Some(asked);
            }
            self.respond(&asked)?;
        }
    }

    /// Responds like a correct server that knows no earlier batch.
    pub(super) fn respond(&mut self, asked: &PeerRequest) -> Option<()> {
        let (status, response) = if asked.is_batch {
            (200, asked.applied())
        } else {
            (404, json!({"error": {"code": "UNKNOWN_BATCH", "message": "unknown batch"}}))
        };
        let body = response.to_string();
        self.send_text(&format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    /// `None` when the client has closed.
    pub(super) fn send_text(&mut self, text: &str) -> Option<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).ok()
    }

    /// Responds to all requests until the client closes.
    pub(super) fn serve(mut self) {
        while let Some(asked) = self.next() {
            if self.respond(&asked).is_none() {
                return;
            }
        }
    }

    /// Reads until the client closes.
    pub(super) fn wait_until_closed(self) {
        // It may close with a reset.
        drop(self.read_to_end());
    }

    /// How the client closes: the bytes before the end, or the error.
    pub(super) fn read_to_end(mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }
}

impl PeerConnection<TcpStream> {
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// From now on, every packet with data is dropped before TCP sees it, as behind a middlebox that has forgotten the
/// connection. A listener passes this on to its connections.
pub(super) fn drop_packets<'s>(socket: impl Into<SockRef<'s>>) {
    // The length of the packet minus that of its TCP header: only empty packets pass.
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
