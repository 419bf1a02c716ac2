//! A database that fails over to its synchronous standby loses nothing that was confirmed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fieldsync::protocol::wire::RecordStatus;
use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::{ADDRESS, PASSWORD, Postgres};
use crate::support::wait::{directory, wait_for};

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
const SENDERS: usize = 3;
/// Batches that a gateway takes from each sender before the primary is killed, and after another server is the primary.
const BATCHES_BEFORE: u64 = 20;
const BATCHES_AFTER: usize = 5;
/// Each of them takes the time limit of an operation while no server responds.
const ATTEMPTS_MAX: usize = 5;

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
                let (gateways, is_promoted) = (&gateways, &is_promoted);
                scope.spawn(move || send_through_failover(gateways, sender, is_promoted))
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
    assert_eq!(known, sent.iter().flat_map(Batch::ids).collect());
    for gateway in &gateways {
        assert_eq!(gateway.get("/healthz").status, 200);
        for batch in &sent {
            assert!(gateway.query_outcome(batch).batch().replayed);
        }
    }
}

/// Sends batches until they are confirmed, and a few more after the failover. The records of each are also sent in
/// another batch to the other gateway, as by a device that does not know the outcome: one of the two applies them.
/// Returns the batches.
fn send_through_failover(gateways: &[Gateway; 2], sender: usize, is_promoted: &AtomicBool) -> Vec<Batch> {
    let (mut sent, mut after) = (Vec::new(), 0);
    while after < BATCHES_AFTER {
        let is_after = is_promoted.load(Ordering::Relaxed);
        let batch = Batch::with((0..5).map(|_| Record::new("{}")).collect());
        let batches = [batch.again(), batch];
        let mut results = [None, None];
        wait_for("both batches to be confirmed", || {
            for (nth, result) in results.iter_mut().enumerate().filter(|(_, result)| result.is_none()) {
                let response = gateways[(sender + nth) % 2].post(&batches[nth]);
                match response.status {
                    200 => *result = Some(statuses(&response.batch())),
                    503 => {}
                    other => panic!("a batch got {other}: {}", response.text()),
                }
            }
            results.iter().all(Option::is_some).then_some(())
        });
        for record in 0..batches[0].records.len() {
            let mut both: Vec<RecordStatus> = results.iter().flatten().map(|result| result[record]).collect();
            both.sort_by_key(|status| *status == RecordStatus::Duplicate);
            assert_eq!(both, [RecordStatus::Applied, RecordStatus::Duplicate]);
        }
        sent.extend(batches);
        after += usize::from(is_after);
    }
    sent
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_primary_that_hangs_is_left_for_the_standby_that_took_over() {
    let primary = Postgres::start();
    primary.create("sync");
    let standby = primary.start_synchronous_standby();
    let hosts = format!("{ADDRESS}:{},{ADDRESS}:{}", primary.port(), standby.port());
    let gateway = Gateway::start_on(&format!("postgres://crm:{PASSWORD}@{hosts}/sync"), &[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    let frozen = primary.freeze();
    standby.query("postgres", "SELECT pg_promote()");
    let batch = Batch::of(&["{}"]);
    let taken = (0..ATTEMPTS_MAX).map(|_| gateway.post(&batch)).find(|response| response.status != 503);
    assert_eq!(taken.expect("a response from the new primary").status, 200);
    assert_eq!(standby.query("sync", "SELECT count(*) FROM fieldsync.records"), "2");
    drop(frozen);
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
