//! The transaction that applies a batch.
//!
//! Most batches are new, and none of their records is known. Their response follows from the batch alone, so that one
//! statement settles them: it writes everything, or nothing if it finds the batch or a record known. Then the same is
//! done step by step.
//!
//! All such transactions write rows in the same order, so that they cannot deadlock: record ids, sorted; then the row
//! of the response. If another transaction has just inserted one of the record ids, this one waits for its end, and
//! then finds the record known. No row is common to all of them.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::operation_error::OperationError;
use super::records::{RecordColumns, decode_digest, insert_outbox, insert_records, load_known};
use super::schema::read_forwards;
use super::session_pool::DbSession;
use super::transaction::DURABLE_COMMIT;
use crate::ledger::{BatchSettlement, HeldKeys, StoredResponse};
use crate::model::RecordId;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{INVALID_DATA, KnownRecord, ValidatedBatch, ValidatedRecord};

/// Between these two stands what is done with payloads.
const SETTLE_NEW_BATCH: [&str; 2] = [
    "
    ), numbered AS (
        SELECT nextval('fieldsync.record_seq') AS seq, now_ms, new.*
        FROM clear CROSS JOIN unnest($6, $7, $8, $9, $10) AS new (id, digest, type, key, payload)
    ), inserted AS (
        INSERT INTO fieldsync.records (id, seq, digest, device_id, batch_id, type, key, applied_at_ms)
        SELECT id, seq, digest, $1, $2, type, key, now_ms FROM numbered ORDER BY id RETURNING id
    )",
    "
    INSERT INTO fieldsync.responses (device_id, batch_id, fingerprint, answered_at_ms, answer)
    SELECT $1, $2, $3, now_ms, $4 FROM clear WHERE (SELECT count(*) FROM inserted) = cardinality($6)",
];
/// Nothing is written unless all of this holds, and the setting of the commit is made first.
const CLEAR: &str = "
    clear AS (
        SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms
        WHERE (SELECT setting FROM durable) IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM fieldsync.responses WHERE device_id = $1 AND batch_id = $2)
            AND NOT EXISTS (SELECT 1 FROM fieldsync.records WHERE id = ANY($5))";
/// Gateways may begin and end to forward while this one runs.
const IF_NOT_FORWARDED: &str = "AND NOT EXISTS (SELECT 1 FROM fieldsync.meta WHERE key = 'forwards')";
const IF_FORWARDED: &str = "AND EXISTS (SELECT 1 FROM fieldsync.meta WHERE key = 'forwards')";
const INTO_OUTBOX: &str = ", handed AS (
        INSERT INTO fieldsync.outbox (seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
        SELECT seq, id, $1, $2, type, key, now_ms, payload FROM numbered
    )";
const DELETE_RECORDS: &str = "DELETE FROM fieldsync.records WHERE id = ANY($1)";
const INSERT_RESPONSE: &str = "
    INSERT INTO fieldsync.responses (device_id, batch_id, fingerprint, answered_at_ms, answer)
    VALUES ($1, $2, $3, (extract(epoch FROM statement_timestamp()) * 1000)::bigint, $4) ON CONFLICT DO NOTHING";

/// The statement that settles a new batch. `has_outbox` says that its payloads are stored.
pub(super) fn settle_statement(has_outbox: bool) -> String {
    let [start, end] = SETTLE_NEW_BATCH;
    let (condition, outbox) = if has_outbox { (IF_FORWARDED, INTO_OUTBOX) } else { (IF_NOT_FORWARDED, "") };
    format!("WITH {DURABLE_COMMIT}, {CLEAR} {condition} {start} {outbox} {end}")
}

/// Settles a batch by one statement. Returns `None`, and has stored nothing, if it or one of its records is known, or if payloads
/// have to be treated otherwise.
///
/// The statement is that of [`settle_statement`] with this `has_outbox`.
pub(super) async fn settle_new_batch(
    session: &mut DbSession,
    statement: &str,
    has_outbox: bool,
    batch: &ValidatedBatch,
) -> Result<Option<BatchSettlement>, OperationError> {
    let results = decide_results(batch, &HashMap::new(), |_| true)?;
    let applied = applied_records(batch, &results);
    let columns = RecordColumns::of(&applied);
    let valid: Vec<Uuid> = valid_records(batch).map(|record| record.id.0).collect();
    let payloads: Vec<Option<&str>> =
        applied.iter().map(|record| has_outbox.then(|| record.payload.get())).collect();
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    let text = serde_json::to_string(&response)?;
    let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
        (&batch.device.0, Type::UUID),
        (&batch.id.0, Type::UUID),
        (&batch.fingerprint.as_slice(), Type::BYTEA),
        (&text, Type::TEXT),
        (&valid, Type::UUID_ARRAY),
        (&columns.ids, Type::UUID_ARRAY),
        (&columns.digests, Type::BYTEA_ARRAY),
        (&columns.types, Type::TEXT_ARRAY),
        (&columns.keys, Type::TEXT_ARRAY),
        (&payloads, Type::TEXT_ARRAY),
    ];
    let (values, types): (Vec<&(dyn ToSql + Sync)>, Vec<Type>) = parameters.iter().cloned().unzip();
    let settled = match session.prepare(statement, &types).await? {
        Some(prepared) => session.client.execute(&prepared, &values).await,
        None => session.client.execute_typed(statement, &parameters).await,
    };
    match settled {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(BatchSettlement::New(response))),
        // Another gateway inserted one of the rows after this statement began.
        Err(error) if error.code().is_some_and(|state| state.code() == "23505") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Applies the new records and stores the response, unless the batch already has a response. Returns whether the ledger
