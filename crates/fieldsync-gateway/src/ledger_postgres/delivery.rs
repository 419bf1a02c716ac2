//! The transactions of a delivery.
//!
//! A row of a record or key names its delivery, and until when that has it: by the database's clock, so that the clocks
//! of gateways do not matter. Then the row is free for others. A gateway that finds the row of another one, even one
//! that was not committed yet, sees the newest end of the lease.
//!
//! All transactions lock in the same order, so that they cannot deadlock: the index of applied records, then keys, then
//! record ids, each sorted; then what [`super::settle`] names after them.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::operation_error::OperationError;
use super::session_pool::DbSession;
use super::settle::{delete_response, insert_applied, insert_response, load_known, load_response};
use crate::clock::millis;
use crate::digest::{Sha256Digest, sha256};
use crate::ledger::{Admission, AdmissionFacts, BatchSettlement, DeliveryId, StoredVerdict, admit_records};
use crate::model::RecordId;
use crate::protocol::wire::BatchResponse;
use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

const LEASE_KEYS: &str = "
    INSERT INTO fieldsync.delivery_keys AS present (device_id, key_digest, delivery, lease_until)
    SELECT $1, key_digest, $2, clock_timestamp() + $3 * interval '1 millisecond'
    FROM unnest($4) AS new (key_digest) ORDER BY key_digest
    ON CONFLICT (device_id, key_digest) DO UPDATE
    SET delivery = excluded.delivery, lease_until = excluded.lease_until
    WHERE present.delivery = excluded.delivery OR present.lease_until <= clock_timestamp()
    RETURNING key_digest";
const LEASE_RECORDS: &str = "
    INSERT INTO fieldsync.deliveries AS present (id, device_id, digest, delivery, lease_until)
    SELECT id, $1, digest, $2, clock_timestamp() + $3 * interval '1 millisecond'
    FROM unnest($4, $5) AS new (id, digest) ORDER BY id
    ON CONFLICT (id) DO UPDATE
    SET device_id = excluded.device_id, digest = excluded.digest, delivery = excluded.delivery,
        lease_until = excluded.lease_until
    WHERE present.delivery = excluded.delivery OR present.lease_until <= clock_timestamp()
    RETURNING id";
const COUNT_LAPSED: &str = "
    SELECT count(*) FROM fieldsync.deliveries
    WHERE id = ANY($2) AND delivery = $1 AND lease_until <= clock_timestamp()";
const EXTEND_KEYS: &str = "
    UPDATE fieldsync.delivery_keys SET lease_until = clock_timestamp() + $4 * interval '1 millisecond'
    WHERE (device_id, key_digest) IN (
        SELECT device_id, key_digest FROM fieldsync.delivery_keys
        WHERE delivery = $1 AND device_id = $2 AND key_digest = ANY($3)
        ORDER BY key_digest FOR UPDATE
    )";
const EXTEND_RECORDS: &str = "
    UPDATE fieldsync.deliveries SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE id IN (
        SELECT id FROM fieldsync.deliveries WHERE delivery = $1 AND id = ANY($2) ORDER BY id FOR UPDATE
    )";
const RELEASE_KEYS: &str = "
    DELETE FROM fieldsync.delivery_keys WHERE (device_id, key_digest) IN (
        SELECT device_id, key_digest FROM fieldsync.delivery_keys
        WHERE delivery = $1 AND device_id = $2 AND key_digest = ANY($3)
        ORDER BY key_digest FOR UPDATE
    )";
const RELEASE_RECORDS: &str = "
    DELETE FROM fieldsync.deliveries WHERE id IN (
        SELECT id FROM fieldsync.deliveries WHERE delivery = $1 AND id = ANY($2) ORDER BY id FOR UPDATE
    )";
/// The first receipt of a record stays.
const INSERT_DELIVERED: &str = "
    INSERT INTO fieldsync.records AS known (id, digest, device_id, receipt)
    SELECT id, digest, $1, receipt FROM unnest($2, $3, $4) AS new (id, digest, receipt) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET receipt = coalesce(known.receipt, excluded.receipt)
    WHERE known.digest = excluded.digest
    RETURNING id, xmax = 0";
/// Of gateways that died.
const DELETE_DEAD_KEYS: &str =
    "DELETE FROM fieldsync.delivery_keys WHERE lease_until < clock_timestamp() - interval '1 hour'";
const DELETE_DEAD_RECORDS: &str =
    "DELETE FROM fieldsync.deliveries WHERE lease_until < clock_timestamp() - interval '1 hour'";

