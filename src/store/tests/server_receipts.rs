//! What the server said about records: receipts of SYNCED ones, the faulty field of quarantined ones, and the wait
//! before the others are sent again.

use std::time::Duration;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, id, receipt, record, retry_config, test_error, view_queue};
use crate::clock::millis;
use crate::model::{LastError, RecordState};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::protocol::receipt::{RECEIPT_BYTES_MAX, Receipt};
use crate::store::schema::{META, SERVER_RECEIPTS, meta};
use crate::store::{AddToReview, Review, ReviewAction, ReviewSelection};

fn receipt_of(bench: &QueueBench, number: u128) -> Option<Receipt> {
    let entry = bench.find_entry(id(number))?;
    bench.with_view(|view| view.receipt_of(&entry))
}

/// Appends records and settles each by its own outcome.
fn settle_records(bench: &mut QueueBench, outcomes: impl IntoIterator<Item = (u128, Outcome)>) {
    let outcomes: Vec<_> = outcomes.into_iter().map(|(number, outcome)| (id(number), outcome)).collect();
    let records = outcomes.iter().map(|(id, _)| record(id.0.as_u128(), None));
    bench.append(records.collect());
    let batch = bench.claim(outcomes.len()).unwrap().open.id;
    let missing = Outcome::Retry(test_error("missing"));
    bench.settle(batch, Disposition::Close { outcomes, missing, retry_after: Duration::ZERO });
}

fn server_receipt_bytes(bench: &QueueBench) -> u64 {
    bench.queue().state().counters.server_receipt_bytes
}

#[test]
fn a_receipt_is_kept_as_long_as_its_record() {
    let mut bench = QueueBench::new();
    let outcomes = [(1, receipt(30)), (2, None), (3, receipt(RECEIPT_BYTES_MAX))];
    settle_records(&mut bench, outcomes.clone().map(|(number, receipt)| (number, Outcome::Synced(receipt))));
    let assert_kept = |bench: &mut QueueBench| {
        for (number, receipt) in &outcomes {
            assert_eq!(receipt_of(bench, *number), *receipt, "{number}");
        }
        audit(bench.queue_mut());
    };
    assert_kept(&mut bench);
    bench.reopen_queue();
    assert_kept(&mut bench);
    bench.crash_process();
    assert_kept(&mut bench);
    assert!(server_receipt_bytes(&bench) > RECEIPT_BYTES_MAX as u64);
    bench.now += HOUR_MS + 1;
    bench.run_idle_maintenance();
    assert_eq!(receipt_of(&bench, 1), None);
    assert_eq!(server_receipt_bytes(&bench), 0);
    audit(bench.queue_mut());
    let database_path = bench.close_all();
    let database = Database::open(database_path.path().join("queue.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.open_table(SERVER_RECEIPTS).unwrap().len().unwrap(), 0, "nothing is left behind");
    let meta_table = transaction.open_table(META).unwrap();
    assert!(meta_table.get(meta::SERVER_RECEIPT_BYTES_KEY).unwrap().is_none());
}

#[test]
fn a_store_of_an_earlier_version_without_the_table_is_read_and_written() {
    let mut bench = QueueBench::new();
    settle_records(&mut bench, [(1, Outcome::Synced(None))]);
    bench.close_queue().unwrap();
    let database = Database::open(bench.dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(SERVER_RECEIPTS).unwrap());
    transaction.commit().unwrap();
    database.close().unwrap();

    bench.open_queue().unwrap();
    assert!(bench.queue().take_snapshot().unwrap().server_receipts.is_none(), "nothing was written");
    let entry = view_queue(bench.queue(), bench.now(), |view| view.find_entry(id(1))).unwrap();
    assert_eq!((entry.state, receipt_of(&bench, 1)), (RecordState::Synced, None));
    audit(bench.queue_mut());

    settle_records(&mut bench, [(2, Outcome::Synced(receipt(100)))]);
    assert_eq!((receipt_of(&bench, 1), receipt_of(&bench, 2)), (None, receipt(100)));
    bench.reopen_queue();
    assert_eq!(receipt_of(&bench, 2), receipt(100));
    audit(bench.queue_mut());
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage, []);
}

#[test]
fn receipts_are_salvaged_from_a_damaged_file_as_far_as_they_can_be_read() {
    let mut bench = QueueBench::new();
    let outcomes =
        (1..=4u8).map(|number| (number.into(), Outcome::Synced(receipt(100 + usize::from(number)))));
    settle_records(&mut bench, outcomes);
    let faulty = LastError { field: Some("/n".into()), ..test_error("no") };
    settle_records(&mut bench, [(5, Outcome::Quarantine(faulty.clone()))]);
    bench.close_queue().unwrap();
    let path = bench.dir.path().join("queue.redb");
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(SERVER_RECEIPTS).unwrap();
        let second = table.iter().unwrap().nth(1).unwrap().unwrap().0.value();
        table.insert(second, &b"{\"id\":"[..]).unwrap();
    }
    transaction.commit().unwrap();
    database.close().unwrap();

    // A reader does without a receipt that cannot be decoded.
    bench.open_queue().unwrap();
    assert_eq!((receipt_of(&bench, 1), receipt_of(&bench, 2)), (receipt(101), None));
    bench.close_queue().unwrap();
    std::fs::write(bench.dir.path().join("queue.redb.suspect"), []).unwrap();
    bench.open_queue().unwrap();
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage.len(), 1, "the check finds it");
    for (number, expected) in [(1, receipt(101)), (2, None), (3, receipt(103)), (4, receipt(104))] {
        assert_eq!(bench.find_entry(id(number)).unwrap().state, RecordState::Synced);
        assert_eq!(receipt_of(&bench, number), expected, "{number}");
    }
    assert_eq!(bench.find_entry(id(5)).unwrap().last_error, Some(faulty));
    audit(bench.queue_mut());
}

