//! The rows of applied records: their ids and the listing, and where records are forwarded, the outbox.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error as DatabaseError, Row};
use uuid::Uuid;

use super::claims::duration_to_ms;
use super::operation_error::OperationError;
use super::{count_to_i64, to_u64};
use crate::digest::Sha256Digest;
use crate::ledger::{AppliedRecord, PageLimit};
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::validated_batch::{KnownRecord, ValidatedBatch, ValidatedRecord};

/// The numbers are taken in the order of the batch, and the ids locked in one order by all gateways.
const INSERT_RECORDS: &str = "
    WITH numbered AS (
        SELECT nextval('fieldsync.record_seq') AS seq, id, digest, type, key, receipt
        FROM unnest($3, $4, $5, $6, $7) AS new (id, digest, type, key, receipt)
    )
    INSERT INTO fieldsync.records (id, seq, digest, device_id, batch_id, type, key, applied_at_ms, receipt)
    SELECT id, seq, digest, $1, $2, type, key, (extract(epoch FROM statement_timestamp()) * 1000)::bigint, receipt
    FROM numbered ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id, seq";
const INSERT_OUTBOX: &str = "
    INSERT INTO fieldsync.outbox (seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
    SELECT seq, id, $1, $2, type, key, (extract(epoch FROM statement_timestamp()) * 1000)::bigint, payload
    FROM unnest($3, $4, $5, $6, $7) AS new (seq, id, type, key, payload)";
const SELECT_KNOWN_RECORDS: &str =
    "SELECT id, digest, device_id, receipt FROM fieldsync.records WHERE id = ANY($1)";
const SELECT_LISTING: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms FROM (
        SELECT *, sum(size) OVER (ORDER BY seq) - size AS bytes_before FROM (
            SELECT *, octet_length(type) + coalesce(octet_length(key), 0) AS size
            FROM fieldsync.records WHERE seq > $1 ORDER BY seq LIMIT $2
        ) AS next
    ) AS sized WHERE bytes_before < $3 ORDER BY seq";
/// The oldest records, without those whose payload still waits.
const DELETE_OLD_RECORDS: &str = "
    DELETE FROM fieldsync.records WHERE id IN (
        SELECT id FROM fieldsync.records WHERE applied_at_ms < (extract(epoch FROM statement_timestamp()) * 1000)::bigint - $1
            AND NOT EXISTS (SELECT 1 FROM fieldsync.outbox WHERE outbox.seq = records.seq)
            AND NOT EXISTS (SELECT 1 FROM fieldsync.forward_parked WHERE forward_parked.seq = records.seq)
        ORDER BY applied_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// The columns of records, as parameters of `unnest`.
pub(super) struct RecordColumns<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) digests: Vec<&'a [u8]>,
    pub(super) types: Vec<&'a str>,
    pub(super) keys: Vec<Option<&'a str>>,
}

impl<'a> RecordColumns<'a> {
    pub(super) fn of(records: &[&'a ValidatedRecord]) -> Self {
        Self {
            ids: records.iter().map(|record| record.id.0).collect(),
            digests: records.iter().map(|record| record.digest.as_slice()).collect(),
            types: records.iter().map(|record| record.record_type.as_str()).collect(),
            keys: records.iter().map(|record| record.key.as_deref()).collect(),
        }
    }
}

/// Inserts those of the records that are not known, and returns the number of each. `receipts` has one for each record,
/// or none at all.
pub(super) async fn insert_records(
    client: &Client,
    batch: &ValidatedBatch,
    records: &[&ValidatedRecord],
    receipts: &[&str],
) -> Result<HashMap<Uuid, i64>, OperationError> {
    let columns = RecordColumns::of(records);
    let receipts: Vec<Option<&str>> = (0..records.len()).map(|nth| receipts.get(nth).copied()).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&batch.device.0, Type::UUID),
        (&batch.id.0, Type::UUID),
        (&columns.ids, Type::UUID_ARRAY),
        (&columns.digests, Type::BYTEA_ARRAY),
        (&columns.types, Type::TEXT_ARRAY),
        (&columns.keys, Type::TEXT_ARRAY),
        (&receipts, Type::TEXT_ARRAY),
    ];
    let mut seqs = HashMap::new();
    for row in client.query_typed(INSERT_RECORDS, &parameters).await? {
        seqs.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(seqs)
}

