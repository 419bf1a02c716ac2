//! A connection that ends at some byte of a request or of its response, and one that cannot be opened.

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::fault_proxy::{ConnectionEnd, FaultProxy, LinkDirection};
use crate::support::gateway::Gateway;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const RECORDS: u64 = 20;
/// A body of several segments in one batch.
const TEXT: usize = 2000;

/// No fault exceeds it, nor does a busy machine.
const LONG_TIME_LIMIT: &str = "15s";
/// Only this ends a request that vanishes.
const SHORT_TIME_LIMIT: &str = "3s";

/// A daemon whose records, all of them in one batch, are about to be sent over the link.
fn daemon_with_a_batch(link: &FaultProxy, time_limit: &str) -> (Daemon, Vec<String>) {
    let settings = Settings::for_server(&link.url())
        .with("server.stall_timeout", time_limit)
        .with("server.request_timeout", time_limit)
        .with("server.answer_timeout", time_limit);
    let daemon = Daemon::start(&settings);
    daemon.post("/v1/pause", "").expect_json(200);
    let text = "x".repeat(TEXT);
    let records: Vec<Value> =
        (0..RECORDS).map(|_| json!({"type": "Visits", "payload": {"text": text}})).collect();
    let ids = daemon.enqueue(&records);
    (daemon, ids)
}

/// The bytes of the head and the body of that batch. They are the same each time except for ids and times.
fn measured() -> (usize, usize) {
    let server = ScriptedServer::start(Reply::correct);
    let link = FaultProxy::to(server.address);
    let (daemon, _) = daemon_with_a_batch(&link, LONG_TIME_LIMIT);
    daemon.post("/v1/resume", "").expect_json(200);
    daemon.wait_until_done();
    let body = server.batches()[0].body.len();
    (link.upstream().carried_bytes() - body, body)
}

/// Applies each of these ends, one after the other, to the first batch of a new daemon.
fn assert_nothing_is_lost_or_duplicated(
    direction: impl Fn(&FaultProxy) -> &LinkDirection,
    ends: &[(&str, usize)],
    how: ConnectionEnd,
) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let link = FaultProxy::to(gateway.address);
    let time_limit = if matches!(how, ConnectionEnd::BlackHole) { SHORT_TIME_LIMIT } else { LONG_TIME_LIMIT };
    let mut all = Vec::new();
    for (place, bytes) in ends {
        let (daemon, ids) = daemon_with_a_batch(&link, time_limit);
        direction(&link).end_after(*bytes, how);
        daemon.post("/v1/resume", "").expect_json(200);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS), "{place}");
        assert!(direction(&link).has_ended(), "{place}");
        for id in &ids {
            let entry = daemon.record(id);
            // Once for the cut request, and once for the one that succeeded, unless they are the same.
            assert!((1..=2).contains(&entry["attempts"].as_u64().unwrap()), "{place}: {entry}");
            assert_eq!(entry["last_error"], Value::Null, "{place}: {entry}");
        }
        all.extend(ids);
    }
    let mut applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    applied.sort_unstable();
    all.sort_unstable();
    assert_eq!(applied, all);
}

fn places() -> [(&'static str, usize); 6] {
    let (head, body) = measured();
    [
        ("right after the connection was made", 0),
        ("in the head", head / 2),
        ("before the body", head),
        ("after the first byte of the body", head + 1),
        ("in the middle of the body", head + body / 2),
        ("before the last byte of the body", head + body - 1),
    ]
}

/// The head alone has more than 100 bytes.
const ANSWER: [(&str, usize); 3] =
    [("before the response", 0), ("in the head of the response", 20), ("in the body of the response", 300)];

#[test]
fn a_request_that_is_cut_anywhere_loses_and_duplicates_nothing() {
    assert_nothing_is_lost_or_duplicated(FaultProxy::upstream, &places(), ConnectionEnd::Close);
}

#[test]
fn a_request_that_is_reset_anywhere_loses_and_duplicates_nothing() {
    assert_nothing_is_lost_or_duplicated(FaultProxy::upstream, &places(), ConnectionEnd::Reset);
}

#[test]
fn a_request_that_vanishes_anywhere_loses_and_duplicates_nothing() {
    assert_nothing_is_lost_or_duplicated(FaultProxy::upstream, &places()[2..5], ConnectionEnd::BlackHole);
}

#[test]
fn a_response_that_is_cut_or_reset_anywhere_loses_and_duplicates_nothing() {
    for how in [ConnectionEnd::Close, ConnectionEnd::Reset] {
        assert_nothing_is_lost_or_duplicated(FaultProxy::downstream, &ANSWER, how);
    }
}

#[test]
fn a_response_that_vanishes_anywhere_loses_and_duplicates_nothing() {
    assert_nothing_is_lost_or_duplicated(FaultProxy::downstream, &ANSWER, ConnectionEnd::BlackHole);
}

#[test]
fn a_link_that_refuses_connections_for_a_while_costs_no_attempt() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let mut link = FaultProxy::to(gateway.address);
    link.refuse();
    let (daemon, ids) = daemon_with_a_batch(&link, LONG_TIME_LIMIT);
    daemon.post("/v1/resume", "").expect_json(200);
    daemon.wait_for_phase("offline");
    wait_for("no record to be blamed", || {
        ids.iter().all(|id| daemon.record(id)["state"] == "PENDING").then_some(())
    });
    assert!(ids.iter().all(|id| daemon.record(id)["attempts"] == 0));
    link.accept();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS));
    assert!(ids.iter().all(|id| daemon.record(id)["attempts"] == 1));
    assert_eq!(gateway.ledger().len(), ids.len());
}
