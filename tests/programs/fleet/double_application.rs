//! The generator notices a server that applies records twice, also where its ledger lists each of them once.

use std::convert::identity;

use super::scenarios::{copying_plan, run_scenario};
use crate::support::faulty_server::{FaultyServer, ServerFault};

const DEVICES: usize = 20;

/// The number of records that a server with these faults reports as applied more than once.
fn count_applied_twice(faults: &[ServerFault]) -> usize {
    let server = FaultyServer::start(faults);
    let address = server.url().strip_prefix("http://").unwrap().parse().unwrap();
    let plan = copying_plan(vec![address], DEVICES, 2 * DEVICES);
    let ((), counts) = run_scenario(&plan, 1, 0, (), identity);
    counts.applied_twice().count()
}

#[test]
fn records_that_a_server_applies_under_two_batch_ids_are_counted() {
    assert_eq!(count_applied_twice(&[]), 0);
    assert!(count_applied_twice(&[ServerFault::AppliesTwiceConcurrently]) > 0);
}
