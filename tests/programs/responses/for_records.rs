//! Responses with a result for each record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::storms::count_batches_of_tries;
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// Responds to the first batch with `result` for its first record, and `applied` for the others.
fn odd_one(result: Option<Value>) -> ScriptedServer {
    ScriptedServer::at_first(1, move |request| {
        let ids = request.ids();
        Reply::results(request.batch_id(), &ids, |id| {
            if id == ids[0] { result.clone() } else { Some(json!({"status": "applied"})) }
        })
    })
}

/// The back-off is long enough to read the failed record, and `POST /v1/sync` ends it.
fn failed_then_synced(server: &ScriptedServer, class: &str) {
    let settings = Settings::for_server(&server.url())
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let ids = daemon.enqueue_many(3);
    daemon.wait_until("the others to be synced", |status| status["records"]["synced"] == 2);
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["state"], &entry["attempts"]), (&json!("FAILED"), &json!(1)));
    assert_eq!(entry["last_error"]["class"], class);
    assert!(entry["next_attempt_at"].is_string());
    assert_eq!(server.batches().len(), 1);
    assert_eq!(daemon.cli(&["sync", "--wait"]).code, Some(0));
    assert_eq!(daemon.counts(), Counts::all_synced(3));
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(2), &Value::Null));
    assert_eq!(entry["next_attempt_at"], Value::Null);
    let batches = server.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].ids(), ids[..1]);
    assert_ne!(batches[0].batch_id(), batches[1].batch_id(), "another set has another id");
}

#[test]
fn a_record_without_a_result_is_failed_and_sent_again() {
    failed_then_synced(&odd_one(None), "no_result");
}

#[test]
fn a_record_to_be_retried_later_is_failed_and_sent_again() {
    failed_then_synced(&odd_one(Some(json!({"status": "retry", "code": "LOCKED"}))), "retry");
}

#[test]
fn the_status_says_why_the_server_wants_records_again() {
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let ids = request.ids();
        Reply::results(request.batch_id(), &ids, |id| {
            let held = json!({"status": "retry", "code": "HELD", "message": "behind another"});
            let stopped = json!({"status": "retry", "code": "STOPPED", "message": "the module is gone"});
            Some(if id == ids[0] { held } else { stopped })
        })
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.paused(|daemon| daemon.enqueue_many(3));
    let status = daemon.wait_until("the reason", |status| !status["sync"]["last_error"].is_null());
    let error = &status["sync"]["last_error"];
    assert_eq!((&error["class"], &error["code"]), (&json!("retry"), &json!("STOPPED")));
    assert_eq!(error["message"], "the module is gone");
    assert!(daemon.cli(&["status"]).stdout.contains("the module is gone"));
}

#[test]
fn a_record_that_is_retried_after_its_back_off_is_synced() {
    let server = odd_one(Some(json!({"status": "retry"})));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(daemon.record(&ids[0])["attempts"], 2);
}

#[test]
fn a_record_that_is_rejected_is_quarantined_with_code_and_message() {
    let result = json!({"status": "rejected", "code": "INVALID_DATA", "message": "Amount must be a number"});
    let server = odd_one(Some(result));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::settled(2, 1));
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["state"], &entry["attempts"]), (&json!("QUARANTINED"), &json!(1)));
    let error = &entry["last_error"];
    assert_eq!((&error["class"], &error["code"]), (&json!("rejected"), &json!("INVALID_DATA")));
    assert_eq!(error["message"], "Amount must be a number");
    let text = &daemon.status()["sync"]["text"];
    assert_eq!(text, "2 of 3 records synced (1 needs review)");
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn a_record_that_the_server_already_has_is_synced() {
    let server = odd_one(Some(json!({"status": "duplicate"})));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
}

#[test]
fn a_result_for_a_record_outside_of_the_batch_is_ignored_and_logged() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(2));
    let ids = daemon.paused(|daemon| {
        let ids = daemon.enqueue_many(4);
        let foreign = ids[3].clone();
        server.set_script(move |request| {
            if !request.is_batch() {
                return Reply::correct(request);
            }
            let mut answered = request.ids();
            if !answered.contains(&foreign) {
                answered.push(foreign.clone());
                answered.push(uuid::Uuid::new_v4().to_string());
            }
            Reply::results(request.batch_id(), &answered, |_| Some(json!({"status": "applied"})))
        });
        ids
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    assert_eq!(server.sizes(), [2, 2], "the foreign result settled nothing");
    assert!(server.batches()[1].ids().contains(&ids[3]));
    daemon.wait_for_log("2 results for records outside of batch");
}

#[test]
fn the_same_record_twice_in_a_response_is_settled_by_its_first_result() {
    let server = ScriptedServer::at_first(1, |request| {
        let ids = request.ids();
        let results = json!([
            {"id": ids[0], "status": "applied"},
            {"id": ids[0], "status": "rejected", "code": "NO"},
        ]);
        Reply::json(207, &json!({"batch_id": request.batch_id(), "results": results}))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
}

#[test]
fn records_to_be_retried_later_are_sent_together_again() {
    const RECORDS: usize = 1500;
    const TRIES: usize = 4;
    let tries: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let counted = Arc::clone(&tries);
    let server = ScriptedServer::start(move |request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let ids = request.ids();
        let mut counted = counted.lock().unwrap();
        for id in &ids {
            *counted.entry(id.clone()).or_default() += 1;
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "retry"})))
    });
    let settings = Settings::for_server(&server.url())
        .with("server.request_timeout", "20s")
        .with("retry.initial_backoff", "1s")
        .with("retry.max_backoff", "15m")
        .with("batch.learn", "true");
    let daemon = Daemon::start(&settings);
    daemon.paused(|daemon| daemon.enqueue_many(RECORDS));
    for times in 1..=TRIES {
        wait_for("every record to be tried once more", || {
            let tries = tries.lock().unwrap();
            (tries.len() == RECORDS && tries.values().all(|tries| *tries >= times)).then_some(())
        });
    }
    let log = daemon.log();
    let counted = count_batches_of_tries(&server.batches(), TRIES);
    assert!(counted <= 60, "{counted} batches for {RECORDS} records: {:?}", server.sizes());
    let requests = server.requests().len();
    let lines = log.lines().filter(|line| line.contains(" INFO ") || line.contains(" WARN ")).count();
    assert!(lines <= 3 * requests + 20, "{lines} lines for {requests} requests");
}
