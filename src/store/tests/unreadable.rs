//! Single values that do not read: whoever can be named is set aside, and nobody else waits for it.

use redb::Database;

use super::audit::audit;
use super::support::{Bench, id, ids, record};
use crate::model::{BatchPhase, RecordState};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::codec;
use crate::store::schema::{Header, Snapshot, Tables};
use crate::store::{Mend, Review, ReviewAction, Selected};

/// Flips a bit of the `nth` payload, so many bytes from its end, while the store is closed.
fn flip(bench: &mut Bench, nth: usize, from_end: usize) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let snapshot = Snapshot::of(&database).unwrap();
    let (place, sealed) = snapshot.payload.range::<u64>(..).unwrap().nth(nth).unwrap().unwrap();
    let (place, mut sealed) = (place.value(), sealed.value().to_vec());
    let at = sealed.len() - from_end;
    sealed[at] ^= 4;
    let transaction = database.begin_write().unwrap();
    Tables::open(&transaction).unwrap().payload.insert(place, sealed.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    bench.start().unwrap();
}

fn suspected(bench: &Bench) -> bool {
    bench.dir.path().join("queue.redb.suspect").exists()
}

const IN_BODY: usize = 6;
const IN_HEADER: usize = 40;

#[test]
fn a_record_whose_body_is_damaged_is_set_aside_and_the_others_go() {
    let mut bench = Bench::new();
    bench.append((1..=4).map(|number| record(number, None)).collect());
    flip(&mut bench, 1, IN_BODY);
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3, 4]);
    let entry = bench.entry(id(2)).unwrap();
    assert_eq!((entry.state, entry.attempts), (RecordState::Quarantined, 0));
    assert_eq!(entry.last_error.unwrap().class, "damaged");
    assert!(suspected(&bench), "the next start looks at everything");
    bench.run(Mend { id: id(2), payload: "{}".into() }).unwrap();
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    audit(bench.queue_mut());
}

#[test]
fn later_records_of_its_key_wait_for_a_damaged_one() {
    let mut bench = Bench::new();
    bench.append(vec![record(1, Some("key")), record(2, Some("key")), record(3, None)]);
    flip(&mut bench, 0, IN_BODY);
    assert_eq!(ids(&bench.claim(10).unwrap()), [3]);
    assert_eq!(bench.entry(id(2)).unwrap().held_by, Some(id(1)));
    bench.run(Review { selected: Selected::After(None), action: ReviewAction::Discard, submitter: None });
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    audit(bench.queue_mut());
}

#[test]
fn a_batch_that_cannot_be_sent_again_gives_its_other_records_back() {
    let mut bench = Bench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    let sent = bench.claim(10).unwrap();
    flip(&mut bench, 1, IN_BODY);
    assert!(bench.dispatch(sent.open.id).is_none(), "the id stands for a set that is no more");
    let others = bench.claim(10).unwrap();
    assert_eq!(ids(&others), [1, 3]);
    assert_ne!(others.open.id, sent.open.id);
    bench.close(others.open.id, Outcome::Synced);
    assert_eq!(bench.queue_mut().backlog().unwrap().quarantined, 1);
}

#[test]
fn a_damaged_record_of_a_batch_that_failed_is_set_aside_with_its_attempts() {
    let mut bench = Bench::new();
    bench.append((1..=2).map(|number| record(number, None)).collect());
    let sent = bench.claim(10).unwrap().open.id;
    let error = Some(super::support::error("504"));
    bench.settle(sent, Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error });
    flip(&mut bench, 0, IN_BODY);
    assert!(bench.dispatch(sent).is_none());
    assert_eq!(ids(&bench.claim(10).unwrap()), [2]);
    let entry = bench.entry(id(1)).unwrap();
    assert_eq!((entry.state, entry.attempts), (RecordState::Quarantined, 1));
    bench.run(Review { selected: Selected::After(None), action: ReviewAction::Discard, submitter: None });
    audit(bench.queue_mut());
}

