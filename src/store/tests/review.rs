//! Records that a person quarantines: the effect on their batch and their key.

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, discard, id, ids, record, test_error};
use crate::model::{BatchPhase, RecordId, RecordState};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{
    AddRefused, AddToReview, AddToReviewSummary, REVIEW_STEP_RECORDS, Review, ReviewAction, ReviewSelection,
    SettleSummary,
};

fn add_to_review(bench: &mut QueueBench, numbers: &[u128]) -> AddToReviewSummary {
    let done = bench.run(AddToReview { ids: numbers.iter().map(|number| id(*number)).collect() });
    audit(bench.queue_mut());
    done
}

fn added_ids(done: &AddToReviewSummary) -> Vec<RecordId> {
    done.added.iter().map(|record| record.id).collect()
}

fn wait_again(phase: BatchPhase, failed: bool) -> Disposition {
    Disposition::Keep { phase, lone_failures: 0, error: failed.then(|| test_error("no bodies like this")) }
}

#[test]
fn a_waiting_record_is_quarantined_with_the_message_of_its_last_failure() {
    let mut bench = QueueBench::new();
    bench.append((1..=2).map(|number| record(number, None)).collect());
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Retry(test_error("no bodies like this")));
    let settled = bench.queue_mut().read_backlog().unwrap().settled_total;
    assert_eq!(added_ids(&add_to_review(&mut bench, &[1, 2])), [id(1), id(2)]);
    for (number, words, status) in [
        (1, "marked for review by a person; its last failure was test: no bodies like this", Some(504)),
        (2, "marked for review by a person", None),
    ] {
        let entry = bench.find_entry(id(number)).unwrap();
        assert_eq!((entry.state, entry.next_attempt_at), (RecordState::Quarantined, None));
        let error = entry.last_error.unwrap();
        assert_eq!((error.class.as_str(), error.code.as_deref()), ("by_hand", Some("ADDED_BY_HAND")));
        assert_eq!((error.message.as_str(), error.http_status), (words, status));
    }
    let backlog = bench.queue_mut().read_backlog().unwrap();
    assert_eq!((backlog.to_go(), backlog.quarantined, backlog.settled_total), (0, 2, settled + 2));
    bench.now += HOUR_MS;
    assert!(bench.claim(5).is_none(), "what is under review is not sent");

    // After another send without a change, the message does not grow.
    bench.run(Review {
        selected: ReviewSelection::These(vec![id(1)]),
        action: ReviewAction::Retry,
        submitter: None,
    });
    let before = bench.find_entry(id(1)).unwrap().last_error.unwrap().message;
    add_to_review(&mut bench, &[1]);
    assert_eq!(bench.find_entry(id(1)).unwrap().last_error.unwrap().message, before);
}

#[test]
fn a_batch_that_was_sent_is_disbanded_and_its_other_records_are_due_at_once() {
    for failed in [false, true] {
        let mut bench = QueueBench::new();
        bench.append((1..=4).map(|number| record(number, None)).collect());
        let batch = bench.claim(4).unwrap().open.id;
        bench.settle(batch, wait_again(BatchPhase::Waiting, failed));
        assert_eq!(added_ids(&add_to_review(&mut bench, &[2])), [id(2)]);
        assert!(bench.dispatch(batch).is_none(), "the id stands for a set with the record");
        let state = if failed { RecordState::Failed } else { RecordState::Pending };
        assert_eq!(bench.find_entry(id(1)).unwrap().state, state);
        assert_eq!(bench.queue_mut().read_backlog().unwrap().settled_total, 1);
        // A late settlement of the disbanded batch settles nothing.
        let late = bench.close_batch(batch, Outcome::Synced(None));
        assert!(matches!(late, SettleSummary { ref synced, failed: 0, .. } if synced.is_empty()), "{late:?}");
        let again = bench.claim(4).unwrap();
        assert_ne!(again.open.id, batch);
        assert_eq!((ids(&again), again.open.attempt), (vec![1, 3, 4], 1));
    }
}

