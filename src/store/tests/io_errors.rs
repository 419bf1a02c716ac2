//! A disk that gives an error at every single operation of a fixed script, once or from then on.
//!
//! The store says truthfully what is there, never panics, and goes on when the disk does.

use super::audit::audit;
use super::disk::{CHANGES, Disk, Loss, Operation, Trouble};
use super::script::script;
use super::support::{id, record};
use super::world::World;
use crate::store::Append;

/// Says how far it came.
struct Trial(&'static [Operation], u64, Trouble);

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {:?} after {} operations of {:?}", self.2, self.1, self.0);
        }
    }
}

/// The script with trouble at the operation of these kinds that comes after so many others; false
/// when there are not so many.
fn run(kinds: &'static [Operation], after: u64, trouble: Trouble) -> bool {
    fastrand::seed(1);
    let _trial = Trial(kinds, after, trouble);
    let disk = Disk::new(after);
    disk.plan(kinds, after, trouble);
    let mut world = World::on(disk.clone());
    let (mut errors, mut struck) = (0, false);
    for step in script() {
        world.apply(step);
        // A single error may have been found out to be none.
        if world.errors > errors || (!trouble.lasts() && disk.has_struck()) {
            (errors, struck) = (world.errors, true);
            disk.heal();
            world.check();
            // What reads show is on the medium, too.
            let after_a_cut = disk.fork(after);
            after_a_cut.power_cycle(Some(Loss::Everything));
            let mut found = world.fork(after_a_cut);
            found.start();
            found.check();
        }
    }
    let swallowed = disk.heal();
    world.check();
    world.drain();
    struck || swallowed
}

fn everywhere(kinds: &'static [Operation], trouble: Trouble, at_least: usize) {
    let errors = (0..10_000).take_while(|after| run(kinds, *after, trouble)).count();
    println!("{errors} operations with {trouble:?}");
    assert!(errors >= at_least, "only {errors}");
}

#[test]
fn an_error_at_any_operation_is_told_truthfully() {
    everywhere(CHANGES, Trouble::Broken { lasting: false }, 250);
}

#[test]
fn an_error_at_any_read_is_told_truthfully() {
    everywhere(&[Operation::Read], Trouble::Broken { lasting: false }, 50);
}

#[test]
fn errors_from_any_operation_on_are_told_truthfully() {
    everywhere(CHANGES, Trouble::Broken { lasting: true }, 250);
}

#[test]
fn errors_from_any_read_on_are_told_truthfully() {
    everywhere(&[Operation::Read], Trouble::Broken { lasting: true }, 50);
}

#[test]
fn a_lack_of_room_at_any_write_is_told_truthfully() {
    everywhere(&[Operation::Write, Operation::Length], Trouble::NoRoom { lasting: false }, 200);
}

#[test]
fn a_lack_of_room_from_any_write_on_is_told_truthfully() {
    everywhere(&[Operation::Write, Operation::Length], Trouble::NoRoom { lasting: true }, 200);
}

#[test]
fn what_comes_after_an_error_waits_until_the_disk_is_proven_to_work() {
    let disk = Disk::new(1);
    let mut world = World::on(disk.clone());
    disk.plan(CHANGES, 3, Trouble::Broken { lasting: true });
    disk.spare(false);
    let append = |number| Append::new(vec![record(number, None)], 1);
    assert!(world.bench.attempt(append(1)).0.is_err());
    assert!(world.bench.queue_mut().revive().is_err());
    assert!(world.bench.attempt(append(2)).0.is_err());
    assert!(disk.heal());
    // Whoever is served all the same is served truthfully.
    let served = [3, 4].map(|number| world.bench.attempt(append(number)).0.is_ok());
    world.bench.queue_mut().revive().unwrap();
    let there = [1, 2, 3, 4].map(|number| world.bench.entry(id(number)).is_some());
    assert_eq!((there[1], [there[2], there[3]]), (false, served));
    audit(world.bench.queue_mut());
}
