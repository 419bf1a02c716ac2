//! The lifecycle of the process: what a crash leaves, how it stops, and when it refuses to start.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::protocol::wire::RecordStatus;
use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::{Gateway, refuses, refuses_at};
use crate::support::http::statuses;
use crate::support::wait::{directory, wait_for};

#[test]
fn a_crash_during_processing_leaves_nothing_half_applied_and_a_resend_applies_once() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "10s"]);
    let batch = Batch::of(&["{}", "{}", "{}"]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.try_post(&batch));
        wait_for("the batch to be at work", || (gateway.query_outcome(&batch).status == 202).then_some(()));
        gateway.signal("KILL");
        assert!(sender.join().unwrap().is_none(), "a dead gateway answered");
    });
    gateway.kill();

    let gateway = Gateway::start(directory.path(), &[]);
    assert!(gateway.ledger().is_empty());
    assert_eq!(gateway.query_outcome(&batch).code(), "UNKNOWN_BATCH");
    let resent = gateway.post(&batch).batch();
    assert!(!resent.replayed);
    assert_eq!(statuses(&resent), [RecordStatus::Applied; 3]);
    assert_eq!(gateway.applied_ids(), batch.ids());
}

#[test]
fn whenever_it_crashes_a_batch_is_known_completely_or_not_at_all() {
    const ROUNDS: u64 = 6;
    const SENDERS: usize = 4;
    let directory = directory();
    let mut sent: Vec<Batch> = Vec::new();
    let mut answered: HashSet<Uuid> = HashSet::new();
    for round in 0..ROUNDS {
        let gateway = Gateway::start(directory.path(), &[]);
        let rounds: Vec<(Vec<Batch>, Vec<Uuid>)> = thread::scope(|scope| {
            let senders: Vec<_> =
                (0..SENDERS).map(|_| scope.spawn(|| send_until_it_dies(&gateway))).collect();
            // The moment of the crash differs in each round.
            let applied = "fieldsync_gateway_records_total{result=\"applied\"}";
            wait_for("some batches to be applied", || {
                (gateway.metric(applied) > 20 * (round + 1)).then_some(())
            });
            thread::park_timeout(Duration::from_micros(700 * round));
            gateway.signal("KILL");
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        for (batches, confirmed) in rounds {
            sent.extend(batches);
            answered.extend(confirmed);
        }
        gateway.kill();
    }

    let gateway = Gateway::start(directory.path(), &[]);
    let applied = gateway.applied_ids();
    let known: HashSet<Uuid> = applied.iter().copied().collect();
    assert_eq!(known.len(), applied.len(), "a record was applied twice");
    for batch in &sent {
        let there = batch.ids().iter().filter(|id| known.contains(id)).count();
        match gateway.query_outcome(batch).status {
            200 => assert_eq!(there, batch.records.len()),
            404 => assert_eq!(there, 0),
            other => panic!("an outcome query got {other}"),
        }
        if answered.contains(&batch.id) {
            assert_eq!(there, batch.records.len(), "an answered batch was lost");
        }
    }
}

/// All batches that were sent, and the ids of those that got a response.
fn send_until_it_dies(gateway: &Gateway) -> (Vec<Batch>, Vec<Uuid>) {
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    loop {
        let batch = Batch::with((0..10).map(|_| Record::new("{}")).collect());
        let response = gateway.try_post(&batch);
        let id = batch.id;
        sent.push(batch);
        match response {
            Some(response) => {
                response.batch();
                answered.push(id);
            }
            None => return (sent, answered),
        }
    }
}

#[test]
fn a_second_gateway_on_the_same_store_fails_to_start() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let store = directory.path().join("ledger.redb");
    let (code, said) = refuses(store.to_str().unwrap(), &[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert_eq!(gateway.get("/healthz").text(), r#"{"status":"ok"}"#);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_port_in_use_is_an_error() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let other = directory.path().join("other.redb");
    let listen = gateway.address.to_string();
    let (code, said) = refuses_at(other.to_str().unwrap(), &listen, &[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(&format!("cannot listen on {listen}")), "{said}");
}

#[test]
fn a_file_that_cannot_be_a_ledger_or_a_token_is_a_configuration_error() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("notes.txt"), "not a ledger at all\n").unwrap();
    fs::write(path("empty"), "").unwrap();
    let store = path("fresh.redb");
    let cases: [(&str, &[&str], i32, &str); 10] = [
        ("postgres://db/sync?sslmode=on", &[], 78, "`sslmode=on` in --store is not known"),
        ("postgres://db/sync?sslrootcert=none.pem", &[], 78, "cannot read the certificates"),
        (&store, &["--forward", "https://me:s3cret@crm/"], 78, "without user and password"),
        (
            &store,
            &["--forward", "http://crm/", "--forward-token-file", &path("empty")],
            78,
            "does not hold a token",
        ),
        (&path("notes.txt"), &[], 78, "not a ledger"),
        (&path("empty"), &[], 78, "not a ledger"),
        (&path("no/such/dir/ledger"), &[], 74, "cannot make or read"),
        (&store, &["--token-file", &path("empty")], 78, "is empty"),
        (
            &store,
            &["--tls-cert", &path("empty"), "--tls-key", &path("empty")],
            78,
            "cannot read the TLS file",
        ),
        (&store, &["--token-file", &path("none")], 78, "cannot read the token"),
    ];
    for (store, arguments, expected, message) in cases {
        let (code, said) = refuses(store, arguments);
        assert_eq!(code, Some(expected), "{store}: {said}");
        assert!(said.contains(message), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    assert_eq!(fs::read(path("notes.txt")).unwrap(), b"not a ledger at all\n");
    assert_eq!(refuses(&store, &["--fail-rate", "1.5"]).0, Some(2));
    assert_eq!(refuses(&store, &["--path", "sync"]).0, Some(2));
    assert_eq!(refuses(&store, &["--path", "/ledger"]).0, Some(2));
    assert_eq!(refuses(&store, &["--tls-cert", &path("empty")]).0, Some(2));
    assert_eq!(refuses(&store, &["--max-body-bytes", "0"]).0, Some(2));
}

#[test]
fn sigterm_and_sigint_end_it_at_once_when_nothing_is_in_flight() {
    // The time that requests in flight have to finish.
    const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
    let directory = directory();
    for signal in ["TERM", "INT"] {
        let gateway = Gateway::start(directory.path(), &[]);
        gateway.post(&Batch::of(&["{}"])).batch();
        let clock = Clock::start();
        gateway.signal(signal);
        assert_eq!(gateway.wait_for_exit().code(), Some(0));
        assert!(clock.now() < DRAIN_TIMEOUT, "{:?}", clock.now());
    }
}

#[test]
fn sigterm_lets_the_request_in_flight_finish() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "4s"]);
    let batch = Batch::of(&["{}"]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&batch).batch());
        wait_for("the batch to be at work", || (gateway.query_outcome(&batch).status == 202).then_some(()));
        gateway.signal("TERM");
        assert_eq!(statuses(&sender.join().unwrap()), [RecordStatus::Applied]);
    });
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let gateway = Gateway::start(directory.path(), &[]);
    assert_eq!(gateway.applied_ids(), batch.ids());
}