/// Adds the payloads of these records, which have these numbers, to the outbox.
pub(super) async fn insert_outbox(
    client: &Client,
    batch: &ValidatedBatch,
    records: &[&ValidatedRecord],
    seqs: &HashMap<Uuid, i64>,
) -> Result<(), OperationError> {
    if records.is_empty() {
        return Ok(());
    }
    let columns = RecordColumns::of(records);
    let seqs: Vec<Option<i64>> = columns.ids.iter().map(|id| seqs.get(id).copied()).collect();
    let payloads: Vec<&str> = records.iter().map(|record| record.payload.get()).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&batch.device.0, Type::UUID),
        (&batch.id.0, Type::UUID),
        (&seqs, Type::INT8_ARRAY),
        (&columns.ids, Type::UUID_ARRAY),
        (&columns.types, Type::TEXT_ARRAY),
        (&columns.keys, Type::TEXT_ARRAY),
        (&payloads, Type::TEXT_ARRAY),
    ];
    client.execute_typed(INSERT_OUTBOX, &parameters).await?;
    Ok(())
}

/// What is known of these records.
pub(super) async fn load_known(
    client: &Client,
    ids: &[Uuid],
) -> Result<HashMap<RecordId, KnownRecord>, OperationError> {
    let mut known = HashMap::new();
    if ids.is_empty() {
        return Ok(known);
    }
    for row in client.query_typed(SELECT_KNOWN_RECORDS, &[(&ids, Type::UUID_ARRAY)]).await? {
        let record = KnownRecord {
            digest: decode_digest(row.try_get(1)?),
            device: Some(DeviceId(row.try_get(2)?)),
            receipt: row.try_get::<_, Option<&str>>(3)?.and_then(Receipt::parse),
        };
        known.insert(RecordId(row.try_get(0)?), record);
    }
    Ok(known)
}

/// A page of the listing.
pub(super) async fn load_listing(
    client: &Client,
    seq: i64,
    limit: PageLimit,
) -> Result<Vec<AppliedRecord>, OperationError> {
    let (rows, bytes) = (count_to_i64(limit.rows), count_to_i64(limit.bytes));
    let page = client
        .query_typed(SELECT_LISTING, &[(&seq, Type::INT8), (&rows, Type::INT8), (&bytes, Type::INT8)])
        .await?;
    page.iter().map(|row| Ok(decode_record(row)?)).collect()
}

/// The first seven columns.
pub(super) fn decode_record(row: &Row) -> Result<AppliedRecord, DatabaseError> {
    Ok(AppliedRecord {
        seq: to_u64(row.try_get(0)?),
        id: RecordId(row.try_get(1)?),
        device: DeviceId(row.try_get(2)?),
        batch: BatchId(row.try_get(3)?),
        record_type: row.try_get(4)?,
        key: row.try_get(5)?,
        applied_at: to_u64(row.try_get(6)?),
    })
}

/// Forgets records that were applied longer ago than `retention`, and returns how many.
pub(super) async fn prune_records(
    client: &Client,
    retention: Duration,
    max: usize,
) -> Result<usize, OperationError> {
    let (retention, rows) = (duration_to_ms(retention), count_to_i64(max));
    let deleted =
        client.execute_typed(DELETE_OLD_RECORDS, &[(&retention, Type::INT8), (&rows, Type::INT8)]).await?;
    Ok(usize::try_from(deleted).unwrap_or(max))
}

/// Only whole digests are stored. Bytes of another length become a digest that equals none of them.
pub(super) fn decode_digest(bytes: &[u8]) -> Sha256Digest {
    bytes.try_into().unwrap_or_default()
}
