//! One record causes a denial of its whole batch: it is found, and the others are synced.

use std::thread;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const BAD: &str = "\"bad\"";
/// The number of daemons that run at the same time.
const LANES: usize = 3;

/// Intermediaries between the device and its server, and how their responses are classified.
fn denials() -> Vec<(Reply, &'static str)> {
    let mut denials = Vec::new();
    for (status, class) in [
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "misconfigured"),
        (405, "misconfigured"),
        (410, "misconfigured"),
        (415, "misconfigured"),
        (501, "misconfigured"),
        (429, "throttled"),
        (503, "throttled"),
    ] {
        denials.push((Reply::error(status, "AWAY"), class));
        denials.push((Reply::html(status), class));
        denials.push((Reply::text(status, "text/plain", ""), class));
    }
    denials.push((Reply::html(503).with("retry-after", "3600"), "throttled"));
    for status in [301, 302, 307, 400, 422, 451, 511] {
        denials.push((Reply::html(status), "interfered"));
    }
    for (status, body) in [(200, ""), (204, ""), (302, ""), (511, "")] {
        denials.push((Reply::text(status, "text/html", body), "interfered"));
    }
    denials.push((Reply::html(200), "interfered"));
    denials.push((Reply::json(200, &json!({"status": "ok"})), "interfered"));
    denials
}

fn status_of(reply: &Reply) -> u16 {
    let Reply::Response { status, .. } = reply else { panic!("a denial is a response") };
    *status
}

fn is_bad(request: &Request) -> bool {
    request.is_batch() && request.text().contains(BAD)
}

/// One bad record among good ones, somewhere in the middle.
fn records(count: usize) -> Vec<Value> {
    let text = |n| if n == count / 3 { "bad" } else { "good" };
    (0..count).map(|n| json!({"type": "T", "payload": {"n": n, "text": text(n)}})).collect()
}

