//! On a full disk, new records are refused, waiting ones are sent, and new space is used.

use super::audit::audit;
use super::disk::SimulatedDisk;
use super::harness::ModelHarness;
use super::steps::QueueStep;
use super::support::{HOUR_MS, claim_order, id, record, retry_config, test_error};
use crate::model::{DiskState, NewRecord};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::medium::Medium as _;
use crate::store::{Append, AppendRefused, Claim, Settle, StoreError};

const MIB: u64 = 1 << 20;

fn large(number: u128) -> NewRecord {
    NewRecord { payload: "x".repeat(60_000).into(), ..record(number, None) }
}

/// A queue on a small disk, with larger limits than it has room for.
fn harness(capacity: u64, reserve: u64) -> (ModelHarness, SimulatedDisk) {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(capacity);
    let mut harness = ModelHarness::on_disk(disk.clone());
    let limits = &mut harness.bench.limits;
    (limits.max_records, limits.max_bytes, limits.disk_reserve) = (100_000, 1 << 40, reserve);
    (harness, disk)
}

/// Appends until the disk is full. Returns the number of records.
fn append_until_full(harness: &mut ModelHarness) -> u128 {
    for number in 1.. {
        let records = vec![large(number)];
        match harness.bench.run(Append::new(records.clone(), 1)) {
            Ok(_) => {
                let limits = harness.bench.limits;
                assert_eq!(harness.model.apply_append(1, &records, limits), Ok(1));
            }
            Err(refused) => {
                assert_eq!(refused, AppendRefused::DiskFull);
                return number - 1;
            }
        }
    }
    0
}

/// Sends everything in batches, while new records are refused.
fn drain_batches(harness: &mut ModelHarness) {
    while harness.bench.queue_mut().read_backlog().unwrap().to_go() > 0 {
        harness.apply_step(QueueStep::Claim(20, u64::MAX));
        harness.apply_step(QueueStep::Close(0, Vec::new(), 5, None));
        harness.bench.now += HOUR_MS;
        harness.apply_step(QueueStep::Claim(20, u64::MAX));
        harness.apply_step(QueueStep::Close(0, Vec::new(), 0, None));
    }
    assert_eq!(harness.errors, 0);
    harness.check_all();
}

#[test]
fn a_nearly_full_disk_refuses_new_records_and_drains() {
    let (mut harness, disk) = harness(16 * MIB, MIB);
    let records = append_until_full(&mut harness);
    assert!(records > 50, "{records}");
    assert_eq!(harness.bench.queue().disk_state(), DiskState::Full);
    assert!(disk.used_bytes() <= 15 * MIB, "space for a settlement is reserved");
    harness.check_all();
    drain_batches(&mut harness);
    let refused = harness.bench.run(Append::new(vec![large(9_000)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull), "the file keeps its room until it is compacted");
    harness.apply_step(QueueStep::Rest);
    let limits = harness.bench.limits;
    harness.bench.queue_mut().check_free_space(limits).unwrap();
    assert_eq!(harness.bench.queue().disk_state(), DiskState::Ok);
    harness.append(1, &[large(9_001)]);
    assert!(harness.model.records.contains_key(&id(9_001)));
    assert_eq!(harness.bench.queue().disk_state(), DiskState::Ok);
    harness.check_all();
}

#[test]
fn with_the_reserve_records_can_be_sent_from_a_disk_that_other_programs_filled() {
    let (mut harness, disk) = harness(64 * MIB, 2 * MIB);
    harness.append(1, &(1..=40).map(large).collect::<Vec<_>>());
    assert_eq!(disk.reserve_bytes(), 2 * MIB);
    disk.set_capacity(disk.used_bytes());
    drain_batches(&mut harness);
    assert_eq!((disk.reserve_bytes(), harness.bench.queue().disk_state()), (0, DiskState::Full));
    let refused = harness.bench.run(Append::new(vec![large(50)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull));
    disk.set_capacity(64 * MIB);
    harness.append(1, &[large(51)]);
    assert!(harness.model.records.contains_key(&id(51)), "room is noticed without a restart");
    assert_eq!((disk.reserve_bytes(), harness.bench.queue().disk_state()), (2 * MIB, DiskState::Ok));
    harness.check_all();
}

#[test]
fn on_a_completely_full_disk_nothing_is_settled_and_nothing_is_lost() {
    let (mut harness, disk) = harness(64 * MIB, 0);
    harness.append(1, &(1..=400).map(|number| record(number, None)).collect::<Vec<_>>());
    harness.apply_step(QueueStep::Claim(400, u64::MAX));
    let batch = *harness.model.open.keys().next().unwrap();
    disk.set_capacity(disk.used_bytes());
    // Long errors enlarge the manifest rows: this needs more pages than are free.
    let failed = Outcome::Retry(test_error(&"no ".repeat(300)));
    let settle = || Settle {
        batch,
        disposition: Disposition::close_all(failed.clone()),
        retry: retry_config(),
        then: None,
        note: None,
    };
    for _ in 0..3 {
        assert!(matches!(harness.bench.try_run(settle()), Err(StoreError::NoRoom)));
        assert_eq!(harness.bench.queue().disk_state(), DiskState::Full);
        harness.check_all();
    }
    let refused = harness.bench.run(Append::new(vec![large(900)], 1));
    assert_eq!(refused, Err(AppendRefused::DiskFull));
    // Closing may fail.
    drop(harness.bench.close_queue());
    harness.open_queue();
    harness.check_all();
    assert!(matches!(harness.bench.try_run(settle()), Err(StoreError::NoRoom)), "nor after a restart");
    disk.set_capacity(64 * MIB);
    harness.bench.run(settle());
    harness.model.apply_close(batch, &[], &failed, &harness.bench);
    harness.check_all();
    harness.bench.now += HOUR_MS;
    assert!(harness.bench.run(Claim::new(claim_order(10, u64::MAX))).is_some());
    audit(harness.bench.queue_mut());
}