#[test]
fn a_part_that_was_never_sent_is_sent_without_the_quarantined_record() {
    let mut bench = QueueBench::new();
    bench.append((1..=4).map(|number| record(number, None)).collect());
    let batch = bench.claim(4).unwrap().open.id;
    let cut = Disposition::Cut { cut: isolation::cut_in_half(4), error: Some(test_error("504")) };
    let parts = bench.settle(batch, cut).opened;
    assert_eq!(added_ids(&add_to_review(&mut bench, &[1, 3, 4])), [id(1), id(3), id(4)]);
    assert_eq!(ids(&bench.dispatch(parts[0].id).unwrap()), [2]);
    assert!(bench.dispatch(parts[1].id).is_none(), "nothing is left of it");
    bench.close_batch(parts[0].id, Outcome::Synced(None));
    bench.run(Review {
        selected: ReviewSelection::After(None),
        action: ReviewAction::Retry,
        submitter: None,
    });
    assert_eq!(ids(&bench.claim(5).unwrap()), [1, 3, 4]);
    audit(bench.queue_mut());
}

#[test]
fn a_record_that_the_server_may_have_cannot_be_quarantined() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    let batch = bench.claim(1).unwrap().open.id;
    let refused = |why| AddToReviewSummary {
        examined: 1,
        refused: vec![(id(1), why)],
        ..AddToReviewSummary::default()
    };
    assert_eq!(add_to_review(&mut bench, &[1]), refused(AddRefused::OutcomePending), "it is in flight");
    bench.settle(batch, wait_again(BatchPhase::Unclear, true));
    assert_eq!(
        add_to_review(&mut bench, &[1]),
        refused(AddRefused::OutcomePending),
        "its outcome is unclear"
    );
    assert_eq!(bench.find_entry(id(1)).unwrap().state, RecordState::Failed);
    bench.dispatch(batch).unwrap();
    bench.close_batch(batch, Outcome::Synced(None));
    // The others are quarantined nevertheless, and a quarantined one is not an error.
    for expected in [vec![id(2)], vec![]] {
        let done = add_to_review(&mut bench, &[1, 2, 9]);
        assert_eq!(added_ids(&done), expected);
        assert_eq!(done.refused, [(id(1), AddRefused::Synced), (id(9), AddRefused::Unknown)]);
    }
}

#[test]
fn a_record_put_under_review_blocks_later_ones_of_its_key() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, Some("account"))).collect());
    bench.append(vec![record(4, None)]);
    let batch = bench.claim(4).unwrap().open.id;
    bench.settle(batch, wait_again(BatchPhase::Waiting, true));
    add_to_review(&mut bench, &[2]);
    bench.now += HOUR_MS;
    let free = bench.claim(4).unwrap();
    assert_eq!(ids(&free), [1, 4]);
    bench.close_batch(free.open.id, Outcome::Synced(None));
    assert!(bench.claim(4).is_none());
    assert_eq!(bench.find_entry(id(3)).unwrap().blocked_by, Some(id(2)));
    bench.run(Review { selected: ReviewSelection::These(vec![id(2)]), action: discard(), submitter: None });
    assert_eq!(ids(&bench.claim(4).unwrap()), [3]);
    audit(bench.queue_mut());
}

#[test]
fn a_full_step_leaves_the_remaining_ids_to_the_next() {
    const RECORDS: u128 = REVIEW_STEP_RECORDS as u128 + 2;
    let mut bench = QueueBench::new();
    bench.limits.max_records = u64::MAX;
    bench.append((1..=RECORDS).map(|number| record(number, None)).collect());
    let numbers: Vec<u128> = (1..=RECORDS).collect();
    let all = || AddToReview { ids: numbers.iter().map(|number| id(*number)).collect() };
    let done = bench.run(all());
    assert_eq!((done.examined, done.added.len()), (REVIEW_STEP_RECORDS, REVIEW_STEP_RECORDS));
    // All members of a disbanded batch count.
    bench.run(Review {
        selected: ReviewSelection::After(None),
        action: ReviewAction::Retry,
        submitter: None,
    });
    let batch = bench.claim(REVIEW_STEP_RECORDS).unwrap().open.id;
    bench.settle(batch, wait_again(BatchPhase::Waiting, true));
    let done = bench.run(all());
    assert_eq!((done.examined, done.added.len()), (1, 1));
}