#[test]
fn receipts_are_verified_with_the_rest_of_a_suspected_store() {
    let mut bench = QueueBench::new();
    settle_records(&mut bench, [(1, Outcome::Synced(receipt(100))), (2, Outcome::Synced(None))]);
    bench.close_queue().unwrap();
    std::fs::write(bench.dir.path().join("queue.redb.suspect"), []).unwrap();
    bench.open_queue().unwrap();
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage, []);
    assert_eq!(receipt_of(&bench, 1), receipt(100));
}

#[test]
fn the_field_of_an_error_is_kept_until_the_record_is_sent() {
    let mut bench = QueueBench::new();
    let faulty = LastError { field: Some("/Amount".into()), ..test_error("no number") };
    settle_records(
        &mut bench,
        [(1, Outcome::Quarantine(faulty.clone())), (2, Outcome::Retry(test_error("later")))],
    );
    let error_of = |bench: &QueueBench, number| bench.find_entry(id(number)).unwrap().last_error;
    assert_eq!(error_of(&bench, 1), Some(faulty.clone()));
    bench.reopen_queue();
    assert_eq!(error_of(&bench, 1), Some(faulty.clone()));
    assert_eq!(error_of(&bench, 2), Some(test_error("later")));
    let selected = ReviewSelection::These(vec![id(1)]);
    bench.run(Review { selected, action: ReviewAction::Retry, submitter: None });
    assert_eq!(error_of(&bench, 1), Some(faulty), "the reason stays until the next attempt");
    let added = bench.run(AddToReview { ids: vec![id(1)] }).added.remove(0).error;
    assert_eq!(added.field.as_deref(), Some("/Amount"));
    assert_eq!(error_of(&bench, 1), Some(added));
    let selected = ReviewSelection::These(vec![id(1)]);
    bench.run(Review { selected, action: ReviewAction::Retry, submitter: None });
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(receipt(20)));
    assert_eq!((error_of(&bench, 1), receipt_of(&bench, 1)), (None, receipt(20)));
    audit(bench.queue_mut());
}

#[test]
fn records_are_due_after_the_longer_of_the_back_off_and_the_wait_that_the_server_asks_for() {
    let longest_backoff = retry_config().max_backoff.0;
    for (asked, is_longer) in
        [(Duration::ZERO, false), (Duration::from_millis(1), false), (2 * longest_backoff, true)]
    {
        let mut bench = QueueBench::new();
        bench.append((1..=3).map(|number| record(number, None)).collect());
        let batch = bench.claim(3).unwrap().open.id;
        let outcomes = vec![(id(1), Outcome::Synced(None)), (id(2), Outcome::Retry(test_error("busy")))];
        let missing = Outcome::Retry(test_error("no result"));
        bench.settle(batch, Disposition::Close { outcomes, missing, retry_after: asked });
        let wait_of =
            |number| bench.find_entry(id(number)).unwrap().next_attempt_at.unwrap() - bench.now().wall;
        assert_eq!(wait_of(2), wait_of(3), "they are sent again together");
        let asked_ms = millis(asked);
        assert!(wait_of(2) >= asked_ms && (wait_of(2) == asked_ms) == is_longer, "{asked:?}: {}", wait_of(2));
        bench.now += asked_ms.saturating_sub(1);
        assert!(!is_longer || bench.claim(3).is_none(), "not before");
        bench.now += millis(longest_backoff) + 1;
        assert_eq!(bench.claim(3).unwrap().records.len(), 2);
        audit(bench.queue_mut());
    }
}
