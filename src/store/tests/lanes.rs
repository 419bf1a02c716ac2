//! The cost of many records of one key: each is examined once, whatever is done with them.

use std::time::Duration;

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, id, ids, record, test_error};
use crate::model::{NewRecord, QueuePosition, RecordId, RecordState};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::lane_view::LANE_STEPS;
use crate::store::{Filter, Review, ReviewAction, ReviewSelection};

fn bench() -> QueueBench {
    let mut bench = QueueBench::new();
    bench.limits.max_records = 100_000;
    bench.limits.max_bytes = 1 << 30;
    bench
}

fn append_keyed(bench: &mut QueueBench, numbers: std::ops::Range<u128>, priority: u8) {
    let keyed = |number| NewRecord { priority, ..record(number, Some("account")) };
    bench.append(numbers.map(keyed).collect());
}

/// Counts the records of lanes that `work` examines.
fn count_steps<T>(work: impl FnOnce() -> T) -> (usize, T) {
    LANE_STEPS.set(0);
    let done = work();
    (LANE_STEPS.get(), done)
}

/// Quarantines the first record of a key.
fn quarantine_first(bench: &mut QueueBench, number: u128, key: &str) {
    bench.append(vec![record(number, Some(key))]);
    let batch = bench.claim(1).unwrap();
    assert_eq!(ids(&batch), [number]);
    bench.close_batch(batch.open.id, Outcome::Quarantine(test_error("no")));
}

#[test]
fn a_claim_examines_each_record_of_a_key_once() {
    let mut bench = bench();
    append_keyed(&mut bench, 0..3000, 5);
    append_keyed(&mut bench, 3000..3001, 9);
    let (examined, batch) = count_steps(|| bench.claim(4000).unwrap());
    assert_eq!(ids(&batch), (0..3001).collect::<Vec<_>>());
    assert!(examined <= 3001, "{examined}");
}

#[test]
fn records_behind_a_blocked_one_are_not_examined_repeatedly() {
    let mut bench = bench();
    append_keyed(&mut bench, 0..500, 0);
    append_keyed(&mut bench, 500..501, 9);
    let batch = bench.claim(501).unwrap().open.id;
    let outcomes = vec![(id(500), Outcome::Quarantine(test_error("no")))];
    bench.settle(
        batch,
        Disposition::Close {
            outcomes,
            missing: Outcome::Retry(test_error("later")),
            retry_after: Duration::ZERO,
        },
    );
    bench.now += HOUR_MS;
    append_keyed(&mut bench, 501..1001, 9);
    let (examined, batch) = count_steps(|| bench.claim(1000).unwrap());
    assert_eq!(ids(&batch), (0..500).collect::<Vec<_>>());
    assert!(examined <= 2 * 1001, "{examined}");
}

#[test]
fn parts_of_a_batch_examine_each_record_of_a_key_once() {
    let mut bench = bench();
    append_keyed(&mut bench, 0..2000, 5);
    let batch = bench.claim(2000).unwrap().open.id;
    let cut = isolation::cut_in_half(2000);
    let parts = bench.settle(batch, Disposition::Cut { cut, error: None }).opened;
    let (examined, second) = count_steps(|| bench.dispatch(parts[1].id));
    assert!(second.is_none(), "the first half is not sent yet");
    assert!(examined <= 1000, "{examined}");
    let (examined, first) = count_steps(|| bench.dispatch(parts[0].id));
    assert_eq!(first.unwrap().records.len(), 1000);
    assert!(examined <= 1000, "{examined}");
    audit(bench.queue_mut());
}

fn list_everything(bench: &QueueBench, limit: usize) -> (usize, Vec<(RecordId, u64)>) {
    let mut filter = Filter { limit, ..Filter::default() };
    let (mut pages, mut found) = (0, Vec::new());
    loop {
        let page = bench.with_view(|view| view.list_page(&filter));
        pages += 1;
        found.extend(page.entries.iter().map(|entry| (entry.id, entry.blocked_count)));
        filter.after = page.next;
        if filter.after.is_none() {
            return (pages, found);
        }
    }
}

