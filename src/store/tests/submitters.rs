//! Several users on one device: none can harm another.

use std::time::Duration;

use super::audit::audit;
use super::support::{QueueBench, discard, id, ids, record, test_error};
use crate::model::{NewRecord, OTHER_SUBMITTERS, RecordState, SUBMITTERS_MAX, SubmitterCounts};
use crate::policy::scheduler::Outcome;
use crate::store::{
    Append, AppendRefused, KeySpace, LimitReached, MendRefused, ReplacePayload, Review, ReviewAction,
    ReviewSelection,
};

const FIRST_USER: u32 = 1001;
const SECOND_USER: u32 = 1002;

fn append_as(bench: &mut QueueBench, submitter: u32, records: Vec<NewRecord>) -> Result<u64, AppendRefused> {
    bench.run(Append::new(records, submitter)).map(|done| done.accepted)
}

fn counts_of(bench: &mut QueueBench, submitter: u32) -> SubmitterCounts {
    let backlog = bench.queue_mut().read_backlog().unwrap();
    backlog.by_submitter.get(&submitter).copied().unwrap_or_default()
}

fn quarantine_all(bench: &mut QueueBench) {
    let batch = bench.claim(10).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
}

#[test]
fn an_id_of_another_user_is_rejected_whatever_the_content() {
    let mut bench = QueueBench::new();
    let secret = || NewRecord { payload: "{\"pin\":4711}".into(), ..record(1, Some("key")) };
    bench.append_by(FIRST_USER, vec![secret()]);
    let guesses = || {
        let wrong = NewRecord { payload: "{\"pin\":4712}".into(), ..secret() };
        [secret(), wrong, record(1, None)]
    };
    let taken = Err(AppendRefused::Taken { position: 2, id: id(1) });
    for submitter in [SECOND_USER, 0] {
        for guess in guesses() {
            assert_eq!(append_as(&mut bench, submitter, vec![record(9, None), guess]), taken);
        }
    }
    assert_eq!(append_as(&mut bench, FIRST_USER, vec![secret()]), Ok(0), "its own user may repeat it");
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    for guess in guesses() {
        assert_eq!(
            append_as(&mut bench, SECOND_USER, vec![record(9, None), guess]),
            taken,
            "a receipt tells no more"
        );
    }
    assert!(bench.find_entry(id(9)).is_none(), "nothing of a refused request stays");
    audit(bench.queue_mut());
}

#[test]
fn a_quarantined_record_blocks_only_later_ones_of_its_user_and_key() {
    let mut bench = QueueBench::new();
    bench.append_by(FIRST_USER, vec![record(1, Some("key"))]);
    quarantine_all(&mut bench);
    bench.append_by(FIRST_USER, vec![record(2, Some("key"))]);
    bench.append_by(SECOND_USER, vec![record(3, Some("key"))]);
    let backlog = bench.queue_mut().read_backlog().unwrap();
    let blocker = &backlog.blockers[0];
    assert_eq!((backlog.blockers.len(), blocker.submitter, blocker.blocked_count), (1, FIRST_USER, 1));
    assert_eq!(bench.find_entry(id(2)).unwrap().blocked_by, Some(id(1)));
    assert_eq!(bench.find_entry(id(3)).unwrap().blocked_by, None);
    audit(bench.queue_mut());
    assert_eq!(ids(&bench.claim(10).unwrap()), [3]);
    audit(bench.queue_mut());
}

#[test]
fn with_shared_keys_a_record_blocks_later_ones_of_all_users() {
    let mut bench = QueueBench::new();
    bench.key_space = KeySpace::Shared;
    bench.reopen_queue();
    bench.append_by(FIRST_USER, vec![record(1, Some("key"))]);
    quarantine_all(&mut bench);
    bench.append_by(SECOND_USER, vec![record(2, Some("key"))]);
    assert!(bench.claim(10).is_none());
    assert_eq!(bench.find_entry(id(2)).unwrap().blocked_by, Some(id(1)));
    let blockers = bench.queue_mut().read_backlog().unwrap().blockers;
    assert_eq!((blockers[0].submitter, blockers[0].blocked_count), (FIRST_USER, 1));
    audit(bench.queue_mut());
}