/// Leases what may be handed over, and says what is known of each record.
pub(super) async fn begin_delivery(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: Duration,
) -> Result<Vec<Admission>, OperationError> {
    let transaction = session.client.transaction().await?;
    let lease = to_ms(lease);
    let valid: Vec<&ValidatedRecord> = batch.records.iter().filter(|record| record.fault.is_none()).collect();
    let leased_keys = lease_keys(&transaction, batch, delivery, lease, &valid).await?;
    let leased_records = lease_records(&transaction, batch, delivery, lease, &valid).await?;
    // Only now: what another delivery of the same records applied was committed before its rows became free.
    let ids: Vec<Uuid> = valid.iter().map(|record| record.id.0).collect();
    let known = load_known(&transaction, &ids).await?;
    let facts = AdmissionFacts { known, leased_records, leased_keys };
    let admissions = admit_records(batch, &facts);
    if !admissions.contains(&Admission::Deliver) {
        transaction.rollback().await?;
        return Ok(admissions);
    }
    release_undelivered(&transaction, batch, delivery, &admissions).await?;
    transaction.commit().await?;
    Ok(admissions)
}

/// Returns false if the lease has ended.
pub(super) async fn extend_lease(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: Duration,
) -> Result<bool, OperationError> {
    let transaction = session.client.transaction().await?;
    let (lease, ids) = (to_ms(lease), record_ids(batch));
    let lapsed: i64 = transaction
        .query_typed_one(COUNT_LAPSED, &[(&delivery.0, Type::UUID), (&ids, Type::UUID_ARRAY)])
        .await?
        .try_get(0)?;
    if lapsed > 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    let keys = key_digests(batch.records.iter());
    let slices: Vec<&[u8]> = keys.iter().map(Sha256Digest::as_slice).collect();
    if !slices.is_empty() {
        transaction
            .execute_typed(
                EXTEND_KEYS,
                &[
                    (&delivery.0, Type::UUID),
                    (&batch.device.0, Type::UUID),
                    (&slices, Type::BYTEA_ARRAY),
                    (&lease, Type::INT8),
                ],
            )
            .await?;
    }
    transaction
        .execute_typed(
            EXTEND_RECORDS,
            &[(&delivery.0, Type::UUID), (&ids, Type::UUID_ARRAY), (&lease, Type::INT8)],
        )
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Stores verdicts, and ends the leases of their records.
pub(super) async fn record_verdicts(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    verdicts: &[StoredVerdict],
    now: i64,
) -> Result<(), OperationError> {
    let transaction = session.client.transaction().await?;
    let applied = insert_delivered(&transaction, batch, verdicts).await?;
    let records = verdicts.iter().filter_map(|verdict| batch.records.get(verdict.position));
    let ids: Vec<Uuid> = records.map(|record| record.id.0).collect();
    release_records(&transaction, delivery, &ids).await?;
    insert_applied(&transaction, batch, &applied, now).await?;
    Ok(transaction.commit().await?)
}

/// Stores verdicts and the response, and ends the lease.
pub(super) async fn finish_delivery(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    verdicts: &[StoredVerdict],
    response: &BatchResponse,
    now: i64,
) -> Result<BatchSettlement, OperationError> {
    let transaction = session.client.transaction().await?;
    let applied = insert_delivered(&transaction, batch, verdicts).await?;
    release_keys(&transaction, batch, delivery, &key_digests(batch.records.iter())).await?;
    release_records(&transaction, delivery, &record_ids(batch)).await?;
    insert_applied(&transaction, batch, &applied, now).await?;
    let settlement = store_final_response(&transaction, batch, response, now).await?;
    transaction.commit().await?;
    Ok(settlement)
}

/// Deletes what gateways left behind that died long ago.
pub(super) async fn delete_dead_leases(session: &DbSession) -> Result<(), OperationError> {
    session.client.execute_typed(DELETE_DEAD_KEYS, &[]).await?;
    session.client.execute_typed(DELETE_DEAD_RECORDS, &[]).await?;
    Ok(())
}

async fn lease_keys(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: i64,
    valid: &[&ValidatedRecord],
) -> Result<HashSet<String>, OperationError> {
    let digests = key_digests(valid.iter().copied());
    if digests.is_empty() {
        return Ok(HashSet::new());
    }
    let slices: Vec<&[u8]> = digests.iter().map(Sha256Digest::as_slice).collect();
    let rows = transaction
        .query_typed(
            LEASE_KEYS,
            &[
                (&batch.device.0, Type::UUID),
                (&delivery.0, Type::UUID),
                (&lease, Type::INT8),
                (&slices, Type::BYTEA_ARRAY),
            ],
        )
        .await?;
    let leased = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<Vec<u8>>, _>>()?;
    let keys = valid.iter().filter_map(|record| record.key.as_ref());
    Ok(keys.filter(|key| leased.contains(key_digest(key).as_slice())).cloned().collect())
}

async fn lease_records(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: i64,
    valid: &[&ValidatedRecord],
) -> Result<HashSet<RecordId>, OperationError> {
    let ids: Vec<Uuid> = valid.iter().map(|record| record.id.0).collect();
    let digests: Vec<&[u8]> = valid.iter().map(|record| record.digest.as_slice()).collect();
    let rows = transaction
        .query_typed(
            LEASE_RECORDS,
            &[
                (&batch.device.0, Type::UUID),
                (&delivery.0, Type::UUID),
                (&lease, Type::INT8),
                (&ids, Type::UUID_ARRAY),
                (&digests, Type::BYTEA_ARRAY),
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.try_get(0).map(RecordId)).collect::<Result<_, _>>()?)
}

/// Ends the leases of what is not handed over.
async fn release_undelivered(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    admissions: &[Admission],
) -> Result<(), OperationError> {
    let (delivered, others): (Vec<_>, Vec<_>) =
        batch.records.iter().zip(admissions).partition(|(_, admission)| **admission == Admission::Deliver);
    let delivered_keys: HashSet<&str> =
        delivered.iter().filter_map(|(record, _)| record.key.as_deref()).collect();
    let is_free =
        |record: &&ValidatedRecord| record.key.as_deref().is_some_and(|key| !delivered_keys.contains(key));
    let keys = key_digests(others.iter().map(|(record, _)| *record).filter(is_free));
    release_keys(transaction, batch, delivery, &keys).await?;
    let ids: Vec<Uuid> = others.iter().map(|(record, _)| record.id.0).collect();
    release_records(transaction, delivery, &ids).await
}

async fn release_keys(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    keys: &[Sha256Digest],
) -> Result<(), OperationError> {
    if keys.is_empty() {
        return Ok(());
    }
    let slices: Vec<&[u8]> = keys.iter().map(Sha256Digest::as_slice).collect();
    transaction
        .execute_typed(
            RELEASE_KEYS,
            &[(&delivery.0, Type::UUID), (&batch.device.0, Type::UUID), (&slices, Type::BYTEA_ARRAY)],
        )
        .await?;
    Ok(())
}

async fn release_records(
    transaction: &Transaction<'_>,
    delivery: DeliveryId,
    ids: &[Uuid],
) -> Result<(), OperationError> {
    if ids.is_empty() {
        return Ok(());
    }
    transaction
        .execute_typed(RELEASE_RECORDS, &[(&delivery.0, Type::UUID), (&ids, Type::UUID_ARRAY)])
        .await?;
    Ok(())
}

/// Adds what the destination has to the index. Returns the records that were not known before.
async fn insert_delivered<'a>(
    transaction: &Transaction<'_>,
    batch: &'a ValidatedBatch,
    verdicts: &[StoredVerdict],
) -> Result<Vec<&'a ValidatedRecord>, OperationError> {
    let (mut delivered, mut receipts) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        if let (Some(record), Some(receipt)) = (batch.records.get(verdict.position), &verdict.receipt) {
            delivered.push(record);
            receipts.push(receipt.as_str());
        }
    }
    if delivered.is_empty() {
        return Ok(delivered);
    }
    let ids: Vec<Uuid> = delivered.iter().map(|record| record.id.0).collect();
    let digests: Vec<&[u8]> = delivered.iter().map(|record| record.digest.as_slice()).collect();
    let rows = transaction
        .query_typed(
            INSERT_DELIVERED,
            &[
                (&batch.device.0, Type::UUID),
                (&ids, Type::UUID_ARRAY),
                (&digests, Type::BYTEA_ARRAY),
                (&receipts, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let mut new = HashSet::new();
    for row in rows {
        if row.try_get(1)? {
            new.insert(row.try_get::<_, Uuid>(0)?);
        }
    }
    delivered.retain(|record| new.contains(&record.id.0));
    Ok(delivered)
}

/// Stores the response, unless the batch has one that is valid.
async fn store_final_response(
    transaction: &Transaction<'_>,
    batch: &ValidatedBatch,
    response: &BatchResponse,
    now: i64,
) -> Result<BatchSettlement, OperationError> {
    if let Some(stored) = load_response(transaction, batch.device.0, batch.id.0).await? {
        if stored.fingerprint != batch.fingerprint || !stored.lacks_receipts() {
            return Ok(stored.settle_for(&batch.fingerprint));
        }
        delete_response(transaction, batch).await?;
    }
    if insert_response(transaction, batch, response, now).await? {
        Ok(BatchSettlement::New(response.clone()))
    } else {
        // Another gateway stored one meanwhile: the next attempt finds it.
        Err(OperationError::Conflict)
    }
}

fn record_ids(batch: &ValidatedBatch) -> Vec<Uuid> {
    batch.records.iter().map(|record| record.id.0).collect()
}

/// Keys may be longer than an index allows.
fn key_digest(key: &str) -> Sha256Digest {
    sha256(key.as_bytes())
}

/// Each key once.
fn key_digests<'a>(records: impl Iterator<Item = &'a ValidatedRecord>) -> Vec<Sha256Digest> {
    let keys: HashSet<&str> = records.filter_map(|record| record.key.as_deref()).collect();
    keys.into_iter().map(key_digest).collect()
}

fn to_ms(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}
