//! A fleet at gateways that share a ledger, while a gateway or the database is killed.

use crate::fleet::generator::process_tree::kill_process_tree;
use crate::fleet::scenarios::{assert_exactly_once, copying_plan, run_scenario};
use crate::support::gateway::{Gateway, command};
use crate::support::postgres::Postgres;

/// No other process listens at this address, so a port that is free for a moment stays free.
const OUT_OF_THE_WAY: &str = "127.77.0.13:0";
const DEVICES: usize = 60;
const CONNECTIONS: usize = 20;
const BATCHES: usize = 3;
const KILLS: usize = 3;

struct Servers {
    gateways: Vec<Gateway>,
    postgres: Postgres,
}

impl Servers {
    fn start() -> Self {
        let postgres = Postgres::start();
        let store = postgres.create("fleet");
        let gateways = (0..2).map(|_| start_gateway(&store, OUT_OF_THE_WAY)).collect();
        Self { gateways, postgres }
    }
}

fn start_gateway(store: &str, listen: &str) -> Gateway {
    let mut command = command(store, listen, &[]);
    // A database that is killed fails hundreds of batches, each with a line.
    command.env("RUST_LOG", "off");
    Gateway::start_by(command)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn gateways_that_are_killed_under_load_lose_nothing_and_apply_nothing_twice() {
    let servers = Servers::start();
    let addresses = servers.gateways.iter().map(|gateway| gateway.address).collect();
    let plan = copying_plan(addresses, DEVICES, CONNECTIONS);
    let (servers, counts) = run_scenario(&plan, BATCHES, KILLS, servers, |mut servers| {
        let gateway = servers.gateways.remove(0);
        let address = gateway.address.to_string();
        gateway.kill();
        servers.gateways.push(start_gateway(&servers.postgres.url("fleet"), &address));
        servers
    });
    assert!(counts.without_response > 0, "no request was under way at a kill");
    assert_exactly_once(servers.gateways[0].address, &counts);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_that_is_killed_under_load_loses_nothing_that_was_confirmed_and_nothing_is_applied_twice() {
    let servers = Servers::start();
    let addresses = servers.gateways.iter().map(|gateway| gateway.address).collect();
    let plan = copying_plan(addresses, DEVICES, CONNECTIONS);
    let (servers, counts) = run_scenario(&plan, BATCHES, KILLS, servers, |mut servers| {
        let pid_file = std::fs::read_to_string(servers.postgres.path("data/postmaster.pid")).unwrap();
        kill_process_tree(pid_file.lines().next().unwrap().parse().unwrap());
        servers.postgres.start_again();
        servers
    });
    assert_exactly_once(servers.gateways[0].address, &counts);
}
