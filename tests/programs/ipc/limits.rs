//! Limits hold to the record and to the byte, whoever comes at once.

use std::thread;

use serde_json::json;

use crate::support::daemon::{Daemon, Home};
use crate::support::http::Answer;
use crate::support::process::Guard;
use crate::support::settings::Settings;

const PRODUCERS: usize = 16;
const EACH: usize = 25;

/// Many producers hand over one request after the other, all at the same time; the answers.
fn crowd(daemon: &Daemon, request: impl Fn(usize) -> String + Sync) -> Vec<Answer> {
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

/// More than anything here can count.
const ABSURD: &str = "9000000000000000000";

#[test]
fn connections_beyond_what_a_device_can_hold_are_refused_with_key_and_reason() {
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
fn a_reload_that_asks_for_too_many_connections_is_refused_and_the_old_ones_stay() {
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

fn accepted(answers: &[Answer]) -> u64 {
    let good = answers.iter().filter(|answer| answer.status == 201);
    good.map(|answer| answer.json()["accepted"].as_u64().unwrap()).sum()
}

fn all_else_is_full(answers: &[Answer]) {
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((answer.status, answer.code().as_str()), (507, "queue_full"), "{}", answer.text());
    }
}

#[test]
fn the_number_of_records_holds_exactly_however_many_come_at_once() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "250"));
    let answers = crowd(&daemon, |n| json!({"type": "T", "payload": {"n": n}}).to_string());
    assert_eq!((accepted(&answers), daemon.counts().pending), (250, 250));
    all_else_is_full(&answers);
    let more = daemon.cli_with(&["enqueue"], br#"{"type":"T","payload":{}}"#);
    assert_eq!(more.code, Some(7), "{}", more.stderr);
}

#[test]
fn a_request_that_does_not_fit_as_a_whole_is_refused_as_a_whole() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "250"));
    let answers = crowd(&daemon, |n| {
        let record = json!({"type": "T", "payload": {"n": n}});
        json!([record, record, record]).to_string()
    });
    assert_eq!((accepted(&answers), daemon.counts().pending), (249, 249));
    all_else_is_full(&answers);
}

#[test]
fn the_number_of_bytes_holds_exactly_however_many_come_at_once() {
    // {"x":"…"} with 92 letters has 100 bytes.
    let daemon = Daemon::start(
        &Settings::default().with("queue.max_bytes", "12345B").with("queue.max_record_bytes", "1000B"),
    );
    let answers = crowd(&daemon, |_| json!({"type": "T", "payload": {"x": "y".repeat(92)}}).to_string());
    assert_eq!((accepted(&answers), daemon.counts().pending), (123, 123));
    assert_eq!(daemon.status()["queue"]["bytes"], 12300);
    all_else_is_full(&answers);
}
