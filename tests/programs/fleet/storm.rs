//! All devices at once, after an outage.

use std::convert::identity;

use super::scenarios::{assert_exactly_once, plan, run_scenario};
use crate::support::gateway::Gateway;
use crate::support::wait::directory;

/// Devices return in their turn, and are not refused again and again. About two are usual.
const REQUESTS_PER_BATCH_MAX: usize = 6;

#[test]
fn a_fleet_that_comes_at_once_is_refused_in_part_and_every_batch_is_applied_once() {
    let directory = directory();
    // Each batch takes so long that more of them arrive meanwhile than may be in flight.
    let gateway = Gateway::start(directory.path(), &["--record-cost", "40ms"]);
    let plan = plan(vec![gateway.address], 400, 300);
    let ((), counts) = run_scenario(&plan, 1, 0, (), identity);
    let refused = counts.status(429) + counts.status(503);
    assert!(refused > 0, "{:?}", counts.statuses);
    let requests = counts.requests();
    assert!(requests <= counts.settled.len() * REQUESTS_PER_BATCH_MAX, "{requests}: {:?}", counts.statuses);
    let unclear = (counts.without_response, counts.queries, counts.repeated);
    assert_eq!(unclear, (0, 0, 0), "{:?}", counts.statuses);
    assert_exactly_once(gateway.address, &counts);
}
