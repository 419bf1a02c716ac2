//! Leases, verdicts and receipts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

use super::super::RedbLedger;
use super::super::group_commit::Written;
use super::super::tables::{RECORD_RECEIPTS, SENT, TOKEN_REQUESTS};
use crate::clock::wall_ms;
use crate::digest::sha256;
use crate::ledger::{
    Admission, BatchSettlement, DeliveryId, DeliveryLedger, DeliveryOutcome, Ledger, PageLimit, StoredVerdict,
};
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus, WireRecord};
use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

const LEASE: Duration = Duration::from_mins(1);

struct LedgerFile(TempDir);

impl LedgerFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        Path::new(self.0.path()).join("ledger.redb")
    }

    fn open(&self) -> RedbLedger {
        RedbLedger::open(&self.path(), false).unwrap()
    }
}

/// A batch of a new device with a record for each key.
fn batch(keys: &[Option<&str>]) -> ValidatedBatch {
    let record = |key: Option<&str>| {
        let record = WireRecord {
            id: RecordId::new(),
            record_type: "Visits".into(),
            key: key.map(Into::into),
            priority: None,
            created_at: 0,
            payload: RawValue::from_string("{}".into()).unwrap(),
        };
        ValidatedRecord::new(record, None)
    };
    let device = DeviceId(Uuid::new_v4());
    let records = keys.iter().copied().map(record).collect();
    ValidatedBatch { device, id: BatchId::new(), fingerprint: sha256(b"body"), records }
}

