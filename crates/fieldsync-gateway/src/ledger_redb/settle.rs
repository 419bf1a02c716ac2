//! The transaction that applies a batch, and its parts.

use redb::{ReadableTable, Table, WriteTransaction};

use super::tables::{
    ANSWERED, BATCHES, LISTING, ListingColumns, OUTBOX, OutboxColumns, RECORD_DEVICES, RECORD_RECEIPTS,
    RECORDS, ReceiptColumns, batch_key, load_known, load_response,
};
use crate::digest::Sha256Digest;
use crate::ledger::{BatchSettlement, HeldKeys, LedgerError};
use crate::model::DeviceId;
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{INVALID_DATA, ValidatedBatch, ValidatedRecord};

/// Applies the new records and stores the response, unless the batch already has a response. If this gateway `forwards`,
/// they go to the outbox, too.
pub(super) fn settle_batch(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    forwards: bool,
    now: u64,
) -> Result<BatchSettlement, LedgerError> {
    let stored = load_response(&transaction.open_table(BATCHES)?, batch_key(batch.device, batch.id))?;
    if let Some(stored) = stored {
        return Ok(stored.settle_for(&batch.fingerprint));
    }
    let mut index = RecordIndex::open(transaction)?;
    let mut applied = AppliedTables::open(transaction, forwards)?;
    let mut held_keys = HeldKeys::default();
    let mut results = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let own = index.find_result(record, batch.device)?;
        let result = held_keys.find_result(record, own, || None);
        if result.is_none() {
            index.insert(record, batch.device)?;
            applied.append(record, batch, now)?;
        }
        results.push(result.unwrap_or_else(|| record.confirm(RecordStatus::Applied)));
    }
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    store_response(transaction, batch, &serde_json::to_string(&response)?, now)?;
    Ok(BatchSettlement::New(response))
}

/// Stores the response to a batch as JSON, in place of one that it may have.
pub(super) fn store_response(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    response: &str,
    now: u64,
) -> Result<(), LedgerError> {
    let key = batch_key(batch.device, batch.id);
    let mut by_age = transaction.open_table(ANSWERED)?;
    let mut batches = transaction.open_table(BATCHES)?;
    let replaced = batches.insert(key, (&batch.fingerprint, now, response))?.map(|row| row.value().1);
    if let Some(at) = replaced {
        by_age.remove((at, key.0, key.1))?;
    }
    by_age.insert((now, key.0, key.1), ())?;
    Ok(())
}

/// The tables of applied records, open for writing.
pub(super) struct AppliedTables<'t> {
    listing: Table<'t, u64, ListingColumns<'static>>,
    /// `None` if this gateway does not forward.
    outbox: Option<Table<'t, u64, OutboxColumns<'static>>>,
    last: u64,
}

impl<'t> AppliedTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, forwards: bool) -> Result<Self, LedgerError> {
        let listing = transaction.open_table(LISTING)?;
        let outbox = forwards.then(|| transaction.open_table(OUTBOX)).transpose()?;
        let last = listing.last()?.map_or(0, |(seq, _)| seq.value());
        Ok(Self { listing, outbox, last })
    }

    pub(super) fn append(
        &mut self,
        record: &ValidatedRecord,
        batch: &ValidatedBatch,
        now: u64,
    ) -> Result<(), LedgerError> {
        self.last += 1;
        let (id, device, batch) = (record.id.0.as_u128(), batch.device.0.as_u128(), batch.id.0.as_u128());
        let (record_type, key) = (record.record_type.as_str(), record.key.as_deref());
        self.listing.insert(self.last, (id, device, batch, record_type, key, now))?;
        if let Some(outbox) = &mut self.outbox {
            outbox.insert(self.last, (id, device, batch, record_type, key, now, record.payload.get()))?;
        }
        Ok(())
    }
}

/// The index of applied records, open for writing.
pub(super) struct RecordIndex<'t> {
    records: Table<'t, u128, &'static Sha256Digest>,
    devices: Table<'t, u128, u128>,
    receipts: Table<'t, u128, ReceiptColumns<'static>>,
}

impl<'t> RecordIndex<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, LedgerError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            devices: transaction.open_table(RECORD_DEVICES)?,
            receipts: transaction.open_table(RECORD_RECEIPTS)?,
        })
    }

    /// Adds a record that the destination has; its first receipt stays. Returns false if its id is known already.
    pub(super) fn insert_delivered(
        &mut self,
        record: &ValidatedRecord,
        device: DeviceId,
        receipt: &Receipt,
    ) -> Result<bool, LedgerError> {
        let (id, device) = (record.id.0.as_u128(), device.0.as_u128());
        if self.records.get(id)?.is_none() {
            self.records.insert(id, &record.digest)?;
            self.receipts.insert(id, (device, receipt.as_str()))?;
            return Ok(true);
        }
        if self.receipts.get(id)?.is_none() {
            let first_device = self.devices.get(id)?.map_or(device, |first| first.value());
            self.receipts.insert(id, (first_device, receipt.as_str()))?;
        }
        Ok(false)
    }

    /// The result of a record that was applied before, or can never be applied.
    fn find_result(
        &self,
        record: &ValidatedRecord,
        device: DeviceId,
    ) -> Result<Option<RecordResult>, LedgerError> {
        if let Some(fault) = record.fault {
            return Ok(Some(record.reject(INVALID_DATA, fault)));
        }
        let known = load_known(&self.records, &self.devices, &self.receipts, record.id)?;
        Ok(known.map(|known| record.compare_with_known(&known, device)))
    }

    fn insert(&mut self, record: &ValidatedRecord, device: DeviceId) -> Result<(), LedgerError> {
        let id = record.id.0.as_u128();
        self.records.insert(id, &record.digest)?;
        self.devices.insert(id, device.0.as_u128())?;
        Ok(())
    }
}
