//! A disk that runs full: new records are refused, those that wait go out, and room that returns is used.

use super::audit::audit;
use super::disk::Disk;
use super::steps::Step;
use super::support::{HOUR, error, id, order, record, retry};
use super::world::World;
use crate::model::{DiskState, NewRecord};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::medium::Medium as _;
use crate::store::{Append, AppendRefused, Claim, Settle, StoreError};

const MIB: u64 = 1 << 20;

fn large(number: u128) -> NewRecord {
    NewRecord { payload: "x".repeat(60_000).into(), ..record(number, None) }
}

/// A queue on a disk of so many bytes, for more records than it has room for.
fn world(capacity: u64, reserve: u64) -> (World, Disk) {
    let disk = Disk::new(1);
    disk.set_capacity(capacity);
    let mut world = World::on(disk.clone());
    let limits = &mut world.bench.limits;
    (limits.max_records, limits.max_bytes, limits.disk_reserve) = (100_000, 1 << 40, reserve);
    (world, disk)
}

/// Appends until the disk is full; how many records there are.
fn fill(world: &mut World) -> u128 {
    for number in 1.. {
        let records = vec![large(number)];
        match world.bench.run(Append::new(records.clone(), 1)) {
            Ok(_) => {
                let limits = world.bench.limits;
                assert_eq!(world.model.append(1, &records, limits), Ok(1));
            }
            Err(refused) => {
                assert_eq!(refused, AppendRefused::DiskFull);
                return number - 1;
            }
        }
    }
    0
}

/// Sends everything, a batch at a time, while new records are refused.
fn drain(world: &mut World) {
    while world.bench.queue_mut().backlog().unwrap().to_go() > 0 {
        world.apply(Step::Claim(20, u64::MAX));
        world.apply(Step::Close(0, Vec::new(), 5, None));
        world.bench.now += HOUR;
        world.apply(Step::Claim(20, u64::MAX));
        world.apply(Step::Close(0, Vec::new(), 0, None));
    }
    assert_eq!(world.errors, 0);
    world.check();
}

#[test]
fn a_disk_that_is_nearly_full_refuses_records_and_drains() {
    let (mut world, disk) = world(16 * MIB, MIB);
    let records = fill(&mut world);
    assert!(records > 50, "{records}");
    assert_eq!(world.bench.queue().disk(), DiskState::Full);
    assert!(disk.used() <= 15 * MIB, "what a settlement needs is held back");
    world.check();
    drain(&mut world);
    let refused = world.bench.run(Append::new(vec![large(9_000)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull), "the file keeps its room until it is compacted");
    world.apply(Step::Rest);
    let limits = world.bench.limits;
    world.bench.queue_mut().look_for_room(limits).unwrap();
    assert_eq!(world.bench.queue().disk(), DiskState::Ok);
    world.append(1, &[large(9_001)]);
    assert!(world.model.records.contains_key(&id(9_001)));
    assert_eq!(world.bench.queue().disk(), DiskState::Ok);
    world.check();
}

#[test]
fn the_reserve_lets_records_go_out_of_a_disk_that_others_filled() {
    let (mut world, disk) = world(64 * MIB, 2 * MIB);
    world.append(1, &(1..=40).map(large).collect::<Vec<_>>());
    assert_eq!(disk.reserved(), 2 * MIB);
    disk.set_capacity(disk.used());
    drain(&mut world);
    assert_eq!((disk.reserved(), world.bench.queue().disk()), (0, DiskState::Full));
    let refused = world.bench.run(Append::new(vec![large(50)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull));
    disk.set_capacity(64 * MIB);
    world.append(1, &[large(51)]);
    assert!(world.model.records.contains_key(&id(51)), "room is noticed without a restart");
    assert_eq!((disk.reserved(), world.bench.queue().disk()), (2 * MIB, DiskState::Ok));
    world.check();
}

#[test]
fn without_any_room_nothing_moves_and_nothing_is_lost() {
    let (mut world, disk) = world(64 * MIB, 0);
    world.append(1, &(1..=400).map(|number| record(number, None)).collect::<Vec<_>>());
    world.apply(Step::Claim(400, u64::MAX));
    let batch = *world.model.open.keys().next().unwrap();
    disk.set_capacity(disk.used());
    // Long errors make the rows of the manifest longer: this needs more pages than are free.
    let failed = Outcome::Retry(error(&"no ".repeat(300)));
    let settle = || Settle {
        batch,
        disposition: Disposition::Close { outcomes: Vec::new(), missing: failed.clone() },
        retry: retry(),
        then: None,
        note: None,
    };
    for _ in 0..3 {
        assert!(matches!(world.bench.try_run(settle()), Err(StoreError::NoRoom)));
        assert_eq!(world.bench.queue().disk(), DiskState::Full);
        world.check();
    }
    let refused = world.bench.run(Append::new(vec![large(900)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull));
    // Whether it can be closed well or not.
    drop(world.bench.close_queue());
    world.start();
    world.check();
    assert!(matches!(world.bench.try_run(settle()), Err(StoreError::NoRoom)), "nor after a restart");
    disk.set_capacity(64 * MIB);
    world.bench.run(settle());
    world.model.closed(batch, &[], &failed, &world.bench);
    world.check();
    world.bench.now += HOUR;
    assert!(world.bench.run(Claim::new(order(10, u64::MAX))).is_some());
    audit(world.bench.queue_mut());
}
