//! What the scenarios have in common: a fleet that sends a known number of batches, and what happens meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::generator::{BatchShape, Counts, Fleet, FleetPlan, LedgerCheck, Topology, run_fleet};

/// No scenario takes longer on a working machine.
const SCENARIO_DEADLINE: Duration = Duration::from_mins(5);

pub(crate) const SHAPE: BatchShape = BatchShape { records: 5, record_bytes: 400 };

/// A fleet for these gateways.
pub(crate) fn plan(gateways: Vec<SocketAddr>, devices: usize, connections: usize) -> FleetPlan {
    let (topology, time_limit) = (Topology::Shared(connections), SCENARIO_DEADLINE);
    FleetPlan { gateways, topology, devices, shape: SHAPE, time_limit, copies_batches: false }
}

/// A fleet whose devices have a connection each, and keep it for some time after the last response.
pub(crate) fn direct_plan(gateways: Vec<SocketAddr>, devices: usize, idle_time: Duration) -> FleetPlan {
    FleetPlan { topology: Topology::PerDevice { idle_time }, ..plan(gateways, devices, devices) }
}

/// A fleet that sends all records under two batch ids at once. Whether a record is applied twice shows in the responses
/// only then: a resend under the same batch id gets the response that is stored.
pub(crate) fn copying_plan(gateways: Vec<SocketAddr>, devices: usize, connections: usize) -> FleetPlan {
    FleetPlan { copies_batches: true, ..plan(gateways, devices, connections) }
}

/// Every device makes so many batches. Whenever one more of `events + 1` equal parts of all batches is confirmed,
/// `event` happens, while the devices continue. All batches must be confirmed in the end.
#[track_caller]
pub(crate) fn run_scenario<S: Send + 'static>(
    plan: &FleetPlan,
    batches: usize,
    events: usize,
    mut state: S,
    event: impl Fn(S) -> S + Copy + Send + 'static,
) -> (S, Counts) {
    let (fleet, all) = (Fleet::new(plan), plan.total_batches(batches));
    let (state, counts) = run_fleet(async {
        let mut settled = fleet.watch_settled();
        let happening = async move {
            for number in 1..=events {
                let part = all * number / (events + 1);
                settled.wait_for(|count| *count >= part).await.unwrap();
                state = spawn_blocking(move || event(state)).await.unwrap();
            }
            state
        };
        let sending = fleet.send_all(batches);
        let scenario = async { tokio::join!(sending, happening) };
        let ((), state) =
            timeout(SCENARIO_DEADLINE, scenario).await.expect("all batches are confirmed in time");
        (state, fleet.take_counts())
    });
    assert_eq!(counts.settled.len(), all);
    (state, counts)
}

/// What was confirmed is in the ledger, was applied once, and nothing else is there.
#[track_caller]
pub(crate) fn assert_exactly_once(gateway: SocketAddr, counts: &Counts) {
    let check = run_fleet(LedgerCheck::run(gateway, &[counts]));
    assert_eq!(check, LedgerCheck { lost: 0, twice: 0, unconfirmed: 0, ..check });
}