#[test]
fn a_page_costs_the_same_for_blocked_records() {
    let mut bench = bench();
    quarantine_first(&mut bench, 0, "account");
    append_keyed(&mut bench, 1..5001, 5);
    let (examined, page) = count_steps(|| {
        let filter = Filter { after: Some(QueuePosition::new(5, 2000)), limit: 500, ..Filter::default() };
        bench.with_view(|view| view.list_page(&filter))
    });
    assert_eq!(page.entries.len(), 500);
    assert!(page.entries.iter().all(|entry| entry.blocked_by == Some(id(0)) && entry.blocked_count == 0));
    assert!(examined <= 500, "{examined}");
    // A filter that finds few records counts only for these.
    let (examined, page) = count_steps(|| {
        let state = Some(RecordState::Quarantined);
        bench.with_view(|view| view.list_page(&Filter { state, limit: 500, ..Filter::default() }))
    });
    assert_eq!((page.entries.len(), page.entries[0].blocked_count), (1, 1000));
    assert!(examined <= 1000, "{examined}");
}

#[test]
fn a_page_of_many_blocking_records_counts_each_record_once() {
    let mut bench = bench();
    append_keyed(&mut bench, 0..3000, 5);
    let batch = bench.claim(3000).unwrap().open.id;
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    let (examined, (pages, found)) = count_steps(|| list_everything(&bench, 5000));
    let expected: Vec<_> = (0..3000u64).map(|n| (id(n.into()), (2999 - n).min(1000))).collect();
    assert_eq!((pages, found), (2, expected));
    // The second page counts the successors of its first record again.
    assert!(examined <= 4000, "{examined}");
}

