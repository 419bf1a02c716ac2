//! Callers that are slow on purpose: none of them holds a connection for ever, or makes the daemon grow.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::settings::Settings;
use crate::support::wait::{DEADLINE, pace, wait_for};

fn impatient() -> Settings {
    Settings::default().with("ipc.stall_timeout", "200ms").with("log.level", "info")
}

/// A caller who has sent this much, and waits.
fn caller(daemon: &Daemon, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.home.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// All that comes until the daemon hangs up.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    if let Err(error) = stream.read_to_end(&mut text) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not hung up on");
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn head(length: usize) -> String {
    format!("POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
}

#[test]
fn a_body_that_stops_in_the_middle_is_refused() {
    let daemon = Daemon::start(&impatient());
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let request = format!("POST /v1/records HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
        let answer = rest(&caller(&daemon, request.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    }
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_head_that_stops_in_the_middle_ends_its_connection_the_first_and_a_later_one() {
    let daemon = Daemon::start(&impatient());
    let first = caller(&daemon, b"GET /v1/status HTTP/1.1\r\nho");
    let later = caller(&daemon, b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut answer = [0; 12];
    (&later).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    (&later).write_all(b"GET /v1/stat").unwrap();
    assert!(rest(&first).starts_with("HTTP/1.1 408 "));
    rest(&later);
}

#[test]
fn a_connection_is_kept_for_as_long_as_it_is_used() {
    let daemon = Daemon::start(&Settings::default());
    let stream = caller(&daemon, b"");
    let mut answers = BufReader::new(&stream);
    // Longer than any head or pause may take.
    for _ in 0..14 {
        (&stream).write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 404 "), "{line}");
        answers.fill_buf().unwrap();
        let rest = answers.buffer().len();
        answers.consume(rest);
        pace(Duration::from_millis(500));
    }
}

#[test]
fn a_body_that_says_that_it_is_too_large_is_refused_unread() {
    let daemon = Daemon::start(&Settings::default());
    let answer = rest(&caller(&daemon, head(1 << 40).as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_too_large"), "{answer}");
}

#[test]
fn large_bodies_share_a_bound_and_are_taken_again_when_there_is_room() {
    let settings =
        Settings::default().with("ipc.max_request_bytes", "200KiB").with("queue.max_record_bytes", "190KiB");
    let daemon = Daemon::start(&settings);
    let body = json!({"type": "T", "payload": {"text": "x".repeat(180 << 10)}}).to_string();
    let most = [head(body.len()).as_bytes(), &body.as_bytes()[..body.len() - 1]].concat();
    // One of them may come while a whole body is there, and be refused itself.
    let mut halves = Vec::new();
    wait_for("the room to be taken", || {
        halves.push(caller(&daemon, &most));
        let answer = daemon.post("/v1/records", &body);
        if answer.status == 503 {
            assert_eq!(answer.code(), "busy");
        }
        (answer.status == 503).then_some(())
    });
    // Whoever sends little does not wait for them, though it is more than there is room for.
    let small = json!({"type": "T", "payload": {"text": "x".repeat(60 << 10)}}).to_string();
    for _ in 0..4 {
        daemon.post("/v1/records", &small).good(201);
    }
    drop(halves);
    wait_for("room again", || (daemon.post("/v1/records", &body).status == 201).then_some(()));
}

#[test]
fn manifests_that_nobody_reads_cost_little_and_end() {
    const READERS: usize = 40;
    let settings = impatient().with("ipc.max_connections", "42").with("ipc.stall_timeout", "1s");
    let daemon = Daemon::start(&settings);
    for _ in 0..3 {
        daemon.enqueue_many(1000);
    }
    assert_eq!(daemon.get("/v1/manifest").text().lines().count(), 3000);
    let before = daemon.resident_kib();
    let request = b"GET /v1/manifest HTTP/1.1\r\nhost: x\r\n\r\n";
    let deaf: Vec<UnixStream> = (0..READERS).map(|_| caller(&daemon, request)).collect();
    daemon.enqueue_many(10);
    let grown = daemon.resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more for {READERS} readers");
    for stream in &deaf {
        wait_for("the daemon to hang up", || has_hung_up(stream).then_some(()));
    }
    let whole = daemon.get("/v1/manifest").text();
    assert_eq!(whole.lines().count(), 3010);
}

#[test]
fn a_caller_that_reads_slowly_gets_all_of_a_response_that_ends_its_connection() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(1000);
    let request = b"GET /v1/manifest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stream = caller(&daemon, request);
    stream.read_exact(&mut [0; 12]).unwrap();
    // By now the daemon has written as much as the kernel keeps.
    daemon.enqueue_many(1);
    assert!(rest(&stream).ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn requests_that_come_together_are_all_answered_but_one_at_a_time() {
    const REQUESTS: usize = 300;
    const REQUESTS_OF_THE_DEAF: usize = 3000;
    let daemon = Daemon::start(&Settings::default());
    let at_once =
        |path: &str, requests: usize| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(requests);
    // Once, so that what it takes is there.
    daemon.get("/v1/batches").good(200);
    let before = daemon.resident_kib();
    let deaf: Vec<UnixStream> =
        (0..8).map(|_| caller(&daemon, at_once("/v1/batches", REQUESTS_OF_THE_DEAF).as_bytes())).collect();
    for mut stream in &deaf {
        // The first answer has begun, and what was to be gathered with it is.
        stream.read_exact(&mut [0; 16]).unwrap();
    }
    let reading = caller(&daemon, at_once("/v1/status", REQUESTS).as_bytes());
    let heads =
        BufReader::new(&reading).lines().filter(|line| line.as_ref().unwrap().contains("HTTP/1.1 200"));
    assert_eq!(heads.take(REQUESTS).count(), REQUESTS);
    let grown = daemon.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more for {} callers that do not read", deaf.len());
}

/// Without reading: whoever is hung up on cannot write any more.
fn has_hung_up(mut stream: &UnixStream) -> bool {
    stream.write_all(b"x").is_err()
}

#[test]
fn answers_that_nobody_reads_end_their_connection() {
    let daemon = Daemon::start(&impatient());
    let stream = caller(&daemon, b"");
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    // As many as it takes: the answers fill what the kernel keeps, and then the daemon takes no more.
    wait_for("the daemon to hang up", || (&stream).write_all(request).is_err().then_some(()));
    daemon.get("/v1/status").good(200);
}
