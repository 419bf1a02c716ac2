//! Gateways that share a ledger forward by key, and review at any of them.

use hyper::Method;
use serde_json::json;

use crate::gateway::receiver::{PARKED_RECORDS, REFUSED, Taken};
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::postgres::Postgres;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::{directory, wait_for};

const TOKEN: [(&str, &str); 1] = [("authorization", "Bearer s3cret")];

fn keyed_batch(numbers: std::ops::Range<u64>, device: uuid::Uuid) -> Batch {
    let record = |n: u64| Record {
        key: Some(format!("key-{}", n % 50)),
        ..Record::new(&format!("{{\"n\":{n},\"bad\":{}}}", n % 100 == 7))
    };
    Batch { device, ..Batch::with(numbers.map(record).collect()) }
}

/// As the documentation of the server says.
#[test]
#[ignore = "needs PostgreSQL"]
fn gateways_that_run_store_no_payload_once_forwarding_was_ended() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let server = ScriptedServer::start(|_| Reply::text(503, "text/plain", "later"));
    drop(Gateway::start_on(&store, &["--forward", &server.url()]));
    let gateway = Gateway::start_on(&store, &[]);
    let payloads = || postgres.query("sync", "SELECT count(*) FROM fieldsync.outbox");
    // From the second batch on, the gateway expects that payloads are stored.
    for _ in 0..3 {
        gateway.post(&Batch::of(&["{}"])).batch();
    }
    assert_eq!(payloads(), "3");
    postgres.query("sync", "DELETE FROM fieldsync.meta WHERE key = 'forwards'");
    for _ in 0..3 {
        gateway.post(&Batch::of(&["{}"])).batch();
    }
    assert_eq!(payloads(), "3");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_refused_record_delays_only_its_key_whichever_gateway_forwards_and_crashes() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let taken = Taken::default();
    let receiver = taken.clone();
    let server = ScriptedServer::start(move |request| {
        receiver.by_record(request, |record| {
            if record["payload"]["bad"] == true {
                json!({"status": "rejected", "code": "BAD"})
            } else {
                json!({"status": "applied"})
            }
        })
    });
    let directory = directory();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let arguments = [
        "--forward",
        &server.url(),
        "--forward-max-wait",
        "20ms",
        "--forward-max-records",
        "20",
        "--admin-token-file",
        token_file.to_str().unwrap(),
    ];
    // A review needs no gateway that forwards.
    let reviewer = Gateway::start_on(&store, &arguments[6..]);
    let device = uuid::Uuid::new_v4();
    let mut gateways = [Gateway::start_on(&store, &arguments), Gateway::start_on(&store, &arguments)];
    for part in 0..10 {
        gateways[1].post(&keyed_batch(part * 100..(part + 1) * 100, device)).batch();
        let crashed = std::mem::replace(&mut gateways[0], Gateway::start_on(&store, &arguments));
        crashed.kill();
        gateways.swap(0, 1);
    }
    // Key 7: all of 7, 57, 107, … wait behind 7.
    let others = 1000 - 20;
    wait_for("the records of other keys", || (taken.len() == others).then_some(()));
    taken.assert_in_order();
    let count = |name: &str| gateways.iter().map(|gateway| gateway.metric(name)).max().unwrap();
    wait_for("the parked records", || ((count(REFUSED), count(PARKED_RECORDS)) == (1, 19)).then_some(()));
    // The bad ones are mended or dropped one after the other, and those between them follow.
    for turn in 0..10_u64 {
        let listed = wait_for("the next refused record", || {
            let page = reviewer.send(Method::GET, "/admin/refused", &TOKEN, Vec::new()).expect_json(200);
            page["records"].get(0).cloned()
        });
        let id = listed["id"].as_str().unwrap();
        let changed = if turn % 2 == 0 {
            let payload = format!("{{\"n\":{}}}", 7 + turn * 100);
            let path = format!("/admin/refused/{id}/payload");
            reviewer.send(Method::PUT, &path, &TOKEN, payload.into())
        } else {
            let body = json!({"ids": [id]}).to_string();
            reviewer.send(Method::POST, "/admin/refused/discard", &TOKEN, body.into())
        };
        assert_eq!(changed.expect_json(200), json!({"changed": 1}));
    }
    wait_for("all records", || (taken.len() == 1000 - 5).then_some(()));
    taken.assert_in_order();
    for table in ["outbox", "forward_lanes", "forward_parked"] {
        wait_for("the tables to be empty", || {
            (postgres.query("sync", &format!("SELECT count(*) FROM fieldsync.{table}")) == "0").then_some(())
        });
    }
}
