//! Reading and reviewing records.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// Rejects records whose payload says "bad".
fn reject_bad(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::correct(request);
    }
    let bad: Vec<String> = request
        .records()
        .iter()
        .filter(|record| record["payload"].to_string().contains("bad"))
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect();
    Reply::results(request.batch_id(), &request.ids(), |id| {
        Some(if bad.iter().any(|bad| bad == id) {
            json!({"status": "rejected", "code": "BAD", "message": "no"})
        } else {
            json!({"status": "applied"})
        })
    })
}

fn record(text: &str) -> Value {
    json!({"type": "T", "payload": {"text": text}})
}

#[test]
fn records_are_listed_page_by_page_in_queue_order_and_by_filter() {
    let daemon = Daemon::start(&Settings::default());
    let low = daemon.enqueue(&[json!({"type": "Late", "priority": 1, "payload": {}})]).remove(0);
    let ids = daemon.enqueue_many(25);
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("/v1/records?limit=10{cursor}")).expect_json(200);
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 10);
        seen.extend(records.iter().map(|record| record["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&after={next}");
    }
    assert_eq!(seen[..25], ids[..]);
    assert_eq!(seen[25..], [low]);
    let listed = |query: &str| {
        let page = daemon.get(&format!("/v1/records?{query}")).expect_json(200);
        page["records"].as_array().unwrap().len()
    };
    assert_eq!(listed("type=Late"), 1);
    assert_eq!(listed("type=Visits&state=PENDING"), 25);
    assert_eq!(listed("state=SYNCED"), 0);
    let manifest = daemon.get("/v1/manifest").text();
    assert_eq!(manifest.lines().count(), 26);
    let first: Value = serde_json::from_str(manifest.lines().next().unwrap()).unwrap();
    assert_eq!(first, daemon.record(&ids[0]));
}

#[test]
fn a_record_is_shown_with_its_payload_on_request_only() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let daemon = home.start();
    let odd = r#"{ "a" : 1.50,  "b":[ ] }"#;
    let id = daemon.paused(|daemon| {
        let response =
            daemon.post("/v1/records", format!(r#"{{"type":"T","payload":{odd}}}"#)).expect_json(201);
        let id = response["ids"][0].as_str().unwrap().to_owned();
        assert_eq!(daemon.record(&id).get("payload"), None);
        let shown = daemon.get(&format!("/v1/records/{id}?payload=true")).text();
        assert!(shown.ends_with(&format!("\"payload\":{odd}}}")), "{shown}");
        id
    });
    daemon.wait_until_done();
    let receipt = daemon.get(&format!("/v1/records/{id}?payload=true")).expect_json(200);
    assert_eq!((&receipt["state"], receipt.get("payload")), (&json!("SYNCED"), None));
}

#[test]
fn records_under_review_are_retried_edited_and_discarded() {
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue(&[record("bad 1"), record("bad 2"), record("bad 3"), record("good")]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 3));

    let retried = daemon.post("/v1/quarantine/retry", json!({"ids": [ids[0]]}).to_string()).expect_json(200);
    assert_eq!(retried, json!({"changed": 1}));
    server.wait_for_batches(2);
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 3));
    assert_eq!(daemon.record(&ids[0])["attempts"], 2);

    let edited =
        daemon.put(&format!("/v1/records/{}/payload", ids[1]), "{\"text\": \"fine\"}").expect_json(200);
    assert_eq!(edited["id"], ids[1]);
    assert_ne!(edited["state"], "QUARANTINED");
    assert_eq!(daemon.wait_until_done(), Counts::settled(2, 2));
    assert!(server.batches().last().unwrap().text().contains(r#""payload":{"text": "fine"}"#));

    let discarded =
        daemon.post("/v1/quarantine/discard", json!({"ids": [ids[2]]}).to_string()).expect_json(200);
    assert_eq!(discarded, json!({"changed": 1}));
    assert_eq!(daemon.record(&ids[2])["state"], "DISCARDED", "only a receipt is left");
    let all = daemon.post("/v1/quarantine/discard", r#"{"all": true}"#);
    assert_eq!((all.status, all.code().as_str()), (400, "confirmation_needed"));
    daemon.post("/v1/quarantine/discard", r#"{"all": true, "confirm": true}"#).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::settled(2, 0));
    assert_eq!(daemon.status()["queue"]["bytes"], 0);
}

#[test]
fn all_records_under_review_are_retried_at_once() {
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue(&[record("bad"), record("bad")]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 2));
    server.set_script(Reply::correct);
    let changed = daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).expect_json(200);
    assert_eq!(changed, json!({"changed": 2}));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn records_that_come_back_while_all_are_retried_are_retried_once() {
    // More than one step, in batches so small that some records return before the last step.
    const RECORDS: usize = 2500;
    let rejecting = |request: &Request| {
        let status = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(status.clone()))
    };
    let server = ScriptedServer::start(rejecting);
    let settings = Settings::for_server(&server.url()).batches_of(50).with("log.level", "info");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(RECORDS);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, RECORDS as u64));
    for _ in 0..3 {
        let changed = daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).expect_json(200);
        assert_eq!(changed, json!({"changed": RECORDS}));
        assert_eq!(daemon.wait_until_done(), Counts::settled(0, RECORDS as u64));
    }
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("on request")).count();
    assert!(lines < 20, "{lines} lines tell of {RECORDS} records");
    let discarded =
        daemon.post("/v1/quarantine/discard", r#"{"all": true, "confirm": true}"#).expect_json(200);
    assert_eq!(discarded, json!({"changed": RECORDS}));
    assert_eq!(daemon.counts(), Counts::settled(0, 0));
}

