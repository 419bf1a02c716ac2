//! Deliveries: what is known of their records, and the transactions that store verdicts and responses.

use std::collections::{HashMap, HashSet};

use redb::{Database, ReadableDatabase, WriteTransaction};
use uuid::Uuid;

use super::leases::LeasedParts;
use super::settle::{AppliedTables, RecordIndex, store_response};
use super::tables::{
    BATCHES, RECORD_DEVICES, RECORD_RECEIPTS, RECORDS, SENT, batch_key, load_known, load_response,
};
use crate::ledger::{
    AdmissionFacts, BatchSettlement, DeliveryOutcome, LedgerError, SentRecord, StoredVerdict,
};
use crate::model::{DeviceId, RecordId};
use crate::protocol::wire::BatchResponse;
use crate::validated_batch::ValidatedBatch;

/// Rows of sent records that one search looks at, if it is not to find more: most of them are young.
const SENT_ROWS_PER_SEARCH: usize = 1000;

/// What is known of the records of a batch. To be called once they are leased: what another delivery applied is
/// then in the file.
pub(super) fn find_facts(
    database: &Database,
    batch: &ValidatedBatch,
    leased: LeasedParts,
) -> Result<AdmissionFacts, LedgerError> {
    let transaction = database.begin_read()?;
    let records = transaction.open_table(RECORDS)?;
    let devices = transaction.open_table(RECORD_DEVICES)?;
    let receipts = transaction.open_table(RECORD_RECEIPTS)?;
    let sent_records = transaction.open_table(SENT)?;
    let (mut known, mut sent) = (HashMap::new(), HashMap::new());
    for record in batch.records.iter().filter(|record| record.fault.is_none()) {
        if let Some(row) = sent_records.get(record.id.0.as_u128())? {
            let (digest, device, _) = row.value();
            sent.insert(record.id, SentRecord { digest: *digest, device: DeviceId(Uuid::from_u128(device)) });
        }
        if let Some(found) = load_known(&records, &devices, &receipts, record.id)? {
            known.insert(record.id, found);
        }
    }
    Ok(AdmissionFacts { known, sent, leased_records: leased.records, leased_keys: leased.keys })
}

/// Stores what the destination has, or may have. A record that is known already is not applied once more.
pub(super) fn store_verdicts(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    verdicts: &[StoredVerdict],
    forwards: bool,
    now: u64,
) -> Result<(), LedgerError> {
    let mut index = RecordIndex::open(transaction)?;
    let mut applied = AppliedTables::open(transaction, forwards)?;
    let mut sent = transaction.open_table(SENT)?;
    for StoredVerdict { position, outcome } in verdicts {
        let Some(record) = batch.records.get(*position) else {
            continue;
        };
        let id = record.id.0.as_u128();
        match outcome {
            DeliveryOutcome::Applied(receipt) => {
                if index.insert_delivered(record, batch.device, receipt)? {
                    applied.append(record, batch, now)?;
                }
                sent.remove(id)?;
            }
            DeliveryOutcome::Rejected => {
                sent.remove(id)?;
            }
            DeliveryOutcome::Uncertain => {
                sent.insert(id, (&record.digest, batch.device.0.as_u128(), now))?;
            }
        }
    }
    Ok(())
}

/// Stores the response and its JSON text, unless the batch has one that is valid.
pub(super) fn store_final_response(
    transaction: &WriteTransaction,
    batch: &ValidatedBatch,
    response: &BatchResponse,
    text: &str,
    now: u64,
) -> Result<BatchSettlement, LedgerError> {
    let stored = load_response(&transaction.open_table(BATCHES)?, batch_key(batch.device, batch.id))?;
    match stored {
        Some(stored) if stored.fingerprint != batch.fingerprint || !stored.lacks_receipts() => {
            Ok(stored.settle_for(&batch.fingerprint))
        }
        _ => {
            store_response(transaction, batch, text, now)?;
            Ok(BatchSettlement::New(response.clone()))
        }
    }
}

/// Records that were sent long ago.
pub(super) struct OldSentRecords {
    pub(super) ids: Vec<u128>,
    /// Where the next search continues; 0 after the last row.
    pub(super) next_position: u128,
}

/// Up to `max` records that were sent before this time and have no certain outcome. Looks at some rows only, from this
/// position on.
pub(super) fn find_old_sent(
    database: &Database,
    position: u128,
    before: u64,
    max: usize,
) -> Result<OldSentRecords, LedgerError> {
    let mut found = OldSentRecords { ids: Vec::new(), next_position: 0 };
    for (count, row) in database.begin_read()?.open_table(SENT)?.range(position..)?.enumerate() {
        let (id, columns) = row?;
        if count >= SENT_ROWS_PER_SEARCH.max(max) || found.ids.len() >= max {
            found.next_position = id.value();
            break;
        }
        if columns.value().2 < before {
            found.ids.push(id.value());
        }
    }
    Ok(found)
}

/// Forgets that these records were sent.
pub(super) fn remove_sent(transaction: &WriteTransaction, ids: &[u128]) -> Result<(), LedgerError> {
    let mut sent = transaction.open_table(SENT)?;
    for id in ids {
        sent.remove(id)?;
    }
    Ok(())
}

/// The records of these verdicts.
pub(super) fn settled_ids(batch: &ValidatedBatch, verdicts: &[StoredVerdict]) -> HashSet<RecordId> {
    verdicts.iter().filter_map(|verdict| Some(batch.records.get(verdict.position)?.id)).collect()
}
