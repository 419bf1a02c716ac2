//! Daemons with a page, and those who ask for it over TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};

use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::daemon::{Daemon, Home};
use super::http::{Answer, exchange, request};
use super::secrets::place;
use super::server::{Reply, Request};
use super::settings::Settings;
use super::wait::{DEADLINE, wait_for};

pub(crate) const CODE: &str = "open-sesame";
const READY: &str = "the page is at http://";

/// With a page on a port that is free.
pub(crate) fn with_page(settings: &Settings) -> Settings {
    settings.clone().or("web.listen", "127.0.0.1:0")
}

/// A daemon with a page that takes [`CODE`], and whatever `more` settings there are.
pub(crate) fn with_code(settings: &Settings, more: &[(&str, &str)]) -> Daemon {
    let home = Home::new(settings);
    place(&home.path("code"), &format!("{CODE}\n"), 0o600);
    let file = home.path("code");
    let mut settings = with_page(settings).with("web.token_file", file.to_str().unwrap());
    for (key, value) in more {
        settings = settings.with(key, value);
    }
    home.configure(&settings);
    home.start()
}

/// A server that rejects every record, with this message.
pub(crate) fn rejecting(message: &str) -> impl FnMut(&Request) -> Reply + Send + use<> {
    let result = json!({"status": "rejected", "code": "NO_SUCH_ACCOUNT", "message": message});
    move |request| {
        if !request.is_batch() {
            return Reply::sound(request);
        }
        Reply::results(request.batch_id(), &request.ids(), |_| Some(result.clone()))
    }
}

/// Where a page is.
#[derive(Clone, Copy)]
pub(crate) struct Page(pub(crate) SocketAddr);

impl Page {
    /// The one that the daemon said last.
    #[track_caller]
    pub(crate) fn of(daemon: &Daemon) -> Self {
        wait_for("the page", || {
            let log = daemon.log();
            let (_, last) = log.rsplit_once(READY)?;
            Some(Self(last.split_once('/')?.0.parse().unwrap()))
        })
    }

    pub(crate) fn url(self) -> String {
        format!("http://{}/", self.0)
    }

    /// Every header is given, but for `Host`.
    pub(crate) fn ask(self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_as(&self.0.to_string(), method, path, headers, body)
    }

    pub(crate) fn ask_as(
        self,
        host: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let request = request(method, path, host, headers, body.into());
        exchange(TcpStream::connect(self.0), request).expect("an answer of the page")
    }

    pub(crate) fn get(self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "")
    }

    pub(crate) fn retry(self, code: &str, selection: &Value) -> Answer {
        let authorization = format!("Bearer {code}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.ask(Method::POST, "/v1/quarantine/retry", &headers, &selection.to_string())
    }

    /// Bytes as they are; the connection stays open.
    pub(crate) fn raw(self, bytes: &[u8]) -> StdStream {
        let mut stream = StdStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Follows what happens.
    pub(crate) fn follow(self) -> Follower {
        let head = format!("GET /v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", self.0);
        Follower { stream: self.raw(head.as_bytes()), gathered: String::new() }
    }
}

/// The rest of what comes, until the other side closes, which it must.
#[track_caller]
pub(crate) fn rest(mut stream: &StdStream) -> String {
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    String::from_utf8_lossy(&rest).into_owned()
}

/// Somebody who follows what happens.
pub(crate) struct Follower {
    pub(crate) stream: StdStream,
    gathered: String,
}

impl Follower {
    /// The next event of this name. The chunks of HTTP lie between the lines: no line is cut by them.
    #[track_caller]
    pub(crate) fn next(&mut self, name: &str) -> Value {
        let head = format!("event: {name}\ndata: ");
        loop {
            if let Some((_, after)) = self.gathered.split_once(&head)
                && let Some((data, after)) = after.split_once("\n\n")
            {
                let value = serde_json::from_str(data).unwrap();
                self.gathered = after.to_owned();
                return value;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).expect("an event");
            assert!(read > 0, "the stream ended without {name}: {}", self.gathered);
            self.gathered.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// Events of this name until one is as wanted.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next(name);
            if wanted(&event) {
                return event;
            }
        }
    }
}
