//! Callers that look, or change many records, again and again, on many connections: those who hand records over, the
//! planner and admins do not wait for them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::daemon::{Daemon, NDJSON};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

const READERS: usize = 8;
/// Enough for several looks to find nothing in it.
const RECORDS: usize = 30_000;
/// Looks that may be answered while one call that changes something waits. Who waits for the last of the
/// readers waits for thousands.
const MOST_ANSWERS: usize = 200;

/// Readers that loop until this is dropped.
struct Looking<'a> {
    ends: &'a AtomicBool,
    answers: &'a AtomicUsize,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

impl Looking<'_> {
    /// Answers to readers until `call` was answered.
    fn during(&self, call: impl FnOnce()) -> usize {
        let before = self.answers.load(Ordering::Relaxed);
        call();
        self.answers.load(Ordering::Relaxed) - before
    }
}

fn beside(call: impl Fn() + Sync, test: impl FnOnce(&Looking<'_>)) {
    let (ends, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    call();
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        test(&Looking { ends: &ends, answers: &answers });
    });
}

#[test]
fn readers_in_a_loop_keep_neither_records_nor_batches_nor_admins_waiting() {
    let applied = json!({"status": "applied"});
    let server = ScriptedServer::start(move |request| {
        Reply::results(request.batch_id(), &request.ids(), |_| Some(applied.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.post("/v1/pause", "").good(200);
    let records = "{\"type\":\"Visits\",\"payload\":{}}\n".repeat(RECORDS);
    daemon.call(hyper::Method::POST, "/v1/records", NDJSON, records).good(201);
    let look = || drop(daemon.get("/v1/records?type=nosuch").good(200));
    beside(look, |looking| {
        for _ in 0..20 {
            let answers = looking.during(|| drop(daemon.enqueue_many(1)));
            assert!(answers <= MOST_ANSWERS, "{answers} answers to readers before a record was taken in");
        }
        let answers = looking.during(|| drop(daemon.post("/v1/resume", "").good(200)));
        assert!(answers <= MOST_ANSWERS, "{answers} answers to readers before an admin");
        let answers = looking.during(|| {
            daemon.wait_until("batches to be settled", |status| {
                status["records"]["synced"].as_u64().unwrap() >= 200
            });
        });
        assert!(answers <= 20 * MOST_ANSWERS, "{answers} answers to readers before some batches");
    });
}

#[test]
fn changes_of_many_records_in_a_loop_keep_records_no_longer_than_one_of_them() {
    const POSTS: usize = 20;
    let rejected = json!({"status": "rejected", "code": "C", "message": "M"});
    let server = ScriptedServer::start(move |request| {
        Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    for _ in 0..3 {
        daemon.enqueue_many(1000);
    }
    daemon.wait_until_done();
    let retry = || drop(daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).good(200));
    beside(retry, |changing| {
        let changes: usize = (0..POSTS).map(|_| changing.during(|| drop(daemon.enqueue_many(1)))).sum();
        assert!(
            changes <= 3 * POSTS,
            "{changes} changes of all records were done before {POSTS} records were taken in"
        );
    });
}

#[test]
fn a_list_that_finds_little_goes_on_by_its_cursor_and_ends() {
    let daemon = Daemon::start(&Settings::default());
    let lines = (0..RECORDS).map(|number| {
        let record_type = if number % 7000 == 0 { "Rare" } else { "Visits" };
        format!("{{\"type\":\"{record_type}\",\"payload\":{{}}}}\n")
    });
    daemon.call(hyper::Method::POST, "/v1/records", NDJSON, lines.collect::<String>()).good(201);
    let (mut found, mut pages, mut after) = (0, 0, String::new());
    loop {
        let page = daemon.get(&format!("/v1/records?type=Rare&limit=3&after={after}")).good(200);
        found += page["records"].as_array().unwrap().len();
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, RECORDS.div_ceil(7000));
    // A page looks at a part of the queue, and yet it is no walk of a thousand requests.
    assert!((5..50).contains(&pages), "{pages} pages");
    let listed = daemon.cli(&["--json", "list", "--type", "Rare"]);
    assert_eq!(listed.stdout.matches("\"Rare\"").count(), found, "{}", listed.stderr);
}
