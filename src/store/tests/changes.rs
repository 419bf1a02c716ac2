//! The list of changes: its bound, and stores that other versions wrote.

use redb::{Database, ReadableTable};

use super::support::{QueueBench, id, record, view_queue};
use crate::model::RecordId;
use crate::policy::scheduler::Outcome;
use crate::store::ChangeCursor;
use crate::store::changes::CHANGES_MAX;
use crate::store::schema::{CHANGES, META, meta};

fn list(bench: &QueueBench, after: Option<ChangeCursor>) -> Option<(Vec<RecordId>, ChangeCursor)> {
    view_queue(bench.queue(), bench.now(), |view| view.list_changes(after, 1000))
}

fn now(bench: &QueueBench) -> ChangeCursor {
    list(bench, None).unwrap().1
}

fn sync(bench: &mut QueueBench, numbers: std::ops::Range<u128>) {
    let count = usize::try_from(numbers.end - numbers.start).unwrap();
    bench.append(numbers.map(|number| record(number, None)).collect());
    let batch = bench.claim(count).unwrap();
    bench.close_batch(batch.open.id, Outcome::Synced(None));
}

fn change_file(bench: &mut QueueBench, change: impl FnOnce(&redb::WriteTransaction)) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    database.close().unwrap();
    bench.open_queue().unwrap();
}

#[test]
fn a_cursor_expires_once_changes_after_it_are_removed() {
    let mut bench = QueueBench::new();
    let start = now(&bench);
    let max = u128::from(CHANGES_MAX);
    sync(&mut bench, 0..max / 2);
    let half = now(&bench);
    sync(&mut bench, max / 2..max);
    assert_eq!(list(&bench, Some(start)).unwrap().0, (0..max).map(id).collect::<Vec<_>>());
    sync(&mut bench, max..max + 1);
    assert_eq!(list(&bench, Some(start)), None);
    let (ids, next) = list(&bench, Some(half)).unwrap();
    assert_eq!(ids, (max / 2..=max).map(id).collect::<Vec<_>>());
    assert_eq!(list(&bench, Some(next)), Some((Vec::new(), next)));
    bench.reopen_queue();
    assert_eq!(list(&bench, Some(half)).unwrap().0.len(), ids.len());
    assert_eq!(list(&bench, Some(start)), None);
}

#[test]
fn commits_of_an_earlier_version_end_the_history() {
    let mut bench = QueueBench::new();
    sync(&mut bench, 0..3);
    let cursor = now(&bench);
    // As a commit of a version that does not know the list: only the counters are written.
    change_file(&mut bench, |transaction| {
        let mut table = transaction.open_table(META).unwrap();
        let row = table.get(meta::CHANGES_KEY).unwrap().unwrap().value().to_vec();
        let mut stale = row.clone();
        *stale.last_mut().unwrap() -= 1;
        table.insert(meta::CHANGES_KEY, stale.as_slice()).unwrap();
    });
    assert_eq!(list(&bench, Some(cursor)), None);
    sync(&mut bench, 3..5);
    assert_eq!(list(&bench, Some(cursor)), None, "it is another history");
    let cursor = now(&bench);
    sync(&mut bench, 5..6);
    assert_eq!(list(&bench, Some(cursor)).unwrap().0, [id(5)]);
    // The changes of the history before go first.
    sync(&mut bench, 6..6 + u128::from(CHANGES_MAX) - 4);
    let ids = list(&bench, Some(cursor)).unwrap().0;
    assert_eq!(ids.len(), usize::try_from(CHANGES_MAX).unwrap() - 3);
}

#[test]
fn a_store_without_the_table_is_read_and_written() {
    let mut bench = QueueBench::new();
    sync(&mut bench, 0..3);
    let cursor = now(&bench);
    change_file(&mut bench, |transaction| {
        assert!(transaction.delete_table(CHANGES).unwrap());
        transaction.open_table(META).unwrap().remove(meta::CHANGES_KEY).unwrap();
    });
    assert!(bench.queue().take_snapshot().unwrap().changes.is_none(), "nothing was written");
    assert_eq!(list(&bench, Some(cursor)), None);
    assert_eq!(list(&bench, None).unwrap().0, []);
    sync(&mut bench, 3..4);
    let cursor = now(&bench);
    sync(&mut bench, 4..5);
    bench.reopen_queue();
    assert_eq!(list(&bench, Some(cursor)).unwrap().0, [id(4)]);
}
