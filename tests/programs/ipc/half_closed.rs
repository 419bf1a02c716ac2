//! Callers that half-close their connection, and callers that close it.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::events::EventReader;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// A request to enqueue a record of about this many bytes.
fn request(bytes: usize) -> String {
    let body = json!({"type": "T", "payload": {"text": "x".repeat(bytes)}}).to_string();
    format!("POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_caller_that_half_closes_after_its_request_gets_its_response() {
    let daemon = Daemon::start(&Settings::default());
    let mut stored = 0;
    for bytes in [1, 30_000, 40_000, 100_000, 140_000, 700_000] {
        for _ in 0..10 {
            let response = daemon.raw(request(bytes).as_bytes());
            assert!(response.starts_with("HTTP/1.1 201 "), "{bytes}: {response}");
            stored += 1;
        }
        let responses = daemon.raw([request(bytes), request(bytes)].concat().as_bytes());
        assert_eq!(responses.matches("HTTP/1.1 201 ").count(), 2, "{bytes}: {responses}");
        stored += 2;
    }
    let chunked =
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    assert!(daemon.raw(chunked).starts_with("HTTP/1.1 201 "));
    assert!(daemon.raw(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(daemon.counts().pending, stored);
}

#[test]
fn a_body_cut_off_by_a_half_close_is_refused_at_once() {
    let daemon = Daemon::start(&Settings::default().with("ipc.stall_timeout", "1h"));
    for bytes in [10, 50_000, 200_000] {
        let request = request(bytes);
        let response = daemon.raw(&request.as_bytes()[..request.len() - 5]);
        assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("broken_request"), "{response}");
    }
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_half_closed_event_reader_continues_and_a_closed_one_frees_its_slot_at_once() {
    let settings = Settings::default().with("ipc.max_event_streams", "1").with("ipc.stall_timeout", "1h");
    let daemon = Daemon::start(&settings);
    let open = || EventReader::open(&daemon.home.socket(), None);
    let mut reader = open();
    assert_eq!(reader.next().unwrap().event, "status");
    reader.shutdown_write();
    assert_eq!(open().status(), 503);
    daemon.post("/v1/pause", "").expect_json(200);
    reader.read_until(|seen| seen.data["sync"]["phase"] == "paused");
    drop(reader);
    // No event happens in this time.
    wait_for("the place to be free", || (open().status() == 200).then_some(()));
    drop(open());
    wait_for("the place to be free again", || (open().status() == 200).then_some(()));
}

#[test]
fn a_kept_connection_does_not_delay_shutdown() {
    let daemon = Daemon::start(&Settings::default().with("log.level", "info"));
    let mut kept =
        EventReader::with_request(&daemon.home.socket(), "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(kept.status(), 200);
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!home.log().contains("connections on the socket that are still open"), "{}", home.log());
    drop(kept);
}
