//! Stores of version 1 and stores for another key space are upgraded completely or not at all.

use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use super::audit::audit;
use super::disk::{CutLoss, SimulatedDisk};
use super::harness::ModelHarness;
use super::script::script;
use super::steps::QueueStep;
use super::support::{HOUR_MS, QueueBench, id, ids, record, test_error};
use crate::policy::scheduler::Outcome;
use crate::store::KeySpace;
use crate::store::codec;
use crate::store::medium::Medium as _;
use crate::store::schema::{LANES, LANES_OF_VERSION_1, META, meta};

const FIRST_USER: u32 = 1001;
const SECOND_USER: u32 = 1002;

/// What version 1 would have written of a store with shared keys.
fn make_version_1(database: &Database) {
    let transaction = database.begin_write().unwrap();
    {
        let lanes = transaction.open_table(LANES).unwrap();
        let mut before = transaction.open_table(LANES_OF_VERSION_1).unwrap();
        for item in lanes.iter().unwrap() {
            let (lane_position, position) = item.unwrap();
            let (_, key, seq) = lane_position.value();
            before.insert((key, seq), position.value()).unwrap();
        }
        let mut notes = transaction.open_table(META).unwrap();
        notes.insert(meta::SCHEMA_KEY, codec::encode_row(&1u32).unwrap().as_slice()).unwrap();
        notes.remove(meta::SUBMITTERS_KEY).unwrap();
        notes.remove(meta::SHARED_KEYS).unwrap();
    }
    transaction.delete_table(LANES).unwrap();
    transaction.commit().unwrap();
}

fn schema_of(database: &Database) -> u32 {
    let table = database.begin_read().unwrap().open_table(META).unwrap();
    codec::decode_row(table.get(meta::SCHEMA_KEY).unwrap().unwrap().value()).unwrap()
}

/// The queue must be closed.
fn make_file_version_1(bench: &mut QueueBench) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    make_version_1(&database);
    database.close().unwrap();
}

/// Records of two users with the same key: the first is quarantined, and the others wait for it.
fn bench_with_blocked_records() -> QueueBench {
    let mut bench = QueueBench::new();
    bench.key_space = KeySpace::Shared;
    bench.reopen_queue();
    bench.append_by(FIRST_USER, vec![record(1, Some("key"))]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    bench.append_by(SECOND_USER, vec![record(2, Some("key")), record(3, None)]);
    bench
}

#[test]
fn a_store_of_version_1_is_upgraded_for_shared_and_separate_keys() {
    for (key_space, goes) in [(KeySpace::PerSubmitter, &[2, 3][..]), (KeySpace::Shared, &[3])] {
        let mut bench = bench_with_blocked_records();
        make_file_version_1(&mut bench);
        bench.key_space = key_space;
        bench.open_queue().unwrap();
        audit(bench.queue_mut());
        let backlog = bench.queue_mut().read_backlog().unwrap();
        assert_eq!(
            (backlog.by_submitter[&FIRST_USER].quarantined, backlog.by_submitter[&SECOND_USER].pending),
            (1, 2)
        );
        assert_eq!(ids(&bench.claim(10).unwrap()), goes);
        bench.reopen_queue();
        audit(bench.queue_mut());
    }
}

#[test]
fn a_damaged_store_of_version_1_is_salvaged_to_the_current_schema() {
    for key_space in [KeySpace::PerSubmitter, KeySpace::Shared] {
        let mut bench = bench_with_blocked_records();
        make_file_version_1(&mut bench);
        let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(meta::COUNTERS_KEY, &b"\x07"[..]).unwrap();
        transaction.commit().unwrap();
        database.close().unwrap();
        bench.key_space = key_space;
        bench.open_queue().unwrap();
        audit(bench.queue_mut());
        let damage = &bench.queue_mut().read_backlog().unwrap().storage.damage[0];
        assert_eq!((damage.salvaged, damage.lost), (3, 0));
    }
}

#[test]
fn a_power_cut_at_any_operation_of_an_upgrade_leaves_the_old_or_the_new_store() {
    fastrand::seed(4);
    let disk = SimulatedDisk::new(4);
    let mut harness = ModelHarness::on_disk(disk.clone());
    harness.apply_step(QueueStep::ShareKeys(true));
    for step in script().into_iter().filter(|step| !matches!(step, QueueStep::ShareKeys(_))) {
        harness.apply_step(step);
    }
    harness.check_all();
    harness.bench.close_queue().unwrap();
    let database = disk.open_database(&mut redb::Builder::new()).unwrap();
    make_version_1(&database);
    database.close().unwrap();
    // Everything is on disk by now. From here on, at most the upgrade is incomplete.
    harness.bench.key_space = KeySpace::PerSubmitter;
    let before = harness.fork(disk.clone());
    disk.record_crash_points();
    harness.open_queue();
    harness.check_all();
    let (mut of_before, mut of_after) = (0, 0);
    for (number, point) in (0u64..).zip(disk.take_crash_points()) {
        for loss in CutLoss::ALL {
            let disk = point.1.fork(number);
            disk.power_cycle(Some(loss));
            let database = disk.open_database(&mut redb::Builder::new()).unwrap();
            *(if schema_of(&database) == 1 { &mut of_before } else { &mut of_after }) += 1;
            drop(database);
            let mut found = before.fork(disk);
            found.open_queue();
            found.check_all();
        }
    }
    assert!(of_before > 0 && of_after > 0, "{of_before} before, {of_after} after");
}

#[test]
fn an_upgrade_on_a_full_disk_uses_the_reserve() {
    let disk = SimulatedDisk::new(5);
    disk.set_capacity(1 << 30);
    let mut bench = QueueBench::on_disk(disk.clone());
    bench.key_space = KeySpace::Shared;
    bench.limits.disk_reserve = 1 << 20;
    bench.open_queue().unwrap();
    let long = |number: u128| record(number, Some(&format!("{number:0>500}")));
    bench.append_by(FIRST_USER, (1..=900).map(long).collect());
    bench.now += HOUR_MS;
    bench.append_by(FIRST_USER, vec![record(1000, Some("another"))]);
    bench.close_queue().unwrap();
    let database = disk.open_database(&mut redb::Builder::new()).unwrap();
    make_version_1(&database);
    let mut database = database;
    while database.compact().unwrap() {}
    database.close().unwrap();
    disk.set_capacity(disk.used_bytes());
    bench.key_space = KeySpace::PerSubmitter;
    bench.open_queue().unwrap();
    assert_eq!(disk.reserve_bytes(), 0, "there was no other room");
    audit(bench.queue_mut());
    assert!(bench.find_entry(id(900)).is_some());
}

#[test]
fn a_store_without_its_key_space_is_damaged() {
    let mut bench = bench_with_blocked_records();
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().remove(meta::SHARED_KEYS).unwrap();
    transaction.commit().unwrap();
    database.close().unwrap();
    bench.open_queue().unwrap();
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage.len(), 1);
    audit(bench.queue_mut());
}