#[test]
fn records_blocked_by_another_user_are_sent_once_keys_are_no_longer_shared() {
    let mut bench = QueueBench::new();
    bench.key_space = KeySpace::Shared;
    bench.reopen_queue();
    bench.append_by(FIRST_USER, vec![record(1, Some("key"))]);
    bench.append_by(SECOND_USER, vec![record(2, Some("key")), record(3, Some("key"))]);
    let first = bench.claim(1).unwrap().open.id;
    // The second one fails by itself, and then waits for the first.
    bench.close_batch(first, Outcome::Retry(test_error("later")));
    bench.now += super::support::HOUR_MS;
    let both = bench.claim(2).unwrap().open.id;
    let outcomes = vec![(id(1), Outcome::Quarantine(test_error("no")))];
    let missing = Outcome::Retry(test_error("later"));
    bench.settle(
        both,
        crate::policy::scheduler::Disposition::Close { outcomes, missing, retry_after: Duration::ZERO },
    );
    bench.now += super::support::HOUR_MS;
    assert!(bench.claim(10).is_none());
    let waiting = bench.find_entry(id(2)).unwrap();
    assert_eq!((waiting.state, waiting.next_attempt_at), (RecordState::Failed, None), "it has no due time");
    bench.key_space = KeySpace::PerSubmitter;
    bench.reopen_queue();
    audit(bench.queue_mut());
    assert_eq!(ids(&bench.claim(10).unwrap()), [2, 3]);
    audit(bench.queue_mut());
}

#[test]
fn records_wait_for_other_users_once_keys_are_shared() {
    let mut bench = QueueBench::new();
    bench.append_by(FIRST_USER, vec![record(1, Some("key"))]);
    quarantine_all(&mut bench);
    bench.append_by(SECOND_USER, vec![record(2, Some("key"))]);
    bench.key_space = KeySpace::Shared;
    bench.reopen_queue();
    audit(bench.queue_mut());
    assert!(bench.claim(10).is_none());
    bench.run(Review { selected: ReviewSelection::After(None), action: discard(), submitter: None });
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    audit(bench.queue_mut());
}

#[test]
fn a_review_of_one_users_records_does_not_change_those_of_others() {
    for selected in [|| ReviewSelection::After(None), || ReviewSelection::These((1..=4).map(id).collect())] {
        let mut bench = QueueBench::new();
        bench.append_by(FIRST_USER, vec![record(1, None), record(2, None)]);
        bench.append_by(SECOND_USER, vec![record(3, None), record(4, None)]);
        quarantine_all(&mut bench);
        let review =
            Review { selected: selected(), action: ReviewAction::Retry, submitter: Some(SECOND_USER) };
        assert_eq!(bench.run(review).changed, [id(3), id(4)]);
        let quarantined = |bench: &mut QueueBench, of| counts_of(bench, of).quarantined;
        assert_eq!((quarantined(&mut bench, FIRST_USER), quarantined(&mut bench, SECOND_USER)), (2, 0));
        audit(bench.queue_mut());
    }
}

