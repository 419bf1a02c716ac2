//! Daemons with a page, and TCP clients of the page.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};

use hyper::Method;
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::daemon::{Daemon, Home};
use super::http::{HttpResponse, exchange, request};
use super::secrets::place;
use super::server::{Reply, Request};
use super::settings::Settings;
use super::wait::{DEADLINE, wait_for};

pub(crate) const CODE: &str = "open-sesame";
const READY: &str = "the page is at http://";

/// Settings with a page on a free port.
pub(crate) fn with_page(settings: &Settings) -> Settings {
    settings.clone().or("web.listen", "127.0.0.1:0")
}

/// A daemon with a page that accepts [`CODE`], and with `more` settings.
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

/// A server that rejects every record with this message.
pub(crate) fn rejecting(message: &str) -> impl FnMut(&Request) -> Reply + Send + use<> {
    let result = json!({"status": "rejected", "code": "NO_SUCH_ACCOUNT", "message": message});
    move |request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        Reply::results(request.batch_id(), &request.ids(), |_| Some(result.clone()))
    }
}

/// The address of a page.
#[derive(Clone, Copy)]
pub(crate) struct Page(pub(crate) SocketAddr);

impl Page {
    /// The address that the daemon logged last.
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

    /// Sends a request with these headers and `Host`.
    pub(crate) fn request(
        self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpResponse {
        self.request_as(&self.0.to_string(), method, path, headers, body)
    }

    pub(crate) fn request_as(
        self,
        host: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpResponse {
        let request = request(method, path, host, headers, body.into());
        exchange(TcpStream::connect(self.0), request).expect("a response of the page")
    }

    pub(crate) fn get(self, path: &str) -> HttpResponse {
        self.request(Method::GET, path, &[], "")
    }

    pub(crate) fn retry(self, code: &str, selection: &Value) -> HttpResponse {
        let authorization = format!("Bearer {code}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.request(Method::POST, "/v1/quarantine/retry", &headers, &selection.to_string())
    }

    /// Sends raw bytes; the connection stays open.
    pub(crate) fn raw(self, bytes: &[u8]) -> StdStream {
        let mut stream = StdStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Follows the events of the page.
    pub(crate) fn follow(self) -> Follower {
        let head = format!("GET /v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", self.0);
        Follower { stream: self.raw(head.as_bytes()), gathered: String::new() }
    }

    /// As [`Self::follow`], with a code and a query.
    pub(crate) fn follow_with(self, code: &str, query: &str) -> Follower {
        let head = format!(
            "GET /v1/events{query} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {code}\r\n\r\n",
            self.0
        );
        Follower { stream: self.raw(head.as_bytes()), gathered: String::new() }
    }

    /// Asks for a change with a code.
    pub(crate) fn change(self, path: &str, code: &str) -> HttpResponse {
        let authorization = format!("Bearer {code}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.request(Method::POST, path, &headers, "{}")
    }
}

/// The key with which a page recognises its daemon, and signs requests.
#[derive(Clone)]
pub(crate) struct PageKey {
    id: String,
    key: hmac::Key,
}

impl PageKey {
    /// From the document.
    pub(crate) fn of(document: &str) -> Self {
        let attribute = |name: &str| {
            let (_, value) = document.split_once(&format!("data-{name}=\"")).unwrap();
            value.split_once('"').unwrap().0.to_owned()
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &from_hex(&attribute("key")));
        Self { id: attribute("page"), key }
    }

    fn sign(&self, parts: &[&str]) -> String {
        to_hex(hmac::sign(&self.key, parts.join("\n").as_bytes()).as_ref())
    }

    /// The path of the proof.
    pub(crate) fn proof_path(&self, challenge: &str) -> String {
        format!("/v1/proof?page={}&challenge={challenge}", self.id)
    }

    /// The ticket in a response, if its proof is valid.
    pub(crate) fn ticket_of(&self, challenge: &str, response: &Value) -> Option<String> {
        let ticket = response["ticket"].as_str()?;
        (response["proof"] == self.sign(&["proof", challenge, ticket])).then(|| ticket.to_owned())
    }

    /// The response of the page's daemon to a challenge.
    pub(crate) fn fetch_proof(&self, question: &str) -> Value {
        let challenge = question.rsplit_once('=').unwrap().1;
        json!({"proof": self.sign(&["proof", challenge, "ticket"]), "ticket": "ticket"})
    }

    /// The `Authorization` of a request that this page signs.
    pub(crate) fn authorization(
        &self,
        ticket: &str,
        (method, path): (&str, &str),
        body: &str,
        code: &str,
    ) -> String {
        let digest = to_hex(digest(&SHA256, body.as_bytes()).as_ref());
        let signature = self.sign(&["request", ticket, method, path, &digest, code]);
        format!("Page {}.{ticket}.{digest}.{signature}", self.id)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Reads until the other side closes, which it must.
#[track_caller]
pub(crate) fn read_to_end(mut stream: &StdStream) -> String {
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    String::from_utf8_lossy(&rest).into_owned()
}

/// A client that follows events.
pub(crate) struct Follower {
    pub(crate) stream: StdStream,
    gathered: String,
}

impl Follower {
    /// The next event of this name. HTTP chunks end between lines, so no line is split.
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

    /// Reads events of this name until one meets a condition.
    #[track_caller]
    pub(crate) fn read_until(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next(name);
            if wanted(&event) {
                return event;
            }
        }
    }
}
