//! Power cuts at every operation of a fixed script, with every kind of loss.
//!
//! The disk records its state at each operation. The store is opened on each of them.

use super::disk::{CutLoss, DiskFault, DiskOperation, SimulatedDisk};
use super::harness::ModelHarness;
use super::script::script;
use super::steps::QueueStep;
use super::support::record;
use crate::model::NewRecord;

/// Totals of the trials.
#[derive(Default)]
struct CrashPointTotals {
    /// Every loss at every operation, not only at syncs.
    thorough: bool,
    operations: u64,
    syncs: u64,
    cuts: u64,
    took_place: u64,
}

impl CrashPointTotals {
    /// After each cut, a step has taken place completely or not at all.
    fn cut_at_each(
        &mut self,
        points: Vec<(DiskOperation, SimulatedDisk)>,
        before: &ModelHarness,
        commits: u64,
        after: &ModelHarness,
    ) {
        for (kind, point) in points {
            self.operations += 1;
            self.syncs += u64::from(kind == DiskOperation::Sync);
            let one = usize::try_from(self.operations).unwrap() % CutLoss::ALL.len();
            let all = self.thorough || kind == DiskOperation::Sync;
            for loss in if all { &CutLoss::ALL[..] } else { &CutLoss::ALL[one..=one] } {
                self.cuts += 1;
                let disk = point.fork(self.cuts);
                disk.power_cycle(Some(*loss));
                let mut found = before.fork(disk);
                found.open_queue();
                if found.commit_count() == after.commit_count() {
                    found.expect_as(after);
                    self.took_place += u64::from(after.commit_count() > commits);
                } else {
                    assert_eq!(found.commit_count(), commits, "{kind:?} {loss:?}");
                }
                found.check_all();
            }
        }
    }

    fn print_totals(&self, what: &str) {
        let Self { operations, syncs, cuts, took_place, .. } = self;
        println!(
            "{what}: {cuts} cuts at {operations} operations, {syncs} of them syncs; {took_place} commits took place"
        );
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_all_of_a_step_or_nothing() {
    fastrand::seed(1);
    let disk = SimulatedDisk::new(1);
    disk.record_crash_points();
    let mut totals = CrashPointTotals { thorough: true, ..CrashPointTotals::default() };
    let mut harness = ModelHarness::on_disk(disk.clone());
    totals.cut_at_each(disk.take_crash_points(), &ModelHarness::new_closed(disk.clone()), 0, &harness);
    assert!(totals.cuts > 0, "the file was made");
    for step in script() {
        let before = harness.fork(disk.clone());
        let commits = harness.commit_count();
        let said = format!("{step:?}");
        let waits = matches!(step, QueueStep::Wait(_));
        harness.apply_step(step);
        harness.check_all();
        let points = disk.take_crash_points();
        assert_eq!(points.is_empty(), waits, "{said} does something");
        totals.cut_at_each(points, &before, commits, &harness);
    }
    totals.print_totals("a day");
    assert!(totals.took_place > 0);
}

#[test]
fn a_file_name_is_synced_before_records_are_accepted_even_if_its_creator_ended_early() {
    let disk = SimulatedDisk::new(3);
    // The creator gets as far as the rename.
    disk.plan_fault(&[DiskOperation::Name], 1, DiskFault::Broken { lasting: false });
    let mut harness = ModelHarness::new_closed(disk.clone());
    assert!(harness.bench.open_queue().is_err());
    disk.end_process();
    harness.open_queue();
    harness.append(1, &[record(100, None)]);
    harness.bench.drop_queue();
    disk.power_cycle(Some(CutLoss::Everything));
    harness.open_queue();
    harness.check_all();
}

#[test]
fn a_power_cut_at_any_operation_of_a_compaction_loses_nothing() {
    fastrand::seed(2);
    let disk = SimulatedDisk::new(2);
    let mut harness = ModelHarness::on_disk(disk.clone());
    (harness.bench.limits.max_records, harness.bench.limits.max_bytes) = (1_000, 1 << 30);
    let large = |number| NewRecord { payload: "x".repeat(99_000).into(), ..record(number, None) };
    for start in [100, 150] {
        harness.append(1, &(start..start + 50).map(large).collect::<Vec<_>>());
    }
    harness.apply_step(QueueStep::Claim(90, u64::MAX));
    harness.apply_step(QueueStep::Close(0, Vec::new(), 0, Some(20)));
    harness.apply_step(QueueStep::Close(0, Vec::new(), 3, None));
    harness.check_all();
    let (size, commits) = (disk.used_bytes(), harness.commit_count());
    disk.record_crash_points();
    harness.apply_step(QueueStep::Rest);
    harness.check_all();
    assert!(disk.used_bytes() < size / 2, "{} of {size} bytes are left", disk.used_bytes());
    let mut totals = CrashPointTotals::default();
    totals.cut_at_each(disk.take_crash_points(), &harness, commits, &harness);
    totals.print_totals("a compaction");
}
