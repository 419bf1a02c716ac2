//! Callers that say that they will send no more, and those that are gone.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::events::EventReader;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// A request to enqueue a record of about so many bytes.
fn request(bytes: usize) -> String {
    let body = json!({"type": "T", "payload": {"text": "x".repeat(bytes)}}).to_string();
    format!("POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_caller_that_ends_its_half_behind_its_request_gets_its_answer() {
    let daemon = Daemon::start(&Settings::default());
    let mut stored = 0;
    for bytes in [1, 30_000, 40_000, 100_000, 140_000, 700_000] {
        for _ in 0..10 {
            let answer = daemon.raw(request(bytes).as_bytes());
            assert!(answer.starts_with("HTTP/1.1 201 "), "{bytes}: {answer}");
            stored += 1;
        }
        let answers = daemon.raw([request(bytes), request(bytes)].concat().as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 201 ").count(), 2, "{bytes}: {answers}");
        stored += 2;
    }
    let chunked =
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    assert!(daemon.raw(chunked).starts_with("HTTP/1.1 201 "));
    assert!(daemon.raw(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(daemon.counts().pending, stored);
}

#[test]
fn a_body_whose_rest_cannot_come_any_more_is_refused_at_once() {
    let daemon = Daemon::start(&Settings::default().with("ipc.stall_timeout", "1h"));
    for bytes in [10, 50_000, 200_000] {
        let request = request(bytes);
        let answer = daemon.raw(&request.as_bytes()[..request.len() - 5]);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("broken_request"), "{answer}");
    }
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_reader_of_events_that_ends_its_half_goes_on_and_one_that_is_gone_frees_its_place_at_once() {
    let daemon = Daemon::start(&Settings::default().with("ipc.max_event_streams", "1"));
    let open = || EventReader::open(&daemon.home.socket(), None);
    let mut reader = open();
    assert_eq!(reader.next().unwrap().event, "status");
    reader.end_half();
    assert_eq!(open().status(), 503);
    daemon.post("/v1/pause", "").good(200);
    reader.until(|seen| seen.data["sync"]["phase"] == "paused");
    drop(reader);
    // Nothing happens that could be told to it.
    wait_for("the place to be free", || (open().status() == 200).then_some(()));
    drop(open());
    wait_for("the place to be free again", || (open().status() == 200).then_some(()));
}

#[test]
fn a_connection_that_is_kept_does_not_hold_up_the_end() {
    let daemon = Daemon::start(&Settings::default().with("log.level", "info"));
    let mut kept =
        EventReader::ask(&daemon.home.socket(), "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(kept.status(), 200);
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!home.log().contains("connections on the socket that are still open"), "{}", home.log());
    drop(kept);
}
