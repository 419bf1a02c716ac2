//! A waiting record is marked for review by a person; the other records of its batch continue without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon};
use crate::support::events::EventReader;
use crate::support::http::HttpResponse;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn add(daemon: &Daemon, ids: &[&str]) -> HttpResponse {
    daemon.post("/v1/quarantine/add", json!({"ids": ids}).to_string())
}

/// The records of every batch that was ever sent. An id always has the same set.
fn sent(server: &ScriptedServer) -> BTreeMap<String, Vec<String>> {
    let mut sent = BTreeMap::new();
    for batch in server.batches() {
        let known = sent.entry(batch.batch_id().to_owned()).or_insert_with(|| batch.ids());
        assert_eq!(*known, batch.ids(), "a batch was sent again with other records");
    }
    sent
}

#[test]
fn one_record_of_a_denied_batch_is_corrected_while_the_others_are_sent() {
    let server = ScriptedServer::start(|_| Reply::html(403));
    let settings =
        Settings::for_server(&server.url()).with("log.level", "info").with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let ids = daemon.paused(|daemon| daemon.enqueue_many(5));
    daemon.wait_for_phase("auth_required");
    let mut events = EventReader::open(&daemon.home.socket(), None);
    events.next().unwrap();

    let ran = daemon.cli(&["quarantine", "add", &ids[2]]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let next = format!("fieldsync quarantine edit {0}, or fieldsync quarantine discard {0}\n", ids[2]);
    assert_eq!(ran.stdout, format!("1 record needs review now. To edit or discard it: {next}"));
    let entry = daemon.record(&ids[2]);
    assert_eq!((&entry["state"], &entry["last_error"]["class"]), (&json!("QUARANTINED"), &json!("by_hand")));
    let reported = events.read_until(|seen| seen.event == "record");
    let change = &reported.last().unwrap().data;
    assert_eq!((&change["id"], &change["state"]), (&json!(ids[2]), &json!("QUARANTINED")));
    assert_eq!((&change["type"], &change["last_error"]), (&json!("Visits"), &entry["last_error"]));
    daemon.wait_for_log(&format!("record {} was marked for review on request", ids[2]));
    // They may be in flight again at this moment.
    let waiting = Counts { pending: 4, ..Counts::settled(0, 1) };
    wait_for("the others to wait", || (daemon.counts() == waiting).then_some(()));

    let refused: BTreeSet<String> = sent(&server).into_keys().collect();
    server.set_script(Reply::correct);
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::settled(4, 1));
    for (batch, records) in sent(&server).into_iter().filter(|(batch, _)| !refused.contains(batch)) {
        assert!(!records.contains(&ids[2]), "{batch} holds the record under review");
    }
    daemon.put(&format!("/v1/records/{}/payload", ids[2]), r#"{"text": "plain"}"#).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert!(server.batches().last().unwrap().text().contains(r#""payload":{"text": "plain"}"#));
}

#[test]
fn a_record_whose_outcome_is_not_known_is_refused_until_it_is() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |_| Reply::html(504).held_by(&held));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "1m"));
    let id = daemon.enqueue_many(1).remove(0);
    let refused = || {
        let response = add(&daemon, &[&id]);
        assert_eq!(
            (response.status, response.code().as_str()),
            (409, "outcome_pending"),
            "{}",
            response.text()
        );
    };
    daemon.wait_until("a batch in flight", |status| status["sync"]["batch"].is_object());
    refused();
    let ran = daemon.cli(&["quarantine", "add", &id]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(8), ""), "{ran:?}");
    assert!(ran.stderr.contains("Try again when the outcome is known"), "{ran:?}");

    // The server is still processing the batch, and reports that to outcome queries.
    let processing =
        |request: &Request| Reply::json(202, &json!({"batch_id": request.batch_id(), "state": "processing"}));
    server.set_script(processing);
    gate.open();
    daemon.wait_until("the failure", |status| status["records"]["failed"] == 1);
    refused();
    server.set_script(Reply::correct);
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let synced = add(&daemon, &[&id]);
    assert_eq!((synced.status, synced.code().as_str()), (409, "already_synced"), "{}", synced.text());
}

