//! What a result says besides its status: the receipt, the faulty field, and how long to wait.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::events::EventReader;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// Gives each record of a batch the result that its payload holds.
fn result_in_payload() -> ScriptedServer {
    ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let records = request.records();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let record = records.iter().find(|record| record["id"] == id)?;
            Some(record["payload"]["result"].clone())
        })
    })
}

/// Enqueues a record for each result and returns the ids.
fn enqueue_for(daemon: &Daemon, results: &[Value]) -> Vec<String> {
    let record = |result: &Value| json!({"type": "Visits", "payload": {"result": result}});
    daemon.enqueue(&results.iter().map(record).collect::<Vec<_>>())
}

fn applied_with(receipt: &Value) -> Value {
    json!({"status": "applied", "receipt": receipt})
}

/// An object of this many bytes.
fn object_of(bytes: usize) -> Value {
    let filled = |length: usize| json!({"id": "4150868000000123", "note": "é".repeat(length / 2) + &"x".repeat(length % 2)});
    let receipt = filled(bytes - filled(0).to_string().len());
    assert_eq!(receipt.to_string().len(), bytes);
    receipt
}

#[test]
fn a_receipt_reaches_the_application_and_is_kept_over_a_crash() {
    let server = result_in_payload();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut events = EventReader::open(&daemon.home.socket(), None);
    let longest = object_of(1024);
    let spoken =
        json!({"action": "insert", "id": "41\u{1b}[2J\u{202e}08", "n": 1.5, "more": {"a": [null, "b c"]}});
    let results = [
        applied_with(&longest),
        json!({"status": "duplicate", "receipt": spoken}),
        json!({"status": "applied"}),
    ];
    let ids = enqueue_for(&daemon, &results);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let expected = [&longest, &spoken, &Value::Null];

    for (id, receipt) in ids.iter().zip(expected) {
        let told = events.read_until(|event| event.event == "record" && event.data["id"] == id.as_str());
        let data = &told.last().unwrap().data;
        assert_eq!((&data["state"], &data["receipt"]), (&json!("SYNCED"), receipt));
        assert_eq!(data.get("receipt").is_some(), !receipt.is_null(), "{data}");
    }
    let text = daemon.cli(&["show", &ids[1]]).stdout;
    let lines = "Receipt       action insert\n              id 41\u{fffd}[2J\u{fffd}08\n              \
        more {\"a\":[null,\"b c\"]}\n              n 1.5\n";
    assert!(text.contains(lines), "{text}");
    let text = daemon.cli(&["show", &ids[2]]).stdout;
    assert!(!text.contains("Receipt "), "{text}");
    let daemon = daemon.kill9().start();
    for (id, receipt) in ids.iter().zip(expected) {
        let detail = daemon.detail(id);
        assert_eq!((&detail["state"], detail.get("receipt")), (&json!("SYNCED"), Some(receipt)));
        let shown: Value = serde_json::from_str(&daemon.cli(&["--json", "show", id]).stdout).unwrap();
        assert_eq!(&shown["receipt"], receipt);
    }
    assert!(!daemon.log().contains("insert"), "the log has no receipts");
}

#[test]
fn what_is_not_a_receipt_is_ignored_and_the_record_is_synced() {
    let server = result_in_payload();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let deep = (0..40).fold(json!({}), |inner, _| json!({"a": inner}));
    let receipts =
        [object_of(1025), json!([{"id": 1}]), json!(17), json!("id"), json!(true), Value::Null, deep];
    let mut ids = enqueue_for(&daemon, &receipts.clone().map(|receipt| applied_with(&receipt)));
    let rejected = json!({"status": "rejected", "code": "C", "message": "m", "receipt": {"id": 1}});
    ids.extend(enqueue_for(&daemon, &[rejected]));
    assert_eq!(daemon.wait_until_done(), Counts::settled(receipts.len() as u64, 1));
    for id in &ids {
        assert_eq!(daemon.detail(id).get("receipt"), Some(&Value::Null), "{id}");
    }
}

