//! Records of one key are sent in order, whatever happens to earlier ones.

use std::time::Duration;

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, discard, id, ids, record, test_error};
use crate::model::{BatchPhase, NewRecord};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{Review, ReviewAction, ReviewSelection};

fn append_keyed(bench: &mut QueueBench, numbers: std::ops::RangeInclusive<u128>) {
    bench.append(numbers.map(|number| record(number, Some("account"))).collect());
}

#[test]
fn a_record_retried_after_review_is_sent_before_later_ones_of_its_key() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=2);
    let batch = bench.claim(2).unwrap().open.id;
    let outcomes = vec![(id(1), Outcome::Quarantine(test_error("no")))];
    let missing = Outcome::Retry(test_error("later"));
    bench.settle(batch, Disposition::Close { outcomes, missing, retry_after: Duration::ZERO });
    bench.now += HOUR_MS;
    assert!(bench.claim(1).is_none(), "the second waits for the first, which is under review");
    bench.run(Review {
        selected: ReviewSelection::These(vec![id(1)]),
        action: ReviewAction::Retry,
        submitter: None,
    });
    let first = bench.claim(1).unwrap();
    assert_eq!(ids(&first), [1]);
    assert!(bench.claim(1).is_none());
    bench.close_batch(first.open.id, Outcome::Synced(None));
    assert_eq!(ids(&bench.claim(1).unwrap()), [2]);
}

#[test]
fn a_discarded_record_unblocks_later_ones_of_its_key() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=3);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    assert!(bench.claim(5).is_none());
    assert!(
        !bench.queue_mut().read_backlog().unwrap().claimable,
        "a claim that found nothing is not repeated"
    );
    bench.run(Review { selected: ReviewSelection::After(None), action: discard(), submitter: None });
    assert!(bench.queue_mut().read_backlog().unwrap().claimable);
    assert_eq!(ids(&bench.claim(5).unwrap()), [2, 3]);
}

#[test]
fn a_blocked_part_returns_its_records_to_the_queue_before_it_is_sent() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=4);
    let batch = bench.claim(4).unwrap().open.id;
    let cut = isolation::cut_in_half(4);
    let parts = bench.settle(batch, Disposition::Cut { cut, error: Some(test_error("504")) }).opened;
    assert!(bench.dispatch(parts[1].id).is_none(), "the first half is open");
    audit(bench.queue_mut());
    let first = bench.dispatch(parts[0].id).unwrap();
    bench.close_batch(first.open.id, Outcome::Synced(None));
    bench.now += HOUR_MS;
    assert_eq!(ids(&bench.claim(1).unwrap()), [3]);
    audit(bench.queue_mut());
}

#[test]
fn an_urgent_record_waits_for_records_of_its_key_that_were_sent() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=2);
    let sent = bench.claim(2).unwrap();
    let phase = BatchPhase::Waiting;
    bench.settle(sent.open.id, Disposition::Keep { phase, lone_failures: 0, error: None });
    bench.append(vec![urgent_record(3)]);
    assert!(bench.claim(5).is_none());
    let again = bench.dispatch(sent.open.id).unwrap();
    assert_eq!(ids(&again), [1, 2], "the id stands for this set");
    assert_eq!((again.open.attempt, again.sequence), (2, sent.sequence));
    bench.close_batch(sent.open.id, Outcome::Synced(None));
    assert_eq!(ids(&bench.claim(5).unwrap()), [3]);
    audit(bench.queue_mut());
}

fn urgent_record(number: u128) -> NewRecord {
    NewRecord { priority: 9, ..record(number, Some("account")) }
}

#[test]
fn an_urgent_record_is_sent_together_with_earlier_records_of_its_key() {
    let mut bench = QueueBench::new();
    bench.append((10..=30).map(|number| record(number, None)).collect());
    append_keyed(&mut bench, 1..=2);
    bench.append(vec![urgent_record(3)]);
    let claimed = ids(&bench.claim(4).unwrap());
    let lane: Vec<u128> = claimed.iter().copied().filter(|number| *number < 10).collect();
    assert_eq!((lane, claimed.len()), (vec![1, 2, 3], 4));
    audit(bench.queue_mut());
}

#[test]
fn an_urgent_record_does_not_overtake_a_failed_one_of_its_key() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=1);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    bench.append(vec![urgent_record(2), record(3, None)]);
    assert_eq!(ids(&bench.claim(5).unwrap()), [3]);
    let entry = bench.find_entry(id(2)).unwrap();
    assert_eq!((entry.blocked_by, bench.find_entry(id(1)).unwrap().blocked_count), (Some(id(1)), 1));
    let blockers = bench.queue_mut().read_backlog().unwrap().blockers;
    assert_eq!((blockers[0].id, blockers[0].blocked_count, blockers.len()), (id(1), 1, 1));
    bench.now += HOUR_MS;
    assert_eq!(ids(&bench.claim(5).unwrap()), [1, 2]);
    audit(bench.queue_mut());
}

#[test]
fn failed_records_that_are_due_are_sent_by_priority() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    bench.append(vec![NewRecord { priority: 9, ..record(2, None) }, record(3, None)]);
    bench.now += HOUR_MS;
    assert_eq!(ids(&bench.claim(5).unwrap()), [2, 1, 3]);
}

#[test]
fn records_are_sent_by_priority_then_by_arrival() {
    let mut bench = QueueBench::new();
    for (number, priority) in [(1, 0), (2, 5), (3, 9), (4, 5), (5, 9)] {
        let mut new = record(number, None);
        new.priority = priority;
        bench.append(vec![new]);
    }
    assert_eq!(ids(&bench.claim(3).unwrap()), [3, 5, 2]);
    assert_eq!(ids(&bench.claim(3).unwrap()), [4, 1]);
    bench.append(vec![record(6, None)]);
    assert_eq!(ids(&bench.claim(3).unwrap()), [6], "one that comes later is not passed over");
}

#[test]
fn an_attempt_counts_once_per_send() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let batch = bench.claim(1).unwrap().open.id;
    let keep = |phase, error| Disposition::Keep { phase, lone_failures: 0, error };
    bench.settle(batch, keep(BatchPhase::Unclear, Some(test_error("504"))));
    bench.settle(batch, keep(BatchPhase::Waiting, Some(test_error("unknown"))));
    assert_eq!(bench.attempts_of(id(1)), 1);
    bench.dispatch(batch).unwrap();
    bench.settle(batch, keep(BatchPhase::Waiting, None));
    assert_eq!(bench.attempts_of(id(1)), 1, "a throttled send is no attempt");
    bench.dispatch(batch).unwrap();
    bench.close_batch(batch, Outcome::Synced(None));
    assert_eq!(bench.attempts_of(id(1)), 2);
}

#[test]
fn records_blocked_by_a_failed_one_are_sent_with_it_before_later_ones_of_their_key() {
    let mut bench = QueueBench::new();
    append_keyed(&mut bench, 1..=2);
    let batch = bench.claim(1).unwrap().open.id;
    assert!(bench.claim(1).is_none(), "the second is blocked, and passed over");
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    append_keyed(&mut bench, 3..=3);
    bench.now += HOUR_MS;
    assert_eq!(ids(&bench.claim(2).unwrap()), [1, 2], "not the third before the second");
    audit(bench.queue_mut());
}
