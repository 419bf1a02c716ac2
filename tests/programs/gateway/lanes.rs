//! A record that a receiver does not take delays only later records of its device and key.

use std::path::Path;
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::{Value, json};

use super::receiver::{PARKED_KEYS, Taken, wait_for_counts};
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::wait::{directory, pace, wait_for};

fn start(directory: &Path, server: &ScriptedServer, more: &[&str]) -> Gateway {
    let url = server.url();
    let arguments = [&["--forward", &url, "--forward-max-wait", "20ms"], more].concat();
    Gateway::start(directory, &arguments)
}

/// Records `{"n": …}` with the key that `key` gives each number.
fn keyed_batch(numbers: std::ops::Range<u64>, key: impl Fn(u64) -> Option<String>) -> Batch {
    let record = |n: u64| Record { key: key(n), ..Record::new(&format!("{{\"n\":{n}}}")) };
    Batch::with(numbers.map(record).collect())
}

fn number(record: &Value) -> u64 {
    record["payload"]["n"].as_u64().unwrap()
}

#[test]
fn a_refused_record_among_thousands_delays_only_its_key_even_over_a_crash() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let server = ScriptedServer::start(move |request| {
        let is_poisoned = request.records().iter().any(|record| number(record) == 405);
        if is_poisoned { Reply::error(422, "NOT_LIKED") } else { receiver.take_all(request) }
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &[]);
    let mut batch = keyed_batch(0..2000, |n| Some(format!("key-{}", n % 200)));
    let device = batch.device;
    gateway.post(&batch).batch();
    // Of its key, 405 and seven later ones.
    wait_for_counts(&gateway, [1992, 0, 1, 7]);
    assert_eq!(gateway.metric(PARKED_KEYS), 1);
    assert!(server.requests().len() < 60, "{} requests", server.requests().len());
    taken.assert_in_order();
    assert_eq!(taken.numbers().iter().filter(|n| **n % 200 == 5).count(), 2);
    gateway.kill();

    let gateway = start(directory.path(), &server, &[]);
    let before = server.requests().len();
    batch = keyed_batch(2000..2200, |n| Some(format!("key-{}", n % 200)));
    batch.device = device;
    gateway.post(&batch).batch();
    // The same key of another device, and records without a key.
    let other = keyed_batch(5..6, |_| Some("key-5".into()));
    gateway.post(&other).batch();
    gateway.post(&keyed_batch(0..10, |_| None)).batch();
    wait_for_counts(&gateway, [199 + 1 + 10, 0, 1, 8]);
    assert!(server.requests().len() - before < 20, "what was refused is not sent again");
    taken.assert_in_order();
}

#[test]
fn a_receiver_may_answer_record_by_record() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let server = ScriptedServer::start(move |request| {
        receiver.by_record(request, |record| match number(record) {
            3 => json!({"status": "rejected", "code": "NO", "message": "not this", "field": "/n"}),
            _ => json!({"status": "applied", "receipt": {"id": "77"}}),
        })
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &[]);
    // 3 and 4 have the same key. To a receiver that may take 4 although it refused 3, only 3 is sent.
    gateway.post(&keyed_batch(0..6, |n| [3, 4].contains(&n).then(|| "a".into()))).batch();
    wait_for_counts(&gateway, [4, 0, 1, 1]);
    assert_eq!(taken.numbers(), [0, 1, 2, 5]);
    let sent: usize = server.sizes().iter().sum();
    assert_eq!(sent, 5, "each record is sent once");
}

#[test]
fn results_that_do_not_come_whole_take_nothing() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n";
        match requests {
            1 => Reply::Raw(head.into()),
            2 => Reply::Raw([head, &b"{\"res"[..]].concat()),
            3 => Reply::Drip(head.into(), Vec::new()),
            _ => receiver.by_record(request, |record| match number(record) {
                3 => json!({"status": "rejected", "code": "NO"}),
                _ => json!({"status": "applied"}),
            }),
        }
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &["--forward-timeout", "1s"]);
    gateway.post(&keyed_batch(0..6, |_| None)).batch();
    wait_for_counts(&gateway, [5, 0, 1, 0]);
    assert_eq!(taken.numbers(), [0, 1, 2, 4, 5]);
}

