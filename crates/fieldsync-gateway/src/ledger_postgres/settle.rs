//! The transaction that applies a batch.
//!
//! It takes what it changes in one order everywhere, so that no two of them wait for each other: record
//! ids, sorted; then the counter of applications; then the batch's own row. A record id that another
//! transaction has just taken makes this one wait until that one is through, and then it is known. The
//! counter is held until the commit, so the table is in the order of commits and has no gaps. It is the
//! last thing but two that is done: what goes on side by side is all before it.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use super::session_pool::{Failure, Session};
use crate::ledger::{CheckedBatch, CheckedRecord, Digest, INVALID_DATA, KeptAnswer, KnownRecord, Settled};
use crate::model::DeviceId;
use crate::protocol::wire::{BatchAnswer, RecordResult, RecordStatus};

const TAKE_RECORDS: &str = "
    INSERT INTO fieldsync.records (id, digest, device_id)
    SELECT id, digest, $3 FROM unnest($1, $2) AS new (id, digest) ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id";
const KNOWN_RECORDS: &str = "SELECT id, digest, device_id FROM fieldsync.records WHERE id = ANY($1)";
const COUNT: &str = "UPDATE fieldsync.counters SET seq = seq + $1 WHERE name = 'applied' RETURNING seq";
const APPLY: &str = "
    INSERT INTO fieldsync.applied (seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
    SELECT seq, id, $1, $2, type, key, $3, payload
    FROM unnest($4, $5, $6, $7, $8) AS new (seq, id, type, key, payload)";
const KEEP_ANSWER: &str = "
    INSERT INTO fieldsync.batches (device_id, batch_id, fingerprint, answered_at_ms, answer)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

/// Applies the records that are new, and keeps the answer, unless there is one.
pub(super) async fn settle(
    session: &mut Session,
    batch: &CheckedBatch,
    now: i64,
) -> Result<Settled, Failure> {
    let transaction = session.client.transaction().await?;
    if let Some(kept) = kept_answer(&transaction, batch.device.0, batch.id.0).await? {
        transaction.rollback().await?;
        return Ok(kept.for_fingerprint(&batch.fingerprint));
    }
    let results = judge(&transaction, batch).await?;
    apply(&transaction, batch, &results, now).await?;
    let answer = BatchAnswer { batch_id: batch.id, replayed: false, results };
    let text = serde_json::to_string(&answer)?;
    let kept = transaction
        .execute_typed(
            KEEP_ANSWER,
            &[
                (&batch.device.0, Type::UUID),
                (&batch.id.0, Type::UUID),
                (&batch.fingerprint.as_slice(), Type::BYTEA),
                (&now, Type::INT8),
                (&text, Type::TEXT),
            ],
        )
        .await?;
    if kept == 0 {
        // The same batch was settled meanwhile: all of this is undone, and its answer found.
        transaction.rollback().await?;
        return Err(Failure::Overtaken);
    }
    transaction.commit().await?;
    Ok(Settled::Fresh(answer))
}

/// The answer that a batch got.
pub(super) async fn kept_answer(
    client: &impl GenericClient,
    device: Uuid,
    batch: Uuid,
) -> Result<Option<KeptAnswer>, Failure> {
    let select = "SELECT fingerprint, answer FROM fieldsync.batches WHERE device_id = $1 AND batch_id = $2";
    let row = client.query_typed_opt(select, &[(&device, Type::UUID), (&batch, Type::UUID)]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(KeptAnswer {
        fingerprint: digest(row.try_get(0)?),
        answer: serde_json::from_str(row.try_get(1)?)?,
    }))
}

/// Decides about each record; those that are to be applied are known from here on.
async fn judge(transaction: &Transaction<'_>, batch: &CheckedBatch) -> Result<Vec<RecordResult>, Failure> {
    let (records, device) = (&batch.records, batch.device);
    let sound: Vec<&CheckedRecord> = records.iter().filter(|record| record.fault.is_none()).collect();
    let ids: Vec<Uuid> = sound.iter().map(|record| record.id.0).collect();
    let digests: Vec<&[u8]> = sound.iter().map(|record| record.digest.as_slice()).collect();
    let taken = transaction
        .query_typed(
            TAKE_RECORDS,
            &[(&ids, Type::UUID_ARRAY), (&digests, Type::BYTEA_ARRAY), (&device.0, Type::UUID)],
        )
        .await?;
    let new = taken.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Uuid>, _>>()?;
    let old: Vec<Uuid> = ids.into_iter().filter(|id| !new.contains(id)).collect();
    let mut known = HashMap::new();
    if !old.is_empty() {
        for row in transaction.query_typed(KNOWN_RECORDS, &[(&old, Type::UUID_ARRAY)]).await? {
            let first = row.try_get::<_, Option<Uuid>>(2)?.map(DeviceId);
            let record = KnownRecord { digest: digest(row.try_get(1)?), device: first };
            known.insert(row.try_get::<_, Uuid>(0)?, record);
        }
    }
    records
        .iter()
        .map(|record| match (record.fault, known.get(&record.id.0)) {
            (Some(fault), _) => Ok(record.rejected(INVALID_DATA, fault)),
            (None, Some(known)) => Ok(record.judge_known(known, device)),
            (None, None) if new.contains(&record.id.0) => Ok(record.confirmed(RecordStatus::Applied)),
            // Somebody took it out of the table in between.
            (None, None) => Err(Failure::Overtaken),
        })
        .collect()
}

async fn apply(
    transaction: &Transaction<'_>,
    batch: &CheckedBatch,
    results: &[RecordResult],
    now: i64,
) -> Result<(), Failure> {
    let applied: Vec<&CheckedRecord> = batch
        .records
        .iter()
        .zip(results)
        .filter(|(_, result)| result.status == RecordStatus::Applied)
        .map(|(record, _)| record)
        .collect();
    if applied.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(applied.len()).unwrap_or(i64::MAX);
    let last: i64 = transaction.query_typed_one(COUNT, &[(&count, Type::INT8)]).await?.try_get(0)?;
    let seqs: Vec<i64> = (last - count + 1..=last).collect();
    let ids: Vec<Uuid> = applied.iter().map(|record| record.id.0).collect();
    let types: Vec<&str> = applied.iter().map(|record| record.record_type.as_str()).collect();
    let keys: Vec<Option<&str>> = applied.iter().map(|record| record.key.as_deref()).collect();
    let payloads: Vec<&str> = applied.iter().map(|record| record.payload.get()).collect();
    transaction
        .execute_typed(
            APPLY,
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

/// Only whole digests are written. Another length would never be equal to one.
fn digest(bytes: &[u8]) -> Digest {
    bytes.try_into().unwrap_or_default()
}
