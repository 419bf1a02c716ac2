//! What the scenes have in common: a fleet that sends a known number of batches, and what happens meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::generator::{BatchShape, Counts, Fleet, FleetPlan, LedgerCheck, run_fleet};

/// No scene takes longer on a working machine.
const SCENE_DEADLINE: Duration = Duration::from_mins(2);

pub(crate) const SHAPE: BatchShape = BatchShape { records: 5, record_bytes: 400 };

/// A fleet for these gateways.
pub(crate) fn plan(gateways: Vec<SocketAddr>, devices: usize, connections: usize) -> FleetPlan {
    FleetPlan { gateways, connections, devices, shape: SHAPE, time_limit: SCENE_DEADLINE }
}

/// Every device sends so many batches. Whenever one more of `events + 1` equal parts of all batches is confirmed,
/// `event` happens, while the devices continue. All batches must be confirmed in the end.
#[track_caller]
pub(crate) fn run_scene<S: Send + 'static>(
    plan: &FleetPlan,
    batches: usize,
    events: usize,
    mut state: S,
    event: impl Fn(S) -> S + Copy + Send + 'static,
) -> (S, Counts) {
    let (fleet, all) = (Fleet::new(plan), plan.devices * batches);
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
        let scene = async { tokio::join!(sending, happening) };
        let ((), state) = timeout(SCENE_DEADLINE, scene).await.expect("all batches are confirmed in time");
        (state, fleet.take_counts())
    });
    assert_eq!(counts.settled.len(), all);
    (state, counts)
}

/// What was confirmed is in the ledger, once, and nothing else is.
#[track_caller]
pub(crate) fn assert_exactly_once(gateway: SocketAddr, counts: &Counts) {
    let confirmed = counts.settled.len() * SHAPE.records;
    let check = run_fleet(LedgerCheck::run(gateway, &counts.settled));
    assert_eq!(check, LedgerCheck { confirmed, lost: 0, twice: 0, unconfirmed: 0 });
}
