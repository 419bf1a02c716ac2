//! The embedded ledger on real files.

mod deliveries;
mod devices;
mod disk_failure;
mod migration;
mod retention;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::tables::RECORD_DEVICES;
use super::*;
use crate::digest::sha256;
use crate::ledger::{ForwardVerdict, HoldReason, PageSettlement, PageSource, RefusedLedger};
use crate::model::RecordId;
use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE, WireRecord};
use crate::validated_batch::ValidatedRecord;

fn batch(record: RecordId, payload: &str) -> ValidatedBatch {
    let record = WireRecord {
        id: record,
        record_type: "Visits".into(),
        key: None,
        priority: None,
        created_at: 0,
        payload: RawValue::from_string(payload.into()).unwrap(),
    };
    ValidatedBatch {
        device: DeviceId(Uuid::new_v4()),
        id: BatchId::new(),
        fingerprint: sha256(payload.as_bytes()),
        records: vec![ValidatedRecord::new(record, None)],
    }
}

fn code_of(ledger: &RedbLedger, batch: &ValidatedBatch) -> Option<String> {
    match ledger.settle_batch(batch, 1).unwrap() {
        BatchSettlement::New(response) => response.results[0].code.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_that_an_older_gateway_applied_is_known_without_its_device() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let [old, new] = [RecordId::new(), RecordId::new()];
    assert_eq!(code_of(&ledger, &batch(old, "{}")), None);
    ledger
        .write(|transaction| {
            transaction.delete_table(RECORD_DEVICES)?;
            Ok(Written::Changed(()))
        })
        .unwrap();
    assert_eq!(code_of(&ledger, &batch(old, "{\"n\":1}")).as_deref(), Some(ID_CONFLICT));
    assert_eq!(code_of(&ledger, &batch(new, "{}")), None);
    assert_eq!(code_of(&ledger, &batch(new, "{\"n\":1}")).as_deref(), Some(ID_OF_OTHER_DEVICE));
}

#[test]
fn a_ledger_of_an_older_gateway_gains_the_tables_of_refused_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, true).unwrap();
    let record = RecordId::new();
    assert_eq!(code_of(&ledger, &batch(record, "{}")), None);
    ledger
        .write(|transaction| {
            lane_tables::delete_lane_tables(transaction)?;
            Ok(Written::Changed(()))
        })
        .unwrap();
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path, true).unwrap();
    let limit = PageLimit { rows: 9, bytes: 9 };
    let ForwardTurn::ThisGateway { mut page, .. } = ledger.next_to_forward(limit).unwrap() else {
        panic!("this gateway forwards");
    };
    let held = ForwardVerdict::Held { due_at: None, reason: HoldReason::default() };
    let records = vec![(page.remove(0), held)];
    let settlement = PageSettlement { source: PageSource::Outbox, records, now: 1 };
    assert!(ledger.settle_page(&settlement).unwrap());
    assert_eq!(ledger.refused_record(record).unwrap().unwrap().attempts, 1);
}

#[test]
fn concurrent_writers_share_commits_and_each_batch_is_applied_once() {
    const WRITERS: usize = 16;
    const BATCHES_EACH: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, true).unwrap();
    let shared = batch(RecordId::new(), "{\"shared\":true}");
    let new_settlements = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let settled = (0..BATCHES_EACH).map(|_| {
                        assert_eq!(code_of(&ledger, &batch(RecordId::new(), "{}")), None);
                        ledger.settle_batch(&shared, 1).unwrap()
                    });
                    settled.filter(|settlement| matches!(settlement, BatchSettlement::New(_))).count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    assert_eq!(new_settlements, 1);
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path, true).unwrap();
    let page = ledger.applied_after(0, PageLimit { rows: 1000, bytes: 1 << 20 }).unwrap();
    let numbers: Vec<u64> = page.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (1..=(WRITERS * BATCHES_EACH) as u64 + 1).collect::<Vec<_>>());
}

#[test]
fn an_operation_that_fails_costs_no_other_of_its_group_its_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, true).unwrap();
    let fail = || {
        ledger.write(|transaction| {
            transaction.open_table(META)?.insert("half of a change", 1)?;
            Err::<Written<()>, _>(LedgerError::Closed)
        })
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert!(fail().is_err())));
            scope.spawn(|| {
                (0..50).for_each(|_| assert_eq!(code_of(&ledger, &batch(RecordId::new(), "{}")), None));
            });
        }
    });
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path, true).unwrap();
    assert_eq!(ledger.applied_after(0, PageLimit { rows: 1000, bytes: 1 << 20 }).unwrap().len(), 200);
    let half = ledger.with_database(|database| {
        Ok(database.begin_read()?.open_table(META)?.get("half of a change")?.map(|value| value.value()))
    });
    assert_eq!(half.unwrap(), None);
}

#[test]
fn a_writer_that_panics_leaves_no_other_of_its_group_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let write =
                        || ledger.write(|_| -> Result<Written<()>, LedgerError> { panic!("on purpose") });
                    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err());
                }
            });
            scope.spawn(|| {
                (0..20).for_each(|_| assert_eq!(code_of(&ledger, &batch(RecordId::new(), "{}")), None));
            });
        }
    });
    assert_eq!(ledger.size_bytes().unwrap().records, Some(80));
}
