//! The rows of what is being handed over, and of what was sent without a certain outcome.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::operation_error::OperationError;
use super::records::decode_digest;
use crate::digest::{Sha256Digest, sha256};
use crate::ledger::{Admission, DeliveryId, SentRecord};
use crate::model::{DeviceId, RecordId};
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
        lease_until = excluded.lease_until, was_sent = true
    WHERE (present.digest = excluded.digest OR present.device_id = excluded.device_id)
        AND (present.delivery = excluded.delivery OR present.lease_until <= clock_timestamp())
    RETURNING id, was_sent";
const SELECT_SENT: &str = "
    SELECT id, digest, device_id FROM fieldsync.deliveries
    WHERE id = ANY($1) AND lease_until <= clock_timestamp()";
const RELEASE_KEYS: &str = "
    DELETE FROM fieldsync.delivery_keys WHERE (device_id, key_digest) IN (
        SELECT device_id, key_digest FROM fieldsync.delivery_keys
        WHERE delivery = $1 AND device_id = $2 AND key_digest = ANY($3)
        ORDER BY key_digest FOR UPDATE
    )";
/// Rows that stay belong to no delivery.
const KEEP_SENT_RECORDS: &str = "
    UPDATE fieldsync.deliveries
    SET delivery = '00000000-0000-0000-0000-000000000000', lease_until = clock_timestamp()
    WHERE id IN (
        SELECT id FROM fieldsync.deliveries WHERE delivery = $1 AND id = ANY($2) ORDER BY id FOR UPDATE
    )";
const RELEASE_RECORDS: &str = "
    DELETE FROM fieldsync.deliveries WHERE id IN (
        SELECT id FROM fieldsync.deliveries WHERE delivery = $1 AND id = ANY($2) ORDER BY id FOR UPDATE
    )";

pub(super) async fn lease_keys(
    transaction: &Client,
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

/// The records that a delivery could lease.
pub(super) struct LeasedRecords {
    pub(super) records: HashSet<RecordId>,
    /// Those that were sent before: their rows stay if they are not handed over now.
    pub(super) sent_before: HashSet<RecordId>,
}

pub(super) async fn lease_records(
    transaction: &Client,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    lease: i64,
    valid: &[&ValidatedRecord],
) -> Result<LeasedRecords, OperationError> {
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
    let mut leased = LeasedRecords { records: HashSet::new(), sent_before: HashSet::new() };
    for row in rows {
        let id = RecordId(row.try_get(0)?);
        leased.records.insert(id);
        if row.try_get(1)? {
            leased.sent_before.insert(id);
        }
    }
    Ok(leased)
}

/// Which of these were sent, and are not being handed over now.
pub(super) async fn load_sent(
    transaction: &Client,
    ids: impl Iterator<Item = &Uuid>,
) -> Result<HashMap<RecordId, SentRecord>, OperationError> {
    let ids: Vec<Uuid> = ids.copied().collect();
    let mut sent = HashMap::new();
    if ids.is_empty() {
        return Ok(sent);
    }
    for row in transaction.query_typed(SELECT_SENT, &[(&ids, Type::UUID_ARRAY)]).await? {
        let record = SentRecord { digest: decode_digest(row.try_get(1)?), device: DeviceId(row.try_get(2)?) };
        sent.insert(RecordId(row.try_get(0)?), record);
    }
    Ok(sent)
}

/// Ends the leases of what is not handed over.
pub(super) async fn release_undelivered(
    transaction: &Client,
    batch: &ValidatedBatch,
    delivery: DeliveryId,
    admissions: &[Admission],
    sent_before: &HashSet<RecordId>,
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
    let sent: Vec<Uuid> = sent_before.iter().map(|id| id.0).collect();
    release_records(transaction, delivery, &ids, &sent).await
}

pub(super) async fn release_keys(
    transaction: &Client,
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

/// Ends the leases of `ids`. The rows of those that are also in `sent` stay.
pub(super) async fn release_records(
    transaction: &Client,
    delivery: DeliveryId,
    ids: &[Uuid],
    sent: &[Uuid],
) -> Result<(), OperationError> {
    if ids.is_empty() {
        return Ok(());
    }
    let (kept, gone): (Vec<Uuid>, Vec<Uuid>) = ids.iter().partition(|id| sent.contains(id));
    for (statement, ids) in [(KEEP_SENT_RECORDS, kept), (RELEASE_RECORDS, gone)] {
        if !ids.is_empty() {
            transaction
                .execute_typed(statement, &[(&delivery.0, Type::UUID), (&ids, Type::UUID_ARRAY)])
                .await?;
        }
    }
    Ok(())
}

/// Keys may be longer than an index allows.
fn key_digest(key: &str) -> Sha256Digest {
    sha256(key.as_bytes())
}

/// Each key once.
pub(super) fn key_digests<'a>(records: impl Iterator<Item = &'a ValidatedRecord>) -> Vec<Sha256Digest> {
    let keys: HashSet<&str> = records.filter_map(|record| record.key.as_deref()).collect();
    keys.into_iter().map(key_digest).collect()
}
