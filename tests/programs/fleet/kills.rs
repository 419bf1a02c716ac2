//! `kill -9` of a gateway while a fleet sends to it.

use std::path::PathBuf;

use super::scenarios::{assert_exactly_once, copying_plan, run_scenario};
use crate::support::gateway::Gateway;
use crate::support::wait::directory;

/// No other process listens at this address, so a port that is free for a moment stays free.
const OUT_OF_THE_WAY: &str = "127.77.0.12:0";
const KILLS: usize = 3;
/// A batch takes so long that some are being processed at every kill. Connections that are refused meanwhile are not
/// among the requests without a response.
const SLOW: [&str; 2] = ["--record-cost", "40ms"];

/// A gateway, and where its ledger is.
struct Restartable {
    gateway: Gateway,
    directory: PathBuf,
}

#[test]
fn a_gateway_that_is_killed_under_load_loses_nothing_that_it_confirmed_and_applies_nothing_twice() {
    let directory = directory();
    let gateway = Gateway::start_at(directory.path(), OUT_OF_THE_WAY, &SLOW);
    let plan = copying_plan(vec![gateway.address], 60, 20);
    let servers = Restartable { gateway, directory: directory.path().to_owned() };
    let (servers, counts) = run_scenario(&plan, 3, KILLS, servers, |servers| {
        let address = servers.gateway.address.to_string();
        servers.gateway.kill();
        Restartable { gateway: Gateway::start_at(&servers.directory, &address, &SLOW), ..servers }
    });
    assert!(counts.without_response > 0, "no request was under way at a kill");
    assert_exactly_once(servers.gateway.address, &counts);
}
