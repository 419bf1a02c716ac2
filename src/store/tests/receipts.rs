//! Receipts on a disk that is low on space are evicted for new records, the oldest first.

use super::audit::audit;
use super::disk::SimulatedDisk;
use super::support::{HOUR_MS, QueueBench, id, receipt, record, test_error};
use crate::model::{DiskState, NewRecord, RecordId};
use crate::policy::scheduler::Outcome;
use crate::protocol::receipt::RECEIPT_BYTES_MAX;
use crate::store::disk_use::RECEIPT_BYTES_MIN;
use crate::store::{Append, AppendRefused};

const MIB: u64 = 1 << 20;

fn bench_on_disk(capacity: u64) -> (QueueBench, SimulatedDisk) {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(capacity);
    let mut bench = QueueBench::on_disk(disk.clone());
    let limits = &mut bench.limits;
    (limits.max_records, limits.max_bytes, limits.max_record_bytes) = (1 << 20, 1 << 40, 1 << 20);
    limits.disk_reserve = MIB;
    limits.keep_synced_ms = 1_000_000 * HOUR_MS;
    bench.open_queue().unwrap();
    (bench, disk)
}

/// An id as an application may choose it, in no particular order.
fn scattered_id(number: u128) -> RecordId {
    id((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn new_record(number: u128) -> NewRecord {
    NewRecord { id: scattered_id(number), ..record(number, None) }
}

/// Appends records and syncs them in groups, one second each.
fn append_and_sync(bench: &mut QueueBench, numbers: std::ops::Range<u128>, at_once: usize) {
    for first in numbers.clone().step_by(at_once) {
        let end = numbers.end.min(first + at_once as u128);
        bench.append((first..end).map(new_record).collect());
        let batch = bench.claim(at_once).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
        bench.now += 1000;
    }
}

fn is_known(bench: &QueueBench, number: u128) -> bool {
    bench.find_entry(scattered_id(number)).is_some()
}

/// Evicts receipts as the daemon does.
fn make_room(bench: &mut QueueBench) {
    let (limits, now) = (bench.limits, bench.now());
    for _ in 0..10_000 {
        if !bench.queue_mut().evict_receipts(limits, now).unwrap() {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn receipts_never_fill_the_disk_and_the_oldest_go_first() {
    let (mut bench, disk) = bench_on_disk(12 * MIB);
    let most = 24_000;
    append_and_sync(&mut bench, 0..most, 500);
    assert_eq!(bench.queue().disk_state(), DiskState::Ok);
    assert!(disk.used_bytes() <= 8 * MIB, "{} bytes are used", disk.used_bytes());
    let known: Vec<u128> = (0..most).filter(|number| is_known(&bench, *number)).collect();
    assert!(known.len() > 4_000, "only {} are known", known.len());
    // All receipts that are kept are newer than all that went, except those being evicted now.
    let gone = most - known.len() as u128;
    let strays = known.iter().filter(|number| **number < gone).count();
    assert!(strays <= known.len() / 3, "{strays} of {} went out of turn", known.len());
    assert!((most - 1000..most).all(|number| is_known(&bench, number)), "the youngest are known");
    audit(bench.queue_mut());
}

#[test]
fn receipts_are_evicted_when_other_programs_fill_the_disk() {
    let (mut bench, disk) = bench_on_disk(1 << 40);
    bench.limits.disk_reserve = 0;
    append_and_sync(&mut bench, 0..24_000, 500);
    disk.set_capacity(disk.used_bytes() + 3 * MIB);
    let full = Err(AppendRefused::DiskFull);
    assert_eq!(bench.run(Append::new(vec![new_record(50_000)], 0)).map(|done| done.accepted), full);
    make_room(&mut bench);
    assert_eq!(bench.queue().disk_state(), DiskState::Ok);
    assert_eq!(bench.run(Append::new(vec![new_record(50_000)], 0)).map(|done| done.accepted), Ok(1));
    let gone = (0..24_000).filter(|number| !is_known(&bench, *number)).count();
    assert!((1..23_500).contains(&gone), "{gone} went");
    let oldest_known = (0..24_000).find(|number| is_known(&bench, *number)).unwrap();
    let strays = (oldest_known..24_000).filter(|number| !is_known(&bench, *number)).count();
    assert!(strays <= gone / 10, "{strays} of {gone} went before older ones");
    audit(bench.queue_mut());
}

#[test]
fn receipts_of_the_server_are_counted_and_evicted_with_the_others() {
    let (mut bench, disk) = bench_on_disk(1 << 40);
    bench.limits.disk_reserve = 0;
    let most = 6_000;
    for first in (0..most).step_by(500) {
        bench.append((first..first + 500).map(new_record).collect());
        let batch = bench.claim(500).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(receipt(RECEIPT_BYTES_MAX)));
        bench.now += 1000;
    }
    while bench.run_idle_maintenance() {}
    let counters = &bench.queue().state().counters;
    let estimated = counters.records.synced * RECEIPT_BYTES_MIN + counters.server_receipt_bytes;
    println!("{} bytes are used, {estimated} estimated", disk.used_bytes());
    assert!(disk.used_bytes() / 2 <= estimated, "the file would be compacted without end");
    disk.set_capacity(disk.used_bytes() + 3 * MIB);
    let full = Err(AppendRefused::DiskFull);
    assert_eq!(bench.run(Append::new(vec![new_record(50_000)], 0)).map(|done| done.accepted), full);
    make_room(&mut bench);
    assert_eq!(bench.queue().disk_state(), DiskState::Ok);
    let gone = (0..most).filter(|number| !is_known(&bench, *number)).count();
    println!("{gone} went");
    assert!((1..5_500).contains(&gone), "{gone} went");
    audit(bench.queue_mut());
}

#[test]
fn without_receipts_a_full_disk_stays_full_without_a_busy_loop() {
    let (mut bench, disk) = bench_on_disk(64 * MIB);
    bench.append((0..100).map(new_record).collect());
    disk.set_capacity(disk.used_bytes());
    let full = Err(AppendRefused::DiskFull);
    assert_eq!(bench.run(Append::new(vec![new_record(500)], 0)).map(|done| done.accepted), full);
    let (limits, now) = (bench.limits, bench.now());
    assert!(!bench.queue_mut().evict_receipts(limits, now).unwrap());
    assert_eq!(bench.queue().disk_state(), DiskState::Full);
}

#[test]
fn receipts_stay_if_evicting_them_would_not_free_enough() {
    let (mut bench, disk) = bench_on_disk(64 * MIB);
    append_and_sync(&mut bench, 0..500, 500);
    disk.set_capacity(disk.used_bytes());
    let full = Err(AppendRefused::DiskFull);
    assert_eq!(bench.run(Append::new(vec![new_record(1000)], 0)).map(|done| done.accepted), full);
    make_room(&mut bench);
    assert!((0..500).all(|number| is_known(&bench, number)));
}

#[test]
fn a_large_batch_is_settled_on_a_full_disk_even_with_random_ids() {
    let (mut bench, _disk) = bench_on_disk(24 * MIB);
    let mut taken = 0;
    for first in (0u128..).step_by(500) {
        let fresh = (first..first + 500)
            .map(|number| NewRecord { payload: "x".repeat(300).into(), ..new_record(number) });
        if bench.run(Append::new(fresh.collect(), 0)).is_err() {
            break;
        }
        taken += 500;
    }
    assert!(taken > 5000, "{taken}");
    assert_eq!(bench.queue().disk_state(), DiskState::Full);
    let mut settled = 0;
    while let Some(batch) = bench.claim(1000) {
        settled += bench.close_batch(batch.open.id, Outcome::Synced(None)).synced.len();
    }
    assert_eq!(settled, taken);
    audit(bench.queue_mut());
}

#[test]
fn a_drained_disk_has_room_again_although_a_blocked_record_waits() {
    let (mut bench, _disk) = bench_on_disk(32 * MIB);
    let key = |number| NewRecord { key: Some("account".into()), ..new_record(number) };
    bench.append(vec![key(1), key(2)]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    let large = |number| NewRecord { payload: "x".repeat(60_000).into(), ..new_record(number) };
    while bench.run(Append::new((0..10).map(|_| large(next_number())).collect(), 0)).is_ok() {}
    assert_eq!(bench.queue().disk_state(), DiskState::Full);
    while let Some(batch) = bench.claim(50) {
        bench.close_batch(batch.open.id, Outcome::Synced(None));
    }
    let backlog = bench.queue_mut().read_backlog().unwrap();
    assert_eq!((backlog.pending, backlog.quarantined), (1, 1), "one is blocked");
    bench.run_idle_maintenance();
    let limits = bench.limits;
    bench.queue_mut().check_free_space(limits).unwrap();
    assert_eq!(bench.queue().disk_state(), DiskState::Ok);
    assert!(bench.run(Append::new(vec![large(7)], 0)).is_ok());
    audit(bench.queue_mut());
}

fn next_number() -> u128 {
    thread_local!(static NEXT: std::cell::Cell<u128> = const { std::cell::Cell::new(1000) });
    NEXT.set(NEXT.get() + 1);
    NEXT.get()
}

#[test]
fn a_file_does_not_shrink_while_records_are_due_or_in_flight() {
    let (mut bench, disk) = bench_on_disk(1 << 40);
    let large = |number| NewRecord { payload: "x".repeat(60_000).into(), ..new_record(number) };
    for first in (0..400).step_by(100) {
        bench.append((first..first + 100).map(large).collect());
    }
    while let Some(batch) = bench.claim(100) {
        bench.close_batch(batch.open.id, Outcome::Synced(None));
    }
    let used = disk.used_bytes();
    bench.append(vec![new_record(1000)]);
    bench.run_idle_maintenance();
    assert!(disk.used_bytes() >= used, "a record may be claimed at any moment");
    let batch = bench.claim(1).unwrap().open.id;
    bench.run_idle_maintenance();
    assert!(disk.used_bytes() >= used, "the answer may come at any moment");
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    assert!(bench.claim(1).is_none());
    bench.run_idle_maintenance();
    assert!(disk.used_bytes() < used / 2, "nothing is due");
}
