//! The transaction that applies a batch, and its parts.

use redb::{ReadableTable, Table, WriteTransaction};
use uuid::Uuid;

use super::tables::{
    ANSWERED, APPLIED, AppliedColumns, BATCHES, RECORD_DEVICES, RECORD_RECEIPTS, RECORDS, batch_key,
    load_response,
};
use crate::digest::Sha256Digest;
use crate::ledger::{BatchSettlement, LedgerError};
use crate::model::{DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{INVALID_DATA, KnownRecord, ValidatedBatch, ValidatedRecord};

/// Applies the new records and stores the response, unless the batch already has a response.
pub(super) fn settle_batch(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    now: u64,
) -> Result<BatchSettlement, LedgerError> {
    let stored = load_response(&transaction.open_table(BATCHES)?, batch_key(batch.device, batch.id))?;
    if let Some(stored) = stored {
        return Ok(stored.settle_for(&batch.fingerprint));
    }
    let mut index = RecordIndex::open(transaction)?;
    let mut applied = AppliedTable::open(transaction)?;
    let mut results = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let result = index.decide_result(record, batch.device)?;
        if result.status == RecordStatus::Applied {
            applied.append(record, batch, now)?;
        }
        results.push(result);
    }
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    store_response(transaction, batch, &response, now)?;
    Ok(BatchSettlement::New(response))
}

/// Stores the response to a batch, in place of one that it may have.
pub(super) fn store_response(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    response: &BatchResponse,
    now: u64,
) -> Result<(), LedgerError> {
    let key = batch_key(batch.device, batch.id);
    let text = serde_json::to_string(response)?;
    let mut by_age = transaction.open_table(ANSWERED)?;
    let mut batches = transaction.open_table(BATCHES)?;
    let replaced = batches.insert(key, (&batch.fingerprint, now, text.as_str()))?.map(|row| row.value().1);
    if let Some(at) = replaced {
        by_age.remove((at, key.0, key.1))?;
    }
    by_age.insert((now, key.0, key.1), ())?;
    Ok(())
}

/// The append-only table, open for writing.
pub(super) struct AppliedTable<'t> {
    table: Table<'t, u64, AppliedColumns<'static>>,
    last: u64,
}

impl<'t> AppliedTable<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, LedgerError> {
        let table = transaction.open_table(APPLIED)?;
        let last = table.last()?.map_or(0, |(seq, _)| seq.value());
        Ok(Self { table, last })
    }

    pub(super) fn append(
        &mut self,
        record: &ValidatedRecord,
        batch: &ValidatedBatch,
        now: u64,
    ) -> Result<(), LedgerError> {
        self.last += 1;
        let columns = (
            record.id.0.as_u128(),
            batch.device.0.as_u128(),
            batch.id.0.as_u128(),
            record.record_type.as_str(),
            record.key.as_deref(),
            now,
            record.payload.get(),
        );
        self.table.insert(self.last, columns)?;
        Ok(())
    }
}

/// The index of applied records, open for writing.
pub(super) struct RecordIndex<'t> {
    records: Table<'t, u128, &'static Sha256Digest>,
    devices: Table<'t, u128, u128>,
    receipts: Table<'t, u128, &'static str>,
}

impl<'t> RecordIndex<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, LedgerError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            devices: transaction.open_table(RECORD_DEVICES)?,
            receipts: transaction.open_table(RECORD_RECEIPTS)?,
        })
    }

    /// Returns false if the record's id is known already.
    pub(super) fn insert_record(
        &mut self,
        record: &ValidatedRecord,
        device: DeviceId,
    ) -> Result<bool, LedgerError> {
        let id = record.id.0.as_u128();
        if self.records.get(id)?.is_some() {
            return Ok(false);
        }
        self.records.insert(id, &record.digest)?;
        self.devices.insert(id, device.0.as_u128())?;
        Ok(true)
    }

    /// The first receipt of a record stays.
    pub(super) fn insert_receipt(&mut self, id: RecordId, receipt: &Receipt) -> Result<(), LedgerError> {
        let id = id.0.as_u128();
        if self.receipts.get(id)?.is_none() {
            self.receipts.insert(id, receipt.as_str())?;
        }
        Ok(())
    }

    /// Decides the result of a record, and adds the record to the index if it is to be applied.
    fn decide_result(
        &mut self,
        record: &ValidatedRecord,
        device: DeviceId,
    ) -> Result<RecordResult, LedgerError> {
        if let Some(fault) = record.fault {
            return Ok(record.reject(INVALID_DATA, fault));
        }
        let id = record.id.0.as_u128();
        let digest = self.records.get(id)?.map(|digest| *digest.value());
        let Some(digest) = digest else {
            self.records.insert(id, &record.digest)?;
            self.devices.insert(id, device.0.as_u128())?;
            return Ok(record.confirm(RecordStatus::Applied));
        };
        let first_device = self.devices.get(id)?.map(|first| DeviceId(Uuid::from_u128(first.value())));
        let receipt = self.receipts.get(id)?.and_then(|receipt| Receipt::parse(receipt.value()));
        Ok(record.compare_with_known(&KnownRecord { digest, device: first_device, receipt }, device))
    }
}
