//! Plays a fleet of devices over their own or over shared connections, with the real wire, on one thread.
//!
//! A device is a task that makes batches and brings each of them to the gateway. Devices wait for a connection in the
//! order in which they want to send. The tests of the built programs use this code, too.

mod batch;
mod connections;
mod device;
mod ledger_check;
pub(crate) mod process_tree;
mod tally;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use fieldsync::clock::Clock;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

pub(crate) use batch::{Batch, BatchShape};
use connections::Connections;
pub(crate) use connections::Topology;
use device::{Device, Link};
pub(crate) use ledger_check::LedgerCheck;
pub(crate) use tally::Counts;
use tally::Tally;

/// Who sends what, over which connections.
#[derive(Clone)]
pub(crate) struct FleetPlan {
    pub(crate) gateways: Vec<SocketAddr>,
    pub(crate) topology: Topology,
    pub(crate) devices: usize,
    pub(crate) shape: BatchShape,
    /// How long a device waits for a response.
    pub(crate) time_limit: Duration,
    /// Whether the records of each batch are sent under two batch ids at once: they must be applied once.
    pub(crate) copies_batches: bool,
}

impl FleetPlan {
    /// The batches that all devices send together, where each makes so many.
    pub(crate) fn total_batches(&self, batches: usize) -> usize {
        self.devices * batches * if self.copies_batches { 2 } else { 1 }
    }
}

/// A fleet during one run.
pub(crate) struct Fleet {
    link: Link,
    devices: Vec<Device>,
    shape: BatchShape,
    copies_batches: bool,
}

impl Fleet {
    /// The devices are others in each run.
    pub(crate) fn new(plan: &FleetPlan) -> Rc<Self> {
        let clock = Clock::start();
        let connections = Connections::new(&plan.gateways, plan.topology, plan.devices);
        let link = Link { connections, tally: Tally::new(clock), clock, time_limit: plan.time_limit };
        let devices = (0..plan.devices).map(|number| Device::new(number, fastrand::u64(..))).collect();
        Rc::new(Self { link, devices, shape: plan.shape, copies_batches: plan.copies_batches })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.link.clock
    }

    /// What was counted until now; counting starts over.
    pub(crate) fn take_counts(&self) -> Counts {
        self.link.tally.take_counts()
    }

    /// The number of batches that were confirmed.
    pub(crate) fn watch_settled(&self) -> watch::Receiver<usize> {
        self.link.tally.watch_settled()
    }

    /// All devices send batch after batch until the time is over. Batches that were begun are
    /// completed, except those that are refused until later.
    pub(crate) async fn send_for(self: &Rc<Self>, time: Duration) {
        let end = self.link.clock.now() + time;
        self.run_devices(move |fleet, number| async move {
            let device = &fleet.devices[number];
            loop {
                let lease = fleet.link.connections.lease(number).await;
                if fleet.link.clock.now() >= end {
                    return;
                }
                let batch = device.next_batch(fleet.shape);
                if !device.deliver(&fleet.link, &batch, Some(lease), Some(end)).await {
                    return;
                }
            }
        })
        .await;
    }

    /// All devices begin at once, and each makes and sends so many batches, one after the other.
    pub(crate) async fn send_all(self: &Rc<Self>, batches: usize) {
        self.run_devices(move |fleet, number| async move {
            let device = &fleet.devices[number];
            for _ in 0..batches {
                let batch = device.next_batch(fleet.shape);
                if fleet.copies_batches {
                    let copy = device.copy_batch(&batch);
                    let deliver = |batch| device.deliver(&fleet.link, batch, None, None);
                    tokio::join!(deliver(&batch), deliver(&copy));
                } else {
                    device.deliver(&fleet.link, &batch, None, None).await;
                }
            }
            fleet.link.connections.end_idle(number).await;
        })
        .await;
    }

    /// Each device repeats the batch that it sent last, until the time is over.
    pub(crate) async fn repeat_for(self: &Rc<Self>, time: Duration) {
        let end = self.link.clock.now() + time;
        self.run_devices(move |fleet, number| async move {
            let device = &fleet.devices[number];
            let batch = device.last_batch().unwrap_or_else(|| device.next_batch(fleet.shape));
            loop {
                let lease = fleet.link.connections.lease(number).await;
                if fleet.link.clock.now() >= end {
                    return;
                }
                if !device.deliver(&fleet.link, &batch, Some(lease), Some(end)).await {
                    return;
                }
            }
        })
        .await;
    }

    async fn run_devices<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        run: impl Fn(Rc<Self>, usize) -> F,
    ) {
        let mut tasks = JoinSet::new();
        for number in 0..self.devices.len() {
            tasks.spawn_local(run(Rc::clone(self), number));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a device ends without an error");
        }
    }
}

/// Runs a fleet, and what happens meanwhile, on this thread.
pub(crate) fn run_fleet<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(LocalSet::new().run_until(future))
}
