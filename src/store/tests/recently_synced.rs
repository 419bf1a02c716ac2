//! The records that were synced last.

use super::support::{HOUR_MS, QueueBench, id, record, test_error};
use crate::model::RecordId;
use crate::policy::scheduler::Outcome;

fn settle(bench: &mut QueueBench, numbers: std::ops::Range<u128>, outcome: impl Fn() -> Outcome) {
    let count = usize::try_from(numbers.end - numbers.start).unwrap();
    bench.append(numbers.map(|number| record(number, None)).collect());
    let batch = bench.claim(count).unwrap();
    bench.close_batch(batch.open.id, outcome());
}

fn list(bench: &QueueBench, since: u64, limit: usize) -> (Vec<RecordId>, u64) {
    let found = bench.with_view(|view| view.list_recently_synced(since, limit));
    assert!(!found.is_partial);
    (found.entries.iter().map(|entry| entry.id).collect(), found.count)
}

#[test]
fn the_latest_come_first_and_all_since_a_time_are_counted() {
    let mut bench = QueueBench::new();
    assert_eq!(list(&bench, 0, 10), (Vec::new(), 0));
    settle(&mut bench, 0..2, || Outcome::Synced(None));
    settle(&mut bench, 10..11, || Outcome::Quarantine(test_error("no")));
    bench.now += HOUR_MS;
    settle(&mut bench, 2..5, || Outcome::Synced(None));
    bench.append(vec![record(20, None)]);
    assert_eq!(list(&bench, 0, 10), (vec![id(4), id(3), id(2), id(1), id(0)], 5));
    assert_eq!(list(&bench, 0, 2), (vec![id(4), id(3)], 5));
    let later = bench.now().wall;
    assert_eq!(list(&bench, later, 10), (vec![id(4), id(3), id(2)], 3));
    assert_eq!(list(&bench, later + 1, 10), (Vec::new(), 0));
}