#[test]
fn records_that_cannot_be_added_are_named_with_the_reason() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let synced = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let waiting = daemon.enqueue_many(2);
    let unknown = Uuid::new_v4().to_string();

    let all = daemon.post("/v1/quarantine/add", r#"{"all": true}"#);
    assert_eq!((all.status, all.code().as_str()), (400, "invalid_selection"), "{}", all.text());
    let none = add(&daemon, &[&unknown, &synced]);
    assert_eq!((none.status, none.code().as_str()), (404, "no_such_record"), "the first of them");

    let some = add(&daemon, &[&unknown, &waiting[0], &synced, &waiting[0]]).expect_json(200);
    assert_eq!(some["changed"], 1);
    let named = |record: &Value| (record["id"].clone(), record["code"].clone());
    let refused: Vec<_> = some["refused"].as_array().unwrap().iter().map(named).collect();
    let reasons = [(&unknown, "no_such_record"), (&synced, "already_synced")];
    assert_eq!(refused, reasons.map(|(id, code)| (json!(id), json!(code))));
    // It is already under review: nothing is changed, and that is not an error.
    assert_eq!(add(&daemon, &[&waiting[0]]).expect_json(200), json!({"changed": 0}));
    let ran = daemon.cli(&["quarantine", "add", &waiting[0]]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("No record was changed."), "{ran:?}");

    let ran = daemon.cli(&["quarantine", "add", &waiting[0], &waiting[1], &synced]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("1 record needs review now. To edit or discard it"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("Record {synced} was not changed: the server has")), "{ran:?}");
    assert!(ran.stderr.contains("1 record needs review already."), "{ran:?}");
}

#[test]
fn editing_or_discarding_a_waiting_record_names_the_command_to_quarantine_it() {
    let daemon = Daemon::start(&Settings::default());
    let id = daemon.enqueue_many(1).remove(0);
    for verb in ["edit", "discard"] {
        let ran = daemon.cli(&["quarantine", verb, &id]);
        assert!(ran.stderr.contains("fieldsync quarantine add "), "{ran:?}");
    }
    assert_eq!(daemon.cli(&["quarantine", "add", &id]).code, Some(0));
    assert_eq!(daemon.cli(&["quarantine", "discard", &id]).code, Some(0));
    assert_eq!(daemon.counts(), Counts::settled(0, 0));
}

/// The batch of the record is removed while its outcome is queried.
#[track_caller]
fn a_batch_that_is_gone_stalls_nothing(outcome: impl Fn(&Request, &[String]) -> Reply + Send + 'static) {
    let gate = Gate::default();
    let held = gate.clone();
    let set = Arc::new(Mutex::new(Vec::new()));
    let server = ScriptedServer::start(move |request| {
        if request.is_batch() {
            *set.lock().unwrap() = request.ids();
            Reply::error(503, "LATER")
        } else {
            outcome(request, &set.lock().unwrap()).held_by(&held)
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "1m"));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(4));
    let batch = server.wait_for_batches(1)[0].batch_id().to_owned();
    wait_for("an outcome query", || (server.count_outcome_queries(&batch) > 0).then_some(()));
    assert_eq!(add(&daemon, &[&ids[1]]).expect_json(200), json!({"changed": 1}));
    server.set_script(Reply::correct);
    gate.open();
    assert_eq!(daemon.wait_until_done(), Counts::settled(3, 1));
    daemon.post("/v1/quarantine/retry", json!({"ids": [ids[1]]}).to_string()).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    sent(&server);
    // Later records are sent as usual.
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(7));
}

#[test]
fn a_batch_that_is_gone_when_the_server_says_it_is_done_stalls_nothing() {
    a_batch_that_is_gone_stalls_nothing(|request, ids| {
        Reply::results(request.batch_id(), ids, |_| Some(json!({"status": "applied"})))
    });
}

#[test]
fn a_batch_that_is_gone_when_the_server_does_not_know_it_stalls_nothing() {
    a_batch_that_is_gone_stalls_nothing(|_, _| Reply::unknown_batch());
}
