//! Discarded records: a receipt says who discarded them and when, and nobody counts them.

use redb::{Database, ReadableTable as _};

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, discard, id, record, test_error};
use crate::model::{ManifestEntry, NewRecord, RecordId, RecordState};
use crate::policy::scheduler::Outcome;
use crate::store::schema::{DISCARDED, MANIFEST, StoredState};
use crate::store::{Append, AppendRefused, Filter, NewestFilter, Review, ReviewAction, ReviewSelection};

/// The state in a row of `manifest`, behind its version and position.
const STATE_AT: usize = 10;

/// Appends records, and quarantines them in one batch.
fn quarantine(bench: &mut QueueBench, numbers: std::ops::RangeInclusive<u128>) {
    let records: Vec<_> = numbers.map(|number| record(number, Some("key"))).collect();
    let count = records.len();
    bench.append(records);
    let batch = bench.claim(count).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no such day")));
}

fn review(bench: &mut QueueBench, number: u128, action: ReviewAction) -> Vec<RecordId> {
    let selected = ReviewSelection::These(vec![id(number)]);
    bench.run(Review { selected, action, submitter: None }).changed
}

fn list_discarded(bench: &QueueBench) -> [Vec<ManifestEntry>; 2] {
    let state = RecordState::Discarded;
    let in_order = Filter { state: Some(state), limit: 100, ..Filter::default() };
    let newest = NewestFilter { states: vec![state], limit: 100, ..NewestFilter::default() };
    bench.with_view(|view| Ok([view.list_page(&in_order)?.entries, view.list_newest(&newest)?.entries]))
}

fn append_again(bench: &mut QueueBench, new: NewRecord) -> Result<(u64, u64), AppendRefused> {
    let appended = bench.run(Append::new(vec![new], 0));
    appended.map(|done| (done.accepted, done.duplicates))
}

#[test]
fn a_discarded_record_leaves_a_receipt_as_long_as_synced_ones_are_kept() {
    let mut bench = QueueBench::new();
    quarantine(&mut bench, 1..=3);
    bench.now += 5;
    let cursor = bench.with_view(|view| view.list_changes(None, 10)).unwrap().1;
    assert_eq!(review(&mut bench, 2, discard()), [id(2)]);
    let (changed, _) = bench.with_view(|view| view.list_changes(Some(cursor), 10)).unwrap();
    assert_eq!(changed, [id(2)], "a discard is a change of the record");
    let discarded_at = bench.now().wall;
    let assert_kept = |bench: &mut QueueBench| {
        let entry = bench.find_entry(id(2)).unwrap();
        assert_eq!((entry.state, entry.updated_at), (RecordState::Discarded, discarded_at));
        assert_eq!(entry.discarded_by.as_deref(), Some("alice"));
        assert_eq!(entry.last_error, Some(test_error("no such day")), "why it was under review");
        assert_eq!((entry.blocked_by, entry.blocked_count, entry.next_attempt_at), (None, 0, None));
        assert_eq!(list_discarded(bench), [vec![entry.clone()], vec![entry]]);
        assert_eq!(bench.with_view(|view| view.read_payload(id(2))), None);
        audit(bench.queue_mut());
    };
    assert_kept(&mut bench);
    bench.reopen_queue();
    assert_kept(&mut bench);
    bench.crash_process();
    assert_kept(&mut bench);
    let backlog = bench.queue_mut().read_backlog().unwrap();
    assert_eq!((backlog.quarantined, backlog.synced, backlog.to_go()), (2, 0, 0));
    bench.now += HOUR_MS + 1;
    bench.run_idle_maintenance();
    assert_eq!((bench.find_entry(id(2)), list_discarded(&bench)), (None, [vec![], vec![]]));
    assert!(bench.find_entry(id(1)).is_some(), "records under review stay");
    assert_eq!(bench.queue().state().counters.receipt_count(), 0);
    audit(bench.queue_mut());
}

