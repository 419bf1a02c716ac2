//! `kill -9` at any moment: nothing is lost, nothing is sent twice.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home, cli_command};
use crate::support::enqueue_relay::{Disturbance, enqueue_relay};
use crate::support::gateway::Gateway;
use crate::support::process::{Running, run};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";
const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
/// No other process listens at this address, so a port that is free for a moment stays free.
const OUT_OF_THE_WAY: &str = "127.77.0.1:0";

fn write_records(path: &Path, count: usize) {
    let lines: Vec<String> =
        (0..count).map(|n| format!("{{\"type\":\"Visits\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    fs::write(path, lines.concat()).unwrap();
}

/// How many records were applied. Each of them was applied once.
#[track_caller]
fn count_applied(gateway: &Gateway) -> usize {
    let applied = gateway.applied_ids();
    assert_eq!(applied.iter().collect::<HashSet<_>>().len(), applied.len(), "a record was applied twice");
    applied.len()
}

#[test]
fn an_enqueue_continues_after_a_crash_and_stores_every_record_once() {
    const RECORDS: usize = 10_000;
    const OF_A_REQUEST: u64 = 500;
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let settings = Settings::for_server(&gateway.url()).batches_of(500);
    let home = Home::new(&settings);
    let file = home.path("records.ndjson");
    write_records(&file, RECORDS);
    let daemon = home.start();
    let (socket, _) = enqueue_relay(&daemon.home, Disturbance::ResponseLost);
    let arguments = ["enqueue", "--json", file.to_str().unwrap()];
    let enqueue = Running::start(&mut cli_command(socket, &arguments), b"");
    daemon.wait_until("the second request to be stored", |status| {
        let counts: Counts = serde_json::from_value(status["records"].clone()).unwrap();
        counts.pending + counts.syncing + counts.failed + counts.synced > OF_A_REQUEST
    });
    let daemon = daemon.kill9().start();
    let ran = enqueue.end();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lost = format!("The connection to the daemon was lost after {OF_A_REQUEST} records");
    assert!(ran.stderr.contains(&lost), "{}", ran.stderr);
    let response: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(response["accepted"], RECORDS);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    assert_eq!(count_applied(&gateway), RECORDS);
    assert_eq!(gateway.metric(DUPLICATES), 0);
}

#[test]
fn whenever_the_daemon_crashes_while_sending_every_record_is_sent_once() {
    const RECORDS: u64 = 1000;
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "400us"]);
    let mut daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let ids: HashSet<String> = daemon.enqueue_many(1000).into_iter().collect();
    for round in 1..=6 {
        wait_for("some records to be applied", || (gateway.metric(APPLIED) >= round * 130).then_some(()));
        // The moment of the crash differs in each round.
        thread::park_timeout(Duration::from_micros(1700 * round));
        daemon = daemon.kill9().start();
    }
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS));
    let ledger = gateway.ledger();
    assert_eq!(ledger.len(), ids.len());
    assert!(ledger.iter().all(|line| ids.contains(line["id"].as_str().unwrap())));
    // Batches in flight were queried or resent under their own ids: no record arrived in a second batch.
    assert_eq!(gateway.metric(DUPLICATES), 0);
    let entries = daemon.get("/v1/manifest").text();
    for entry in entries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!(entry["state"], "SYNCED", "{entry}");
    }
}

#[test]
fn a_crash_of_the_gateway_loses_and_duplicates_nothing() {
    let directory = directory();
    let gateway = Gateway::start_at(directory.path(), OUT_OF_THE_WAY, &["--record-cost", "30ms"]);
    let listen = gateway.address.to_string();
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    daemon.enqueue_many(400);
    wait_for("some records to be applied", || (gateway.metric(APPLIED) >= 100).then_some(()));
    gateway.kill();
    daemon.wait_for_phase("offline");
    let gateway = Gateway::start_at(directory.path(), &listen, &[]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(400));
    assert_eq!(count_applied(&gateway), 400);
    assert_eq!(gateway.metric(DUPLICATES), 0);
}

fn killed_in_flight(server: &ScriptedServer) -> (Home, Request) {
    server.set_script(|_| Reply::Hang);
    // Outcome queries are counted: none may be repeated because a busy machine was late.
    let settings = Settings::for_server(&server.url()).with("server.request_timeout", "8s");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(5);
    let first = server.wait_for_batches(1).remove(0);
    (daemon.kill9(), first)
}

#[test]
fn a_batch_in_flight_at_a_crash_is_looked_up_and_settled_without_a_resend() {
    let server = ScriptedServer::start(Reply::correct);
    let (home, first) = killed_in_flight(&server);
    let ids = first.ids();
    let batch = first.batch_id().to_owned();
    server.set_script(move |request| {
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    let daemon = home.start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert_eq!(server.count_outcome_queries(&batch), 1);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn a_batch_in_flight_at_a_crash_that_the_server_does_not_know_is_resent_under_its_id() {
    let server = ScriptedServer::start(Reply::correct);
    let (home, first) = killed_in_flight(&server);
    server.set_script(Reply::correct);
    let daemon = home.start();
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
    assert_eq!(server.count_outcome_queries(first.batch_id()), 1);
    let batches = server.batches();
    let resend = batches.iter().skip(1).find(|batch| batch.batch_id() == first.batch_id()).unwrap();
    assert_eq!(resend.body, first.body);
    assert_eq!(resend.attempt(), 2);
    assert_eq!(resend.header("x-batch-sequence"), first.header("x-batch-sequence"));
}

#[test]
fn acknowledged_records_survive_a_crash_right_after_the_response() {
    let mut daemon = Daemon::start(&Settings::default());
    for round in 1..=5 {
        daemon.enqueue_many(3);
        daemon = daemon.kill9().start();
        assert_eq!(daemon.counts().pending, round * 3);
    }
}

#[test]
fn records_that_a_killed_daemon_left_are_counted() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(3);
    let state = daemon.home.path("state");
    let count = |home: &Home| {
        let arguments = ["store", "count", state.to_str().unwrap()];
        run(&mut cli_command(home.socket(), &arguments), b"")
    };
    let refused = count(&daemon.home);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "a daemon uses it");
    let home = daemon.kill9();
    let counted = count(&home);
    assert_eq!((counted.code, counted.stdout.as_str()), (Some(0), "3\n"), "{}", counted.stderr);
    assert_eq!(home.start().counts().pending, 3);
}
