//! What `POST /v1/records` accepts and refuses: all records of a request or none.

use std::process::Command;

use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::keys;
use crate::support::daemon::{Counts, Daemon, NDJSON};
use crate::support::http::HttpResponse;
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

const GOOD: &str = r#"{"type":"T","payload":{}}"#;
const JSON: &str = "application/json";

#[track_caller]
fn refused(response: &HttpResponse, status: u16, code: &str) -> Value {
    assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.text());
    assert_eq!(response.header("content-type"), JSON);
    let body = response.json();
    assert_eq!(keys(&body), ["error"]);
    assert!(body["error"]["message"].as_str().unwrap().len() > 10);
    body["error"].clone()
}

#[test]
fn a_faulty_record_is_refused_with_its_position_and_nothing_of_its_request_is_stored() {
    let daemon = Daemon::start(&Settings::default());
    for (bad, part) in [
        (r#"{"payload":{}}"#, "`type` is missing"),
        (r#"{"type":"T"}"#, "`payload` is missing"),
        (r#"{"type":7,"payload":{}}"#, "`type` must be a text in quotes"),
        (r#"{"type":"","payload":{}}"#, "`type`"),
        (r#"{"type":"T","payload":[]}"#, "must be a JSON object"),
        (r#"{"type":"T","payload":null}"#, "must be a JSON object"),
        (r#"{"type":"T","payload":{},"priority":10}"#, "between 0 and 9"),
        (r#"{"type":"T","payload":{},"priority":"5"}"#, "`priority` must be a whole number between 0 and 9"),
        (r#"{"type":"T","payload":{},"id":"17"}"#, "`id` must be a UUID, such as 0195b3f2-"),
        (r#"{"type":"T","payload":{},"key":""}"#, "`key`"),
        (
            r#"{"type":"T","payload":{},"kye":"a"}"#,
            "`kye` is not known here; known are id, type, key, priority, payload",
        ),
        ("7", "must be a JSON object"),
        (r#"[null,"T",null,5,{"a":1}]"#, "must be a JSON object"),
        (r#" [null,"T",null,5,{"a":1}] "#, "must be a JSON object"),
    ] {
        let array = daemon.post("/v1/records", format!("[{GOOD},{GOOD},{bad},{GOOD}]"));
        let error = refused(&array, 400, "invalid_record");
        assert_eq!(error["position"], 3, "{bad}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error} lacks {part}");
        let lines = daemon.call(Method::POST, "/v1/records", NDJSON, format!("{GOOD}\n\n{bad}\n{GOOD}\n"));
        assert_eq!(refused(&lines, 400, "invalid_record")["position"], 3, "{bad}");
    }
    for malformed in ["", "{", "[", "[1,", "\u{0}\u{1}", "null", "[{\"type\":\"T\",\"payload\":{}},]"] {
        refused(&daemon.post("/v1/records", malformed), 400, "invalid_record");
    }
    refused(&daemon.post("/v1/records", format!("{GOOD}\n{GOOD}\n")), 400, "invalid_record");
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn an_empty_request_is_accepted() {
    let daemon = Daemon::start(&Settings::default());
    let expected = json!({"accepted": 0, "duplicates": 0, "ids": []});
    assert_eq!(daemon.post("/v1/records", "[]").expect_json(201), expected);
    assert_eq!(daemon.call(Method::POST, "/v1/records", NDJSON, "\n\n").expect_json(201), expected);
}

#[test]
fn a_byte_order_mark_is_skipped_by_every_interface() {
    const MARK: &str = "\u{feff}";
    let daemon = Daemon::start(&Settings::default());
    for (kind, body) in [
        (JSON, format!("{MARK}{GOOD}")),
        (JSON, format!("{MARK}[{GOOD},{GOOD}]")),
        (NDJSON, format!("{MARK}{GOOD}\r\n{GOOD}\r\n")),
        (NDJSON, MARK.to_owned()),
    ] {
        let taken = daemon.call(Method::POST, "/v1/records", kind, &body).expect_json(201);
        assert_eq!(taken["accepted"], body.matches("type").count(), "{body}");
        let ran = daemon.cli_with(&["enqueue"], body.as_bytes());
        assert_eq!(ran.code, Some(0), "{body}: {ran:?}");
    }
    assert_eq!(daemon.counts().pending, 2 * 5);
    for bad in [format!("{MARK}{MARK}{GOOD}"), format!("{GOOD}\n{MARK}{GOOD}\n")] {
        let response = daemon.call(Method::POST, "/v1/records", NDJSON, &bad);
        refused(&response, 400, "invalid_record");
        assert_eq!(daemon.cli_with(&["enqueue"], bad.as_bytes()).code, Some(8));
    }
    let unknown = daemon.post("/v1/quarantine/retry", format!("{MARK}{{\"ids\": [\"{}\"]}}", Uuid::new_v4()));
    assert_eq!(unknown.code(), "no_such_record", "its selection was read: {}", unknown.text());
}

#[test]
fn ids_of_the_application_are_kept_and_missing_ones_are_generated() {
    let daemon = Daemon::start(&Settings::default());
    let (mine, two) = (Uuid::new_v4(), format!("[{GOOD},{GOOD}]"));
    let body = json!({"id": mine, "type": "T", "payload": {"a": 1}}).to_string();
    assert_eq!(
        daemon.post("/v1/records", &body).expect_json(201),
        json!({"accepted": 1, "duplicates": 0, "ids": [mine]})
    );
    let made = daemon.post("/v1/records", two).expect_json(201);
    for id in made["ids"].as_array().unwrap() {
        assert_eq!(id.as_str().unwrap().parse::<Uuid>().unwrap().get_version_num(), 7);
    }
    // The same record again is a duplicate. With other content it is a conflict, and its request stores nothing.
    assert_eq!(
        daemon.post("/v1/records", &body).expect_json(201),
        json!({"accepted": 0, "duplicates": 1, "ids": [mine]})
    );
    for other in [
        json!({"id": mine, "type": "T", "payload": {"a": 2}}),
        json!({"id": mine, "type": "U", "payload": {"a": 1}}),
        json!({"id": mine, "type": "T", "key": "k", "payload": {"a": 1}}),
    ] {
        let response = daemon.post("/v1/records", format!("[{GOOD},{other}]"));
        assert_eq!(refused(&response, 409, "id_conflict")["position"], 2);
    }
    let twice = daemon.post("/v1/records", format!("[{body},{body}]")).expect_json(201);
    assert_eq!(twice["duplicates"], 2);
    assert_eq!(daemon.counts().pending, 3);
}

#[test]
fn ids_of_every_version_and_priorities_from_0_to_9_are_accepted() {
    let daemon = Daemon::start(&Settings::default());
    for number in 0..=9 {
        let id = format!("0191b3a0-0000-{number:x}000-8000-00000000000{number}");
        let record = json!({"id": id, "type": "T", "priority": number, "payload": {}});
        assert_eq!(daemon.post("/v1/records", record.to_string()).expect_json(201)["ids"], json!([id]));
        assert_eq!(daemon.record(&id)["priority"], number);
    }
    assert_eq!(daemon.record(&daemon.enqueue_many(1)[0])["priority"], 5);
    for wrong in ["-1", "10", "5.5"] {
        let record = format!(r#"{{"type":"T","priority":{wrong},"payload":{{}}}}"#);
        refused(&daemon.post("/v1/records", record), 400, "invalid_record");
    }
}

#[test]
fn curl_can_use_the_api() {
    let daemon = Daemon::start(&Settings::default());
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl on this machine");
        return;
    }
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--unix-socket"]).arg(daemon.home.socket());
    curl.args(["--header", "content-type: application/json", "--data", GOOD, "http://localhost/v1/records"]);
    let ran = run(&mut curl, b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["accepted"], 1);
    assert_eq!(daemon.counts().pending, 1);
}

#[test]
fn a_record_stays_known_after_it_was_synced() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let body = json!({"id": Uuid::new_v4(), "type": "T", "payload": {}}).to_string();
    daemon.post("/v1/records", &body).expect_json(201);
    daemon.wait_until_done();
    assert_eq!(daemon.post("/v1/records", &body).expect_json(201)["duplicates"], 1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn what_is_too_large_is_refused() {
    let settings =
        Settings::default().with("queue.max_record_bytes", "1KiB").with("ipc.max_request_bytes", "100KiB");
    let daemon = Daemon::start(&settings);
    let large = json!({"type": "T", "payload": {"text": "x".repeat(1100)}});
    let response = daemon.post("/v1/records", format!("[{GOOD},{large}]"));
    assert_eq!(refused(&response, 413, "record_too_large")["position"], 2);
    let many = vec![GOOD; 5000].join("\n");
    let response = daemon.call(Method::POST, "/v1/records", NDJSON, many);
    refused(&response, 413, "request_too_large");
    assert_eq!(daemon.counts().pending, 0);
    // The limit itself is allowed.
    let fitting = json!({"text": "x".repeat(1024 - 11)});
    assert_eq!(fitting.to_string().len(), 1024);
    daemon.enqueue(&[json!({"type": "T", "payload": fitting})]);
}

#[test]
fn a_request_of_very_many_tiny_records_is_refused_as_a_whole() {
    let daemon = Daemon::start(&Settings::default());
    let many = vec![GOOD; 50_001];
    let array = daemon.post("/v1/records", format!("[{}]", many.join(",")));
    let lines = daemon.call(Method::POST, "/v1/records", NDJSON, many.join("\n"));
    for response in [array, lines] {
        let error = refused(&response, 413, "request_too_large");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("50000") && message.contains("fewer records"), "{error}");
    }
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_full_queue_refuses_records_until_there_is_room() {
    let server = ScriptedServer::start(Reply::correct);
    let settings = Settings::for_server(&server.url()).with("queue.max_records", "5");
    let daemon = Daemon::start(&settings);
    daemon.paused(|daemon| {
        daemon.enqueue_many(4);
        let full = daemon.post("/v1/records", format!("[{GOOD},{GOOD}]"));
        refused(&full, 507, "queue_full");
        assert_eq!(full.header("retry-after"), "60");
        assert_eq!(daemon.counts().pending, 4, "all or nothing");
        daemon.enqueue_many(1);
        refused(&daemon.post("/v1/records", GOOD), 507, "queue_full");
    });
    daemon.wait_until_done();
    daemon.enqueue_many(5);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(10));
}

#[test]
fn a_queue_is_full_by_its_bytes_too() {
    let settings = Settings::default().with("queue.max_bytes", "2KiB").with("queue.max_record_bytes", "1KiB");
    let daemon = Daemon::start(&settings);
    let large = json!({"type": "T", "payload": {"text": "x".repeat(900)}});
    daemon.enqueue(&[large.clone(), large.clone()]);
    let error = refused(&daemon.post("/v1/records", large.to_string()), 507, "queue_full");
    assert!(error["message"].as_str().unwrap().contains("queue.max_bytes"), "{error}");
}

#[test]
fn control_characters_in_a_type_or_a_key_are_refused_by_every_interface() {
    let daemon = Daemon::start(&Settings::default());
    for character in ['\0', '\u{1}', '\t', '\n', '\u{1b}', '\u{7f}', '\u{80}', '\u{9f}'] {
        for field in ["type", "key"] {
            let mut record = json!({"type": "T", "key": "k", "payload": {}});
            record[field] = format!("a{character}b").into();
            let said = format!("`{field}` must not contain control characters");
            let array = daemon.post("/v1/records", format!("[{GOOD},{record}]"));
            let error = refused(&array, 400, "invalid_record");
            assert_eq!(error["position"], 2);
            assert!(error["message"].as_str().unwrap().contains(&said), "{error}");
            let lines = daemon.call(Method::POST, "/v1/records", NDJSON, format!("{GOOD}\n{record}\n"));
            assert_eq!(refused(&lines, 400, "invalid_record")["position"], 2);
            let ran = daemon.cli_with(&["enqueue"], format!("{GOOD}\n{record}\n").as_bytes());
            assert_eq!(ran.code, Some(8), "{ran:?}");
            assert!(ran.stderr.contains(&said) && ran.stderr.contains("standard input:2:"), "{}", ran.stderr);
        }
    }
    let ran = daemon.cli_with(&["enqueue", "--type", "a\u{1b}[2J"], b"{}");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let ran = daemon.cli_with(&["enqueue", "--type", "T", "--key-field", "k"], b"{\"k\":\"a\\u0000b\"}");
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert_eq!(daemon.counts().pending, 0);
    daemon.enqueue(&[json!({"type": "Zürich é", "key": "日本", "payload": {"text": "a\tb\u{9b}"}})]);
}

/// An object with arrays nested to this depth, the object included.
fn nested(depth: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[test]
fn a_payload_that_is_nested_too_deeply_is_refused_by_every_interface() {
    let server = ScriptedServer::at_first(1, |request| {
        let bad = json!({"status": "rejected", "code": "BAD", "message": "no"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue(&[json!({"type": "T", "payload": {}})]).remove(0);
    daemon.wait_until_done();
    // A megabyte of brackets, and one level too many.
    for depth in [500_000, 129] {
        let payload = nested(depth);
        let record = format!("{{\"type\":\"T\",\"payload\":{payload}}}");
        for (kind, body) in [(JSON, format!("[{GOOD},{record}]")), (NDJSON, format!("{GOOD}\n{record}\n"))] {
            let error = refused(&daemon.call(Method::POST, "/v1/records", kind, body), 400, "invalid_record");
            assert_eq!(error["position"], 2);
            assert!(error["message"].as_str().unwrap().contains("deeper than 128"), "{error}");
        }
        let put = daemon.put(&format!("/v1/records/{id}/payload"), &payload);
        let error = refused(&put, 400, "invalid_record");
        assert!(error["message"].as_str().unwrap().contains("deeper than 128"), "{error}");
        let ran = daemon.cli_with(&["enqueue"], format!("{GOOD}\n{record}\n").as_bytes());
        assert_eq!(ran.code, Some(8), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("deeper than 128") && ran.stderr.contains("standard input:2:"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(daemon.counts(), Counts::settled(0, 1));
    let deepest = nested(128);
    let record = format!("{{\"type\":\"T\",\"payload\":{deepest}}}");
    daemon.post("/v1/records", record).expect_json(201);
    // Brackets in strings do not count.
    let text = format!("{{\"type\":\"T\",\"payload\":{{\"a\":\"\\\"{}\"}}}}", "[{".repeat(200));
    daemon.post("/v1/records", text).expect_json(201);
    daemon.put(&format!("/v1/records/{id}/payload"), deepest).expect_json(200);
}
