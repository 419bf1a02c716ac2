//! Routes and addresses are removed, added, and set wrongly, while the link itself stays up.

use super::{
    all_synced, assert_attempts, assert_untouched, holding_server, offline_until, settings, start,
    wait_for_link,
};
use crate::support::gateway::Gateway;
use crate::support::ledger::Ledger;
use crate::support::netns::{DEVICE, Lab, OTHER_DEVICE, SERVER};
use crate::support::server::Gate;
use crate::support::wait::directory;

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_route_that_is_lost_stops_sending_and_one_that_comes_back_starts_it() {
    let (lab, directory) = (Lab::new(), directory());
    let gateway = Gateway::start_at(directory.path(), SERVER, &[]);
    let daemon = start(&lab, &settings());
    let first = daemon.enqueue_many(2);
    all_synced(&daemon, &[&first]);
    lab.take_route();
    wait_for_link(&daemon, "offline");
    let (second, tried) = (daemon.enqueue_many(3), Lab::connections_tried(&daemon));
    daemon.wait_for_phase("offline");
    assert_untouched(&daemon, &second);
    assert_eq!(Lab::connections_tried(&daemon), tried);
    lab.give_route();
    let all = all_synced(&daemon, &[&first, &second]);
    assert_attempts(&daemon, &all, 1);
    assert_eq!(gateway.ledger().len(), all.len());
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_route_that_leads_nowhere_blames_no_record_and_the_right_one_starts_sending() {
    offline_until(&settings(), Lab::mislead_route, Lab::give_route);
}

fn take_another_address(lab: &Lab) {
    lab.take_address(DEVICE);
    lab.give_address(OTHER_DEVICE);
    lab.give_route();
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn another_address_ends_the_kept_connection_and_blames_no_record() {
    let (lab, directory) = (Lab::new(), directory());
    let gateway = Gateway::start_at(directory.path(), SERVER, &[]);
    let daemon =
        start(&lab, &settings().with("server.stall_timeout", "2s").with("server.request_timeout", "5s"));
    let first = daemon.enqueue_many(2);
    all_synced(&daemon, &[&first]);
    take_another_address(&lab);
    let second = daemon.enqueue_many(3);
    let all = all_synced(&daemon, &[&first, &second]);
    // No byte that was sent over the old connection arrived.
    assert_attempts(&daemon, &all, 1);
    assert_eq!(gateway.ledger().len(), all.len());
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn another_address_while_the_server_works_leaves_the_outcome_to_a_query() {
    let lab = Lab::new();
    let (ledger, gate) = (Ledger::default(), Gate::default());
    let server = holding_server(&ledger, &gate);
    let daemon = start(&lab, &settings().with("server.request_timeout", "5s"));
    let ids = daemon.enqueue_many(3);
    server.wait_for_batches(1);
    take_another_address(&lab);
    gate.open();
    ledger.assert_holds(&all_synced(&daemon, &[&ids]));
    assert_attempts(&daemon, &ids, 1);
    assert_eq!(server.sizes(), [3]);
}
