//! Limits are exact to the record and to the byte, even with concurrent callers.

use std::thread;

use serde_json::json;

use crate::support::daemon::{Daemon, Home};
use crate::support::http::HttpResponse;
use crate::support::process::Guard;
use crate::support::settings::Settings;

const PRODUCERS: usize = 16;
const EACH: usize = 25;

/// Many producers send one request after the other, concurrently. Returns the responses.
fn send_concurrently(daemon: &Daemon, request: impl Fn(usize) -> String + Sync) -> Vec<HttpResponse> {
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let request = &request;
                scope.spawn(move || {
                    let requests = (0..EACH).map(|n| request(producer * EACH + n));
                    requests.map(|body| daemon.post("/v1/records", body)).collect::<Vec<_>>()
                })
            })
            .collect();
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    })
}

/// More than any counter here can hold.
const ABSURD: &str = "9000000000000000000";

#[test]
fn a_connection_limit_beyond_what_a_device_supports_is_refused_with_key_and_reason() {
    for (key, number, reason) in [
        ("ipc.max_connections", ABSURD, "at most 65536"),
        ("ipc.max_connections", "65537", "at most 65536"),
        ("ipc.max_connections", "1", "at least 2"),
        ("ipc.max_event_streams", ABSURD, "at most 65536"),
        ("web.max_connections", ABSURD, "at most 65536"),
    ] {
        let home = Home::new(&Settings::default().with(key, number));
        let ended = Guard(home.command().spawn().unwrap()).wait();
        let log = home.log();
        assert_eq!(ended.code(), Some(78), "{key} = {number}: {log}");
        assert!(log.contains(key) && log.contains(reason), "{log}");
    }
}

#[test]
fn a_reload_with_too_many_connections_is_refused_and_the_old_limit_stays() {
    let daemon = Daemon::start(&Settings::default());
    let page = Settings::default().with("web.listen", "127.0.0.1:0");
    for key in ["web.max_connections", "ipc.max_connections"] {
        daemon.home.configure(&page.clone().with(key, ABSURD));
        daemon.signal("HUP");
        daemon.wait_for_log(&format!("{key}: must be at most 65536"));
    }
    assert_eq!(daemon.log().matches("the configuration was not changed").count(), 2, "{}", daemon.log());
    daemon.enqueue_many(1);
}

fn accepted(responses: &[HttpResponse]) -> u64 {
    let good = responses.iter().filter(|response| response.status == 201);
    good.map(|response| response.json()["accepted"].as_u64().unwrap()).sum()
}

fn all_else_is_full(responses: &[HttpResponse]) {
    for response in responses.iter().filter(|response| response.status != 201) {
        assert_eq!((response.status, response.code().as_str()), (507, "queue_full"), "{}", response.text());
    }
}

#[test]
fn the_limit_of_records_is_exact_under_concurrent_requests() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "250"));
    let responses = send_concurrently(&daemon, |n| json!({"type": "T", "payload": {"n": n}}).to_string());
    assert_eq!((accepted(&responses), daemon.counts().pending), (250, 250));
    all_else_is_full(&responses);
    let more = daemon.cli_with(&["enqueue"], br#"{"type":"T","payload":{}}"#);
    assert_eq!(more.code, Some(7), "{}", more.stderr);
}

#[test]
fn a_full_queue_is_said_by_the_status_the_check_and_doctor() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "5"));
    daemon.enqueue_many(3);
    let status = daemon.cli(&["status"]).stdout;
    assert!(status.contains("Queue         3 of 5 records, "), "{status}");
    assert!(!status.contains("full"), "{status}");
    daemon.enqueue_many(2);
    let refused = daemon.cli_with(&["enqueue"], br#"{"type":"T","payload":{}}"#);
    assert_eq!(refused.code, Some(7), "{}", refused.stderr);
    daemon.wait_until("the alert of a full queue", |status| status["alerts"][0]["severity"] == "critical");
    let status = daemon.cli(&["status"]).stdout;
    let mut lines = status.lines();
    assert!(lines.next().unwrap().starts_with("The queue is full: no new records are taken. "), "{status}");
    assert!(lines.next().unwrap().contains("raise queue.max_records"), "{status}");
    let alert =
        "ALERT queue_filling: the queue holds 5 of at most 5 records; the queue is full (queue.max_records)";
    assert!(status.contains(alert), "{status}");
    let check = daemon.cli(&["status", "--check"]);
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("the queue is full (queue.max_records)"), "{}", check.stdout);
    let doctor = daemon.cli(&["doctor"]).stdout;
    assert!(doctor.contains("the queue is full (queue.max_records)"), "{doctor}");
}

#[test]
fn a_request_that_does_not_fit_as_a_whole_is_refused_as_a_whole() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "250"));
    let responses = send_concurrently(&daemon, |n| {
        let record = json!({"type": "T", "payload": {"n": n}});
        json!([record, record, record]).to_string()
    });
    assert_eq!((accepted(&responses), daemon.counts().pending), (249, 249));
    all_else_is_full(&responses);
}

#[test]
fn the_limit_of_bytes_is_exact_under_concurrent_requests() {
    // {"x":"…"} with 92 letters has 100 bytes.
    let daemon = Daemon::start(
        &Settings::default().with("queue.max_bytes", "12345B").with("queue.max_record_bytes", "1000B"),
    );
    let responses =
        send_concurrently(&daemon, |_| json!({"type": "T", "payload": {"x": "y".repeat(92)}}).to_string());
    assert_eq!((accepted(&responses), daemon.counts().pending), (123, 123));
    assert_eq!(daemon.status()["queue"]["bytes"], 12300);
    all_else_is_full(&responses);
}
