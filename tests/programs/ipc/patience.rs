//! Callers that are slow on purpose: none keeps a connection forever, or makes the memory of the daemon grow.

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

/// A caller that has sent these bytes, and waits.
fn caller(daemon: &Daemon, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.home.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// All bytes until the daemon closes the connection.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = Vec::new();
    // A reset also counts as the end.
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
        let response = rest(&caller(&daemon, request.as_bytes()));
        assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("request_timeout"), "{response}");
    }
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn an_incomplete_head_ends_its_connection_as_first_or_later_request() {
    let daemon = Daemon::start(&impatient());
    let first = caller(&daemon, b"GET /v1/status HTTP/1.1\r\nho");
    let later = caller(&daemon, b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut response = [0; 12];
    (&later).read_exact(&mut response).unwrap();
    assert_eq!(&response, b"HTTP/1.1 200");
    (&later).write_all(b"GET /v1/stat").unwrap();
    assert!(rest(&first).starts_with("HTTP/1.1 408 "));
    rest(&later);
}

#[test]
fn a_connection_is_kept_for_as_long_as_it_is_used() {
    let daemon = Daemon::start(&Settings::default());
    let stream = caller(&daemon, b"");
    let mut responses = BufReader::new(&stream);
    // Longer than the limits for a head and for a pause.
    for _ in 0..14 {
        (&stream).write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        responses.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 404 "), "{line}");
        responses.fill_buf().unwrap();
        let rest = responses.buffer().len();
        responses.consume(rest);
        pace(Duration::from_millis(500));
    }
}

#[test]
fn a_body_with_a_content_length_beyond_the_limit_is_refused_unread() {
    let daemon = Daemon::start(&Settings::default());
    let response = rest(&caller(&daemon, head(1 << 40).as_bytes()));
    assert!(response.starts_with("HTTP/1.1 413 ") && response.contains("request_too_large"), "{response}");
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
}

#[test]
fn large_bodies_share_a_limit_and_are_accepted_again_when_there_is_room() {
    let settings =
        Settings::default().with("ipc.max_request_bytes", "200KiB").with("queue.max_record_bytes", "190KiB");
    let daemon = Daemon::start(&settings);
    let body = json!({"type": "T", "payload": {"text": "x".repeat(180 << 10)}}).to_string();
    let most = [head(body.len()).as_bytes(), &body.as_bytes()[..body.len() - 1]].concat();
    // One of them may arrive while another body is complete, and may be refused itself.
    let mut halves = Vec::new();
    wait_for("the room to be taken", || {
        halves.push(caller(&daemon, &most));
        let response = daemon.post("/v1/records", &body);
        if response.status == 503 {
            assert_eq!(response.code(), "busy");
        }
        (response.status == 503).then_some(())
    });
    // Small bodies do not wait for them, even if together they exceed the shared memory.
    let small = json!({"type": "T", "payload": {"text": "x".repeat(60 << 10)}}).to_string();
    for _ in 0..4 {
        daemon.post("/v1/records", &small).expect_json(201);
    }
    drop(halves);
    wait_for("room again", || (daemon.post("/v1/records", &body).status == 201).then_some(()));
}

#[test]
fn unread_manifests_use_little_memory_and_end() {
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
    // By now the daemon has written as much as the kernel buffers.
    daemon.enqueue_many(1);
    assert!(rest(&stream).ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn pipelined_requests_are_all_handled_one_at_a_time() {
    const REQUESTS: usize = 300;
    const UNREAD_REQUESTS: usize = 3000;
    let daemon = Daemon::start(&Settings::default());
    let at_once =
        |path: &str, requests: usize| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(requests);
    // One call first, so that its memory is already allocated.
    daemon.get("/v1/batches").expect_json(200);
    let before = daemon.resident_kib();
    let deaf: Vec<UnixStream> =
        (0..8).map(|_| caller(&daemon, at_once("/v1/batches", UNREAD_REQUESTS).as_bytes())).collect();
    for mut stream in &deaf {
        // The first response has begun, and all requests that are read with it have been read.
        stream.read_exact(&mut [0; 16]).unwrap();
    }
    let reading = caller(&daemon, at_once("/v1/status", REQUESTS).as_bytes());
    let heads =
        BufReader::new(&reading).lines().filter(|line| line.as_ref().unwrap().contains("HTTP/1.1 200"));
    assert_eq!(heads.take(REQUESTS).count(), REQUESTS);
    let grown = daemon.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more for {} callers that do not read", deaf.len());
}

/// Without reading. If the daemon has closed the connection, writing fails.
fn has_hung_up(mut stream: &UnixStream) -> bool {
    stream.write_all(b"x").is_err()
}

#[test]
fn unread_responses_end_their_connection() {
    let daemon = Daemon::start(&impatient());
    let stream = caller(&daemon, b"");
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    // As many as it takes: the responses fill the kernel's buffers, and then the daemon reads no more.
    wait_for("the daemon to hang up", || (&stream).write_all(request).is_err().then_some(()));
    daemon.get("/v1/status").expect_json(200);
}