/// has an outbox, too.
pub(super) async fn settle_batch(
    session: &mut DbSession,
    batch: &ValidatedBatch,
) -> Result<(BatchSettlement, bool), OperationError> {
    let has_outbox = read_forwards(&session.client).await?;
    if let Some(stored) = load_response(&session.client, batch.device.0, batch.id.0).await? {
        return Ok((stored.settle_for(&batch.fingerprint), has_outbox));
    }
    let transaction = session.begin().await?;
    let valid: Vec<&ValidatedRecord> = valid_records(batch).collect();
    let new = insert_records(&transaction, batch, &valid, &[]).await?;
    let known_ids: Vec<Uuid> =
        valid.iter().map(|record| record.id.0).filter(|id| !new.contains_key(id)).collect();
    let known = load_known(&transaction, &known_ids).await?;
    let results = decide_results(batch, &known, |id| new.contains_key(&id.0))?;
    let applied = applied_records(batch, &results);
    let applied_ids: HashSet<Uuid> = applied.iter().map(|record| record.id.0).collect();
    // Which records are held is known only once the ids were inserted.
    let held: Vec<Uuid> = new.keys().filter(|id| !applied_ids.contains(id)).copied().collect();
    if !held.is_empty() {
        transaction.execute_typed(DELETE_RECORDS, &[(&held, Type::UUID_ARRAY)]).await?;
    }
    if has_outbox {
        insert_outbox(&transaction, batch, &applied, &new).await?;
    }
    let response = BatchResponse { batch_id: batch.id, replayed: false, results };
    if !insert_response(&transaction, batch, &response).await? {
        // The same batch was settled meanwhile: roll back, and find its response in the next attempt.
        transaction.roll_back().await?;
        return Err(OperationError::Conflict);
    }
    transaction.commit().await?;
    Ok((BatchSettlement::New(response), has_outbox))
}

fn valid_records(batch: &ValidatedBatch) -> impl Iterator<Item = &ValidatedRecord> {
    batch.records.iter().filter(|record| record.fault.is_none())
}

fn applied_records<'b>(batch: &'b ValidatedBatch, results: &[RecordResult]) -> Vec<&'b ValidatedRecord> {
    let with_results = batch.records.iter().zip(results);
    let applied = with_results.filter(|(_, result)| result.status == RecordStatus::Applied);
    applied.map(|(record, _)| record).collect()
}

/// The result of each record.
fn decide_results(
    batch: &ValidatedBatch,
    known: &HashMap<RecordId, KnownRecord>,
    is_new: impl Fn(RecordId) -> bool,
) -> Result<Vec<RecordResult>, OperationError> {
    let mut held_keys = HeldKeys::default();
    let mut results = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let own = match (record.fault, known.get(&record.id)) {
            (Some(fault), _) => Some(record.reject(INVALID_DATA, fault)),
            (None, Some(known)) => Some(record.compare_with_known(known, batch.device)),
            (None, None) if is_new(record.id) => None,
            // It was deleted from the table in between.
            (None, None) => return Err(OperationError::Conflict),
        };
        let result = held_keys.find_result(record, own, || None);
        results.push(result.unwrap_or_else(|| record.confirm(RecordStatus::Applied)));
    }
    Ok(results)
}

/// Returns false if the batch has a response already.
pub(super) async fn insert_response(
    client: &Client,
    batch: &ValidatedBatch,
    response: &BatchResponse,
) -> Result<bool, OperationError> {
    let text = serde_json::to_string(response)?;
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&batch.device.0, Type::UUID),
        (&batch.id.0, Type::UUID),
        (&batch.fingerprint.as_slice(), Type::BYTEA),
        (&text, Type::TEXT),
    ];
    Ok(client.execute_typed(INSERT_RESPONSE, &parameters).await? > 0)
}

pub(super) async fn delete_response(client: &Client, batch: &ValidatedBatch) -> Result<(), OperationError> {
    let delete = "DELETE FROM fieldsync.responses WHERE device_id = $1 AND batch_id = $2";
    client.execute_typed(delete, &[(&batch.device.0, Type::UUID), (&batch.id.0, Type::UUID)]).await?;
    Ok(())
}

/// The stored response to a batch.
pub(super) async fn load_response(
    client: &Client,
    device: Uuid,
    batch: Uuid,
) -> Result<Option<StoredResponse>, OperationError> {
    let select = "SELECT fingerprint, answer FROM fieldsync.responses WHERE device_id = $1 AND batch_id = $2";
    let row = client.query_typed_opt(select, &[(&device, Type::UUID), (&batch, Type::UUID)]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(StoredResponse {
        fingerprint: decode_digest(row.try_get(0)?),
        response: serde_json::from_str(row.try_get(1)?)?,
    }))
}
