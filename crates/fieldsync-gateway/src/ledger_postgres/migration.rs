//! Brings the tables of an older gateway to the present layout, in one transaction.
//!
//! In schema 1, `records` had the ids alone and `applied` the rest, with all payloads; `counters` had the last row of
//! `applied`, and the last one that was forwarded. The tables get other names, so that every statement of a gateway of
//! that time fails as a whole. Gateways that start together wait for the row of the version.

use tokio_postgres::types::Type;

use super::device_table::CREATE_DEVICE_TABLE;
use super::lane_tables::CREATE_LANE_TABLES;
use super::operation_error::OperationError;
use super::schema::{
    CREATE_DELIVERY_TABLES, CREATE_RECORD_INDEXES, CREATE_TABLES, SCHEMA, SET_FORWARDS, has_table,
};
use super::session_pool::DbSession;

/// The version that is migrated.
pub(super) const OLD_SCHEMA: i64 = 1;

const LOCK_VERSION: &str = "SELECT value FROM fieldsync.meta WHERE key = 'schema' FOR UPDATE";
/// The first gateways of this schema had neither of these columns.
const COMPLETE_COLUMNS: &str = "
    ALTER TABLE fieldsync.records ADD COLUMN IF NOT EXISTS device_id uuid;
    ALTER TABLE fieldsync.records ADD COLUMN IF NOT EXISTS receipt text;
    ALTER TABLE fieldsync.records RENAME TO records_1;
    ALTER TABLE fieldsync.records_1 RENAME CONSTRAINT records_pkey TO records_1_pkey;
    ALTER TABLE fieldsync.batches RENAME TO responses;
    ALTER TABLE fieldsync.responses RENAME CONSTRAINT batches_pkey TO responses_pkey;
    ALTER INDEX fieldsync.batches_by_age RENAME TO responses_by_age;
";
const ADD_WAS_SENT: &str =
    "ALTER TABLE fieldsync.deliveries ADD COLUMN IF NOT EXISTS was_sent boolean NOT NULL DEFAULT false";
const ADD_PARKED_INDEX: &str = "CREATE INDEX forward_parked_by_seq ON fieldsync.forward_parked (seq)";
/// The device of a record was not always stored with its id, and always with the rest.
const COPY_RECORDS: &str = "
    INSERT INTO fieldsync.records (id, seq, digest, device_id, batch_id, type, key, applied_at_ms, receipt)
    SELECT id, seq, digest, applied.device_id, batch_id, type, key, applied_at_ms, receipt
    FROM fieldsync.applied AS applied JOIN fieldsync.records_1 USING (id)
    ON CONFLICT DO NOTHING";
const CONTINUE_SEQUENCE: &str = "
    SELECT setval('fieldsync.record_seq', (SELECT seq + 1 FROM fieldsync.counters WHERE name = 'applied'), false)";
const SELECT_FORWARDED: &str = "SELECT seq FROM fieldsync.counters WHERE name = 'forwarded'";
const COPY_OUTBOX: &str = "
    INSERT INTO fieldsync.outbox (seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload
    FROM fieldsync.applied WHERE seq > $1";
const DROP_OLD_TABLES: &str = "DROP TABLE fieldsync.records_1, fieldsync.applied, fieldsync.counters";

/// Migrates the tables, unless another gateway does it first. `forwards` says that this gateway forwards records.
pub(super) async fn migrate_tables(session: &mut DbSession, forwards: bool) -> Result<(), OperationError> {
    let transaction = session.begin().await?;
    transaction.lift_time_limit().await?;
    let version: i64 = transaction.query_typed_one(LOCK_VERSION, &[]).await?.try_get(0)?;
    if version != OLD_SCHEMA {
        transaction.roll_back().await?;
        return Err(OperationError::Conflict);
    }
    transaction.batch_execute(COMPLETE_COLUMNS).await?;
    if has_table(&transaction, "deliveries").await? {
        transaction.batch_execute(ADD_WAS_SENT).await?;
    } else {
        transaction.batch_execute(CREATE_DELIVERY_TABLES).await?;
    }
    if has_table(&transaction, "forward_parked").await? {
        transaction.batch_execute(ADD_PARKED_INDEX).await?;
    } else {
        transaction.batch_execute(CREATE_LANE_TABLES).await?;
    }
    transaction.batch_execute(CREATE_TABLES).await?;
    transaction.batch_execute(CREATE_DEVICE_TABLE).await?;
    let records = transaction.execute_typed(COPY_RECORDS, &[]).await?;
    transaction.batch_execute(CREATE_RECORD_INDEXES).await?;
    transaction.query_typed_one(CONTINUE_SEQUENCE, &[]).await?;
    let forwarded: i64 = transaction.query_typed_one(SELECT_FORWARDED, &[]).await?.try_get(0)?;
    // Another gateway may forward, and may not have handed on a record so far.
    let waiting = transaction.execute_typed(COPY_OUTBOX, &[(&forwarded, Type::INT8)]).await?;
    if forwards || waiting > 0 {
        transaction.execute_typed(SET_FORWARDS, &[]).await?;
    }
    transaction.batch_execute(DROP_OLD_TABLES).await?;
    let update = "UPDATE fieldsync.meta SET value = $1 WHERE key = 'schema'";
    transaction.execute_typed(update, &[(&SCHEMA, Type::INT8)]).await?;
    transaction.commit().await?;
    tracing::info!(from = OLD_SCHEMA, to = SCHEMA, records, "tables of the ledger migrated");
    if waiting > 0 && !forwards {
        tracing::warn!(
            waiting,
            "payloads were kept for a gateway that forwards records; if none is to, see how to stop forwarding in \
             the documentation of the server"
        );
    }
    Ok(())
}
