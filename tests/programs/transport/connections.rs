//! Kept connections, and connections that died silently.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;

use super::peer::{Peer, PeerConnection, drop_packets};
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

type Tcp = std::net::TcpStream;

#[test]
fn many_batches_go_over_one_connection() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(2));
    daemon.enqueue_many(20);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(20));
    assert_eq!((server.batches().len(), server.connections()), (10, 1));
}

/// The first connection serves one batch and then ends by `end`; the next batch must succeed without a counted
/// failure.
fn survives(end: impl Fn(PeerConnection<Tcp>) + Send + Sync + 'static) -> Daemon {
    let is_dead = Arc::new(AtomicBool::new(false));
    let dead = Arc::clone(&is_dead);
    let peer = Peer::start(move |number, mut talk| {
        if number > 0 {
            return talk.serve();
        }
        let first = talk.next_batch().unwrap();
        talk.respond(&first).unwrap();
        end(talk);
        dead.store(true, Ordering::SeqCst);
    });
    let daemon = Daemon::start(&Settings::for_server(&peer.url()).with("server.stall_timeout", "300ms"));
    let first = daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    wait_for("the connection to die", || is_dead.load(Ordering::SeqCst).then_some(()));
    let second = daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    for id in [&first[0], &second[0]] {
        let entry = daemon.record(id);
        assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(1), &Value::Null), "{entry}");
    }
    assert_eq!(peer.attempts(), ["1", "1"]);
    assert_eq!(peer.connections(), 2);
    daemon
}

#[test]
fn a_kept_connection_that_the_server_closed_costs_no_attempt() {
    survives(drop);
}

#[test]
fn a_kept_connection_that_the_server_reset_costs_no_attempt() {
    survives(|talk| SockRef::from(talk.socket()).set_linger(Some(Duration::ZERO)).unwrap());
}

#[test]
fn a_kept_connection_that_died_silently_costs_no_attempt() {
    let daemon = survives(|talk| {
        drop_packets(talk.socket());
        // It stays open, but no more packets arrive.
        std::mem::forget(talk);
    });
    assert!(daemon.log().contains("a kept connection was dead"), "{}", daemon.log());
}

/// A server that accepts connections, but receives no data.
fn start_deaf_peer() -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop_packets(&listener);
    Peer::start_at(listener, |_, talk| talk.wait_until_closed())
}

#[test]
fn a_batch_that_cannot_have_left_completely_was_not_sent() {
    let peer = start_deaf_peer();
    let daemon = Daemon::start(&Settings::for_server(&peer.url()).with("server.stall_timeout", "300ms"));
    let ids = daemon.enqueue(&[json!({"type": "T", "payload": {"text": "x".repeat(900_000)}})]);
    daemon.wait_for_phase("offline");
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(0), &Value::Null), "{entry}");
    assert!(
        daemon.log().contains("the connection accepted no data for 300ms while sending"),
        "{}",
        daemon.log()
    );
}

#[test]
fn a_batch_that_left_completely_is_ambiguous_even_if_nothing_was_confirmed() {
    let peer = start_deaf_peer();
    let daemon = Daemon::start(&Settings::for_server(&peer.url()).with("server.stall_timeout", "300ms"));
    let ids = daemon.enqueue_many(1);
    let entry = wait_for("the batch to fail", || {
        Some(daemon.record(&ids[0])).filter(|entry| entry["last_error"].is_object())
    });
    assert_eq!((&entry["attempts"], &entry["last_error"]["class"]), (&json!(1), &json!("connection_lost")));
}
