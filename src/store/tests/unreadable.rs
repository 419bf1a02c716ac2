//! Single values that cannot be decoded: records that can be identified are quarantined, and no other waits for them.

use redb::Database;

use super::audit::audit;
use super::support::{QueueBench, discard, id, ids, record};
use crate::model::{BatchPhase, RecordState};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::codec;
use crate::store::schema::{RecordHeader, Snapshot, Tables};
use crate::store::{ReplacePayload, Review, ReviewSelection};

/// Flips a bit of the `nth` payload, at this distance from its end, while the store is closed.
fn flip_bit(bench: &mut QueueBench, nth: usize, from_end: usize) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let snapshot = Snapshot::read_latest(&database).unwrap();
    let (position, sealed) = snapshot.payload.range::<u64>(..).unwrap().nth(nth).unwrap().unwrap();
    let (position, mut sealed) = (position.value(), sealed.value().to_vec());
    let at = sealed.len() - from_end;
    sealed[at] ^= 4;
    let transaction = database.begin_write().unwrap();
    Tables::open_all(&transaction).unwrap().payload.insert(position, sealed.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    bench.open_queue().unwrap();
}

fn is_suspected(bench: &QueueBench) -> bool {
    bench.dir.path().join("queue.redb.suspect").exists()
}

const BODY_FROM_END: usize = 6;
const HEADER_FROM_END: usize = 40;

#[test]
fn a_record_with_a_damaged_body_is_quarantined_and_the_others_are_sent() {
    let mut bench = QueueBench::new();
    bench.append((1..=4).map(|number| record(number, None)).collect());
    flip_bit(&mut bench, 1, BODY_FROM_END);
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3, 4]);
    let entry = bench.find_entry(id(2)).unwrap();
    assert_eq!((entry.state, entry.attempts), (RecordState::Quarantined, 0));
    assert_eq!(entry.last_error.unwrap().class, "damaged");
    assert!(is_suspected(&bench), "the next start checks the store");
    bench.run(ReplacePayload { id: id(2), payload: "{}".into() }).unwrap();
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    audit(bench.queue_mut());
}

#[test]
fn later_records_of_its_key_wait_for_a_damaged_one() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, Some("key")), record(2, Some("key")), record(3, None)]);
    flip_bit(&mut bench, 0, BODY_FROM_END);
    assert_eq!(ids(&bench.claim(10).unwrap()), [3]);
    assert_eq!(bench.find_entry(id(2)).unwrap().blocked_by, Some(id(1)));
    bench.run(Review { selected: ReviewSelection::After(None), action: discard(), submitter: None });
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    audit(bench.queue_mut());
}

#[test]
fn a_batch_that_cannot_be_sent_again_returns_its_other_records_to_the_queue() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    let sent = bench.claim(10).unwrap();
    flip_bit(&mut bench, 1, BODY_FROM_END);
    assert!(bench.dispatch(sent.open.id).is_none(), "the id stands for a set that no longer exists");
    let others = bench.claim(10).unwrap();
    assert_eq!(ids(&others), [1, 3]);
    assert_ne!(others.open.id, sent.open.id);
    bench.close_batch(others.open.id, Outcome::Synced(None));
    assert_eq!(bench.queue_mut().read_backlog().unwrap().quarantined, 1);
}

#[test]
fn a_damaged_record_of_a_failed_batch_is_quarantined_with_its_attempts() {
    let mut bench = QueueBench::new();
    bench.append((1..=2).map(|number| record(number, None)).collect());
    let sent = bench.claim(10).unwrap().open.id;
    let error = Some(super::support::test_error("504"));
    bench.settle(sent, Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error });
    flip_bit(&mut bench, 0, BODY_FROM_END);
    assert!(bench.dispatch(sent).is_none());
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    let entry = bench.find_entry(id(1)).unwrap();
    assert_eq!((entry.state, entry.attempts), (RecordState::Quarantined, 1));
    bench.run(Review { selected: ReviewSelection::After(None), action: discard(), submitter: None });
    audit(bench.queue_mut());
}

#[test]
fn an_unidentifiable_record_delays_no_other() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    flip_bit(&mut bench, 1, HEADER_FROM_END);
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3]);
    assert!(bench.claim(10).is_none());
    assert!(is_suspected(&bench));
    assert!(!bench.queue_mut().read_backlog().unwrap().claimable);
}

