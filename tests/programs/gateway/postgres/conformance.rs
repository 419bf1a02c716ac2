//! The conformance kit, with the PostgreSQL ledger.

use crate::conformance::{require_conformance, require_conformance_at};
use crate::support::balancer::Balancer;
use crate::support::gateway::Gateway;
use crate::support::postgres::Postgres;

#[test]
#[ignore = "needs PostgreSQL"]
fn every_point_holds_for_a_gateway_with_a_database() {
    let postgres = Postgres::start();
    require_conformance(&postgres.create("conformance"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn every_point_holds_for_two_gateways_behind_a_load_balancer() {
    let postgres = Postgres::start();
    let store = postgres.create("conformance");
    let gateways = [(); 2].map(|()| Gateway::start_on(&store, &[]));
    let balancer = Balancer::start(gateways.iter().map(|gateway| gateway.address).collect());
    require_conformance_at(&balancer.url());
}
