//! Ledgers of older gateways are brought to the present layout, with everything that is in them.

use std::thread;

use fieldsync::protocol::wire::RecordStatus;
use hyper::Method;
use serde_json::json;
use uuid::Uuid;

use crate::gateway::receiver::{PARKED_KEYS, PARKED_RECORDS, REFUSED, Taken, WAITING};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::http::statuses;
use crate::support::notify::NotifySocket;
use crate::support::postgres::Postgres;
use crate::support::server::ScriptedServer;
use crate::support::wait::{directory, wait_for};

/// A ledger of schema 1. Of its ten records, the first seven were taken by forwarding: 3 is refused and 5 behind it, 4
/// is to be sent again in the year 2100 and 6 behind it. Three others wait. 2 was applied by a gateway that did not store
/// devices, 11 was delivered to a destination, and 20 was sent to one without an outcome.
const LEDGER: &str = include_str!("../../../fixtures/ledger-postgres-1.sql");
const TOKEN: [(&str, &str); 1] = [("authorization", "Bearer s3cret")];
const DEVICE: &str = "11111111-1111-4111-8111-111111111111";

fn old_ledger(postgres: &Postgres, changes: &str) -> String {
    let store = postgres.create("sync");
    postgres.query("sync", &format!("{LEDGER};{changes}"));
    store
}

fn record_id(number: u32) -> Uuid {
    format!("00000000-0000-4000-8000-{number:012}").parse().unwrap()
}

fn batch_id(number: u32) -> Uuid {
    format!("33333333-3333-4333-8333-{number:012}").parse().unwrap()
}

fn count(postgres: &Postgres, table: &str) -> String {
    postgres.query("sync", &format!("SELECT count(*) FROM fieldsync.{table}"))
}

