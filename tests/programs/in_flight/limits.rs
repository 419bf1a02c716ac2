//! How many batches are under way at most, and in which order.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{
    BATCH_RECORDS, MOST, RECORD_TIME, RECORDS, assert_sent_once, busy_daemon, several_at_once, under_way,
    visits, wait_for_several,
};
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::Request;
use crate::support::wait::wait_for;
use crate::support::workers::ParallelServer;

#[test]
fn a_server_gets_several_batches_at_once_and_every_record_once() {
    let server = ParallelServer::start(RECORD_TIME);
    let (daemon, ids) = busy_daemon(&several_at_once(&server.server.url()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    assert_eq!(server.workers.most(), MOST);
    server.ledger.assert_holds(&ids);
    server.assert_one_batch_for_each_record();
    assert_sent_once(&server);
}

#[test]
fn with_one_batch_in_flight_each_follows_the_response_to_the_one_before() {
    let server = ParallelServer::start(RECORD_TIME / 5);
    let daemon = Daemon::start(&several_at_once(&server.server.url()).with("batch.max_in_flight", "1"));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(RECORDS));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    assert_eq!(server.workers.most(), 1);
    server.ledger.assert_holds(&ids);
    let status = daemon.wait_for_phase("idle");
    assert_eq!(
        (&status["batching"]["in_flight"], &status["batching"]["in_flight_limit"]),
        (&0.into(), &1.into())
    );
}

#[test]
fn a_server_that_asks_for_one_batch_at_a_time_gets_one_at_a_time() {
    let server = ParallelServer::start_with(RECORD_TIME / 5, |reply| reply.with("x-sync-max-in-flight", "1"));
    let daemon = Daemon::start(&several_at_once(&server.server.url()));
    let mut ids = daemon.enqueue_many(1);
    daemon.wait_until_done();
    server.workers.reset_most();
    ids.extend(daemon.paused(|daemon| daemon.enqueue_many(RECORDS)));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64 + 1));
    assert_eq!(server.workers.most(), 1);
    server.ledger.assert_holds(&ids);
    assert_eq!(daemon.status()["batching"]["in_flight_limit"], 1);
}

#[test]
fn no_two_batches_under_way_have_records_of_a_key_and_its_records_arrive_in_order() {
    const KEYS: usize = 200;
    let server = ParallelServer::start(RECORD_TIME);
    let daemon = Daemon::start(&several_at_once(&server.server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue(&visits(RECORDS, KEYS)));
    daemon.wait_until("two batches to be under way", |status| under_way(status) >= 2);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    server.workers.assert_no_shared_keys();
    server.ledger.assert_holds(&ids);
    let mut last: HashMap<String, u64> = HashMap::new();
    for record in server.server.batches().iter().flat_map(Request::records) {
        let (key, n) = (record["key"].as_str().unwrap(), record["payload"]["n"].as_u64().unwrap());
        let before = last.insert(key.to_owned(), n);
        assert!(before.is_none_or(|before| before < n), "{before:?} before {n} of {key}");
    }
}

#[test]
fn sequence_numbers_rise_in_the_order_in_which_batches_are_first_sent() {
    let server = ParallelServer::start(RECORD_TIME);
    let daemon = Daemon::start(&several_at_once(&server.server.url()));
    // Numbers begin again with each run. There are enough records that a delay of this test does not see the run end.
    let mut ids: Vec<String> =
        daemon.paused(|daemon| (0..3).flat_map(|_| daemon.enqueue_many(RECORDS)).collect());
    let number = |sequence: &str| -> u32 { sequence.split_once('/').unwrap().0.parse().unwrap() };
    let batches = wait_for_several(&daemon, &mut ids)["sync"]["batches"].as_array().unwrap().clone();
    let shown = |batch: &Value| {
        (number(batch["sequence"].as_str().unwrap()), batch["sent_at"].as_str().unwrap().to_owned())
    };
    assert!(batches.iter().map(shown).is_sorted(), "{batches:#?}");
    // By number, when the daemon sent each batch. At the server, those under way together may arrive in any order.
    let mut sent = BTreeMap::new();
    wait_for("batches that follow others", || {
        for (number, sent_at) in daemon.status()["sync"]["batches"].as_array().unwrap().iter().map(shown) {
            sent.entry(number).or_insert(sent_at);
        }
        (sent.len() > 5 * MOST).then_some(())
    });
    assert!(sent.values().is_sorted(), "{sent:?}");
    daemon.wait_until_done();
    let mut numbers: Vec<u32> =
        server.server.batches().iter().map(|batch| number(batch.header("x-batch-sequence"))).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(numbers.len() >= RECORDS / BATCH_RECORDS);
}
