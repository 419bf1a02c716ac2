//! The transaction that applies a batch.

use redb::{ReadableTable, Table, WriteTransaction};
use uuid::Uuid;

use super::tables::{ANSWERED, APPLIED, BATCHES, RECORD_DEVICES, RECORDS, batch_key, load_response};
use crate::digest::Sha256Digest;
use crate::ledger::{BatchSettlement, LedgerError};
use crate::model::DeviceId;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{INVALID_DATA, KnownRecord, ValidatedBatch, ValidatedRecord};

/// Applies the new records and stores the response, unless the batch already has a response.
pub(super) fn settle_batch(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    now: u64,
) -> Result<BatchSettlement, LedgerError> {
    let key = batch_key(batch.device, batch.id);
    let mut batches = transaction.open_table(BATCHES)?;
    if let Some(stored) = load_response(&batches, key)? {
        return Ok(stored.settle_for(&batch.fingerprint));
    }
    let mut index = RecordIndex {
        records: transaction.open_table(RECORDS)?,
        devices: transaction.open_table(RECORD_DEVICES)?,
    };
    let mut applied = transaction.open_table(APPLIED)?;
    let mut seq = applied.last()?.map_or(0, |(seq, _)| seq.value());
    let mut results = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let result = index.decide_result(record, batch.device)?;
        if result.status == RecordStatus::Applied {
            seq += 1;
            let columns = (
                record.id.0.as_u128(),
                batch.device.0.as_u128(),
                batch.id.0.as_u128(),
                record.record_type.as_str(),
                record.key.as_deref(),
                now,
                record.payload.get(),
            );
            applied.insert(seq, columns)?;
        }
        results.push(result);
    }
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    let text = serde_json::to_string(&response)?;
    batches.insert(key, (&batch.fingerprint, now, text.as_str()))?;
    transaction.open_table(ANSWERED)?.insert((now, key.0, key.1), ())?;
    Ok(BatchSettlement::New(response))
}

/// The index of applied records.
struct RecordIndex<'t> {
    records: Table<'t, u128, &'static Sha256Digest>,
    devices: Table<'t, u128, u128>,
}

impl RecordIndex<'_> {
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
        Ok(record.compare_with_known(&KnownRecord { digest, device: first_device }, device))
    }
}
