//! The link goes down before a batch, while the server works on it, and while it is uploaded.

use std::time::Duration;

use super::{
    all_synced, assert_attempts, assert_untouched, enqueue_large, holding_server, settings, start,
    wait_for_link,
};
use crate::support::daemon::Daemon;
use crate::support::gateway::Gateway;
use crate::support::ledger::Ledger;
use crate::support::netns::{Lab, SERVER};
use crate::support::server::{Gate, ScriptedServer};
use crate::support::wait::{directory, pace};

/// How long the test checks that nothing happens.
const WATCHED: Duration = Duration::from_secs(1);

/// How a link is broken, and how it is restored.
type LinkFault = (fn(&Lab), fn(&Lab));
const SWITCHED: LinkFault = (Lab::down, Lab::up);
const PULLED: LinkFault = (Lab::unplug, Lab::plug_in);
const ROUTE_LOST: LinkFault = (Lab::take_route, Lab::give_route);

/// The ambiguous batch is given up while the link is down, and no other record is affected.
#[track_caller]
fn assert_in_doubt(daemon: &Daemon, batch: &[String], others: &[String]) {
    daemon.wait_until("the batch to be given up", |status| status["records"]["failed"] == batch.len());
    for id in batch {
        assert_eq!(daemon.record(id)["last_error"]["class"], "connection_lost", "{}", daemon.log());
    }
    assert_attempts(daemon, batch, 1);
    assert_untouched(daemon, others);
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "offline");
}

fn while_the_server_works((breaks, restore): LinkFault) {
    let lab = Lab::new();
    let (ledger, gate) = (Ledger::default(), Gate::default());
    let server = holding_server(&ledger, &gate);
    let daemon = start(&lab, &settings());
    let batch = daemon.enqueue_many(3);
    server.wait_for_batches(1);
    breaks(&lab);
    wait_for_link(&daemon, "offline");
    let others = daemon.enqueue_many(5);
    assert_in_doubt(&daemon, &batch, &others);
    gate.open();
    restore(&lab);
    ledger.assert_holds(&all_synced(&daemon, &[&batch, &others]));
    assert_attempts(&daemon, &[batch, others].concat(), 1);
    assert_eq!(server.sizes(), [3, 5], "the outcome was looked up");
    wait_for_link(&daemon, "online");
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_link_that_is_switched_off_while_the_server_works_leaves_the_outcome_to_a_query() {
    while_the_server_works(SWITCHED);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_cable_that_is_pulled_while_the_server_works_leaves_the_outcome_to_a_query() {
    while_the_server_works(PULLED);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_route_that_is_lost_while_the_server_works_leaves_the_outcome_to_a_query() {
    while_the_server_works(ROUTE_LOST);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_link_that_returns_at_once_costs_nothing() {
    let lab = Lab::new();
    let (ledger, gate) = (Ledger::default(), Gate::default());
    let server = holding_server(&ledger, &gate);
    let daemon = start(&lab, &settings());
    let ids = daemon.enqueue_many(3);
    server.wait_for_batches(1);
    lab.down();
    lab.up();
    gate.open();
    ledger.assert_holds(&all_synced(&daemon, &[&ids]));
    assert_attempts(&daemon, &ids, 1);
    assert_eq!((server.sizes(), server.count_outcome_queries(server.batches()[0].batch_id())), (vec![3], 0));
}

fn while_a_body_is_uploaded((breaks, restore): LinkFault) {
    let lab = Lab::new();
    let ledger = Ledger::default();
    let books = ledger.clone();
    let server = ScriptedServer::start_at(SERVER.parse().unwrap(), move |request| books.respond(request));
    lab.slow_down(800);
    // Longer than the test waits: the loss of the link has to end the upload.
    let daemon = start(&lab, &settings().with("server.stall_timeout", "2m"));
    let batch = enqueue_large(&daemon);
    server.wait_for_body_bytes(50_000);
    breaks(&lab);
    wait_for_link(&daemon, "offline");
    let others = daemon.enqueue_many(5);
    assert_in_doubt(&daemon, &batch, &others);
    assert_eq!(ledger.applied().len(), 0);
    restore(&lab);
    ledger.assert_holds(&all_synced(&daemon, &[&batch, &others]));
    assert_attempts(&daemon, &batch, 2);
    assert_attempts(&daemon, &others, 1);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_link_that_is_switched_off_in_the_middle_of_a_body_loses_and_duplicates_nothing() {
    while_a_body_is_uploaded(SWITCHED);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_cable_that_is_pulled_in_the_middle_of_a_body_loses_and_duplicates_nothing() {
    while_a_body_is_uploaded(PULLED);
}

fn before_the_start((breaks, restore): LinkFault) {
    let (lab, directory) = (Lab::new(), directory());
    let gateway = Gateway::start_at(directory.path(), SERVER, &[]);
    breaks(&lab);
    let daemon = start(&lab, &settings());
    let ids = daemon.enqueue_many(7);
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "offline");
    assert_eq!(status["sync"]["text"], "Offline: 7 records waiting. This device has no network.");
    pace(WATCHED);
    assert_eq!(Lab::connections_tried(&daemon), 0, "{}", daemon.log());
    assert_untouched(&daemon, &ids);
    restore(&lab);
    all_synced(&daemon, &[&ids]);
    assert!(Lab::connections_tried(&daemon) > 0, "they are counted");
    assert_attempts(&daemon, &ids, 1);
    assert_eq!(gateway.ledger().len(), ids.len());
    assert_eq!(daemon.status()["connectivity"]["state"], "online");
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_daemon_that_starts_while_the_link_is_off_waits_without_trying() {
    before_the_start(SWITCHED);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_daemon_that_starts_while_the_cable_is_pulled_waits_without_trying() {
    before_the_start(PULLED);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_daemon_that_starts_without_a_route_waits_without_trying() {
    before_the_start(ROUTE_LOST);
}
