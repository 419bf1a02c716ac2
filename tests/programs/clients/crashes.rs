//! `kill -9` and stops of the daemon in the middle of an enqueue: each record is stored once, under the id that it had
//! before the first attempt.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::adapter::{Adapter, Language, counts, enqueue, enqueue_within, ids, visits};
use super::relay::{Passage, Relay};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::server::Gate;
use crate::support::settings::Settings;
use crate::support::wait::directory;

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";

/// Exactly these records are stored, each once.
#[track_caller]
fn assert_stored(daemon: &Daemon, ids: &[String]) {
    let manifest = daemon.get("/v1/manifest").text();
    let stored: Vec<String> = manifest
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(stored.len(), ids.len());
    assert_eq!(stored.iter().collect::<HashSet<_>>(), ids.iter().collect());
}

fn after_a_crash_before_the_response_the_same_records_are_duplicates(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let gate = Gate::default();
    let relay = Relay::start_with_first(&daemon.home.socket(), Passage::LoseResponse(gate.clone()));
    let mut client = Adapter::start(language, &relay.path());
    client.send(&enqueue(&visits(3)));
    relay.wait_for_lost_responses(1);
    let home = daemon.kill9();
    gate.open();
    let daemon = home.start();
    let result = client.receive_ok();
    assert_eq!(counts(&result), (0, 3));
    let requests = relay.requests();
    assert!(requests.iter().all(|request| request.ids() == ids(&result)));
    assert_eq!(requests[0].body, requests[1].body, "the repetition is the same request");
    assert_stored(&daemon, &ids(&result));
}

fn after_a_crash_before_the_commit_the_same_records_are_accepted(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let gate = Gate::default();
    let relay = Relay::start_with_first(&daemon.home.socket(), Passage::LoseRequest(gate.clone()));
    let mut client = Adapter::start(language, &relay.path());
    client.send(&enqueue(&visits(3)));
    let sent = relay.wait_for_requests(1).remove(0).ids();
    let home = daemon.kill9();
    gate.open();
    let daemon = home.start();
    let result = client.receive_ok();
    assert_eq!((counts(&result), ids(&result)), ((3, 0), sent.clone()));
    assert_stored(&daemon, &sent);
}

fn whenever_the_daemon_crashes_every_record_is_stored_and_sent_once(language: Language) {
    const ROUNDS: u64 = 6;
    const RECORDS: usize = 800;
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let mut daemon = Daemon::start(&Settings::for_server(&gateway.url()).batches_of(200));
    let mut client = Adapter::start(language, &daemon.home.socket());
    let mut all = client.enqueue(&visits(1))["ids"].as_array().unwrap().len();
    let mut known: HashSet<String> = HashSet::new();
    for round in 1..=ROUNDS {
        client.send(&enqueue(&visits(RECORDS)));
        // The moment of the crash differs in each round.
        thread::park_timeout(Duration::from_millis(9 * round));
        daemon = daemon.kill9().start();
        let result = client.receive_ok();
        assert_eq!(counts(&result).0 + counts(&result).1, RECORDS as u64, "{result}");
        known.extend(ids(&result));
        all += RECORDS;
    }
    assert_eq!(known.len(), RECORDS * usize::try_from(ROUNDS).unwrap());
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(all as u64));
    let applied = gateway.applied_ids();
    assert_eq!(applied.iter().collect::<HashSet<_>>().len(), applied.len(), "a record was applied twice");
    assert_eq!(applied.len(), all);
    assert_eq!(gateway.metric(DUPLICATES), 0);
}

fn a_socket_that_appears_later_is_waited_for(language: Language) {
    let home = Home::new(&Settings::default());
    let mut client = Adapter::start(language, &home.socket());
    // The client runs, and the socket does not exist.
    assert_eq!(client.fail(&json!({"do": "status"})).kind(), "connection_failed");
    client.send(&enqueue(&visits(2)));
    let daemon = home.start();
    let result = client.receive_ok();
    assert_eq!(counts(&result), (2, 0));
    assert_stored(&daemon, &ids(&result));
}

fn a_socket_that_refuses_connections_is_waited_for(language: Language) {
    // Its file stays.
    let home = Daemon::start(&Settings::default()).kill9();
    assert!(home.socket().exists());
    let mut client = Adapter::start(language, &home.socket());
    assert_eq!(client.fail(&json!({"do": "status"})).kind(), "connection_failed");
    client.send(&enqueue(&visits(2)));
    let daemon = home.start();
    assert_stored(&daemon, &ids(&client.receive_ok()));
}

fn the_error_after_the_time_limit_has_the_ids_for_a_repetition(language: Language) {
    let home = Home::new(&Settings::default());
    let mut client = Adapter::start(language, &home.socket());
    let error = client.fail(&enqueue_within(&visits(2), 1500));
    assert_eq!((error.kind(), error.ids().len(), error.stored().len()), ("time_limit", 2, 0));
    let daemon = home.start();
    let mut records = visits(2);
    for (record, id) in records.iter_mut().zip(error.ids()) {
        record["id"] = id.into();
    }
    let result = client.enqueue(&records);
    assert_eq!((counts(&result), ids(&result)), ((2, 0), error.ids()));
    assert_stored(&daemon, &error.ids());
}

fn a_daemon_that_does_not_respond_ends_the_call_at_its_time_limit(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let mut client = Adapter::start(language, &daemon.home.socket());
    daemon.signal("STOP");
    let error = client.fail(&enqueue_within(&visits(2), 1000));
    assert_eq!((error.kind(), error.ids().len()), ("time_limit", 2));
    daemon.signal("CONT");
    // What is still in the buffers of the kernel may be stored after the error, so the outcome is unknown.
    let mut records = visits(2);
    for (record, id) in records.iter_mut().zip(error.ids()) {
        record["id"] = id.into();
    }
    let result = client.enqueue(&records);
    assert_eq!(counts(&result).0 + counts(&result).1, 2);
    assert_stored(&daemon, &error.ids());
}

fn restarts_of_the_daemon_lose_and_duplicate_nothing(language: Language) {
    let mut daemon = Daemon::start(&Settings::default());
    let mut client = Adapter::start(language, &daemon.home.socket());
    let mut all = Vec::new();
    for round in 1..=3 {
        let count = 400 * round;
        client.send(&enqueue(&visits(count)));
        daemon = daemon.restart();
        let result = client.receive_ok();
        assert_eq!(counts(&result).0 + counts(&result).1, count as u64);
        all.extend(ids(&result));
    }
    assert_stored(&daemon, &all);
}

for_each_client! {
    after_a_crash_before_the_response_the_same_records_are_duplicates,
    after_a_crash_before_the_commit_the_same_records_are_accepted,
    whenever_the_daemon_crashes_every_record_is_stored_and_sent_once,
    a_socket_that_appears_later_is_waited_for,
    a_socket_that_refuses_connections_is_waited_for,
    the_error_after_the_time_limit_has_the_ids_for_a_repetition,
    a_daemon_that_does_not_respond_ends_the_call_at_its_time_limit,
    restarts_of_the_daemon_lose_and_duplicate_nothing,
}
