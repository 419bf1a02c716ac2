//! The embedded ledger on real files.

mod deliveries;
mod devices;

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
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb")).unwrap();
    let [old, new] = [RecordId::new(), RecordId::new()];
    assert_eq!(code_of(&ledger, &batch(old, "{}")), None);
    ledger
        .with_database(|database| {
            let transaction = begin_write(database)?;
            transaction.delete_table(RECORD_DEVICES)?;
            Ok(transaction.commit()?)
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
    let ledger = RedbLedger::open(&path).unwrap();
    let record = RecordId::new();
    assert_eq!(code_of(&ledger, &batch(record, "{}")), None);
    ledger
        .with_database(|database| {
            let transaction = begin_write(database)?;
            refused::delete_lane_tables(&transaction)?;
            Ok(transaction.commit()?)
        })
        .unwrap();
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path).unwrap();
    let limit = PageLimit { rows: 9, bytes: 9 };
    let ForwardTurn::ThisGateway { mut page, .. } = ledger.next_to_forward(limit).unwrap() else {
        panic!("this gateway forwards");
    };
    let held = ForwardVerdict::Held { due_at: None, reason: HoldReason::default() };
    let records = vec![(page.remove(0), held)];
    let settlement = PageSettlement { source: PageSource::Cursor, records, now: 1 };
    assert!(ledger.settle_page(&settlement).unwrap());
    assert_eq!(ledger.refused_record(record).unwrap().unwrap().attempts, 1);
}
