//! Many records to be retried: they are sent together again, and cause no storm of requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// The batches of the first tries: one whose records were all tried more often than that does not count.
pub(super) fn count_batches_of_tries(batches: &[Request], tries: usize) -> usize {
    let mut times_sent: HashMap<String, usize> = HashMap::new();
    let mut count_send = |id: String| {
        let times = times_sent.entry(id).or_default();
        *times += 1;
        *times
    };
    let is_counted = |batch: &&Request| {
        let each: Vec<usize> = batch.ids().into_iter().map(&mut count_send).collect();
        each.iter().any(|times| *times <= tries)
    };
    batches.iter().filter(is_counted).count()
}

#[test]
fn records_deferred_repeatedly_cause_no_storm_of_requests() {
    const RECORDS: usize = 1500;
    const SIZE: usize = 50;
    const TRIES: usize = 5;
    let times: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let times_sent = Arc::clone(&times);
    let server = ScriptedServer::start(move |request| {
        if !request.is_batch() {
            return Reply::unknown_batch();
        }
        let ids = request.ids();
        let mut times_sent = times_sent.lock().unwrap();
        for id in &ids {
            *times_sent.entry(id.clone()).or_default() += 1;
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "retry"})))
    });
    // The promised defaults.
    let settings = Settings::for_server(&server.url())
        .batches_of(SIZE)
        .with("retry.initial_backoff", "1s")
        .with("retry.max_backoff", "15m");
    let daemon = Daemon::start(&settings);
    daemon.paused(|daemon| {
        for _ in 0..RECORDS / 500 {
            daemon.enqueue_many(500);
        }
    });
    for tries in 1..=TRIES {
        wait_for("each record to be tried once more", || {
            let times = times.lock().unwrap();
            (times.len() == RECORDS && times.values().all(|times| *times >= tries)).then_some(())
        });
    }
    let counted = count_batches_of_tries(&server.batches(), TRIES);
    assert!(counted <= TRIES * RECORDS / SIZE, "{counted} requests, batches of {:?}", server.sizes());
}
