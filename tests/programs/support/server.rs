//! A scripted server: real HTTP/1.1 over TCP, scripted replies, and a record of every request.

use std::io::{self, BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::protocol::wire::BATCH_PATH;
use serde_json::Value;

pub(crate) use super::reply::{Gate, Reply};
use super::wait::wait_for;

const GATEWAY_TIMEOUT: &str = "HTTP/1.1 504 Gateway Time-out\r\ncontent-type: text/html\r\n\
    content-length: 21\r\nconnection: close\r\n\r\n<h1>504 Time-out</h1>";

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header, empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.method == "POST"
    }

    /// The batch id of a batch or of its outcome query.
    pub(crate) fn batch_id(&self) -> &str {
        if self.is_batch() { self.header("x-sync-batch-id") } else { &self.path[BATCH_PATH.len() + 1..] }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.header("x-sync-attempt").parse().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.json()["records"].as_array().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.records().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    /// Batches whose connection ends before their body is read.
    cuts: AtomicUsize,
    ended: AtomicBool,
    connections: AtomicU32,
    body_bytes: AtomicUsize,
    time_limit: Mutex<Option<Duration>>,
}

/// The server; it listens until it is dropped.
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl ScriptedServer {
    /// Starts it with its replies.
    pub(crate) fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        script: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            cuts: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            connections: AtomicU32::new(0),
            body_bytes: AtomicUsize::new(0),
            time_limit: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let (stream, shared) = (stream.unwrap(), Arc::clone(&serving));
                // In many tests, the client disconnects.
                thread::spawn(move || drop(serve_connection(&stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// A correct server, except for its first `times` responses to batches.
    pub(crate) fn at_first(times: usize, mut reply: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let mut batches = 0;
        Self::start(move |request| {
            batches += usize::from(request.is_batch());
            if request.is_batch() && batches <= times { reply(request) } else { Reply::correct(request) }
        })
    }

    /// Changes its replies from now on.
    pub(crate) fn set_script(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// The next batches lose their connection before their body is read.
    pub(crate) fn cut_unread(&self, batches: usize) {
        self.shared.cuts.store(batches, Ordering::SeqCst);
    }

    /// Behaves like a gateway in front of it: from now on, a request that has not arrived completely in this time gets
    /// a 504, and its data is dropped.
    pub(crate) fn limit_time(&self, limit: Duration) {
        *self.shared.time_limit.lock().unwrap() = Some(limit);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many bytes of bodies arrived, complete or not.
    #[track_caller]
    pub(crate) fn wait_for_body_bytes(&self, bytes: usize) {
        let came = || (self.shared.body_bytes.load(Ordering::SeqCst) >= bytes).then_some(());
        wait_for("a part of a body", came);
    }

    /// The batches in the order of arrival.
    pub(crate) fn batches(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_batch).collect()
    }

    /// How many records each batch had.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.batches().iter().map(|batch| batch.records().len()).collect()
    }

    /// The number of outcome queries for one batch.
    pub(crate) fn count_outcome_queries(&self, batch: &str) -> usize {
        let requests = self.requests();
        requests.iter().filter(|request| !request.is_batch() && request.batch_id() == batch).count()
    }

    /// Waits until this many batches arrived.
    #[track_caller]
    pub(crate) fn wait_for_batches(&self, count: usize) -> Vec<Request> {
        wait_for("batches to arrive", || Some(self.batches()).filter(|batches| batches.len() >= count))
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The listener waits for a connection; this one ends the wait.
        drop(TcpStream::connect(self.address));
    }
}

fn serve_connection(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((mut request, clock)) = read_head(&mut reader)? {
        let cut = |cuts: usize| cuts.checked_sub(1);
        if request.is_batch() && shared.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok() {
            return stream.shutdown(Shutdown::Both);
        }
        let length = request.header("content-length").parse().unwrap_or(0);
        while request.body.len() < length {
            let arrived = reader.fill_buf()?;
            if arrived.is_empty() {
                return Ok(());
            }
            let taken = arrived.len().min(length - request.body.len());
            request.body.extend_from_slice(&arrived[..taken]);
            reader.consume(taken);
            shared.body_bytes.fetch_add(taken, Ordering::SeqCst);
            let limit = *shared.time_limit.lock().unwrap();
            if limit.is_some_and(|limit| clock.now() > limit) {
                return Reply::Raw(GATEWAY_TIMEOUT.into()).send(stream).map(drop);
            }
        }
        let reply = {
            // A test that sees the request and then changes the script does not change this reply.
            let mut script = shared.script.lock().unwrap();
            shared.requests.lock().unwrap().push(request.clone());
            script(&request)
        };
        if !reply.send(stream)? {
            break;
        }
    }
    Ok(())
}

/// The head of a request, and a clock that started with its first byte.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(Request, Clock)>> {
    reader.fill_buf()?;
    let clock = Clock::start();
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some((Request { method, path, headers, body: Vec::new() }, clock)));
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