/// Of these records, one causes this response: only that one is quarantined.
fn one_bad_among(count: usize, with_look_up: bool, reply: &Reply, class: &str) {
    let (books, denial) = (Ledger::default(), reply.clone());
    let ledger = books.clone();
    let server = ScriptedServer::start(move |request| {
        if is_bad(request) {
            denial.clone()
        } else if request.is_batch() || with_look_up {
            books.respond(request)
        } else {
            Reply::text(404, "text/plain", "Not Found\n")
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut ids = daemon.enqueue(&records(count));
    let status = status_of(reply);
    let Reply::Response { body, .. } = reply else { unreachable!() };
    let what = format!("{status} {:?}", String::from_utf8_lossy(body));
    assert_eq!(daemon.wait_until_done(), Counts::settled(count as u64 - 1, 1), "{what}: {}", daemon.log());
    let bad = ids.remove(count / 3);
    let entry = daemon.record(&bad);
    assert_eq!(entry["state"], "QUARANTINED", "{what}: {entry}");
    let error = &entry["last_error"];
    assert_eq!((&error["class"], &error["http_status"]), (&json!(class), &json!(status)), "{what}: {entry}");
    ledger.assert_holds(&ids);
}

fn each_denial(count: usize, with_look_up: bool) {
    let denials = denials();
    thread::scope(|scope| {
        for share in denials.chunks(denials.len().div_ceil(LANES)) {
            scope.spawn(move || {
                for (reply, class) in share {
                    one_bad_among(count, with_look_up, reply, class);
                }
            });
        }
    });
}

#[test]
fn a_record_that_causes_a_denial_is_found_and_the_others_are_synced() {
    each_denial(40, true);
}

#[test]
fn a_record_that_causes_a_denial_is_found_without_outcome_queries() {
    each_denial(40, false);
}

#[test]
fn a_record_that_causes_a_denial_is_found_among_several_batches() {
    each_denial(110, true);
}

#[test]
fn a_record_that_causes_a_denial_is_found_among_several_batches_without_outcome_queries() {
    each_denial(110, false);
}

/// Some records are faulty: all of these are found, and no other record is quarantined.
fn several_bad(reply: &Reply, with_look_up: bool) {
    const RECORDS: usize = 110;
    const FAULTS: [usize; 5] = [0, 1, 40, 77, 109];
    let (books, denial) = (Ledger::default(), reply.clone());
    let ledger = books.clone();
    let server = ScriptedServer::start(move |request| match (is_bad(request), request.is_batch()) {
        (true, _) => denial.clone(),
        (false, false) if !with_look_up => Reply::text(404, "text/plain", "Not Found\n"),
        _ => books.respond(request),
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let text = |n| if FAULTS.contains(&n) { "bad" } else { "good" };
    let records: Vec<Value> =
        (0..RECORDS).map(|n| json!({"type": "T", "payload": {"n": n, "text": text(n)}})).collect();
    let ids = daemon.enqueue(&records);
    let status = status_of(reply);
    let wanted = Counts::settled((RECORDS - FAULTS.len()) as u64, FAULTS.len() as u64);
    assert_eq!(daemon.wait_until_done(), wanted, "{status}: {}", daemon.log());
    assert_eq!(daemon.in_state("QUARANTINED"), FAULTS.iter().map(|n| ids[*n].clone()).collect(), "{status}");
    let sound = (0..RECORDS).filter(|n| !FAULTS.contains(n)).map(|n| ids[n].clone());
    ledger.assert_holds(&sound.collect::<Vec<_>>());
}

#[test]
fn several_records_that_cause_a_denial_are_all_found() {
    for reply in [Reply::html(403), Reply::error(401, "AWAY"), Reply::html(503), Reply::html(200)] {
        several_bad(&reply, true);
        several_bad(&reply, false);
    }
}

/// Every batch is denied repeatedly: no attempt is counted, and afterwards each record has one attempt.
fn everyone_is_denied(status: u16, look_up: &Reply) {
    for count in [1, 3, 60] {
        let look_up = look_up.clone();
        let server = ScriptedServer::start(move |request| {
            if request.is_batch() { Reply::error(status, "AWAY") } else { look_up.clone() }
        });
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        let ids = daemon.enqueue_many(count);
        server.wait_for_batches(12);
        let settled = daemon.counts();
        assert_eq!((settled.synced, settled.quarantined), (0, 0), "{status}, {count} records");
        for id in &ids {
            let entry = daemon.record(id);
            assert_eq!(entry["attempts"], 0, "{status}, {count} records: {entry}");
        }
        server.set_script(Reply::correct);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(count as u64), "{status}, {count} records");
        for id in &ids {
            let entry = daemon.record(id);
            assert_eq!(entry["attempts"], 1, "{status}, {count} records: {entry}");
        }
    }
}

#[test]
fn while_all_requests_are_denied_no_attempt_is_counted() {
    everyone_is_denied(401, &Reply::error(401, "AWAY"));
}

#[test]
fn while_all_batches_are_denied_no_attempt_is_counted_even_if_outcome_queries_succeed() {
    everyone_is_denied(401, &Reply::unknown_batch());
}

#[test]
fn while_all_requests_are_throttled_no_attempt_is_counted() {
    everyone_is_denied(503, &Reply::html(503));
}

#[test]
fn while_all_batches_are_throttled_no_attempt_is_counted_even_if_outcome_queries_succeed() {
    everyone_is_denied(503, &Reply::unknown_batch());
}

#[test]
fn a_large_set_that_is_denied_repeatedly_is_not_uploaded_repeatedly() {
    const LARGE: usize = 256 << 10;
    let books = Ledger::default();
    let applied = books.clone();
    let server =
        ScriptedServer::start(
            move |request| {
                if is_bad(request) { Reply::html(200) } else { books.respond(request) }
            },
        );
    // The promised defaults.
    let settings = Settings::for_server(&server.url())
        .with("server.request_timeout", "20s")
        .with("retry.initial_backoff", "1s")
        .with("retry.max_backoff", "15m");
    let daemon = Daemon::start(&settings);
    let filler = "x".repeat(LARGE);
    let text = |n| if n == 5 { "bad" } else { "good" };
    let records: Vec<Value> =
        (0..8).map(|n| json!({"type": "T", "payload": {"text": text(n), "filler": filler}})).collect();
    daemon.paused(|daemon| daemon.enqueue(&records));
    for synced in 1..=7 {
        wait_for("one more record to get through", || (applied.applied().len() >= synced).then_some(()));
    }
    let uploaded: usize = server.batches().iter().map(|batch| batch.body.len()).sum();
    assert!(uploaded <= 5 * 8 * LARGE, "{uploaded} bytes, batches of {:?}", server.sizes());
}
