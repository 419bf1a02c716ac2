//! A cut at every single operation of a fixed script, with every kind of loss.
//!
//! The disk notes what a cut would find at each operation; a store is opened on each of them.

use super::disk::{Disk, Loss, Operation, Trouble};
use super::script::script;
use super::steps::Step;
use super::support::record;
use super::world::World;
use crate::model::NewRecord;

/// What was tried.
#[derive(Default)]
struct Tried {
    /// Every loss at every operation, not only at syncs.
    thorough: bool,
    operations: u64,
    syncs: u64,
    cuts: u64,
    took_place: u64,
}

impl Tried {
    /// After each cut all of the step is there, or nothing of it.
    fn cuts(&mut self, points: Vec<(Operation, Disk)>, before: &World, commits: u64, after: &World) {
        for (kind, point) in points {
            self.operations += 1;
            self.syncs += u64::from(kind == Operation::Sync);
            let one = usize::try_from(self.operations).unwrap() % Loss::ALL.len();
            let all = self.thorough || kind == Operation::Sync;
            for loss in if all { &Loss::ALL[..] } else { &Loss::ALL[one..=one] } {
                self.cuts += 1;
                let disk = point.fork(self.cuts);
                disk.power_cycle(Some(*loss));
                let mut found = before.fork(disk);
                found.start();
                if found.commits() == after.commits() {
                    found.expect_as(after);
                    self.took_place += u64::from(after.commits() > commits);
                } else {
                    assert_eq!(found.commits(), commits, "{kind:?} {loss:?}");
                }
                found.check();
            }
        }
    }

    fn say(&self, what: &str) {
        let Self { operations, syncs, cuts, took_place, .. } = self;
        println!(
            "{what}: {cuts} cuts at {operations} operations, {syncs} of them syncs; {took_place} commits took place"
        );
    }
}

#[test]
fn a_cut_at_any_operation_of_a_day_leaves_all_of_a_step_or_nothing() {
    fastrand::seed(1);
    let disk = Disk::new(1);
    disk.record_crash_points();
    let mut tried = Tried { thorough: true, ..Tried::default() };
    let mut world = World::on(disk.clone());
    tried.cuts(disk.take_crash_points(), &World::closed(disk.clone()), 0, &world);
    assert!(tried.cuts > 0, "the file was made");
    for step in script() {
        let before = world.fork(disk.clone());
        let commits = world.commits();
        let said = format!("{step:?}");
        let waits = matches!(step, Step::Wait(_));
        world.apply(step);
        world.check();
        let points = disk.take_crash_points();
        assert_eq!(points.is_empty(), waits, "{said} does something");
        tried.cuts(points, &before, commits, &world);
    }
    tried.say("a day");
    assert!(tried.took_place > 0);
}

#[test]
fn the_name_of_a_file_whose_maker_ended_early_is_kept_before_records_are_taken() {
    let disk = Disk::new(3);
    // The maker comes as far as the rename.
    disk.plan(&[Operation::Name], 1, Trouble::Broken { lasting: false });
    let mut world = World::closed(disk.clone());
    assert!(world.bench.start().is_err());
    disk.end_process();
    world.start();
    world.append(1, &[record(100, None)]);
    world.bench.drop_queue();
    disk.power_cycle(Some(Loss::Everything));
    world.start();
    world.check();
}

#[test]
fn a_cut_at_any_operation_of_a_compaction_loses_nothing() {
    fastrand::seed(2);
    let disk = Disk::new(2);
    let mut world = World::on(disk.clone());
    (world.bench.limits.max_records, world.bench.limits.max_bytes) = (1_000, 1 << 30);
    let large = |number| NewRecord { payload: "x".repeat(99_000).into(), ..record(number, None) };
    for start in [100, 150] {
        world.append(1, &(start..start + 50).map(large).collect::<Vec<_>>());
    }
    world.apply(Step::Claim(90, u64::MAX));
    world.apply(Step::Close(0, Vec::new(), 0, Some(20)));
    world.apply(Step::Close(0, Vec::new(), 3, None));
    world.check();
    let (size, commits) = (disk.used(), world.commits());
    disk.record_crash_points();
    world.apply(Step::Rest);
    world.check();
    assert!(disk.used() < size / 2, "{} of {size} bytes are left", disk.used());
    let mut tried = Tried::default();
    tried.cuts(disk.take_crash_points(), &world, commits, &world);
    tried.say("a compaction");
}
