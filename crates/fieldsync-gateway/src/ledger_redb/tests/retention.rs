//! What the file keeps of applied records, and what is pruned.

use redb::{ReadableDatabase, ReadableTableMetadata};

use super::super::file::note_forwarding;
use super::super::tables::{OUTBOX, RECORD_DEVICES, RECORDS};
use super::*;
use crate::ledger::OutboxEntry;

const ALL: PageLimit = PageLimit { rows: 100, bytes: 1 << 20 };

const DAY: Duration = Duration::from_hours(24);

/// Applies a record without a key at this time.
fn apply(ledger: &RedbLedger, now: u64) -> ValidatedBatch {
    let batch = batch(RecordId::new(), "{}");
    assert!(matches!(ledger.settle_batch(&batch, now).unwrap(), BatchSettlement::New(_)));
    batch
}

fn listed(ledger: &RedbLedger) -> Vec<u64> {
    ledger.applied_after(0, ALL).unwrap().iter().map(|record| record.seq).collect()
}

fn outbox(ledger: &RedbLedger) -> Vec<OutboxEntry> {
    let ForwardTurn::ThisGateway { page, waiting } = ledger.next_to_forward(ALL).unwrap() else {
        panic!("this gateway forwards");
    };
    assert_eq!(waiting, page.len() as u64);
    page
}

/// How many ids and devices are known.
fn count_known(ledger: &RedbLedger) -> [u64; 2] {
    let count = ledger.with_database(|database| {
        let transaction = database.begin_read()?;
        Ok([transaction.open_table(RECORDS)?.len()?, transaction.open_table(RECORD_DEVICES)?.len()?])
    });
    count.unwrap()
}

fn settle(ledger: &RedbLedger, entries: Vec<OutboxEntry>, verdict: &ForwardVerdict) {
    let records = entries.into_iter().map(|entry| (entry, verdict.clone())).collect();
    let settlement = PageSettlement { source: PageSource::Outbox, records, now: 1 };
    assert!(ledger.settle_page(&settlement).unwrap());
}

fn held() -> ForwardVerdict {
    ForwardVerdict::Held { due_at: None, reason: HoldReason::default() }
}

#[test]
fn a_payload_is_kept_only_where_records_are_forwarded_and_only_until_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, false).unwrap();
    apply(&ledger, 1);
    let size = ledger.size_bytes().unwrap();
    assert_eq!((size.records, size.outbox_records), (Some(1), Some(0)));
    assert_eq!(size.bytes, Some(std::fs::metadata(&path).unwrap().len()));
    ledger.close().unwrap();

    let ledger = RedbLedger::open(&path, true).unwrap();
    assert!(outbox(&ledger).is_empty());
    (2..=4).for_each(|now| drop(apply(&ledger, now)));
    let mut entries = outbox(&ledger);
    assert_eq!(entries.iter().map(|entry| entry.record.seq).collect::<Vec<_>>(), [2, 3, 4]);
    settle(&ledger, vec![entries.remove(0)], &held());
    settle(&ledger, vec![entries.remove(0)], &ForwardVerdict::Passed);
    // One waits, one is under review.
    assert_eq!(outbox(&ledger).iter().map(|entry| entry.record.seq).collect::<Vec<_>>(), [4]);
    assert_eq!(ledger.size_bytes().unwrap().outbox_records, Some(2));
    ledger.close().unwrap();

    // A gateway that does not forward leaves what waits.
    let ledger = RedbLedger::open(&path, false).unwrap();
    apply(&ledger, 5);
    assert_eq!(outbox(&ledger).len(), 1);
    assert_eq!(listed(&ledger), [1, 2, 3, 4, 5]);
    let rows = ledger.with_database(|database| Ok(database.begin_read()?.open_table(OUTBOX)?.len()?));
    assert_eq!(rows.unwrap(), 1);
}

#[test]
fn old_records_are_forgotten_in_small_steps_and_the_newest_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let first = apply(&ledger, 10);
    (11..=16).for_each(|now| drop(apply(&ledger, now)));
    assert_eq!([15, 15, 15].map(|before| ledger.forget_records(before, 3).unwrap()), [3, 2, 0]);
    assert_eq!((listed(&ledger), count_known(&ledger)), (vec![6, 7], [2, 2]));
    assert_eq!([99, 99].map(|before| ledger.forget_records(before, 3).unwrap()), [1, 0]);
    assert_eq!(listed(&ledger), [7]);
    // Its number is not used again, and a forgotten record is applied again.
    let mut again = batch(first.records[0].id, "{}");
    again.device = first.device;
    assert_eq!(code_of(&ledger, &again), None);
    assert_eq!(listed(&ledger), [7, 8]);
}

#[test]
fn a_record_whose_payload_waits_is_not_forgotten_however_many_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), true).unwrap();
    let first = apply(&ledger, 1);
    (2..=6).for_each(|now| drop(apply(&ledger, now)));
    let mut entries = outbox(&ledger);
    settle(&ledger, vec![entries.remove(5), entries.remove(4)], &ForwardVerdict::Passed);
    settle(&ledger, vec![entries.remove(0)], &held());
    // Steps go past rows that wait, reach the end, and begin again.
    assert_eq!([9; 4].map(|before| ledger.forget_records(before, 2).unwrap()), [2, 2, 1, 2]);
    assert_eq!(listed(&ledger), [1, 2, 3, 4, 6]);
    assert_eq!(ledger.refused_record(first.records[0].id).unwrap().unwrap().attempts, 1);
    let ids: Vec<RecordId> = first.records.iter().map(|record| record.id).collect();
    ledger.review_records(&ids, crate::ledger::ReviewDecision::Discard, 1).unwrap();
    let rest = outbox(&ledger);
    settle(&ledger, rest, &ForwardVerdict::Passed);
    while ledger.forget_records(9, 2).unwrap() == 2 {}
    while ledger.forget_records(9, 2).unwrap() == 2 {}
    assert_eq!(listed(&ledger), [6]);
}

#[test]
fn rows_of_the_future_do_not_keep_those_behind_them() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let future = wall_ms() + 400 * millis(DAY);
    for now in [1, future, future + 1, 2, 3, 50, 51] {
        apply(&ledger, now);
    }
    while ledger.forget_records(9, 2).unwrap() == 2 {}
    assert_eq!(listed(&ledger), [2, 3, 6, 7]);
}

#[test]
fn a_clock_that_is_years_ahead_of_the_newest_row_deletes_nothing_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, false).unwrap();
    (1..=3).for_each(|now| drop(apply(&ledger, now)));
    for _ in 0..2 {
        ledger.close().unwrap();
        let ledger = RedbLedger::open(&path, false).unwrap();
        assert_eq!(ledger.prune_responses(DAY, 10).unwrap(), 0);
        assert_eq!(ledger.prune_records(DAY, 10).unwrap(), 0);
        assert_eq!(ledger.prune_sent(DAY, 10).unwrap(), 0);
        // The newest row may be of that clock.
        apply(&ledger, wall_ms());
        ledger.close().unwrap();
    }
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert_eq!(ledger.prune_records(DAY, 10).unwrap(), 0);
    assert_eq!(listed(&ledger), [1, 2, 3, 4, 5]);
}

#[test]
fn a_ledger_knows_that_forwarding_was_switched_off() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let is_switched_off =
        |forwards| ledger.with_database(|database| Ok(note_forwarding(database, forwards).unwrap()));
    assert_eq!(
        [false, true, true, false].map(|forwards| is_switched_off(forwards).unwrap()),
        [false, false, false, true]
    );
}
