//! All devices at once, after an outage.

use std::convert::identity;
use std::time::Duration;

use super::generator::FleetPlan;
use super::scenarios::{assert_exactly_once, direct_plan, plan, run_scenario};
use crate::support::gateway::Gateway;
use crate::support::wait::directory;

/// Each batch takes so long that more of them arrive meanwhile than may be in flight.
const SLOW: [&str; 2] = ["--record-cost", "40ms"];
const DEVICES: usize = 400;
/// Devices return in their turn, and are not refused again and again. About two are usual.
const REQUESTS_PER_BATCH_MAX: usize = 6;
const IDLE_TIME: Duration = Duration::from_secs(1);

#[test]
fn a_fleet_that_comes_at_once_is_refused_in_part_and_every_batch_is_applied_once() {
    assert_served_by_turns(|gateway| plan(vec![gateway.address], DEVICES, 300));
}

#[test]
fn a_fleet_with_a_connection_for_each_device_is_served_by_turns_and_every_batch_is_applied_once() {
    assert_served_by_turns(|gateway| direct_plan(vec![gateway.address], DEVICES, IDLE_TIME));
}

#[track_caller]
fn assert_served_by_turns(plan: impl FnOnce(&Gateway) -> FleetPlan) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &SLOW);
    let ((), counts) = run_scenario(&plan(&gateway), 1, 0, (), identity);
    let statuses = &counts.statuses;
    assert!(counts.status(429) + counts.status(503) > 0, "{statuses:?}");
    let requests = counts.requests();
    assert!(requests <= counts.settled.len() * REQUESTS_PER_BATCH_MAX, "{requests}: {statuses:?}");
    let unclear = (counts.unclear_requests(), counts.queries, counts.repeated);
    assert_eq!(unclear, (0, 0, 0), "{statuses:?}");
    assert_exactly_once(gateway.address, &counts);
}
