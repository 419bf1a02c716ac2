//! The order within a key when the server rejects a record.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{User, can_be_others, open_to_all};
use crate::support::wait::directory;

const HOLDS_KEYS: &str = "x-sync-holds-keys";

fn visit(key: &str, n: usize) -> Value {
    json!({"type": "Visits", "key": key, "payload": {"n": n}})
}

/// Five records of one key and five of another, alternating.
fn two_keys() -> Vec<Value> {
    (0..10).map(|n| visit(if n % 2 == 0 { "a" } else { "b" }, n)).collect()
}

fn keys_of(batch: &Request) -> Vec<String> {
    batch.records().iter().map(|record| record["key"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_one_per_key(batches: &[Request]) {
    for batch in batches {
        let keys = keys_of(batch);
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{keys:?}");
    }
}

/// A correct server that shows that it holds keys.
fn showing(request: &Request) -> Reply {
    Reply::correct(request).with(HOLDS_KEYS, "true")
}

#[test]
fn behind_a_rejected_record_no_later_one_of_its_key_reaches_the_gateway() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--reject-on", "poison"]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    // The gateway has shown that it holds keys.
    let mut expected = daemon.enqueue(&[visit("other", 0)]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let mut records: Vec<Value> = (0..4).map(|n| visit("account-17", n)).collect();
    records[1]["payload"]["text"] = "poison".into();
    let ids = daemon.paused(|daemon| daemon.enqueue(&records));
    expected.extend(ids.clone());
    daemon.wait_until("the rejected one", |status| status["records"]["quarantined"] == 1);
    let applied = || -> Vec<String> { gateway.applied_ids().iter().map(ToString::to_string).collect() };
    assert_eq!(applied(), expected[..2], "the first one of the key, and no later one");
    assert_eq!(daemon.record(&ids[2])["last_error"]["code"], "HELD");

    daemon.put(&format!("/v1/records/{}/payload", ids[1]), r#"{"n":1}"#).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert_eq!(applied(), expected);
}

#[test]
fn towards_a_server_that_has_not_shown_that_it_holds_keys_no_batch_has_two_records_of_one() {
    let server = ScriptedServer::start(|request| {
        // As servers do that keep no order: one record is rejected, and others of its key are applied.
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let poison = request.records().iter().find(|record| record["payload"]["n"] == 2).cloned();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let is_poison = poison.as_ref().is_some_and(|record| record["id"] == id);
            Some(json!({"status": if is_poison { "rejected" } else { "applied" }}))
        })
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue(&two_keys()));
    daemon.wait_until("the others", |status| {
        status["records"]["synced"] == 6 && status["records"]["quarantined"] == 1
    });
    assert_one_per_key(&server.batches());
    // Those behind the rejected one wait for its review.
    for waiting in [4, 6, 8] {
        assert_eq!(daemon.detail(&ids[waiting])["waiting_for"]["reason"], "key");
    }
    daemon.post("/v1/quarantine/discard", json!({"ids": [ids[2]]}).to_string()).expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(9));
    assert_one_per_key(&server.batches());
}

#[test]
fn what_a_server_has_shown_is_remembered_over_a_restart_and_not_for_another_server() {
    let server = ScriptedServer::start(showing);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.paused(|daemon| daemon.enqueue(&two_keys()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(10));
    let batches = server.batches();
    assert_one_per_key(&batches[..1]);
    assert_eq!(server.sizes(), [2, 8], "after its first response all others go at once");

    // The process ends without a chance to save anything.
    let daemon = daemon.kill9().start();
    daemon.paused(|daemon| daemon.enqueue(&two_keys()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(20));
    assert_eq!(server.sizes(), [2, 8, 10]);

    let other = ScriptedServer::start(Reply::correct);
    daemon.home.configure(&Settings::for_server(&other.url()));
    daemon.paused(|daemon| {
        daemon.signal("HUP");
        daemon.wait_for_log("the configuration was read again");
        daemon.enqueue(&two_keys());
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(30));
    assert_one_per_key(&other.batches());
}

#[test]
fn the_response_to_an_outcome_query_shows_it_as_well() {
    let mut first: Option<(String, Vec<String>)> = None;
    let server = ScriptedServer::start(move |request| match &first {
        // It applies its first batch, and its gateway gives up waiting.
        None if request.is_batch() => {
            first = Some((request.batch_id().to_owned(), request.ids()));
            Reply::html(504)
        }
        Some((batch, ids)) if !request.is_batch() && request.batch_id() == batch => {
            Reply::results(batch, ids, |_| Some(json!({"status": "applied"}))).with(HOLDS_KEYS, "true")
        }
        _ => Reply::correct(request),
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.paused(|daemon| daemon.enqueue(&two_keys()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(10));
    let batches = server.batches();
    assert_one_per_key(&batches[..1]);
    let keys = keys_of(&batches[1]);
    assert!(keys.iter().collect::<HashSet<_>>().len() < keys.len(), "{keys:?}");
}

#[test]
fn a_server_that_no_longer_shows_it_gets_one_record_of_a_key_in_a_batch() {
    let server = ScriptedServer::start(showing);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue(&[visit("a", 0)]);
    daemon.wait_until_done();
    server.set_script(Reply::correct);
    daemon.enqueue(&[visit("a", 1)]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    daemon.paused(|daemon| daemon.enqueue(&two_keys()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(12));
    assert_one_per_key(&server.batches());
}

#[test]
fn parts_of_a_batch_that_was_cut_have_one_record_of_a_key_once_the_server_no_longer_holds_keys() {
    let ledger = Ledger::default();
    let server = ScriptedServer::start(showing);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.outcome_lookup", "off"));
    daemon.enqueue(&[visit("a", 100)]);
    daemon.wait_until_done();
    let mut batches = 0;
    let applying = ledger.clone();
    // A batch with several records of a key has an unknown outcome. Then another server takes over.
    server.set_script(move |request| {
        batches += usize::from(request.is_batch());
        if batches == 1 { Reply::html(504) } else { applying.respond(request) }
    });
    let ids = daemon.paused(|daemon| daemon.enqueue(&(0..24).map(|n| visit("a", n)).collect::<Vec<_>>()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(25));
    assert_eq!(ledger.applied(), ids, "in order");
    let batches = server.batches();
    assert_eq!(batches[1].records().len(), 24, "the batch with an unknown outcome");
    // The first part was opened while the server still held keys; its response showed that it no longer does.
    assert_one_per_key(&batches[3..]);
}

#[test]
fn a_rejected_record_of_one_user_does_not_hold_back_another_users_record_of_the_key() {
    if !can_be_others() {
        return;
    }
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--reject-on", "poison"]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    open_to_all(&daemon);
    // The gateway has shown that it holds keys.
    daemon.enqueue(&[visit("other", 0)]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let id = uuid::Uuid::now_v7().to_string();
    let other = User::without_groups(54_331);
    daemon.paused(|daemon| {
        let mut poison = visit("k", 1);
        poison["payload"]["text"] = "poison".into();
        daemon.enqueue(&[poison, visit("k", 2)]);
        let mut record = visit("k", 3);
        record["id"] = id.clone().into();
        other.post(daemon, "/v1/records", &json!([record]).to_string()).expect_json(201);
    });
    daemon.wait_until("the review and the other's record", |status| {
        status["records"]["quarantined"] == 1 && status["records"]["synced"] == 2
    });
    let record = daemon.record(&id);
    assert_eq!((&record["state"], &record["attempts"]), (&json!("SYNCED"), &json!(1)), "{record}");
}