#[test]
fn a_record_that_cannot_even_be_named_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    flip(&mut bench, 1, IN_HEADER);
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3]);
    assert!(bench.claim(10).is_none());
    assert!(suspected(&bench));
    assert!(!bench.queue_mut().backlog().unwrap().claimable);
}

#[test]
fn a_record_that_cannot_even_be_named_holds_back_no_later_one_of_its_key() {
    let mut bench = Bench::new();
    bench.append((1..=4).map(|number| record(number, Some("key"))).collect());
    let first = bench.claim(1).unwrap().open.id;
    assert!(bench.claim(10).is_none(), "the others wait for the first");
    flip(&mut bench, 1, IN_HEADER);
    assert!(bench.claim(10).is_none());
    bench.close(first, Outcome::Synced);
    assert_eq!(ids(&bench.claim(10).unwrap()), [3, 4]);
    assert!(suspected(&bench), "the next start looks at everything");
}

#[test]
fn a_record_under_review_that_cannot_be_named_still_holds_back_later_ones_of_its_key() {
    let mut bench = Bench::new();
    bench.append((1..=2).map(|number| record(number, Some("key"))).collect());
    let first = bench.claim(1).unwrap().open.id;
    bench.close(first, Outcome::Quarantine(super::support::error("no")));
    flip(&mut bench, 0, IN_HEADER);
    assert!(bench.claim(10).is_none());
    bench.run(Mend { id: id(1), payload: "{}".into() }).unwrap();
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 2]);
    audit(bench.queue_mut());
}

/// Takes the payload of the `nth` record away, or its manifest entry too, while the store is closed.
fn lose(bench: &mut Bench, nth: usize, entry: bool) {
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let header = {
        let snapshot = Snapshot::of(&database).unwrap();
        let (_, sealed) = snapshot.payload.range::<u64>(..).unwrap().nth(nth).unwrap().unwrap();
        codec::unseal::<Header>(sealed.value()).unwrap().header
    };
    let transaction = database.begin_write().unwrap();
    {
        let mut tables = Tables::open(&transaction).unwrap();
        if entry {
            tables.manifest.remove(header.id).unwrap();
        } else {
            tables.payload.remove(header.place).unwrap();
        }
    }
    transaction.commit().unwrap();
    drop(database);
    bench.start().unwrap();
}

#[test]
fn a_batch_that_names_a_missing_record_gives_its_other_records_back() {
    let mut bench = Bench::new();
    bench.append((1..=4).map(|number| record(number, Some("key"))).collect());
    let sent = bench.claim(3).unwrap().open.id;
    lose(&mut bench, 1, false);
    assert!(bench.dispatch(sent).is_none(), "the id stands for a set that is no more");
    assert!(suspected(&bench), "the next start looks at everything");
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 3, 4]);
    assert!(bench.entry(id(2)).is_none());
    audit(bench.queue_mut());
}

#[test]
fn a_batch_that_names_a_missing_record_is_settled_for_the_others() {
    for disposition in [
        Disposition::Close { outcomes: Vec::new(), missing: Outcome::Retry(super::support::error("later")) },
        Disposition::Keep {
            phase: BatchPhase::Waiting,
            lone_failures: 0,
            error: Some(super::support::error("504")),
        },
        Disposition::Cut { cut: isolation::halves(3), error: Some(super::support::error("504")) },
    ] {
        let mut bench = Bench::new();
        bench.append((1..=3).map(|number| record(number, None)).collect());
        let sent = bench.claim(3).unwrap().open.id;
        lose(&mut bench, 1, false);
        bench.settle(sent, disposition);
        assert_eq!(bench.attempts(id(1)), 1);
        assert!(bench.entry(id(2)).is_none());
        audit(bench.queue_mut());
    }
}

#[test]
fn a_missing_manifest_entry_of_a_batchs_record_is_made_again() {
    let mut bench = Bench::new();
    bench.append((1..=2).map(|number| record(number, None)).collect());
    let sent = bench.claim(2).unwrap().open.id;
    lose(&mut bench, 0, true);
    bench.close(sent, Outcome::Retry(super::support::error("later")));
    assert_eq!(bench.attempts(id(1)), 1);
    audit(bench.queue_mut());
}