#[test]
fn a_discarded_id_is_known_until_its_receipt_is_gone() {
    let mut bench = QueueBench::new();
    quarantine(&mut bench, 1..=1);
    review(&mut bench, 1, discard());
    let same = record(1, Some("key"));
    let other = NewRecord { payload: "{\"other\":1}".into(), ..same.clone() };
    assert_eq!(append_again(&mut bench, same.clone()), Ok((0, 1)), "it does not come back");
    let refused = AppendRefused::Conflict { position: 1, id: id(1) };
    assert_eq!(append_again(&mut bench, other.clone()), Err(refused));
    assert_eq!(bench.find_entry(id(1)).unwrap().state, RecordState::Discarded);
    for action in [discard(), ReviewAction::Retry] {
        assert_eq!(review(&mut bench, 1, action), [], "it is not under review");
    }
    bench.now += HOUR_MS + 1;
    bench.run_idle_maintenance();
    assert_eq!(append_again(&mut bench, other), Ok((1, 0)));
    assert_eq!(bench.find_entry(id(1)).unwrap().state, RecordState::Pending);
    audit(bench.queue_mut());
}

#[test]
fn a_store_without_the_table_of_discarded_records_is_read_and_written() {
    let mut bench = QueueBench::new();
    quarantine(&mut bench, 1..=2);
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(DISCARDED).unwrap());
    transaction.commit().unwrap();
    database.close().unwrap();

    bench.open_queue().unwrap();
    assert!(bench.queue().take_snapshot().unwrap().discarded.is_none(), "nothing was written");
    assert_eq!(list_discarded(&bench), [vec![], vec![]]);
    audit(bench.queue_mut());
    review(&mut bench, 2, discard());
    bench.reopen_queue();
    assert_eq!(list_discarded(&bench)[0][0].id, id(2));
    audit(bench.queue_mut());
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage, []);
}

#[test]
fn many_receipts_of_discarded_records_do_not_accumulate_without_an_idle_moment() {
    let mut bench = QueueBench::new();
    quarantine(&mut bench, 1..=150);
    let all = |bench: &mut QueueBench| {
        let selected = ReviewSelection::After(None);
        bench.run(Review { selected, action: discard(), submitter: None }).changed.len()
    };
    assert_eq!(all(&mut bench), 150);
    bench.now += HOUR_MS + 1;
    quarantine(&mut bench, 201..=350);
    assert_eq!(all(&mut bench), 150);
    assert_eq!(bench.queue().state().counters.discarded, 150);
    let entries = list_discarded(&bench)[0].len();
    assert_eq!(entries, 100, "a page");
    audit(bench.queue_mut());
}

#[test]
fn discarded_records_are_salvaged_and_never_as_synced_or_waiting_ones() {
    let mut bench = QueueBench::new();
    quarantine(&mut bench, 1..=4);
    for number in [1, 2, 3] {
        review(&mut bench, number, discard());
    }
    let before = bench.find_entry(id(1));
    bench.close_queue().unwrap();
    let path = bench.dir.path().join("queue.redb");
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut manifest = transaction.open_table(MANIFEST).unwrap();
        for (id, state) in [(2, StoredState::Synced), (3, StoredState::Pending)] {
            let mut row = manifest.get(id).unwrap().unwrap().value().to_vec();
            assert_eq!(row[STATE_AT], StoredState::Discarded as u8);
            row[STATE_AT] = state as u8;
            manifest.insert(id, row.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
    database.close().unwrap();
    std::fs::write(bench.dir.path().join("queue.redb.suspect"), []).unwrap();
    bench.open_queue().unwrap();
    let damage = &bench.queue_mut().read_backlog().unwrap().storage.damage;
    assert_eq!((damage.len(), damage[0].salvaged, damage[0].lost), (1, 1, 0), "{damage:?}");
    assert_eq!(bench.find_entry(id(1)), before);
    assert_eq!([2, 3].map(|number| bench.find_entry(id(number))), [None, None], "forgotten, but not sent");
    audit(bench.queue_mut());
    bench.now += HOUR_MS + 1;
    bench.run_idle_maintenance();
    assert_eq!(bench.find_entry(id(1)), None);
    audit(bench.queue_mut());
}