fn receipt(id: usize) -> Receipt {
    Receipt::parse(&format!(r#"{{"id":"{id}"}}"#)).unwrap()
}

fn applied(position: usize) -> StoredVerdict {
    StoredVerdict { position, outcome: DeliveryOutcome::Applied(receipt(position)) }
}

fn rejected(position: usize) -> StoredVerdict {
    StoredVerdict { position, outcome: DeliveryOutcome::Rejected }
}

fn uncertain(position: usize) -> StoredVerdict {
    StoredVerdict { position, outcome: DeliveryOutcome::Uncertain }
}

/// `.` for a record to hand over, else the code, or the id of the receipt.
fn admit(ledger: &RedbLedger, batch: &ValidatedBatch, delivery: DeliveryId) -> Vec<String> {
    let admissions = ledger.begin_delivery(batch, delivery, LEASE).unwrap();
    let show = |admission: Admission| match admission {
        Admission::Deliver => ".".to_owned(),
        Admission::Answered(RecordResult { code: Some(code), .. }) => code,
        Admission::Answered(RecordResult { receipt, .. }) => receipt.unwrap().as_str().to_owned(),
    };
    admissions.into_iter().map(show).collect()
}

fn response(batch: &ValidatedBatch, code: &str) -> BatchResponse {
    let result = |record: &ValidatedRecord| RecordResult {
        code: Some(code.into()),
        ..RecordResult::new(record.id, RecordStatus::Retry)
    };
    let results = batch.records.iter().map(result).collect();
    BatchResponse { batch_id: batch.id, replayed: false, results }
}

fn applied_count(ledger: &RedbLedger) -> usize {
    ledger.applied_after(0, PageLimit { rows: 100, bytes: 1 << 20 }).unwrap().len()
}

#[test]
fn records_and_keys_belong_to_one_delivery_at_a_time() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let first = batch(&[Some("k"), None]);
    let [one, two, three] = [(); 3].map(|()| DeliveryId::new());
    assert_eq!(admit(&ledger, &first, one), [".", "."]);
    let mut second = batch(&[Some("k"), Some("l")]);
    second.device = first.device;
    assert_eq!(admit(&ledger, &first, two), ["IN_PROGRESS", "IN_PROGRESS"]);
    assert_eq!(admit(&ledger, &second, two), ["IN_PROGRESS", "."]);
    // A refused delivery keeps no lease, and that of a verdict ends.
    ledger.record_verdicts(&first, one, &[rejected(1)], 1).unwrap();
    assert_eq!(admit(&ledger, &first, three), ["IN_PROGRESS", "."]);
    // The key stays with the delivery until it ends.
    ledger.record_verdicts(&first, one, &[applied(0)], 1).unwrap();
    assert_eq!(admit(&ledger, &second, DeliveryId::new()), ["IN_PROGRESS", "IN_PROGRESS"]);
    ledger.finish_delivery(&first, one, &[], &response(&first, "X"), 2).unwrap();
    assert_eq!(admit(&ledger, &second, DeliveryId::new()), [".", "IN_PROGRESS"]);
}

#[test]
fn a_lease_that_lapsed_is_free_for_others_and_never_comes_back() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let batch = batch(&[Some("k"), None]);
    let [dead, next] = [DeliveryId::new(), DeliveryId::new()];
    let leased = ledger.begin_delivery(&batch, dead, Duration::ZERO).unwrap();
    assert_eq!(leased, [Admission::Deliver, Admission::Deliver]);
    assert!(!ledger.extend_lease(&batch, dead, &[0], LEASE).unwrap());
    assert_eq!(admit(&ledger, &batch, next), [".", "."]);
    assert!(ledger.extend_lease(&batch, next, &[0], LEASE).unwrap());
    // What the former delivery says is true nevertheless, and ends no lease of the next one.
    ledger.record_verdicts(&batch, dead, &[applied(0)], 1).unwrap();
    assert_eq!(admit(&ledger, &batch, DeliveryId::new()), [r#"{"id":"0"}"#, "IN_PROGRESS"]);
    let other = StoredVerdict { position: 0, outcome: DeliveryOutcome::Applied(receipt(7)) };
    ledger.record_verdicts(&batch, next, &[other], 2).unwrap();
    assert_eq!(applied_count(&ledger), 1);
    assert_eq!(admit(&ledger, &batch, DeliveryId::new()), [r#"{"id":"0"}"#, "IN_PROGRESS"]);
}

#[test]
fn verdicts_survive_and_leases_end_with_the_process() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let batch = batch(&[None, Some("k"), Some("k")]);
    let delivery = DeliveryId::new();
    assert_eq!(admit(&ledger, &batch, delivery), [".", ".", "."]);
    ledger.record_verdicts(&batch, delivery, &[applied(1)], 1).unwrap();
    drop(ledger);
    let ledger = file.open();
    let delivery = DeliveryId::new();
    assert_eq!(admit(&ledger, &batch, delivery), [".", r#"{"id":"1"}"#, "."]);
    let ends = response(&batch, "LAST");
    let settled = ledger.finish_delivery(&batch, delivery, &[applied(0), applied(2)], &ends, 2).unwrap();
    assert!(matches!(settled, BatchSettlement::New(response) if response == ends));
    // As in a delivery of the same batch by another gateway.
    let late = ledger.finish_delivery(&batch, delivery, &[], &response(&batch, "LATE"), 3).unwrap();
    assert!(matches!(late, BatchSettlement::Replayed(response) if response.results == ends.results));
    assert_eq!(applied_count(&ledger), 3);
    assert_eq!(ledger.delete_responses(3, 10).unwrap(), 1);
}

#[test]
fn what_may_be_at_the_destination_keeps_its_id_until_it_is_applied_or_rejected() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let first = batch(&[None, None, None]);
    let delivery = DeliveryId::new();
    assert_eq!(admit(&ledger, &first, delivery), [".", ".", "."]);
    let all = [uncertain(0), uncertain(1), uncertain(2)];
    ledger.finish_delivery(&first, delivery, &all, &response(&first, "X"), wall_ms()).unwrap();
    drop(ledger);

    let ledger = file.open();
    let changed = |device| {
        let mut changed = batch(&[None, None, None]);
        changed.device = device;
        for (record, sent) in changed.records.iter_mut().zip(&first.records) {
            (record.id, record.digest) = (sent.id, sha256(b"other"));
        }
        changed
    };
    let other = changed(DeviceId(Uuid::new_v4()));
    assert_eq!(admit(&ledger, &other, DeliveryId::new()), ["ID_OF_OTHER_DEVICE"; 3]);
    assert_eq!(admit(&ledger, &first, delivery), [".", ".", "."]);
    ledger.record_verdicts(&first, delivery, &[rejected(0)], 2).unwrap();
    let rest = [applied(1), uncertain(2)];
    ledger.finish_delivery(&first, delivery, &rest, &response(&first, "X"), 2).unwrap();
    assert_eq!(admit(&ledger, &other, delivery), [".", "ID_OF_OTHER_DEVICE", "ID_OF_OTHER_DEVICE"]);
    drop(ledger);

    // What was sent decades ago is forgotten.
    let ledger = file.open();
    assert_eq!([3, 2, 3].map(|before| ledger.forget_sent(before, 1).unwrap()), [1, 0, 0]);
    assert_eq!(admit(&ledger, &other, delivery), [".", "ID_OF_OTHER_DEVICE", "."]);
    drop(ledger);
    // A device corrects its own record, and another one has the same one.
    let ledger = file.open();
    let own = changed(first.device);
    assert_eq!(admit(&ledger, &own, delivery), [".", "ID_CONFLICT", "."]);
    ledger.finish_delivery(&own, delivery, &[uncertain(0)], &response(&own, "X"), wall_ms()).unwrap();
    assert_eq!(admit(&ledger, &other, DeliveryId::new())[0], ".");
}

#[test]
fn a_response_without_receipts_is_replaced_and_what_it_applied_is_not_applied_again() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let batch = batch(&[None]);
    ledger.settle_batch(&batch, 1).unwrap();
    assert!(ledger.stored_response(batch.device, batch.id).unwrap().unwrap().lacks_receipts());
    let delivery = DeliveryId::new();
    assert_eq!(admit(&ledger, &batch, delivery), ["."]);
    ledger.finish_delivery(&batch, delivery, &[applied(0)], &response(&batch, "NEW"), 2).unwrap();
    let stored = ledger.stored_response(batch.device, batch.id).unwrap().unwrap();
    assert_eq!(stored.response.results[0].code.as_deref(), Some("NEW"));
    assert_eq!(applied_count(&ledger), 1);
    // Its age is that of the new response.
    assert_eq!(ledger.delete_responses(2, 10).unwrap(), 0);
    assert_eq!(ledger.delete_responses(3, 10).unwrap(), 1);
}

#[test]
fn a_file_of_an_older_gateway_takes_receipts() {
    let file = LedgerFile::new();
    let ledger = file.open();
    let batch = batch(&[None]);
    ledger.settle_batch(&batch, 1).unwrap();
    ledger
        .write(|transaction| {
            transaction.delete_table(RECORD_RECEIPTS)?;
            transaction.delete_table(SENT)?;
            transaction.delete_table(TOKEN_REQUESTS)?;
            Ok(Written::Changed(()))
        })
        .unwrap();
    drop(ledger);
    let ledger = file.open();
    let delivery = DeliveryId::new();
    assert_eq!(admit(&ledger, &batch, delivery), ["."]);
    ledger.record_verdicts(&batch, delivery, &[applied(0)], 2).unwrap();
    assert_eq!(admit(&ledger, &batch, delivery), [r#"{"id":"0"}"#]);
    assert_eq!(ledger.take_token_request(1, LEASE, 0).unwrap(), None);
}

#[test]
fn token_requests_are_counted_over_restarts_and_whatever_the_clock_does() {
    let file = LedgerFile::new();
    let take = |now| {
        let wait = file.open().take_token_request(2, Duration::from_mins(1), now).unwrap();
        wait.map(|wait| wait.as_secs())
    };
    assert_eq!([0, 5_000, 6_000, 60_000].map(take), [None, None, Some(54), None]);
    assert_eq!([61_000, 64_000].map(take), [Some(4), Some(1)]);
    // The clock was set back: what is in the future counts as now.
    assert_eq!([1_000, 61_000].map(take), [Some(60), None]);
}