#[test]
fn a_user_can_fill_only_its_share_while_others_and_the_daemons_user_continue() {
    const DAEMON_USER: u32 = 77;
    let sized = |number: u128| NewRecord { payload: "x".repeat(100).into(), ..record(number, None) };
    for key in ["queue.max_records", "queue.max_bytes", "queue.max_disk_bytes"] {
        let mut bench = QueueBench::new();
        (bench.limits.user_share, bench.limits.own_uid) = (0.75, DAEMON_USER);
        match key {
            "queue.max_records" => bench.limits.max_records = 8,
            "queue.max_bytes" => bench.limits.max_bytes = 800,
            _ => {
                bench.append(vec![sized(1)]);
                bench.limits.max_disk_bytes = 8 * bench.queue_mut().read_backlog().unwrap().disk_bytes;
                let batch = bench.claim(1).unwrap().open.id;
                bench.close_batch(batch, Outcome::Synced(None));
            }
        }
        let reached = |is_share| Err(AppendRefused::Full(LimitReached { key, is_share }));
        assert_eq!(
            append_as(&mut bench, FIRST_USER, (10..17).map(sized).collect()),
            reached(true),
            "all or nothing"
        );
        assert_eq!(append_as(&mut bench, FIRST_USER, (10..16).map(sized).collect()), Ok(6));
        assert_eq!(append_as(&mut bench, FIRST_USER, vec![sized(16)]), reached(true));
        assert_eq!(append_as(&mut bench, FIRST_USER, vec![sized(10)]), Ok(0), "a known record needs no room");
        assert_eq!(append_as(&mut bench, SECOND_USER, vec![sized(20)]), Ok(1));
        assert_eq!(append_as(&mut bench, DAEMON_USER, vec![sized(21)]), Ok(1));
        for submitter in [SECOND_USER, DAEMON_USER, 0] {
            assert_eq!(append_as(&mut bench, submitter, vec![sized(22)]), reached(false));
        }
        audit(bench.queue_mut());
        // What is sent makes room.
        let batch = bench.claim(1).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
        assert_eq!(append_as(&mut bench, FIRST_USER, vec![sized(16)]), Ok(1));
        bench.append(vec![]);
        let batch = bench.claim(100).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
        for submitter in [0, DAEMON_USER] {
            let first = 100 * u128::from(submitter + 1);
            let all: Vec<NewRecord> = (first..first + 8).map(sized).collect();
            assert_eq!(
                append_as(&mut bench, submitter, all),
                Ok(8),
                "root and the daemon may have all of it"
            );
            let batch = bench.claim(100).unwrap().open.id;
            bench.close_batch(batch, Outcome::Synced(None));
        }
        audit(bench.queue_mut());
    }
}

#[test]
fn the_smallest_share_is_one_record() {
    let mut bench = QueueBench::new();
    (bench.limits.user_share, bench.limits.max_records) = (1e-300, 100);
    assert_eq!(append_as(&mut bench, FIRST_USER, vec![record(1, None)]), Err(share_of("queue.max_bytes")));
    bench.limits.user_share = 0.001;
    assert_eq!(append_as(&mut bench, FIRST_USER, vec![record(1, None)]), Ok(1));
    assert_eq!(append_as(&mut bench, FIRST_USER, vec![record(2, None)]), Err(share_of("queue.max_records")));
}

fn share_of(key: &'static str) -> AppendRefused {
    AppendRefused::Full(LimitReached { key, is_share: true })
}

#[test]
fn a_replaced_payload_stays_within_the_share_of_its_user() {
    let mut bench = QueueBench::new();
    (bench.limits.user_share, bench.limits.max_bytes) = (0.5, 1000);
    let sized = |number: u128| NewRecord { payload: "x".repeat(200).into(), ..record(number, None) };
    bench.append_by(FIRST_USER, vec![sized(1), sized(2)]);
    quarantine_all(&mut bench);
    let replace_by = |length: usize| ReplacePayload { id: id(1), payload: "x".repeat(length).into() };
    let full = LimitReached { key: "queue.max_bytes", is_share: true };
    assert_eq!(bench.run(replace_by(301)), Err(MendRefused::Full(full)));
    assert_eq!(bench.run(replace_by(300)), Ok(()));
    assert_eq!(counts_of(&mut bench, FIRST_USER).bytes, 500);
    audit(bench.queue_mut());
}

#[test]
fn counts_of_a_user_follow_its_records_and_disappear_with_the_last() {
    let mut bench = QueueBench::new();
    bench.append_by(FIRST_USER, vec![record(1, None), record(2, None)]);
    bench.append_by(SECOND_USER, vec![record(3, None)]);
    let batch = bench.claim(2).unwrap().open.id;
    let one = counts_of(&mut bench, FIRST_USER);
    assert_eq!((one.pending, one.syncing, one.bytes), (0, 2, 14));
    assert!(one.disk_bytes > one.bytes);
    assert_eq!(counts_of(&mut bench, SECOND_USER).pending, 1);
    bench.crash_process();
    assert_eq!(counts_of(&mut bench, FIRST_USER).syncing, 2, "after a restart, too");
    let outcomes = vec![(id(1), Outcome::Synced(None))];
    let missing = Outcome::Retry(test_error("later"));
    bench.settle(
        batch,
        crate::policy::scheduler::Disposition::Close { outcomes, missing, retry_after: Duration::ZERO },
    );
    let one = counts_of(&mut bench, FIRST_USER);
    assert_eq!((one.synced, one.failed, one.syncing, one.bytes), (1, 1, 0, 7));
    bench.now += 2 * super::support::HOUR_MS;
    while let Some(batch) = bench.claim(10) {
        bench.close_batch(batch.open.id, Outcome::Synced(None));
    }
    bench.now += 2 * super::support::HOUR_MS;
    while bench.run_idle_maintenance() {}
    assert!(bench.queue_mut().read_backlog().unwrap().by_submitter.is_empty());
    audit(bench.queue_mut());
}

