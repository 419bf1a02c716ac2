//! A lone append writes its payload alone: everything else finds the record nevertheless.

use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _};

use super::audit::audit;
use super::support::{QueueBench, id, ids, record};
use crate::model::RecordState;
use crate::store::schema::{META, PAYLOAD, SCHEMA_VERSION, Snapshot, meta};
use crate::store::unlisted::{UNLISTED_RECORDS_MAX, UNLISTED_TIME_MAX_MS};
use crate::store::{Append, AppendRefused, Filter, IdDigits, KeySpace, NewestFilter, codec};

/// A bench whose counters were just written, with this many records appended one by one since.
fn bench_with_unlisted(count: u128) -> QueueBench {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1001, Some("key")), record(1002, None)]);
    for number in 1..=count {
        bench.append(vec![record(number, Some("key").filter(|_| number % 2 == 0))]);
    }
    bench
}

/// Rows in the table of the manifest.
fn listed_count(bench: &QueueBench) -> u64 {
    bench.queue().take_snapshot().unwrap().manifest.len().unwrap()
}

#[test]
fn an_unlisted_record_is_found_by_every_read() {
    let mut bench = bench_with_unlisted(4);
    assert_eq!(listed_count(&bench), 2);
    for restart in [false, true] {
        if restart {
            bench.crash_process();
        }
        assert_eq!(bench.find_entry(id(3)).unwrap().state, RecordState::Pending);
        bench.with_view(|view| {
            let all = view.list_page(&Filter { limit: 100, ..Filter::default() }).unwrap().entries;
            assert_eq!(all.len(), 6);
            let newest = view.list_newest(&NewestFilter { limit: 2, ..NewestFilter::default() }).unwrap();
            assert_eq!(newest.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id(4), id(3)]);
            let start = IdDigits::parse("0000").unwrap();
            assert_eq!(view.find_by_beginning(start).unwrap(), [1, 2, 3, 4, 1001].map(id));
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let step = view.find_by_end(IdDigits::parse("3").unwrap(), after, 1).unwrap();
                found.extend(step.found);
                after = step.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, [id(3)]);
            assert_eq!(view.read_payload(id(3)).unwrap().unwrap().1, 0);
            Ok(())
        });
        audit(bench.queue_mut());
    }
}

#[test]
fn a_repeated_unlisted_record_is_a_duplicate_also_after_a_crash() {
    let mut bench = bench_with_unlisted(2);
    for restart in [false, true] {
        if restart {
            bench.crash_process();
        }
        assert_eq!(bench.append(vec![record(1, None)]).duplicates, 1);
        let changed = Append::new(vec![record(1, Some("other"))], 0);
        assert!(matches!(bench.run(changed), Err(AppendRefused::Conflict { .. })));
        let of_another = Append::new(vec![record(1, None)], 7);
        assert!(matches!(bench.run(of_another), Err(AppendRefused::Taken { .. })));
    }
    assert_eq!(listed_count(&bench), 2);
}

#[test]
fn a_claim_sends_unlisted_records_in_order_and_lists_them() {
    let mut bench = bench_with_unlisted(4);
    assert_eq!(ids(&bench.claim(10).unwrap()), [1001, 1002, 1, 2, 3, 4]);
    assert_eq!(listed_count(&bench), 6);
    audit(bench.queue_mut());
}

#[test]
fn few_records_are_unlisted_and_not_for_long() {
    let most = UNLISTED_RECORDS_MAX as u128;
    let mut bench = bench_with_unlisted(most);
    assert_eq!(listed_count(&bench), 2);
    bench.append(vec![record(most + 1, None)]);
    assert_eq!(listed_count(&bench), 3 + UNLISTED_RECORDS_MAX as u64);
    bench.append(vec![record(most + 2, None)]);
    bench.now += UNLISTED_TIME_MAX_MS;
    bench.append(vec![record(most + 3, None)]);
    assert_eq!(listed_count(&bench), 5 + UNLISTED_RECORDS_MAX as u64);
    audit(bench.queue_mut());
}

#[test]
fn unlisted_records_are_put_into_new_lanes() {
    let mut bench = bench_with_unlisted(3);
    bench.close_queue().unwrap();
    bench.key_space = KeySpace::Shared;
    bench.open_queue().unwrap();
    assert_eq!(listed_count(&bench), 5);
    audit(bench.queue_mut());
}

/// Damages the payload of record 2 in its table, and the counters on request. Elsewhere in the file, as in an old page, the
/// payload is as it was.
fn damage_second_record(database: &Database, with_counters: bool) {
    let (position, mut sealed) = {
        let snapshot = Snapshot::read_latest(database).unwrap();
        let (position, sealed) = snapshot.payload.range::<u64>(..).unwrap().nth(3).unwrap().unwrap();
        (position.value(), sealed.value().to_vec())
    };
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("an old page", sealed.as_slice()).unwrap();
    sealed[20] ^= 4;
    transaction.open_table(PAYLOAD).unwrap().insert(position, sealed.as_slice()).unwrap();
    if with_counters {
        transaction.open_table(META).unwrap().insert(meta::COUNTERS_KEY, [0xff].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn an_unlisted_record_is_salvaged_from_the_raw_file_also_without_the_counters() {
    for with_counters in [false, true] {
        let mut bench = bench_with_unlisted(3);
        bench.close_queue().unwrap();
        damage_second_record(&Database::open(bench.dir.path().join("queue.redb")).unwrap(), with_counters);
        bench.open_queue().unwrap();
        for number in [1, 2, 3, 1001, 1002] {
            assert!(bench.find_entry(id(number)).is_some(), "{number}, counters damaged: {with_counters}");
        }
        audit(bench.queue_mut());
    }
}

#[test]
fn a_store_of_version_2_gets_the_present_number() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, Some("key")), record(2, None)]);
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let before = codec::encode_row(&2u32).unwrap();
    transaction.open_table(META).unwrap().insert(meta::SCHEMA_KEY, before.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    bench.open_queue().unwrap();
    audit(bench.queue_mut());
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let table = database.begin_read().unwrap().open_table(META).unwrap();
    let schema: u32 = codec::decode_row(table.get(meta::SCHEMA_KEY).unwrap().unwrap().value()).unwrap();
    assert_eq!(schema, SCHEMA_VERSION);
}
