//! Several batches under way at once.
//!
//! The daemon begins with one batch and finds out by trials how many the server works on at once. So each test first waits
//! until several are under way.

mod interrupted;
mod limits;
mod shown;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::server::Request;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;
use crate::support::workers::ParallelServer;

/// A batch takes twenty times as long: much longer than the daemon itself needs for it.
const RECORD_TIME: Duration = Duration::from_millis(5);
const BATCH_RECORDS: usize = 20;
/// The most batches at once.
const MOST: usize = 4;
/// Enough to find out that the server works on four batches at once, and to send more then.
const RECORDS: usize = 2000;

/// Batches that are as large as the configuration allows, so that only their number is left to find out.
fn several_at_once(url: &str) -> Settings {
    Settings::for_server(url)
        .batches_of(BATCH_RECORDS)
        .with("batch.max_batch_records", &BATCH_RECORDS.to_string())
        .with("batch.learn", "true")
        .with("batch.max_in_flight", &MOST.to_string())
        .with("server.request_timeout", "10s")
}

/// Records of many keys, so that there are enough for several batches with one of each.
fn visits(count: usize, keys: usize) -> Vec<Value> {
    (0..count)
        .map(|n| json!({"type": "Visits", "key": format!("account-{}", n % keys), "payload": {"n": n}}))
        .collect()
}

fn under_way(status: &Value) -> usize {
    status["sync"]["batches"].as_array().unwrap().len()
}

/// Waits until as many batches as allowed are under way, and returns the status. Enqueues more records before none are
/// left, and adds their ids: a trial that a busy machine spoilt is repeated only after 25 responses or more.
#[track_caller]
fn wait_for_several(daemon: &Daemon, ids: &mut Vec<String>) -> Value {
    wait_for("several batches to be under way", || {
        let status = daemon.status();
        if status["records"]["pending"].as_u64().unwrap() < RECORDS as u64 / 2 {
            ids.extend(daemon.enqueue_many(RECORDS));
        }
        (under_way(&status) == MOST).then_some(status)
    })
}

/// A daemon that has as many batches under way as allowed, and the ids of its records.
#[track_caller]
fn busy_daemon(settings: &Settings) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(settings);
    let mut ids = daemon.paused(|daemon| daemon.enqueue_many(RECORDS));
    wait_for_several(&daemon, &mut ids);
    (daemon, ids)
}

/// The ids of the batches that a status says are under way.
fn batch_ids(status: &Value) -> Vec<String> {
    let batches = status["sync"]["batches"].as_array().unwrap().iter();
    batches.map(|batch| batch["id"].as_str().unwrap().to_owned()).collect()
}

/// Each batch arrived once.
#[track_caller]
fn assert_sent_once(server: &ParallelServer) {
    let mut seen = HashSet::new();
    let batches = server.server.batches();
    let twice: Vec<&str> =
        batches.iter().map(Request::batch_id).filter(|id| !seen.insert((*id).to_owned())).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