#[test]
fn users_beyond_the_counted_ones_share_one_entry() {
    let most = u32::try_from(SUBMITTERS_MAX).unwrap();
    let mut bench = QueueBench::new();
    for submitter in 1..=most + 3 {
        bench.append_by(submitter, vec![record(submitter.into(), Some("key"))]);
    }
    assert_eq!(bench.queue_mut().read_backlog().unwrap().by_submitter.len(), SUBMITTERS_MAX + 1);
    assert_eq!(counts_of(&mut bench, OTHER_SUBMITTERS).pending, 3);
    audit(bench.queue_mut());
    bench.reopen_queue();
    // A user without an entry may share the common one: nobody gets a new entry until that is empty.
    let discard = |bench: &mut QueueBench, numbers: &[u128]| {
        let selected: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        bench.run(crate::store::AddToReview { ids: selected.clone() });
        let selected = ReviewSelection::These(selected);
        bench.run(Review { selected, action: discard(), submitter: None });
        audit(bench.queue_mut());
    };
    discard(&mut bench, &[1]);
    bench.append_by(most + 1, vec![record(1000, None)]);
    assert_eq!(counts_of(&mut bench, OTHER_SUBMITTERS).pending, 4);
    let others: Vec<u128> = (1..=3).map(|n| u128::from(most) + n).chain([1000]).collect();
    discard(&mut bench, &others);
    assert_eq!(counts_of(&mut bench, OTHER_SUBMITTERS), SubmitterCounts::default());
    bench.append_by(most + 1, vec![record(1001, None)]);
    assert_eq!(counts_of(&mut bench, most + 1).pending, 1);
    audit(bench.queue_mut());
}

/// A server that keeps the order of a key knows no users: it would hold one user's record behind another's.
#[test]
fn records_of_two_users_with_one_key_are_never_in_one_batch() {
    let mut bench = QueueBench::new();
    bench.append_by(FIRST_USER, vec![record(0, Some("key")), record(1, Some("key"))]);
    bench.append_by(SECOND_USER, vec![record(2, Some("key")), record(3, Some("key")), record(4, None)]);
    let first = bench.claim(10).unwrap();
    assert_eq!(ids(&first), [0, 1, 4]);
    bench.close_batch(first.open.id, Outcome::Retry(test_error("stopped")));
    let second = bench.claim(10).unwrap();
    assert_eq!(ids(&second), [2, 3], "the second user does not wait for the first");
    bench.close_batch(second.open.id, Outcome::Retry(test_error("stopped")));
    audit(bench.queue_mut());
    bench.now += super::support::HOUR_MS;
    let due = bench.claim(10).unwrap();
    assert_eq!(ids(&due), [0, 1, 4]);
    let others = bench.claim(10).unwrap();
    assert_eq!(ids(&others), [2, 3]);
    audit(bench.queue_mut());
}

#[test]
fn an_urgent_record_behind_another_users_key_takes_its_predecessors_along() {
    let mut bench = QueueBench::new();
    bench.append_by(FIRST_USER, vec![NewRecord { priority: 9, ..record(0, Some("key")) }]);
    let mut records: Vec<NewRecord> = (1..6).map(|number| record(number, Some("key"))).collect();
    records[3].priority = 9;
    bench.append_by(SECOND_USER, records);
    bench.append_by(SECOND_USER, vec![record(6, None)]);
    assert_eq!(ids(&bench.claim(10).unwrap()), [0, 6]);
    assert_eq!(ids(&bench.claim(4).unwrap()), [1, 2, 3, 4]);
    audit(bench.queue_mut());
}