#[test]
fn a_record_that_is_to_be_sent_later_delays_only_its_key() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let mut first = None;
    let server = ScriptedServer::start(move |request| {
        let has_waited = first.is_some_and(|clock: Clock| clock.now() >= Duration::from_millis(900));
        if request.records().iter().any(|record| number(record) == 0) {
            first = first.or(Some(Clock::start()));
        }
        receiver.by_record(request, |record| match number(record) {
            0 if !has_waited => json!({"status": "retry", "code": "LOCKED", "retry_after_s": 1}),
            _ => json!({"status": "applied"}),
        })
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &[]);
    gateway.post(&keyed_batch(0..9, |n| (n % 3 == 0).then(|| "a".into()))).batch();
    wait_for("the other records to pass", || (taken.len() == 6).then_some(()));
    wait_for_counts(&gateway, [9, 0, 0, 0]);
    assert_eq!(taken.numbers(), [1, 2, 4, 5, 7, 8, 0, 3, 6]);
    let sent = server.requests().iter().flat_map(Request::records).filter(|r| number(r) == 0).count();
    assert_eq!(sent, 2, "not before the time that the receiver asked for");
    assert_eq!(gateway.metric(PARKED_KEYS), 0);
}

#[test]
fn a_record_without_a_result_is_sent_again_and_other_json_takes_all() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        match requests {
            // The array of another API.
            1 => {
                receiver.take(request.records());
                Reply::json(200, &json!({"ok": true, "results": [{"id": 7, "status": "done"}]}))
            }
            2 => {
                receiver.take(request.records().into_iter().take(1));
                let id = &request.records()[0]["id"];
                Reply::json(200, &json!({"results": [{"id": id, "status": "applied"}]}))
            }
            _ => receiver.by_record(request, |_| json!({"status": "duplicate"})),
        }
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &[]);
    gateway.post(&keyed_batch(0..3, |_| None)).batch();
    wait_for_counts(&gateway, [3, 0, 0, 0]);
    gateway.post(&keyed_batch(3..6, |_| None)).batch();
    wait_for_counts(&gateway, [6, 0, 0, 0]);
    assert_eq!(taken.numbers(), [0, 1, 2, 3]);
    let again: Vec<u64> =
        server.requests()[2..].iter().flat_map(Request::records).map(|r| number(&r)).collect();
    assert_eq!(again.len(), 2, "{again:?}");
}

#[test]
fn whatever_a_receiver_says_and_whenever_the_gateway_crashes_keys_stay_in_order() {
    let taken = Taken::default();
    let receiver = taken.clone();
    let mut rng = fastrand::Rng::with_seed(7);
    let is_bad = |n: u64| n % 97 == 50;
    let server = ScriptedServer::start(move |request| match rng.u8(0..20) {
        0 => Reply::Close,
        1 => Reply::text(503, "text/plain", ""),
        // It took all of it, and the response is lost.
        2 if !request.records().iter().any(|record| is_bad(number(record))) => {
            receiver.take(request.records());
            Reply::Reset
        }
        _ => {
            let draws: Vec<u8> = (0..request.records().len()).map(|_| rng.u8(0..10)).collect();
            let draws = std::cell::RefCell::new(draws);
            receiver.by_record(request, |record| match draws.borrow_mut().pop() {
                _ if is_bad(number(record)) => json!({"status": "rejected", "code": "BAD"}),
                Some(0) => json!({"status": "retry"}),
                _ => json!({"status": "applied"}),
            })
        }
    });
    let directory = directory();
    let key = |n: u64| (!n.is_multiple_of(7)).then(|| format!("key-{}", n % 40));
    let mut rng = fastrand::Rng::with_seed(8);
    let all = keyed_batch(0..1000, key);
    for part in 0..10_usize {
        let gateway = start(directory.path(), &server, &["--forward-max-records", "40"]);
        let mut batch = Batch::with(all.records[part * 100..(part + 1) * 100].to_vec());
        batch.device = all.device;
        gateway.post(&batch).batch();
        pace(Duration::from_millis(rng.u64(0..150)));
        gateway.kill();
    }
    let gateway = start(directory.path(), &server, &["--forward-max-records", "40"]);
    let mut is_blocked = std::collections::HashSet::new();
    let expected: Vec<u64> = (0..1000)
        .filter(|n| {
            let lane = key(*n).unwrap_or_else(|| format!("alone {n}"));
            if is_bad(*n) {
                is_blocked.insert(lane.clone());
            }
            !is_blocked.contains(&lane)
        })
        .collect();
    wait_for("all that is not refused to be taken", || (taken.len() >= expected.len()).then_some(()));
    let mut numbers = taken.numbers();
    taken.assert_in_order();
    numbers.sort_unstable();
    assert_eq!(numbers, expected);
    let refused = u64::try_from(is_blocked.len()).unwrap();
    wait_for("the lanes to be settled", || (gateway.metric(PARKED_KEYS) == refused).then_some(()));
}
