//! The transaction that applies a batch.
//!
//! All such transactions lock rows in the same order, so that they cannot deadlock: record ids, sorted; then
//! the counter of applied records; then the row of the batch. If another transaction has just inserted one of
//! the record ids, this one waits for its end, and then finds the record known. The counter stays locked until
//! the commit, so the append-only table is in the order of commits, without gaps. Only few statements follow
//! that lock: everything before it can run concurrently.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use super::operation_error::OperationError;
use super::session_pool::DbSession;
use crate::digest::Sha256Digest;
use crate::ledger::{BatchSettlement, HeldKeys, StoredResponse};
use crate::model::{DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{INVALID_DATA, KnownRecord, ValidatedBatch, ValidatedRecord};

const INSERT_RECORDS: &str = "
    INSERT INTO fieldsync.records (id, digest, device_id)
    SELECT id, digest, $3 FROM unnest($1, $2) AS new (id, digest) ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id";
const DELETE_RECORDS: &str = "DELETE FROM fieldsync.records WHERE id = ANY($1)";
const SELECT_KNOWN_RECORDS: &str =
    "SELECT id, digest, device_id, receipt FROM fieldsync.records WHERE id = ANY($1)";
const ADVANCE_COUNTER: &str =
    "UPDATE fieldsync.counters SET seq = seq + $1 WHERE name = 'applied' RETURNING seq";
const INSERT_APPLIED: &str = "
    INSERT INTO fieldsync.applied (seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
    SELECT seq, id, $1, $2, type, key, $3, payload
    FROM unnest($4, $5, $6, $7, $8) AS new (seq, id, type, key, payload)";
const INSERT_RESPONSE: &str = "
    INSERT INTO fieldsync.batches (device_id, batch_id, fingerprint, answered_at_ms, answer)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

/// Applies the new records and stores the response, unless the batch already has a response.
pub(super) async fn settle_batch(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    now: i64,
) -> Result<BatchSettlement, OperationError> {
    let transaction = session.client.transaction().await?;
    if let Some(stored) = load_response(&transaction, batch.device.0, batch.id.0).await? {
        transaction.rollback().await?;
        return Ok(stored.settle_for(&batch.fingerprint));
    }
    let results = decide_results(&transaction, batch).await?;
    let with_results = batch.records.iter().zip(&results);
    let applied: Vec<&ValidatedRecord> = with_results
        .filter(|(_, result)| result.status == RecordStatus::Applied)
        .map(|(record, _)| record)
        .collect();
    insert_applied(&transaction, batch, &applied, now).await?;
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    if !insert_response(&transaction, batch, &response, now).await? {
        // The same batch was settled meanwhile: roll back, and find its response in the next attempt.
        transaction.rollback().await?;
        return Err(OperationError::Conflict);
    }
    transaction.commit().await?;
    Ok(BatchSettlement::New(response))
}

/// Returns false if the batch has a response already.
pub(super) async fn insert_response(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    response: &BatchResponse,
    now: i64,
) -> Result<bool, OperationError> {
    let text = serde_json::to_string(response)?;
    let inserted = transaction
        .execute_typed(
            INSERT_RESPONSE,
            &[
                (&batch.device.0, Type::UUID),
                (&batch.id.0, Type::UUID),
                (&batch.fingerprint.as_slice(), Type::BYTEA),
                (&now, Type::INT8),
                (&text, Type::TEXT),
            ],
        )
        .await?;
    Ok(inserted > 0)
}

pub(super) async fn delete_response(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
) -> Result<(), OperationError> {
    let delete = "DELETE FROM fieldsync.batches WHERE device_id = $1 AND batch_id = $2";
    transaction.execute_typed(delete, &[(&batch.device.0, Type::UUID), (&batch.id.0, Type::UUID)]).await?;
    Ok(())
}

/// The stored response to a batch.
pub(super) async fn load_response(
    client: &impl GenericClient,
    device: Uuid,
    batch: Uuid,
) -> Result<Option<StoredResponse>, OperationError> {
    let select = "SELECT fingerprint, answer FROM fieldsync.batches WHERE device_id = $1 AND batch_id = $2";
    let row = client.query_typed_opt(select, &[(&device, Type::UUID), (&batch, Type::UUID)]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(StoredResponse {
        fingerprint: decode_digest(row.try_get(0)?),
        response: serde_json::from_str(row.try_get(1)?)?,
    }))
}

/// Decides the result of each record, and inserts the ids of those that are to be applied. Which records are held is
/// known only once the ids were inserted; theirs are deleted again.
async fn decide_results(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
) -> Result<Vec<RecordResult>, OperationError> {
    let (records, device) = (&batch.records, batch.device);
    let valid: Vec<&ValidatedRecord> = records.iter().filter(|record| record.fault.is_none()).collect();
    let ids: Vec<Uuid> = valid.iter().map(|record| record.id.0).collect();
    let digests: Vec<&[u8]> = valid.iter().map(|record| record.digest.as_slice()).collect();
    let inserted_rows = transaction
        .query_typed(
            INSERT_RECORDS,
            &[(&ids, Type::UUID_ARRAY), (&digests, Type::BYTEA_ARRAY), (&device.0, Type::UUID)],
        )
        .await?;
    let new = inserted_rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Uuid>, _>>()?;
    let known_ids: Vec<Uuid> = ids.into_iter().filter(|id| !new.contains(id)).collect();
    let known =
        if known_ids.is_empty() { HashMap::new() } else { load_known(transaction, &known_ids).await? };
    let mut held_keys = HeldKeys::default();
    let (mut results, mut held) = (Vec::with_capacity(records.len()), Vec::new());
    for record in records {
        let is_new = new.contains(&record.id.0);
        let own = match (record.fault, known.get(&record.id)) {
            (Some(fault), _) => Some(record.reject(INVALID_DATA, fault)),
            (None, Some(known)) => Some(record.compare_with_known(known, device)),
            (None, None) if is_new => None,
            // It was deleted from the table in between.
            (None, None) => return Err(OperationError::Conflict),
        };
        let result = held_keys.find_result(record, own, || None);
        if is_new && result.is_some() {
            held.push(record.id.0);
        }
        results.push(result.unwrap_or_else(|| record.confirm(RecordStatus::Applied)));
    }
    if !held.is_empty() {
        transaction.execute_typed(DELETE_RECORDS, &[(&held, Type::UUID_ARRAY)]).await?;
    }
    Ok(results)
}

/// What is known of these records.
pub(super) async fn load_known(
    transaction: &Transaction<'_>,
    ids: &[Uuid],
) -> Result<HashMap<RecordId, KnownRecord>, OperationError> {
    let mut known = HashMap::new();
    for row in transaction.query_typed(SELECT_KNOWN_RECORDS, &[(&ids, Type::UUID_ARRAY)]).await? {
        let receipt = row.try_get::<_, Option<&str>>(3)?.and_then(Receipt::parse);
        let record = KnownRecord {
            digest: decode_digest(row.try_get(1)?),
            device: row.try_get::<_, Option<Uuid>>(2)?.map(DeviceId),
            receipt,
        };
        known.insert(RecordId(row.try_get(0)?), record);
    }
    Ok(known)
}

/// Adds the records to the append-only table.
pub(super) async fn insert_applied(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    applied: &[&ValidatedRecord],
    now: i64,
) -> Result<(), OperationError> {
    if applied.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(applied.len()).unwrap_or(i64::MAX);
    let last: i64 =
        transaction.query_typed_one(ADVANCE_COUNTER, &[(&count, Type::INT8)]).await?.try_get(0)?;
    let seqs: Vec<i64> = (last - count + 1..=last).collect();
    let ids: Vec<Uuid> = applied.iter().map(|record| record.id.0).collect();
    let types: Vec<&str> = applied.iter().map(|record| record.record_type.as_str()).collect();
    let keys: Vec<Option<&str>> = applied.iter().map(|record| record.key.as_deref()).collect();
    let payloads: Vec<&str> = applied.iter().map(|record| record.payload.get()).collect();
    transaction
        .execute_typed(
            INSERT_APPLIED,
            &[
                (&batch.device.0, Type::UUID),
                (&batch.id.0, Type::UUID),
                (&now, Type::INT8),
                (&seqs, Type::INT8_ARRAY),
                (&ids, Type::UUID_ARRAY),
                (&types, Type::TEXT_ARRAY),
                (&keys, Type::TEXT_ARRAY),
                (&payloads, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// Only whole digests are stored. Bytes of another length become a digest that equals none of them.
pub(super) fn decode_digest(bytes: &[u8]) -> Sha256Digest {
    bytes.try_into().unwrap_or_default()
}
