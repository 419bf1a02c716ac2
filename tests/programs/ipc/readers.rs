//! Callers that repeat expensive reads or changes on many connections: callers that enqueue, the planner and admins
//! do not wait for them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::daemon::{Daemon, NDJSON};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

const READERS: usize = 8;
/// Enough records for several reads that find nothing.
const RECORDS: usize = 30_000;
/// Reads that may complete while one change waits. A change that waited for the last reader would wait for
/// thousands.
const RESPONSES_MAX: usize = 200;

/// Readers that repeat their calls until this is dropped.
struct BackgroundReaders<'a> {
    ends: &'a AtomicBool,
    responses: &'a AtomicUsize,
}

impl Drop for BackgroundReaders<'_> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

impl BackgroundReaders<'_> {
    /// The number of responses to readers until `call` has its response.
    fn count_during(&self, call: impl FnOnce()) -> usize {
        let before = self.responses.load(Ordering::Relaxed);
        call();
        self.responses.load(Ordering::Relaxed) - before
    }
}

/// The largest count of three quarters: a delay of the test's own thread, during which the readers continue, says
/// nothing about the daemon.
fn largest_of_most(mut counts: Vec<usize>) -> usize {
    counts.sort_unstable();
    counts[counts.len() * 3 / 4 - 1]
}

fn with_background_readers(call: impl Fn() + Sync, test: impl FnOnce(&BackgroundReaders<'_>)) {
    let (ends, responses) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    call();
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        test(&BackgroundReaders { ends: &ends, responses: &responses });
    });
}

#[test]
fn readers_in_a_loop_keep_neither_records_nor_batches_nor_admins_waiting() {
    let applied = json!({"status": "applied"});
    let server = ScriptedServer::start(move |request| {
        Reply::results(request.batch_id(), &request.ids(), |_| Some(applied.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.post("/v1/pause", "").expect_json(200);
    let records = "{\"type\":\"Visits\",\"payload\":{}}\n".repeat(RECORDS);
    daemon.call(hyper::Method::POST, "/v1/records", NDJSON, records).expect_json(201);
    let look = || drop(daemon.get("/v1/records?type=nosuch").expect_json(200));
    with_background_readers(look, |looking| {
        let records = (0..20).map(|_| looking.count_during(|| drop(daemon.enqueue_many(1))));
        let responses = largest_of_most(records.collect());
        assert!(responses <= RESPONSES_MAX, "{responses} responses to readers before a record was accepted");
        let resumptions = (0..8).map(|_| {
            daemon.post("/v1/pause", "").expect_json(200);
            looking.count_during(|| drop(daemon.post("/v1/resume", "").expect_json(200)))
        });
        let responses = largest_of_most(resumptions.collect());
        assert!(responses <= RESPONSES_MAX, "{responses} responses to readers before an admin's call");
        let synced = daemon.counts().synced;
        let batches = (1..=8).map(|batches| {
            looking.count_during(|| {
                daemon.wait_until("batches to be settled", |status| {
                    status["records"]["synced"].as_u64().unwrap() >= synced + batches * 50
                });
            })
        });
        let responses = largest_of_most(batches.collect());
        assert!(responses <= 5 * RESPONSES_MAX, "{responses} responses to readers before some batches");
    });
}

#[test]
fn changes_of_many_records_in_a_loop_keep_records_no_longer_than_one_of_them() {
    const POSTS: usize = 20;
    const COUNTED: usize = 15;
    let rejected = json!({"status": "rejected", "code": "C", "message": "M"});
    let server = ScriptedServer::start(move |request| {
        Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    for _ in 0..3 {
        daemon.enqueue_many(1000);
    }
    daemon.wait_until_done();
    let retry = || drop(daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).expect_json(200));
    with_background_readers(retry, |changing| {
        let mut each: Vec<usize> =
            (0..POSTS).map(|_| changing.count_during(|| drop(daemon.enqueue_many(1)))).collect();
        each.sort_unstable();
        // A delay of this thread, during which the others continue, says nothing about the daemon.
        let changes: usize = each[..COUNTED].iter().sum();
        assert!(
            changes <= 3 * COUNTED,
            "{changes} changes of all records were done before {COUNTED} records were taken in: {each:?}"
        );
    });
}

#[test]
fn a_sparse_list_continues_by_its_cursor_and_ends() {
    let daemon = Daemon::start(&Settings::default());
    let lines = (0..RECORDS).map(|number| {
        let record_type = if number % 7000 == 0 { "Rare" } else { "Visits" };
        format!("{{\"type\":\"{record_type}\",\"payload\":{{}}}}\n")
    });
    daemon.call(hyper::Method::POST, "/v1/records", NDJSON, lines.collect::<String>()).expect_json(201);
    let (mut found, mut pages, mut after) = (0, 0, String::new());
    loop {
        let page = daemon.get(&format!("/v1/records?type=Rare&limit=3&after={after}")).expect_json(200);
        found += page["records"].as_array().unwrap().len();
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, RECORDS.div_ceil(7000));
    // A page scans part of the queue, but the whole list does not take a thousand requests.
    assert!((5..50).contains(&pages), "{pages} pages");
    let listed = daemon.cli(&["--json", "list", "--type", "Rare"]);
    assert_eq!(listed.stdout.matches("\"Rare\"").count(), found, "{}", listed.stderr);
}