#[test]
fn an_unidentifiable_record_does_not_block_later_ones_of_its_key() {
    let mut bench = QueueBench::new();
    bench.append((1..=4).map(|number| record(number, Some("key"))).collect());
    let first = bench.claim(1).unwrap().open.id;
    assert!(bench.claim(10).is_none(), "the others wait for the first");
    flip_bit(&mut bench, 1, HEADER_FROM_END);
    assert!(bench.claim(10).is_none());
    bench.close_batch(first, Outcome::Synced(None));
    assert_eq!(ids(&bench.claim(10).unwrap()), [3, 4]);
    assert!(is_suspected(&bench), "the next start checks the store");
}

#[test]
fn an_unidentifiable_quarantined_record_still_blocks_later_ones_of_its_key() {
    let mut bench = QueueBench::new();
    bench.append((1..=2).map(|number| record(number, Some("key"))).collect());
    let first = bench.claim(1).unwrap().open.id;
    bench.close_batch(first, Outcome::Quarantine(super::support::test_error("no")));
    flip_bit(&mut bench, 0, HEADER_FROM_END);
    assert!(bench.claim(10).is_none());
    bench.run(ReplacePayload { id: id(1), payload: "{}".into() }).unwrap();
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 2]);
    audit(bench.queue_mut());
}

/// Removes the payload or the manifest row of the `nth` record while the store is closed.
fn remove_row(bench: &mut QueueBench, nth: usize, entry: bool) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let header = {
        let snapshot = Snapshot::read_latest(&database).unwrap();
        let (_, sealed) = snapshot.payload.range::<u64>(..).unwrap().nth(nth).unwrap().unwrap();
        codec::unseal_row::<RecordHeader>(sealed.value()).unwrap().header
    };
    let transaction = database.begin_write().unwrap();
    {
        let mut tables = Tables::open_all(&transaction).unwrap();
        if entry {
            tables.manifest.remove(header.id).unwrap();
        } else {
            tables.payload.remove(header.position).unwrap();
        }
    }
    transaction.commit().unwrap();
    drop(database);
    bench.open_queue().unwrap();
}

#[test]
fn a_batch_with_a_missing_record_returns_its_other_records_to_the_queue() {
    let mut bench = QueueBench::new();
    bench.append((1..=4).map(|number| record(number, Some("key"))).collect());
    let sent = bench.claim(3).unwrap().open.id;
    remove_row(&mut bench, 1, false);
    assert!(bench.dispatch(sent).is_none(), "the id stands for a set that no longer exists");
    assert!(is_suspected(&bench), "the next start checks the store");
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3, 4]);
    assert!(bench.find_entry(id(2)).is_none());
    audit(bench.queue_mut());
}

#[test]
fn a_batch_with_a_missing_record_is_settled_for_the_others() {
    for disposition in [
        Disposition::close_all(Outcome::Retry(super::support::test_error("later"))),
        Disposition::Keep {
            phase: BatchPhase::Waiting,
            lone_failures: 0,
            error: Some(super::support::test_error("504")),
        },
        Disposition::Cut { cut: isolation::cut_in_half(3), error: Some(super::support::test_error("504")) },
    ] {
        let mut bench = QueueBench::new();
        bench.append((1..=3).map(|number| record(number, None)).collect());
        let sent = bench.claim(3).unwrap().open.id;
        remove_row(&mut bench, 1, false);
        bench.settle(sent, disposition);
        assert_eq!(bench.attempts_of(id(1)), 1);
        assert!(bench.find_entry(id(2)).is_none());
        audit(bench.queue_mut());
    }
}

#[test]
fn a_missing_manifest_entry_of_a_member_is_rebuilt() {
    let mut bench = QueueBench::new();
    bench.append((1..=2).map(|number| record(number, None)).collect());
    let sent = bench.claim(2).unwrap().open.id;
    remove_row(&mut bench, 0, true);
    bench.close_batch(sent, Outcome::Retry(super::support::test_error("later")));
    assert_eq!(bench.attempts_of(id(1)), 1);
    audit(bench.queue_mut());
}
