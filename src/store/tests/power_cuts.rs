//! Power cuts at random moments of random schedules. The disk keeps any part of what was not synced.
//!
//! There are 2,000 cuts by default; `FIELDSYNC_POWER_CUTS` asks for more. A failing schedule prints its number, and
//! `FIELDSYNC_POWER_CUT_SCHEDULE` runs it alone.

use std::io::Write as _;
use std::thread;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::disk::SimulatedDisk;
use super::harness::ModelHarness;
use super::steps::{QueueStep, any_steps};

const DEFAULT_CUTS: u64 = 2_000;
/// A commit makes about fifteen: most cuts strike within three steps.
const CUT_WITHIN_OPERATIONS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value}")))
}

/// Prints how to reproduce a failure.
struct Schedule(u64);

impl Drop for Schedule {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to see this again: FIELDSYNC_POWER_CUT_SCHEDULE={}", self.0);
        }
    }
}

impl Schedule {
    fn steps(&self) -> Vec<QueueStep> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
        any_steps().new_tree(&mut runner).unwrap().current()
    }

    /// Waits before a retry are random, too.
    fn run(&self) -> (u64, u64) {
        // The number of power cuts, and of those during recovery from another.
        fastrand::seed(self.0);
        let disk = SimulatedDisk::new(self.0);
        disk.cut_again_and_again(CUT_WITHIN_OPERATIONS);
        let mut harness = ModelHarness::on_disk(disk.clone());
        for step in self.steps() {
            harness.apply_step(step);
            harness.check_all();
        }
        disk.clear_faults();
        harness.model.check_pages(&harness.bench);
        harness.drain_all();
        harness.check_all();
        (disk.operation_counts().cuts, harness.cuts_in_recovery)
    }
}

#[test]
fn power_cuts_lose_no_acknowledged_record() {
    let (wanted, only) = (number("FIELDSYNC_POWER_CUTS"), number("FIELDSYNC_POWER_CUT_SCHEDULE"));
    let (mut cuts, mut in_recovery, mut schedules) = (0, 0, 0);
    while cuts < wanted.unwrap_or(DEFAULT_CUTS) && (only.is_none() || schedules == 0) {
        let (more, more_in_recovery) = Schedule(only.unwrap_or(schedules)).run();
        (cuts, in_recovery, schedules) = (cuts + more, in_recovery + more_in_recovery, schedules + 1);
    }
    // Shown even if the output of passing tests is not.
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{cuts} power cuts in {schedules} schedules, {in_recovery} of them during recovery")
        .unwrap();
}
