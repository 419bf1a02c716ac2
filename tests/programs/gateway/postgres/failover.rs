//! A database that fails over to its synchronous standby loses nothing that was confirmed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::postgres::{ADDRESS, PASSWORD, Postgres};
use crate::support::wait::{directory, wait_for};

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
const SENDERS: usize = 3;
/// Batches that a gateway takes from each sender before the primary is killed, and after another server is the primary.
const BATCHES_BEFORE: u64 = 20;
const BATCHES_AFTER: usize = 5;

#[test]
#[ignore = "needs PostgreSQL"]
fn after_a_failover_under_load_nothing_is_lost_or_applied_twice_and_gateways_go_on() {
    let mut primary = Postgres::start();
    primary.create("sync");
    let standby = primary.start_synchronous_standby();
    let hosts = format!("{ADDRESS}:{},{ADDRESS}:{}", primary.port(), standby.port());
    let store = format!("postgres://crm:{PASSWORD}@{hosts}/sync?target_session_attrs=read-write");
    let directory = directory();
    let log = directory.path().join("log");
    let with_prepared = format!("{store}&prepared_statements=true");
    let gateways = [Gateway::start_logging(&store, &log, &[]), Gateway::start_on(&with_prepared, &[])];
    assert!(std::fs::read_to_string(&log).unwrap().contains(&format!("postgres://{hosts}/sync")));

    let is_promoted = AtomicBool::new(false);
    let sent: Vec<Batch> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS * gateways.len())
            .map(|sender| {
                let (gateway, is_promoted) = (&gateways[sender % gateways.len()], &is_promoted);
                scope.spawn(move || send_through_failover(gateway, is_promoted))
            })
            .collect();
        wait_for("both gateways to apply records", || {
            gateways.iter().all(|gateway| gateway.metric(APPLIED) > BATCHES_BEFORE * 5).then_some(())
        });
        primary.kill();
        wait_for("the gateways to notice", || {
            gateways.iter().all(|gateway| gateway.get("/healthz").status == 503).then_some(())
        });
        standby.query("postgres", "SELECT pg_promote()");
        is_promoted.store(true, Ordering::Relaxed);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });

    let applied = gateways[0].applied_ids();
    let known: HashSet<Uuid> = applied.iter().copied().collect();
    assert_eq!(applied.len(), known.len(), "a record was applied twice");
    assert_eq!(known, sent.iter().flat_map(Batch::ids).collect());
    for gateway in &gateways {
        assert_eq!(gateway.get("/healthz").status, 200);
        for batch in &sent {
            assert!(gateway.query_outcome(batch).batch().replayed);
        }
    }
}

/// Sends batches, each until it is confirmed, and a few more after the failover. Returns those that were confirmed.
fn send_through_failover(gateway: &Gateway, is_promoted: &AtomicBool) -> Vec<Batch> {
    let (mut sent, mut after) = (Vec::new(), 0);
    while after < BATCHES_AFTER {
        let is_after = is_promoted.load(Ordering::Relaxed);
        let batch = Batch::with((0..5).map(|_| Record::new("{}")).collect());
        wait_for("the batch to be confirmed", || {
            let response = gateway.post(&batch);
            match response.status {
                200 => Some(()),
                503 => None,
                other => panic!("a batch got {other}: {}", response.text()),
            }
        });
        sent.push(batch);
        after += usize::from(is_after);
    }
    sent
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_gateway_finds_the_writable_one_of_several_servers_at_its_start() {
    let primary = Postgres::start();
    primary.create("sync");
    let standby = primary.start_synchronous_standby();
    // The first of these responds and accepts no writes, and at the second port of the address nothing listens.
    let hosts = format!("{ADDRESS}:{},{ADDRESS}:9,{ADDRESS}:{}", standby.port(), primary.port());
    let gateway = Gateway::start_on(&format!("postgres://crm:{PASSWORD}@{hosts}/sync"), &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    assert_eq!(primary.query("sync", "SELECT count(*) FROM fieldsync.records"), "1");
}
