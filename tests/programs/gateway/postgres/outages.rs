//! A database that stops, returns or hangs costs time, and no record.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon};
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::postgres::Postgres;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";

#[test]
#[ignore = "needs PostgreSQL"]
fn while_the_database_is_away_the_gateway_asks_devices_to_retry() {
    let mut postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    let known = Batch::of(&["{}"]);
    gateway.post(&known).batch();
    postgres.crash();

    assert_eq!(gateway.get("/healthz").expect_json(503), json!({"status": "ledger_unavailable"}));
    let batch = Batch::of(&["{}"]);
    for refused in [gateway.post(&batch), gateway.query_outcome(&known)] {
        let (code, message) = refused.error();
        assert_eq!((refused.status, code.as_str()), (503, "LEDGER_UNREACHABLE"));
        assert!(message.contains("nothing is lost"), "{message}");
        assert_eq!(refused.header("retry-after"), "");
    }
    assert_eq!(gateway.get("/metrics").status, 200);

    postgres.start_again();
    assert_eq!(gateway.get("/healthz").status, 200);
    assert!(gateway.query_outcome(&known).batch().replayed);
    assert!(!gateway.post(&batch).batch().replayed);
    assert_eq!(gateway.applied_ids(), [known.ids(), batch.ids()].concat());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_that_crashes_and_comes_back_loses_and_duplicates_no_record() {
    let mut postgres = Postgres::start();
    let target = ScriptedServer::start(|_| Reply::text(204, "text/plain", ""));
    let arguments = ["--record-cost", "2ms", "--forward", &target.url(), "--forward-max-wait", "100ms"];
    let gateway = Gateway::start_on(&postgres.create("sync"), &arguments);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let ids: HashSet<Uuid> = daemon.enqueue_many(600).iter().map(|id| id.parse().unwrap()).collect();
    for round in 1..=3 {
        wait_for("some records to be applied", || (gateway.metric(APPLIED) >= round * 120).then_some(()));
        // The moment of the crash differs in each round.
        thread::park_timeout(Duration::from_micros(1300 * round));
        let throttled = || daemon.log().matches("throttled").count();
        let before = throttled();
        postgres.crash();
        wait_for("the daemon to hear of it", || (throttled() > before).then_some(()));
        postgres.start_again();
    }
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(600));
    let applied = gateway.applied_ids();
    assert_eq!(applied.len(), ids.len());
    assert_eq!(applied.iter().copied().collect::<HashSet<_>>(), ids);
    // An outage does not blame records, and each of them is forwarded.
    wait_for("all to be forwarded", || {
        let forwarded_ids: HashSet<String> =
            target.requests().iter().flat_map(crate::support::server::Request::ids).collect();
        (forwarded_ids.len() == ids.len()).then_some(())
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_response_that_was_sent_survives_an_immediate_crash_of_the_database() {
    let mut postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    let mut sent = Vec::new();
    for round in 1..=4 {
        let before = gateway.metric(APPLIED);
        let batches: Vec<(Batch, bool)> = thread::scope(|scope| {
            let senders: Vec<_> = (0..4).map(|_| scope.spawn(|| send_until_it_fails(&gateway))).collect();
            wait_for("some batches to be applied", || (gateway.metric(APPLIED) > before + 30).then_some(()));
            thread::park_timeout(Duration::from_micros(1100 * round));
            postgres.crash();
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        postgres.start_again();
        sent.extend(batches);
    }
    let applied = gateway.applied_ids();
    let known: HashSet<Uuid> = applied.iter().copied().collect();
    assert_eq!(known.len(), applied.len(), "a record was applied twice");
    for (batch, is_answered) in &sent {
        let there = batch.ids().iter().filter(|id| known.contains(id)).count();
        match gateway.query_outcome(batch).status {
            200 => assert_eq!(there, batch.records.len()),
            404 => assert_eq!((there, *is_answered), (0, false)),
            other => panic!("an outcome query got {other}"),
        }
    }
}

/// All batches that were sent, and whether they got a response.
fn send_until_it_fails(gateway: &Gateway) -> Vec<(Batch, bool)> {
    let mut sent = Vec::new();
    loop {
        let batch = Batch::with((0..10).map(|_| Record::new("{}")).collect());
        let status = gateway.post(&batch).status;
        sent.push((batch, status == 200));
        match status {
            200 => {}
            503 => return sent,
            other => panic!("a batch got {other}"),
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_frozen_database_delays_no_request_for_long_and_is_used_again_afterwards() {
    let postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    let (before, during) = (Batch::of(&["{}"]), Batch::of(&["{}"]));
    gateway.post(&before).batch();
    let frozen = postgres.freeze();
    assert_eq!(gateway.get("/healthz").status, 503);
    assert_eq!(gateway.post(&during).code(), "LEDGER_UNREACHABLE");
    drop(frozen);
    wait_for("the batch to be taken", || {
        Some(gateway.post(&during)).filter(|response| response.status == 200)
    });
    assert_eq!(gateway.applied_ids(), [before.ids(), during.ids()].concat());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn statements_that_hang_in_the_database_do_not_use_up_its_connections() {
    /// As many as a gateway has operations under way that write.
    const SENDERS: usize = 8;
    const CONNECTIONS_MAX: usize = 16;
    let postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    let lock = "BEGIN; LOCK TABLE fieldsync.records; SELECT pg_sleep(600)";
    let locking = postgres.run_in_background("sync", lock);
    let is_locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
        AND relation = 'fieldsync.records'::regclass";
    wait_for("the lock", || (postgres.query("sync", is_locked) == "1").then_some(()));
    let connections = || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fieldsync-gateway'";
        postgres.query("postgres", count).parse::<usize>().unwrap()
    };
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                // Each of them waits for the time limit of an operation.
                for _ in 0..3 {
                    assert_eq!(gateway.post(&Batch::of(&["{}"])).code(), "LEDGER_UNREACHABLE");
                    assert!(connections() <= CONNECTIONS_MAX);
                }
            });
        }
    });
    drop(locking);
    // Its server process waits for the end of the sleep otherwise.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK TABLE%'";
    postgres.query("postgres", end);
    wait_for("a batch to be taken", || {
        Some(gateway.post(&Batch::of(&["{}"]))).filter(|response| response.status == 200)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ledger_whose_schema_another_release_changed_is_not_written_to() {
    let postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    let set_schema = |schema: u32| {
        let text = format!("UPDATE fieldsync.meta SET value = {schema} WHERE key = 'schema'");
        postgres.query("sync", &text);
    };
    set_schema(3);
    assert_eq!(gateway.get("/healthz").status, 503);
    postgres.end_sessions("sync");
    let batch = Batch::of(&["{}"]);
    assert_eq!(gateway.post(&batch).code(), "LEDGER_UNREACHABLE");
    set_schema(2);
    gateway.post(&batch).batch();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_that_became_read_only_is_left_for_a_writable_one() {
    let postgres = Postgres::start();
    let gateway = Gateway::start_on(&postgres.create("sync"), &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    let read_only = |is: bool| {
        postgres.query("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {is}"));
        postgres.query("postgres", "SELECT pg_reload_conf()");
    };
    read_only(true);
    let batch = Batch::of(&["{}"]);
    let refused = wait_for("the setting to be known", || {
        Some(gateway.post(&Batch::of(&["{}"]))).filter(|response| response.status != 200)
    });
    assert_eq!(refused.code(), "LEDGER_UNREACHABLE");
    assert_eq!(gateway.get("/healthz").status, 503);
    read_only(false);
    wait_for("the gateway to be well", || (gateway.get("/healthz").status == 200).then_some(()));
    wait_for("the batch to be taken", || {
        Some(gateway.post(&batch)).filter(|response| response.status == 200)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn details_of_a_row_in_a_database_error_do_not_reach_the_log() {
    let postgres = Postgres::start();
    let directory = directory();
    let log = directory.path().join("log");
    let gateway = Gateway::start_logging(&postgres.create("sync"), &log, &[]);
    let check = "ALTER TABLE fieldsync.records ADD CONSTRAINT no_names CHECK (key NOT LIKE '%Mustermann%')";
    postgres.query("sync", check);
    let named = Record { key: Some("Erika Mustermann".into()), ..Record::new("{}") };
    let batch = Batch::with(vec![Record::new("{}"), named]);
    let failed = gateway.post(&batch);
    assert_eq!((failed.status, failed.code().as_str()), (500, "INTERNAL"));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("no_names") && log.contains("SQLSTATE 23514"), "{log}");
    assert!(!log.contains("Mustermann"), "{log}");
    // Nothing is half applied.
    assert!(gateway.ledger().is_empty());
    assert_eq!(gateway.query_outcome(&batch).status, 404);
}
