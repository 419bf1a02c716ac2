//! The server has a name, as in the field: the route to it is known only after resolving the name, and
//! that is traffic.

use super::{all_synced, assert_attempts, assert_untouched, holding_server, settings, start, wait_for_link};
use crate::support::ledger::Ledger;
use crate::support::netns::{GATEWAY, Lab, SERVER};
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::pace;

const NAME: &str = "crm.field.test";

fn by_name(lab: &Lab) -> Settings {
    lab.name_server(NAME);
    let port = SERVER.rsplit_once(':').unwrap().1;
    settings().with("server.url", &format!("http://{NAME}:{port}"))
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_cable_that_is_pulled_and_plugged_in_again_is_noticed() {
    let lab = Lab::new();
    let (ledger, gate) = (Ledger::default(), Gate::default());
    gate.open();
    let _server = holding_server(&ledger, &gate);
    let daemon = start(&lab, &by_name(&lab));
    let first = daemon.enqueue_many(2);
    all_synced(&daemon, &[&first]);
    for _ in 0..3 {
        lab.unplug();
        wait_for_link(&daemon, "offline");
        let tried = Lab::connections_tried(&daemon);
        let waiting = daemon.enqueue_many(2);
        daemon.wait_for_phase("offline");
        pace(std::time::Duration::from_millis(300));
        assert_eq!(Lab::connections_tried(&daemon), tried, "{}", daemon.log());
        assert_untouched(&daemon, &waiting);
        lab.plug_in();
        daemon.wait_until_done();
        assert_attempts(&daemon, &waiting, 1);
    }
    assert_eq!(ledger.applied().len(), 8);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn losing_another_link_does_not_interrupt_a_request() {
    let lab = Lab::new();
    let (ledger, gate) = (Ledger::default(), Gate::default());
    let server = holding_server(&ledger, &gate);
    for arguments in [
        "link add dock type veth peer name desk",
        "addr add 10.88.0.2/24 dev dock",
        "link set desk up",
        "link set dock up",
    ] {
        lab.on_device(arguments);
    }
    let daemon = start(&lab, &by_name(&lab));
    let ids = daemon.enqueue_many(3);
    server.wait_for_batches(1);
    lab.on_device("link del dock");
    pace(std::time::Duration::from_millis(300));
    gate.open();
    ledger.assert_holds(&all_synced(&daemon, &[&ids]));
    assert_attempts(&daemon, &ids, 1);
    assert_eq!((server.sizes(), server.count_outcome_queries(server.batches()[0].batch_id())), (vec![3], 0));
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_server_that_moved_to_another_address_is_found_although_the_old_one_still_responds() {
    let lab = Lab::new();
    let (_, port) = SERVER.rsplit_once(':').unwrap();
    let old = ScriptedServer::start_at(SERVER.parse().unwrap(), |request| {
        if request.is_batch() {
            Reply::error(503, "MOVED").with("retry-after", "1")
        } else {
            Reply::unknown_batch()
        }
    });
    let new = ScriptedServer::start_at(format!("{GATEWAY}:{port}").parse().unwrap(), Reply::correct);
    let daemon = start(&lab, &by_name(&lab));
    let ids = daemon.enqueue_many(3);
    old.wait_for_batches(2);
    lab.name_address(NAME, GATEWAY);
    all_synced(&daemon, &[&ids]);
    assert_attempts(&daemon, &ids, 1);
    // A set that was denied repeatedly may arrive in parts.
    assert_eq!((new.sizes().iter().sum::<usize>(), new.connections()), (3, 1));
}
