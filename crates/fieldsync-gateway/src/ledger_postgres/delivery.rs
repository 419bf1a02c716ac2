//! The transactions of a delivery.
//!
//! A row of a record or key names its delivery, and until when that has it: by the database's clock, so that the clocks
//! of gateways do not matter. Then the row is free for others. A gateway that finds the row of another one, even one
//! that was not committed yet, sees the newest end of the lease. The row of a record whose outcome is uncertain stays, with
//! a lease that has lapsed: then the same record can be leased, and other content of the same device.
//!
//! All transactions lock in the same order, so that they cannot deadlock: the index of applied records, then keys, then
//! record ids, each sorted; then what [`super::settle`] names after them.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::claims::duration_to_ms;
use super::leases::{
    key_digests, lease_keys, lease_records, load_sent, release_keys, release_records, release_undelivered,
};
use super::operation_error::OperationError;
use super::records::{RecordColumns, insert_outbox, insert_records, load_known};
use super::schema::read_forwards;
use super::session_pool::DbSession;
use super::settle::{delete_response, insert_response, load_response};
use crate::digest::Sha256Digest;
use crate::ledger::{
    Admission, AdmissionFacts, BatchSettlement, DeliveryId, DeliveryOutcome, StoredVerdict, admit_records,
};
use crate::model::RecordId;
use crate::protocol::wire::BatchResponse;
use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

const EXTEND_KEYS: &str = "
    UPDATE fieldsync.delivery_keys SET lease_until = clock_timestamp() + $4 * interval '1 millisecond'
    WHERE (device_id, key_digest) IN (
        SELECT device_id, key_digest FROM fieldsync.delivery_keys
        WHERE delivery = $1 AND device_id = $2 AND key_digest = ANY($3) AND lease_until > clock_timestamp()
        ORDER BY key_digest FOR UPDATE
    )";
const EXTEND_RECORDS: &str = "
    UPDATE fieldsync.deliveries SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE id IN (
        SELECT id FROM fieldsync.deliveries
        WHERE delivery = $1 AND id = ANY($2) AND lease_until > clock_timestamp() ORDER BY id FOR UPDATE
    )";
/// The first receipt of a record stays.
const ADD_RECEIPTS: &str = "
    UPDATE fieldsync.records SET receipt = new.receipt
    FROM unnest($1, $2, $3) AS new (id, digest, receipt)
    WHERE records.id = new.id AND records.digest = new.digest AND records.receipt IS NULL";
/// Of gateways that died.
const DELETE_DEAD_KEYS: &str =
    "DELETE FROM fieldsync.delivery_keys WHERE lease_until < clock_timestamp() - interval '1 hour'";