#[test]
fn a_record_under_review_blocks_later_ones_of_its_key_until_a_person_decides() {
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(1));
    let keyed = |text: &str| json!({"type": "T", "key": "a", "payload": {"text": text}});
    let ids = daemon.enqueue(&[keyed("bad"), keyed("good"), record("other")]);
    daemon.wait_until("the others to be settled", |status| {
        status["records"]["synced"] == 1 && status["records"]["quarantined"] == 1
    });
    assert_eq!(daemon.record(&ids[1])["state"], "PENDING");
    daemon.post("/v1/quarantine/discard", json!({"ids": [ids[0]]}).to_string()).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn records_that_cannot_be_reviewed_are_refused() {
    let daemon = Daemon::start(&Settings::default());
    let id = daemon.enqueue_many(1).remove(0);
    let unknown = Uuid::new_v4();
    let check = |response: crate::support::http::HttpResponse, status: u16, code: &str| {
        assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.text());
    };
    let these = |id: &str| json!({"ids": [id]}).to_string();
    check(daemon.post("/v1/quarantine/retry", these(&id)), 409, "not_quarantined");
    check(daemon.post("/v1/quarantine/discard", these(&unknown.to_string())), 404, "no_such_record");
    for wrong in ["", "{}", "[]", r#"{"all": true, "ids": []}"#, r#"{"al": true}"#, r#"{"ids": ["x"]}"#] {
        check(daemon.post("/v1/quarantine/retry", wrong), 400, "invalid_selection");
    }
    // Arrays that give the fields by position.
    for wrong in [r"[null, true, true]", r#" [["x"]]"#] {
        check(daemon.post("/v1/quarantine/discard", wrong), 400, "invalid_selection");
    }
    check(daemon.post("/v1/alerts/acknowledge", r#"["store_damaged"]"#), 400, "invalid_alert");
    check(daemon.put(&format!("/v1/records/{id}/payload"), "{}"), 409, "not_quarantined");
    check(daemon.put(&format!("/v1/records/{unknown}/payload"), "{}"), 404, "no_such_record");
    check(daemon.put(&format!("/v1/records/{id}/payload"), "[]"), 400, "invalid_record");
    check(daemon.put("/v1/records/12/payload", "{}"), 400, "invalid_id");
    let message = daemon.get("/v1/records/abc").error().1;
    assert!(message.contains("at least 4 digits of its beginning or end"), "{message}");
    assert_eq!(daemon.counts().pending, 1);
}

#[test]
fn a_pause_for_a_time_ends_by_itself() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let paused = daemon.post("/v1/pause?for_s=1", "").expect_json(200);
    assert!(paused["until"].is_string(), "{paused}");
    daemon.enqueue_many(2);
    let daemon = daemon.kill9().start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    daemon.wait_for_log("resumed: the time of the pause is over");
    assert_eq!(daemon.post("/v1/pause?for_s=0", "").code(), "invalid_query");
    for body in ["x", "[]", r#"{"until": "2030-01-01T00:00:00Z"}"#, r#"{"for_s": 31536001}"#] {
        let refused = daemon.post("/v1/pause", body);
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_pause"), "{body}");
    }
    assert!(!daemon.status()["sync"]["phase"].as_str().unwrap().contains("paused"));
    let paused = daemon.post("/v1/pause", r#"{"for_s": 1}"#).expect_json(200);
    assert!(paused["until"].is_string(), "{paused}");
    daemon.wait_until("the end of the second pause", |status| status["sync"]["phase"] != "paused");
}

#[test]
fn a_pause_survives_a_restart_and_ends_by_resume() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    assert_eq!(daemon.post("/v1/pause", "").expect_json(200), json!({"paused": true}));
    daemon.enqueue_many(2);
    let daemon = daemon.kill9().start();
    let status = daemon.wait_for_phase("paused");
    let text = status["sync"]["text"].as_str().unwrap();
    assert!(text.starts_with("Paused by ") && text.ends_with(" UTC: 2 records waiting"), "{text}");
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(server.batches().len(), 0, "a pause is not ended by trying now");
    assert_eq!(daemon.post("/v1/resume", "").expect_json(200), json!({"paused": false}));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}
