//! A disk that fails at each operation of a fixed script, once or from then on.
//!
//! The store reports correctly what is stored, never panics, and continues when the disk works again.

use super::audit::audit;
use super::disk::{CHANGES, CutLoss, DiskFault, DiskOperation, SimulatedDisk};
use super::harness::ModelHarness;
use super::script::script;
use super::support::{id, record};
use crate::store::Append;

/// Reports how far the trial got.
struct FaultTrial(&'static [DiskOperation], u64, DiskFault);

impl Drop for FaultTrial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {:?} after {} operations of {:?}", self.2, self.1, self.0);
        }
    }
}

/// Runs the script with a fault at the n-th operation of these kinds. False when there are fewer operations.
fn run_with_fault(kinds: &'static [DiskOperation], after: u64, fault: DiskFault) -> bool {
    fastrand::seed(1);
    let _trial = FaultTrial(kinds, after, fault);
    let disk = SimulatedDisk::new(after);
    disk.plan_fault(kinds, after, fault);
    let mut harness = ModelHarness::on_disk(disk.clone());
    let (mut errors, mut struck) = (0, false);
    for step in script() {
        harness.apply_step(step);
        // The commit may have taken place despite a single error.
        if harness.errors > errors || (!fault.is_lasting() && disk.has_struck()) {
            (errors, struck) = (harness.errors, true);
            disk.clear_faults();
            harness.check_all();
            // Everything that reads show is durable, too.
            let after_a_cut = disk.fork(after);
            after_a_cut.power_cycle(Some(CutLoss::Everything));
            let mut found = harness.fork(after_a_cut);
            found.open_queue();
            found.check_all();
        }
    }
    let swallowed = disk.clear_faults();
    harness.check_all();
    harness.drain_all();
    struck || swallowed
}

fn run_at_every_operation(kinds: &'static [DiskOperation], fault: DiskFault, at_least: usize) {
    let errors = (0..10_000).take_while(|after| run_with_fault(kinds, *after, fault)).count();
    println!("{errors} operations with {fault:?}");
    assert!(errors >= at_least, "only {errors}");
}

#[test]
fn an_error_at_any_operation_is_reported_correctly() {
    run_at_every_operation(CHANGES, DiskFault::Broken { lasting: false }, 250);
}

#[test]
fn an_error_at_any_read_is_reported_correctly() {
    run_at_every_operation(&[DiskOperation::Read], DiskFault::Broken { lasting: false }, 50);
}

#[test]
fn errors_from_any_operation_on_are_reported_correctly() {
    run_at_every_operation(CHANGES, DiskFault::Broken { lasting: true }, 250);
}

#[test]
fn errors_from_any_read_on_are_reported_correctly() {
    run_at_every_operation(&[DiskOperation::Read], DiskFault::Broken { lasting: true }, 50);
}

#[test]
fn a_full_disk_at_any_write_is_reported_correctly() {
    run_at_every_operation(
        &[DiskOperation::Write, DiskOperation::Length],
        DiskFault::NoRoom { lasting: false },
        200,
    );
}

#[test]
fn a_full_disk_from_any_write_on_is_reported_correctly() {
    run_at_every_operation(
        &[DiskOperation::Write, DiskOperation::Length],
        DiskFault::NoRoom { lasting: true },
        200,
    );
}

#[test]
fn operations_after_an_error_wait_until_the_disk_works_again() {
    let disk = SimulatedDisk::new(1);
    let mut harness = ModelHarness::on_disk(disk.clone());
    disk.plan_fault(CHANGES, 3, DiskFault::Broken { lasting: true });
    disk.set_suspended(false);
    let append = |number| Append::new(vec![record(number, None)], 1);
    assert!(harness.bench.attempt(append(1)).0.is_err());
    assert!(harness.bench.queue_mut().reopen_and_verify().is_err());
    assert!(harness.bench.attempt(append(2)).0.is_err());
    assert!(disk.clear_faults());
    // Operations that succeed nevertheless must have taken place.
    let served = [3, 4].map(|number| harness.bench.attempt(append(number)).0.is_ok());
    harness.bench.queue_mut().reopen_and_verify().unwrap();
    let there = [1, 2, 3, 4].map(|number| harness.bench.find_entry(id(number)).is_some());
    assert_eq!((there[1], [there[2], there[3]]), (false, served));
    audit(harness.bench.queue_mut());
}