const DELETE_OLD_SENT: &str = "
    DELETE FROM fieldsync.deliveries WHERE id IN (
        SELECT id FROM fieldsync.deliveries WHERE lease_until < clock_timestamp() - $1 * interval '1 millisecond'
        LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// Leases what may be handed over, and says what is known of each record.
pub(super) async fn begin_delivery(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: Duration,
) -> Result<Vec<Admission>, OperationError> {
    let transaction = session.begin().await?;
    let lease = duration_to_ms(lease);
    let valid: Vec<&ValidatedRecord> = batch.records.iter().filter(|record| record.fault.is_none()).collect();
    let leased_keys = lease_keys(&transaction, batch, delivery, lease, &valid).await?;
    let leased = lease_records(&transaction, batch, delivery, lease, &valid).await?;
    // Only now: what another delivery of the same records applied was committed before its rows became free.
    let ids: Vec<Uuid> = valid.iter().map(|record| record.id.0).collect();
    let known = load_known(&transaction, &ids).await?;
    let sent =
        load_sent(&transaction, ids.iter().filter(|id| !leased.records.contains(&RecordId(**id)))).await?;
    let facts = AdmissionFacts { known, sent, leased_records: leased.records, leased_keys };
    let admissions = admit_records(batch, &facts);
    if !admissions.contains(&Admission::Deliver) {
        transaction.roll_back().await?;
        return Ok(admissions);
    }
    release_undelivered(&transaction, batch, delivery, &admissions, &leased.sent_before).await?;
    transaction.commit().await?;
    Ok(admissions)
}

/// Returns false if the lease of one of these records has ended, or that of its key.
pub(super) async fn extend_lease(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    positions: &[usize],
    lease: Duration,
) -> Result<bool, OperationError> {
    let records = positions.iter().filter_map(|position| batch.records.get(*position));
    let ids: Vec<Uuid> = records.clone().map(|record| record.id.0).collect();
    let keys = key_digests(records);
    let slices: Vec<&[u8]> = keys.iter().map(Sha256Digest::as_slice).collect();
    let lease = duration_to_ms(lease);
    let transaction = session.begin().await?;
    let mut extended = 0;
    if !slices.is_empty() {
        extended += transaction
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
    extended += transaction
        .execute_typed(
            EXTEND_RECORDS,
            &[(&delivery.0, Type::UUID), (&ids, Type::UUID_ARRAY), (&lease, Type::INT8)],
        )
        .await?;
    if extended < (keys.len() + ids.len()) as u64 {
        transaction.roll_back().await?;
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}

/// Stores verdicts, and ends the leases of their records.
pub(super) async fn record_verdicts(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    verdicts: &[StoredVerdict],
) -> Result<(), OperationError> {
    let transaction = session.begin().await?;
    insert_delivered(&transaction, batch, verdicts).await?;
    let records = verdicts.iter().filter_map(|verdict| batch.records.get(verdict.position));
    let ids: Vec<Uuid> = records.map(|record| record.id.0).collect();
    release_records(&transaction, delivery, &ids, &[]).await?;
    transaction.commit().await
}

/// Stores verdicts and the response, and ends the lease.
pub(super) async fn finish_delivery(
    session: &mut DbSession,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    verdicts: &[StoredVerdict],
    response: &BatchResponse,
) -> Result<BatchSettlement, OperationError> {
    let transaction = session.begin().await?;
    insert_delivered(&transaction, batch, verdicts).await?;
    release_keys(&transaction, batch, delivery, &key_digests(batch.records.iter())).await?;
    let is_uncertain = |verdict: &&StoredVerdict| verdict.outcome == DeliveryOutcome::Uncertain;
    let uncertain = verdicts.iter().filter(is_uncertain);
    let sent: Vec<Uuid> =
        uncertain.filter_map(|verdict| Some(batch.records.get(verdict.position)?.id.0)).collect();
    release_records(&transaction, delivery, &record_ids(batch), &sent).await?;
    let settlement = store_final_response(&transaction, batch, response).await?;
    transaction.commit().await?;
    Ok(settlement)
}

/// Forgets up to `max` records that were sent longer ago than `retention`, and the keys that gateways leased which died.
/// Returns how many records.
pub(super) async fn prune_sent(
    session: &DbSession,
    retention: Duration,
    max: i64,
) -> Result<u64, OperationError> {
    session.client.execute_typed(DELETE_DEAD_KEYS, &[]).await?;
    let retention = duration_to_ms(retention);
    Ok(session.client.execute_typed(DELETE_OLD_SENT, &[(&retention, Type::INT8), (&max, Type::INT8)]).await?)
}

/// Stores what the destination has, and the payloads of what was not known before if they are to be forwarded.
async fn insert_delivered(
    transaction: &Client,
    batch: &ValidatedBatch,
    verdicts: &[StoredVerdict],
) -> Result<(), OperationError> {
    let (mut delivered, mut receipts) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        if let (Some(record), DeliveryOutcome::Applied(receipt)) =
            (batch.records.get(verdict.position), &verdict.outcome)
        {
            delivered.push(record);
            receipts.push(receipt.as_str());
        }
    }
    if delivered.is_empty() {
        return Ok(());
    }
    let new = insert_records(transaction, batch, &delivered, &receipts).await?;
    if new.len() < delivered.len() {
        let RecordColumns { ids, digests, .. } = RecordColumns::of(&delivered);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&ids, Type::UUID_ARRAY), (&digests, Type::BYTEA_ARRAY), (&receipts, Type::TEXT_ARRAY)];
        transaction.execute_typed(ADD_RECEIPTS, &parameters).await?;
    }
    if read_forwards(transaction).await? {
        delivered.retain(|record| new.contains_key(&record.id.0));
        insert_outbox(transaction, batch, &delivered, &new).await?;
    }
    Ok(())
}

/// Stores the response, unless the batch has one that is valid.
async fn store_final_response(
    transaction: &Client,
    batch: &ValidatedBatch,
    response: &BatchResponse,
) -> Result<BatchSettlement, OperationError> {
    if let Some(stored) = load_response(transaction, batch.device.0, batch.id.0).await? {
        if stored.fingerprint != batch.fingerprint || !stored.lacks_receipts() {
            return Ok(stored.settle_for(&batch.fingerprint));
        }
        delete_response(transaction, batch).await?;
    }
    if insert_response(transaction, batch, response).await? {
        Ok(BatchSettlement::New(response.clone()))
    } else {
        // Another gateway stored one meanwhile: the next attempt finds it.
        Err(OperationError::Conflict)
    }
}

fn record_ids(batch: &ValidatedBatch) -> Vec<Uuid> {
    batch.records.iter().map(|record| record.id.0).collect()
}
