//! What happens in the simulation, in order of time: events at the same time come in the order of their rank, then in
//! the order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A client's request. The numbers go up.
pub(crate) type RequestId = u64;
/// A client in the world, by its position.
pub(crate) type DeviceId = usize;

/// The order is the rank: work that ends at a time limit is done in time, and a response that comes at the last moment
/// is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A batch of the server may be done, unless its plan changed since.
    WorkDone { plan: u64 },
    /// The number of workers changes.
    WorkersChange,
    /// Another user of the server sends a batch.
    OthersSend,
    /// A batch reaches the server completely.
    BatchArrives(RequestId),
    /// An outcome query reaches the server.
    QueryArrives(RequestId),
    /// The gateway stops waiting for the server.
    GatewayTimesOut(RequestId),
    /// A response reaches the client.
    ResponseArrives(RequestId),
    /// The client hangs up, or the link goes down, unless the response was sooner.
    RequestFails(RequestId),
    /// A client wanted to be woken, unless it changed its mind since.
    Wake { device: DeviceId, ticket: u64 },
}

/// Planned events.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    planned: BinaryHeap<Reverse<(Duration, Event, u64)>>,
    count: u64,
}

impl EventQueue {
    pub(crate) fn plan(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.planned.push(Reverse((at, event, self.count)));
    }

    pub(crate) fn next_time(&self) -> Option<Duration> {
        self.planned.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn take_next(&mut self) -> Option<(Duration, Event)> {
        self.planned.pop().map(|Reverse((at, event, _))| (at, event))
    }
}
