//! Idle maintenance holds the store for a short time, whatever the number of receipts.

use std::time::Duration;

use super::audit::audit;
use super::disk::SimulatedDisk;
use super::support::{HOUR_MS, QueueBench, id, record, test_error};
use crate::model::NewRecord;
use crate::policy::scheduler::Outcome;
use crate::store::medium::SMALL_FILE_BYTES;
use crate::store::receipts::PrunePace;
use crate::store::{NoteChange, WaitingNotes};

const MIB: u64 = 1 << 20;
const RECEIPTS: u128 = 12_000;
const RECORDS_AT_ONCE: usize = 1000;

/// A queue that was filled with records, and then sent all of them but the last, which is under review.
fn bench_with_receipts() -> (QueueBench, SimulatedDisk) {
    let disk = SimulatedDisk::new(1);
    let mut bench = QueueBench::on_disk(disk.clone());
    (bench.limits.max_records, bench.limits.max_bytes) = (1 << 20, 1 << 40);
    bench.open_queue().unwrap();
    let new = |number| NewRecord { payload: "x".repeat(1000).into(), ..record(number, None) };
    for first in (0..=RECEIPTS).step_by(RECORDS_AT_ONCE) {
        let end = (first + RECORDS_AT_ONCE as u128).min(RECEIPTS + 1);
        bench.append((first..end).map(new).collect());
    }
    for _ in 0..RECEIPTS.div_ceil(RECORDS_AT_ONCE as u128) {
        let batch = bench.claim(RECORDS_AT_ONCE).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
    }
    let batch = bench.claim(RECORDS_AT_ONCE).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    (bench, disk)
}

#[test]
fn a_file_with_many_receipts_is_compacted_only_when_the_disk_is_low_on_space() {
    let (mut bench, disk) = bench_with_receipts();
    let written = disk.operation_counts().bytes_written;
    while bench.run_idle_maintenance() {}
    let (size, written) = (disk.used_bytes(), disk.operation_counts().bytes_written - written);
    assert!(written < MIB, "{written} bytes were written: moving all receipts blocks the queue");
    assert!(size > 2 * SMALL_FILE_BYTES, "{size} bytes are used: there is nothing to see");
    disk.set_capacity(size + 5 * MIB);
    while bench.run_idle_maintenance() {}
    assert!(disk.used_bytes() < size / 2, "{} of {size} bytes are left", disk.used_bytes());
    assert!((0..RECEIPTS).all(|number| bench.find_entry(id(number)).is_some()), "nothing was evicted");
    audit(bench.queue_mut());
}

#[test]
fn a_large_file_shrinks_once_its_receipts_are_pruned() {
    let (mut bench, disk) = bench_with_receipts();
    while bench.run_idle_maintenance() {}
    assert!(disk.used_bytes() > 2 * SMALL_FILE_BYTES, "{} bytes are used", disk.used_bytes());
    bench.now += 2 * HOUR_MS;
    while bench.run_idle_maintenance() {}
    assert!(disk.used_bytes() < SMALL_FILE_BYTES, "{} bytes are left", disk.used_bytes());
    assert!(bench.find_entry(id(RECEIPTS)).is_some(), "it is under review");
    audit(bench.queue_mut());
}

#[test]
fn steps_grow_while_many_receipts_are_expired_and_only_the_last_saves_the_allocator_state() {
    let (mut bench, disk) = bench_with_receipts();
    while bench.run_idle_maintenance() {}
    bench.now += 2 * HOUR_MS;
    let left = |bench: &QueueBench| bench.queue().state().counters.receipt_count();
    let mut notes = WaitingNotes::default();
    notes.add_change(NoteChange { name: "test".into(), note: Some(b"kept".to_vec()) });
    for removed in [1000, 2000, 4000] {
        let (receipts, syncs) = (left(&bench), disk.operation_counts().syncs);
        let (limits, now) = (bench.limits, bench.now());
        assert!(bench.queue_mut().run_idle_maintenance(limits, now, &mut notes).unwrap());
        assert_eq!(receipts - left(&bench), removed);
        assert_eq!(disk.operation_counts().syncs - syncs, 1, "one commit, without the allocator state");
        assert!(notes.is_empty(), "notes share the first commit");
    }
    assert_eq!(bench.queue().read_note("test").unwrap().as_deref(), Some(&b"kept"[..]));
    audit(bench.queue_mut());
    assert!(bench.run_idle_maintenance(), "the rest is removed");
    assert_eq!(left(&bench), 0);
    assert!(!bench.run_idle_maintenance());
    audit(bench.queue_mut());
}

#[test]
fn steps_are_as_large_as_their_time_allows() {
    let mut pace = PrunePace::default();
    assert_eq!(pace.after_full_step(Duration::from_hours(1)), pace, "there is a least step");
    for _ in 0..10 {
        pace = pace.after_full_step(Duration::ZERO);
    }
    assert_eq!(pace, PrunePace(16_000), "there is a largest step");
    assert_eq!(pace.after_full_step(Duration::from_mins(2)), PrunePace(8000), "twice the time");
    assert_eq!(PrunePace(4000).after_full_step(Duration::from_secs(48)), PrunePace(5000), "a bit of room");
}