#[test]
fn a_page_with_too_many_records_to_count_ends_early_without_omissions() {
    let mut bench = bench();
    for account in 0..25u128 {
        let key = format!("account {account}");
        quarantine_first(&mut bench, account * 1000, &key);
        bench.append((1..1000).map(|number| record(account * 1000 + number, Some(&key))).collect());
    }
    let mut filter = Filter { state: Some(RecordState::Quarantined), limit: 500, ..Filter::default() };
    let mut found = Vec::new();
    loop {
        let (examined, page) = count_steps(|| bench.with_view(|view| view.list_page(&filter)));
        assert!(examined <= 11_000, "{examined}");
        found.extend(page.entries.into_iter().map(|entry| (entry.id, entry.blocked_count)));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..25u128).map(|account| (id(account * 1000), 999)).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_append_behind_many_blocking_records_examines_only_its_own_lane() {
    let mut bench = bench();
    append_keyed(&mut bench, 0..300, 5);
    let batch = bench.claim(300).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    append_keyed(&mut bench, 300..1200, 5);
    assert_eq!(bench.queue_mut().read_backlog().unwrap().blockers.len(), 1);
    let (examined, holds) = count_steps(|| {
        append_keyed(&mut bench, 1200..1250, 5);
        bench.append(vec![record(9000, Some("another")), record(9001, Some("another"))]);
        bench.queue_mut().read_backlog().unwrap().blockers[0].blocked_count
    });
    assert_eq!((examined, holds), (0, 1000));
    audit(bench.queue_mut());
}

#[test]
fn an_append_turns_its_predecessor_into_a_blocking_record() {
    let mut bench = bench();
    quarantine_first(&mut bench, 1, "account");
    assert!(bench.queue_mut().read_backlog().unwrap().blockers.is_empty(), "it blocks no record yet");
    for (number, holds) in [(2, 1), (3, 2)] {
        bench.append(vec![record(number, Some("account"))]);
        let blockers = bench.queue_mut().read_backlog().unwrap().blockers;
        assert_eq!((blockers.len(), blockers[0].id, blockers[0].blocked_count), (1, id(1), holds));
        audit(bench.queue_mut());
    }
}

#[test]
fn retried_records_of_one_batch_are_due_together_and_form_one_batch_again() {
    let mut bench = bench();
    bench.append((0..1500).map(|number| record(number, None)).collect());
    let first = bench.claim(1500).unwrap().open.id;
    for round in 1..=4 {
        let batch = if round == 1 { first } else { bench.claim(2000).unwrap().open.id };
        bench.close_batch(batch, Outcome::Retry(test_error("later")));
        let due = bench.queue_mut().read_backlog().unwrap().next_due_at.unwrap();
        assert!(bench.claim(2000).is_none(), "none of them is due");
        bench.now = due;
        assert_eq!(bench.attempts_of(id(7)), round);
    }
    assert_eq!(bench.claim(2000).unwrap().records.len(), 1500);
    audit(bench.queue_mut());
}

#[test]
fn the_record_with_the_most_attempts_determines_the_wait_of_its_batch() {
    let mut bench = bench();
    bench.append(vec![record(1, None)]);
    for _ in 0..6 {
        let batch = bench.claim(1).unwrap().open.id;
        bench.close_batch(batch, Outcome::Retry(test_error("later")));
        bench.now += HOUR_MS;
    }
    bench.append(vec![record(2, None)]);
    let batch = bench.claim(2).unwrap();
    assert_eq!(ids(&batch), [1, 2]);
    bench.close_batch(batch.open.id, Outcome::Retry(test_error("later")));
    let next = |number| bench.find_entry(id(number)).unwrap().next_attempt_at.unwrap() - bench.now().wall;
    assert_eq!(next(1), next(2));
    // After seven failures about a minute, and at least a tenth of it. After one, at most a second.
    assert!(next(2) >= 6_400, "{}", next(2));
}

/// An urgent record behind others of its key, and many records without a key before them in the queue.
fn append_crowd(bench: &mut QueueBench) {
    append_keyed(bench, 1..4, 5);
    bench.append((1000..1100).map(|number| record(number, None)).collect());
    append_keyed(bench, 4..10, 5);
    append_keyed(bench, 10..11, 9);
}

fn batches_until(bench: &mut QueueBench, wanted: u128) -> usize {
    for batches in 1..100 {
        let batch = bench.claim(20).unwrap();
        bench.close_batch(batch.open.id, Outcome::Synced(None));
        if ids(&batch).contains(&wanted) {
            return batches;
        }
    }
    100
}

#[test]
fn when_a_lane_moves_its_most_urgent_record_is_sent_by_its_own_priority() {
    let mut bench = bench();
    append_crowd(&mut bench);
    let first = bench.claim(2).unwrap();
    assert_eq!(ids(&first), [1, 2], "the urgent one is sent after its predecessors");
    assert!(!ids(&bench.claim(20).unwrap()).contains(&10), "it is blocked now, and passed over");
    bench.close_batch(first.open.id, Outcome::Synced(None));
    assert_eq!(batches_until(&mut bench, 10), 1);
    audit(bench.queue_mut());
}

#[test]
fn when_the_head_of_a_lane_is_due_its_most_urgent_record_is_sent_by_its_own_priority() {
    let mut bench = bench();
    append_crowd(&mut bench);
    bench.append((2000..2100).map(|number| NewRecord { priority: 7, ..record(number, None) }).collect());
    let first = bench.claim(2).unwrap();
    assert_eq!(ids(&first), [1, 2]);
    bench.close_batch(first.open.id, Outcome::Retry(test_error("later")));
    let other = bench.claim(20).unwrap();
    assert!(!ids(&other).contains(&10));
    bench.close_batch(other.open.id, Outcome::Synced(None));
    bench.now += HOUR_MS;
    assert_eq!(batches_until(&mut bench, 10), 1, "it goes before those of priority 7");
    audit(bench.queue_mut());
}

#[test]
fn when_a_record_leaves_review_the_most_urgent_one_behind_it_is_sent_by_its_own_priority() {
    let mut bench = bench();
    quarantine_first(&mut bench, 0, "account");
    append_crowd(&mut bench);
    bench.append((2000..2100).map(|number| NewRecord { priority: 7, ..record(number, None) }).collect());
    assert!(!ids(&bench.claim(20).unwrap()).contains(&10), "it is blocked, and passed over");
    bench.run(Review {
        selected: ReviewSelection::After(None),
        action: ReviewAction::Retry,
        submitter: None,
    });
    let claimed = ids(&bench.claim(20).unwrap());
    assert_eq!(claimed.iter().filter(|number| **number <= 10).count(), 11, "{claimed:?}");
    audit(bench.queue_mut());
}

#[test]
fn an_urgent_record_of_a_blocked_part_is_sent_by_its_own_priority_once_its_lane_moves() {
    let mut bench = bench();
    append_keyed(&mut bench, 1..10, 5);
    append_keyed(&mut bench, 10..11, 9);
    let batch = bench.claim(10).unwrap().open.id;
    let cut = isolation::cut_in_half(10);
    let parts = bench.settle(batch, Disposition::Cut { cut, error: Some(test_error("504")) }).opened;
    bench.append((1000..1100).map(|number| NewRecord { priority: 7, ..record(number, None) }).collect());
    assert!(bench.dispatch(parts[1].id).is_none(), "the first half is not sent yet");
    bench.dispatch(parts[0].id).unwrap();
    bench.close_batch(parts[0].id, Outcome::Synced(None));
    assert_eq!(batches_until(&mut bench, 10), 1, "it goes before those of priority 7");
    audit(bench.queue_mut());
}
