//! One phase of load, and what it cost whom.

use std::ops::Sub;
use std::rc::Rc;
use std::time::Duration;

use crate::generator::process_tree::{cpu_time, find_process_tree, peak_memory_kib};
use crate::generator::{Counts, Fleet, FleetPlan, run_fleet};

/// The processes of a phase, besides the generator, which is this one.
#[derive(Clone, Default)]
pub(crate) struct Processes {
    pub(crate) gateways: Vec<u32>,
    pub(crate) database: Option<u32>,
}

/// Processor time.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTimes {
    pub(crate) gateways: Duration,
    pub(crate) database: Duration,
    pub(crate) generator: Duration,
}

impl Sub for CpuTimes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            gateways: self.gateways.saturating_sub(earlier.gateways),
            database: self.database.saturating_sub(earlier.database),
            generator: self.generator.saturating_sub(earlier.generator),
        }
    }
}

impl Processes {
    pub(crate) fn cpu_times(&self) -> CpuTimes {
        let sum = |pids: &[u32]| pids.iter().filter_map(|pid| cpu_time(*pid)).sum();
        let database = self.database.map(find_process_tree).unwrap_or_default();
        CpuTimes {
            gateways: sum(&self.gateways),
            database: sum(&database),
            generator: sum(&[std::process::id()]),
        }
    }

    /// The largest resident size that a gateway had.
    pub(crate) fn gateway_memory_kib(&self) -> u64 {
        self.gateways.iter().filter_map(|pid| peak_memory_kib(*pid)).max().unwrap_or_default()
    }
}

/// What a phase showed.
pub(crate) struct Phase {
    pub(crate) batches: usize,
    pub(crate) time: Duration,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Requests that were refused for a moment: 429 and 503.
    pub(crate) refused: usize,
    pub(crate) cpu: CpuTimes,
    pub(crate) gateway_memory_kib: u64,
}

impl Phase {
    pub(crate) fn new(mut latencies: Vec<Duration>, time: Duration, cpu: CpuTimes) -> Self {
        latencies.sort_unstable();
        Self { batches: latencies.len(), time, latencies, refused: 0, cpu, gateway_memory_kib: 0 }
    }

    /// Batches per second.
    pub(crate) fn rate(&self) -> f64 {
        self.batches as f64 / self.time.as_secs_f64()
    }
}

/// What the devices do.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// New batches.
    New,
    /// Batches that the server has confirmed before.
    Known,
}

/// Loads the gateways for some time.
pub(crate) fn run_load(
    plan: &FleetPlan,
    work: Work,
    time: Duration,
    processes: &Processes,
) -> (Phase, Counts) {
    let fleet = Fleet::new(plan);
    run_fleet(async {
        if let Work::Known = work {
            fleet.send_all(1).await;
            drop(fleet.take_counts());
        }
        let (cpu, began) = (processes.cpu_times(), fleet.clock().now());
        match work {
            Work::New => fleet.send_for(time).await,
            Work::Known => fleet.repeat_for(time).await,
        }
        let elapsed = fleet.clock().now().saturating_sub(began);
        finish_phase(&fleet, elapsed, processes.cpu_times() - cpu, processes)
    })
}

fn finish_phase(fleet: &Rc<Fleet>, time: Duration, cpu: CpuTimes, processes: &Processes) -> (Phase, Counts) {
    let counts = fleet.take_counts();
    let mut phase = Phase::new(counts.latencies.clone(), time, cpu);
    phase.refused = counts.status(429) + counts.status(503);
    phase.gateway_memory_kib = processes.gateway_memory_kib();
    (phase, counts)
}