#[test]
fn the_metrics_count_responses_and_results() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--reject-on", "bad"]);
    let batch = Batch::of(&["{}", "{}", "{\"text\":\"bad\"}"]);
    gateway.post(&batch).batch();
    gateway.post(&batch).batch();
    gateway.post(&batch.again()).batch();
    assert_eq!(gateway.post_raw(&[], Vec::new()).status, 400);
    gateway.query_outcome(&batch).batch();
    assert_eq!(gateway.query_outcome(&batch.again()).status, 404);
    let expected = [
        ("batch_answers_total{status=\"200\"}", 3),
        ("batch_answers_total{status=\"400\"}", 1),
        ("batch_answers_total{status=\"404\"}", 0),
        ("lookups_total{status=\"200\"}", 1),
        ("lookups_total{status=\"404\"}", 1),
        ("records_total{result=\"applied\"}", 2),
        ("records_total{result=\"duplicate\"}", 2),
        ("records_total{result=\"rejected\"}", 2),
        ("processing", 0),
    ];
    for (series, value) in expected {
        let name = format!("fieldsync_gateway_{series}");
        assert_eq!(gateway.metric(&name), value, "{name}");
    }
    let metrics = gateway.get("/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[test]
fn a_mistyped_database_url_is_rejected_without_showing_its_password() {
    for store in [
        "postgress://crm:s3cret@db/sync",
        "postgres:/crm:s3cret@db/sync",
        "host=db password=s3cret",
        "host=db Password = 's3cret'",
        "postgres://crm:p@s3cret@db/sync",
        "postgres://crm:p@x/s3cret@db/sync",
        "postgres://crm:p@x?s3cret=@db/sync",
        "postgres://crm:p@db:s3cret/sync",
        "postgres://db/x?sslmode=disable&sslrootcert=/ca.pem",
    ] {
        let (code, said) = refuses(store, &[]);
        assert_eq!(code, Some(78), "{store}: {said}");
        assert!(said.contains("--store") && !said.contains("s3cret"), "{store}: {said}");
    }
}