fn old_tables(postgres: &Postgres) -> String {
    let select = "SELECT count(*) FROM pg_class JOIN pg_namespace AS space ON space.oid = relnamespace
        WHERE nspname = 'fieldsync' AND relname IN ('applied', 'batches', 'counters', 'records_1')";
    postgres.query("sync", select)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ledger_of_schema_1_keeps_its_records_responses_receipts_and_what_waits() {
    let postgres = Postgres::start();
    let store = old_ledger(&postgres, "");
    let taken = Taken::default();
    let receiver = taken.clone();
    let server =
        ScriptedServer::start(move |request| receiver.by_record(request, |_| json!({"status": "applied"})));
    let directory = directory();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let arguments = ["--forward", &server.url(), "--admin-token-file", token_file.to_str().unwrap()];
    let gateway = Gateway::start_on(&store, &arguments);

    let listed = gateway.ledger();
    assert!(listed.iter().map(|line| line["seq"].as_u64().unwrap()).eq(1..=10));
    let numbers = (1..=7).chain(9..=11);
    assert_eq!(gateway.applied_ids(), numbers.map(record_id).collect::<Vec<_>>());
    assert_eq!((&listed[1]["key"], &listed[1]["device_id"]), (&json!("a"), &json!(DEVICE)));

    let mut known = Batch::with(vec![Record { id: record_id(1), ..Record::new("{}") }]);
    assert_eq!(statuses(&gateway.post(&known).batch()), [RecordStatus::Duplicate]);
    known.records[0].payload = "{\"n\":1}".into();
    assert_eq!(gateway.post(&known.again()).batch().results[0].code.as_deref(), Some("ID_OF_OTHER_DEVICE"));
    for (number, records) in [(1, 4), (2, 4)] {
        let asked = Batch { id: batch_id(number), device: DEVICE.parse().unwrap(), records: Vec::new() };
        let response = gateway.query_outcome(&asked).batch();
        assert_eq!((response.replayed, response.results.len()), (true, records));
    }
    let receipt = "SELECT receipt FROM fieldsync.records WHERE receipt IS NOT NULL";
    assert_eq!(postgres.query("sync", receipt), r#"{"id":"7"}"#);
    for table in ["deliveries", "delivery_keys", "token_requests"] {
        assert_eq!(count(&postgres, table), "1", "{table}");
    }

    // Only what was not forwarded yet is forwarded now.
    wait_for("the records that waited", || (taken.len() == 3).then_some(()));
    assert_eq!(taken.numbers(), [7, 8, 9]);
    wait_for("nothing to wait", || (gateway.metric(WAITING) == 0).then_some(()));
    wait_for("the blocked lanes", || {
        let counts = [REFUSED, PARKED_RECORDS, PARKED_KEYS].map(|name| gateway.metric(name));
        (counts == [1, 2, 2]).then_some(())
    });
    let body = json!({"ids": [record_id(3)]}).to_string();
    let reviewed = gateway.send(Method::POST, "/admin/refused/retry", &TOKEN, body.into());
    assert_eq!(reviewed.expect_json(200), json!({"changed": 1}));
    wait_for("the refused record and the one behind it", || (taken.len() == 5).then_some(()));
    assert_eq!(taken.numbers(), [7, 8, 9, 2, 4]);

    let new = Batch::of(&["{\"n\":10}"]);
    gateway.post(&new).batch();
    assert!(gateway.ledger().last().unwrap()["seq"].as_u64() > Some(10));
    wait_for("the new record", || (taken.len() == 6).then_some(()));
    assert_eq!(old_tables(&postgres), "0");
    assert_eq!(count(&postgres, "outbox"), "0");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ledger_of_the_first_gateways_that_never_forwarded_keeps_every_payload() {
    let postgres = Postgres::start();
    let first = "ALTER TABLE fieldsync.records DROP COLUMN device_id, DROP COLUMN receipt;
        DROP TABLE fieldsync.deliveries, fieldsync.delivery_keys, fieldsync.token_requests;
        DROP TABLE fieldsync.forward_lanes, fieldsync.forward_parked;
        UPDATE fieldsync.counters SET seq = 0 WHERE name = 'forwarded'";
    let store = old_ledger(&postgres, first);
    let directory = directory();
    let log = directory.path().join("log");
    let gateway = Gateway::start_logging(&store, &log, &[]);
    assert!(std::fs::read_to_string(log).unwrap().contains("payloads were kept"));
    assert_eq!(gateway.ledger().len(), 10);
    for (table, rows) in [("outbox", "10"), ("forward_parked", "0"), ("deliveries", "0")] {
        assert_eq!(count(&postgres, table), rows, "{table}");
    }
    gateway.post(&Batch::of(&["{}"])).batch();
    assert_eq!((count(&postgres, "outbox"), count(&postgres, "records")), ("11".into(), "11".into()));
    // A gateway that forwards, and starts later, hands on all of them.
    let taken = Taken::default();
    let receiver = taken.clone();
    let server =
        ScriptedServer::start(move |request| receiver.by_record(request, |_| json!({"status": "applied"})));
    let _forwarder = Gateway::start_on(&store, &["--forward", &server.url()]);
    wait_for("all records", || (taken.len() == 11).then_some(()));
    // The rows of records that were added later tell devices apart, too.
    let mut stranger = Batch::with(vec![Record { id: record_id(1), ..Record::new("{\"n\":1}") }]);
    assert_eq!(gateway.post(&stranger).batch().results[0].code.as_deref(), Some("ID_OF_OTHER_DEVICE"));
    stranger = Batch { device: DEVICE.parse().unwrap(), ..stranger.again() };
    assert_eq!(gateway.post(&stranger).batch().results[0].code.as_deref(), Some("ID_CONFLICT"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ledger_of_schema_1_from_which_all_was_forwarded_keeps_no_payload() {
    let postgres = Postgres::start();
    let store = old_ledger(&postgres, "UPDATE fieldsync.counters SET seq = 10 WHERE name = 'forwarded'");
    let gateway = Gateway::start_on(&store, &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    assert_eq!((count(&postgres, "outbox"), gateway.ledger().len()), ("0".into(), 11));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_migration_extends_the_time_that_systemd_allows_for_the_start() {
    let postgres = Postgres::start();
    let store = old_ledger(&postgres, "");
    let directory = directory();
    let mut socket = NotifySocket::new(directory.path());
    let mut command = command(&store, ANY_PORT, &[]);
    command.env("NOTIFY_SOCKET", &socket.path);
    let _gateway = Gateway::start_by(command);
    socket.wait_for("READY=1");
    let lines = socket.received_lines();
    let place = |start: &str| lines.iter().position(|line| line.starts_with(start));
    for line in ["STATUS=Converting the ledger", "EXTEND_TIMEOUT_USEC="] {
        assert!(place(line).is_some_and(|at| Some(at) < place("READY=1")), "{lines:?}");
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn gateways_that_start_together_migrate_a_ledger_once() {
    let postgres = Postgres::start();
    let store = old_ledger(&postgres, "");
    let gateways: Vec<Gateway> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| Gateway::start_on(&store, &[]))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for gateway in &gateways {
        gateway.post(&Batch::of(&["{}"])).batch();
    }
    assert_eq!(gateways[0].ledger().len(), 14);
    // A gateway of this ledger may have forwarded: what waited for that still does.
    assert_eq!(count(&postgres, "outbox"), "7");
}