#[test]
fn the_faulty_field_is_shown_wherever_the_error_is() {
    let server = result_in_payload();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut events = EventReader::open(&daemon.home.socket(), None);
    let rejected = |field: &Value| json!({"status": "rejected", "code": "INVALID_DATA", "message": "it must be a number", "field": field});
    let long = "x".repeat(300);
    let fields = [json!("/Amount"), json!("/a\u{1b}[2J"), json!(long), json!(7), Value::Null];
    let ids = enqueue_for(&daemon, &fields.clone().map(|field| rejected(&field)));
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 5));

    let seen = events.read_until(|event| event.event == "record");
    assert_eq!(seen.last().unwrap().data["last_error"]["field"], "/Amount");
    let expected = [Some("/Amount"), Some("/a\u{fffd}[2J"), Some(&long[..200]), None, None];
    let daemon = daemon.restart();
    for (id, field) in ids.iter().zip(expected) {
        let error = daemon.record(id)["last_error"].clone();
        assert_eq!(error.get("field").and_then(Value::as_str), field, "{error}");
        assert_eq!(error.get("field").is_some(), field.is_some(), "{error}");
    }
    let sentence = "rejected (HTTP 200) INVALID_DATA at /Amount: it must be a number";
    for arguments in [&["show", &ids[0]][..], &["quarantine", "list"], &["quarantine", "show", &ids[0]]] {
        let text = daemon.cli(arguments).stdout;
        assert!(text.contains(sentence), "{arguments:?}: {text}");
    }
    let listed: Value = serde_json::from_str(&daemon.cli(&["--json", "quarantine", "list"]).stdout).unwrap();
    assert!(listed.to_string().contains(r#""field":"/Amount""#), "{listed}");
    let exported = daemon.cli(&["quarantine", "export"]).stdout;
    assert!(exported.contains(r#""field":"/Amount""#), "{exported}");
}

/// How long a record waits from its failure to its next attempt, in milliseconds.
fn wait_of(daemon: &Daemon, id: &str) -> u64 {
    #[derive(Deserialize)]
    struct Times {
        #[serde(with = "fieldsync::clock::as_rfc3339")]
        updated_at: u64,
        #[serde(with = "fieldsync::clock::as_rfc3339")]
        next_attempt_at: u64,
    }
    let Times { updated_at, next_attempt_at } = serde_json::from_value(daemon.record(id)).unwrap();
    next_attempt_at - updated_at
}

#[test]
fn records_are_sent_again_when_the_server_asks_for_it_and_at_the_configured_limit_at_the_latest() {
    let retry = |seconds: Value| json!({"status": "retry", "code": "BUSY", "retry_after_s": seconds});
    for (asked, expected_s) in [
        (vec![retry(json!(300)), retry(json!(40)), json!({"status": "retry"})], 300),
        (vec![retry(json!(u64::MAX)), retry(json!(7))], 600),
        (vec![retry(json!("soon")), retry(json!(-300)), retry(json!(1.5)), retry(json!(30))], 30),
    ] {
        let server = result_in_payload();
        let settings = Settings::for_server(&server.url()).with("retry.max_retry_after", "10m");
        let daemon = Daemon::start(&settings);
        let ids = enqueue_for(&daemon, &asked);
        daemon.wait_until("all of them to wait", |status| status["records"]["failed"] == asked.len());
        for id in &ids {
            let wait = wait_of(&daemon, id);
            // The clocks of both times are read one after the other.
            assert!(wait.abs_diff(expected_s * 1000) < 1000, "{wait} ms instead of {expected_s} s");
        }
        assert_eq!(daemon.detail(&ids[0])["waiting_for"]["reason"], "backoff");
        server.set_script(Reply::correct);
        assert_eq!(daemon.cli(&["sync", "--wait"]).code, Some(0), "a person ends the wait");
        assert_eq!(server.sizes(), [ids.len(); 2], "they are sent again together");
    }
}

#[test]
fn a_wait_shorter_than_the_back_off_does_not_shorten_it() {
    let server = result_in_payload();
    let settings = Settings::for_server(&server.url())
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let ids = enqueue_for(&daemon, &[json!({"status": "retry", "retry_after_s": 1})]);
    daemon.wait_until("it to wait", |status| status["records"]["failed"] == 1);
    assert!(wait_of(&daemon, &ids[0]) > 100_000);
}

#[test]
fn a_receipt_that_repeats_the_token_is_not_kept() {
    const TOKEN: &str = "sesame/open-6f2a";
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        // As some libraries write JSON, and with the token as a name.
        let results: Vec<String> = request
            .ids()
            .iter()
            .zip([
                r#"{"by":"Bearer sesame/open-6f2a"}"#,
                r#"{"by":["sesame\/open-6f2a"]}"#,
                r#"{"\u0073esame/open-6f2a":1}"#,
                r#"{"by":"sesame"}"#,
            ])
            .map(|(id, receipt)| format!(r#"{{"id":"{id}","status":"applied","receipt":{receipt}}}"#))
            .collect();
        let body = format!(r#"{{"batch_id":"{}","results":[{}]}}"#, request.batch_id(), results.join(","));
        Reply::text(200, "application/json", &body)
    });
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, TOKEN, 0o600);
    home.configure(&Settings::for_server(&server.url()).with("server.token_file", token.to_str().unwrap()));
    let daemon = home.start();
    let ids = daemon.enqueue_many(4);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    let receipts: Vec<Value> = ids.iter().map(|id| daemon.detail(id)["receipt"].clone()).collect();
    assert_eq!(receipts, [Value::Null, Value::Null, Value::Null, json!({"by": "sesame"})]);
}
