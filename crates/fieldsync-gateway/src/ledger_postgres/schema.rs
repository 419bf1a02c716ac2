//! The tables of the shared ledger, created by the first gateway.
//!
//! They are in a schema of their own, so that the database can serve other purposes, too. A change of layout
//! gets a new version number, and a step in [`prepare_tables`] that migrates from the version before. A gateway
//! rejects a version that it does not know. A column that older gateways may leave empty is added without a new
//! version, so that they can run beside newer ones.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as DatabaseError, GenericClient, Transaction};

use super::device_table::create_device_table;
use super::lane_tables::create_lane_tables;

/// The version of the table layout.
pub(super) const SCHEMA: i64 = 1;
/// Key of the advisory lock held while the tables are created or checked: gateways may start together.
const PREPARATION_LOCK: i64 = i64::from_be_bytes(*b"fs-schem");

/// `records`: the index that lets a record be applied once. `applied`: append-only, in the order of application,
/// and written without reading the index, so that a failure of the index would show here. `batches`: the
/// responses. `counters`: the last row of `applied`, and the last row that was forwarded.
const CREATE_TABLES: &str = "
    CREATE TABLE fieldsync.meta (key text PRIMARY KEY, value bigint NOT NULL);
    CREATE TABLE fieldsync.records (id uuid PRIMARY KEY, digest bytea NOT NULL, device_id uuid, receipt text);
    CREATE TABLE fieldsync.applied (
        seq bigint PRIMARY KEY, id uuid NOT NULL, device_id uuid NOT NULL, batch_id uuid NOT NULL,
        type text NOT NULL, key text, applied_at_ms bigint NOT NULL, payload text NOT NULL
    );
    CREATE TABLE fieldsync.batches (
        device_id uuid, batch_id uuid, fingerprint bytea NOT NULL, answered_at_ms bigint NOT NULL,
        answer text NOT NULL, PRIMARY KEY (device_id, batch_id)
    );
    CREATE INDEX batches_by_age ON fieldsync.batches (answered_at_ms);
    CREATE TABLE fieldsync.counters (name text PRIMARY KEY, seq bigint NOT NULL);
    INSERT INTO fieldsync.counters VALUES ('applied', 0), ('forwarded', 0);
";

/// Tables that ledgers of older gateways lack, and that older gateways ignore. `deliveries` and
/// `delivery_keys`: what is being handed over to the destination, by which delivery, and until when only that may do so;
/// a row of `deliveries` stays until its record is applied or rejected.
/// `token_requests`: when access tokens were asked for.
const CREATE_LATER_TABLES: &str = "
    CREATE TABLE fieldsync.deliveries (
        id uuid PRIMARY KEY, device_id uuid NOT NULL, digest bytea NOT NULL, delivery uuid NOT NULL,
        lease_until timestamptz NOT NULL
    );
    CREATE TABLE fieldsync.delivery_keys (
        device_id uuid, key_digest bytea, delivery uuid NOT NULL, lease_until timestamptz NOT NULL,
        PRIMARY KEY (device_id, key_digest)
    );
    CREATE TABLE fieldsync.token_requests (at timestamptz NOT NULL);
";

/// Whether a database can hold the ledger.
pub(super) enum SchemaCheck {
    /// It holds a ledger of this layout, which may be new.
    Ready,
    /// It holds a ledger of another version.
    UnknownVersion(i64),
    /// It stores text in an encoding other than UTF-8.
    WrongEncoding(String),
}

/// Creates the tables unless they exist.
pub(super) async fn prepare_tables(client: &mut Client) -> Result<SchemaCheck, DatabaseError> {
    let transaction = client.transaction().await?;
    transaction.execute_typed("SELECT pg_advisory_xact_lock($1)", &[(&PREPARATION_LOCK, Type::INT8)]).await?;
    let check = check_or_create(&transaction).await?;
    match check {
        SchemaCheck::Ready => transaction.commit().await?,
        // The session stays open, so another gateway would wait for the lock until its end.
        SchemaCheck::UnknownVersion(_) | SchemaCheck::WrongEncoding(_) => transaction.rollback().await?,
    }
    Ok(check)
}

async fn check_or_create(transaction: &Transaction<'_>) -> Result<SchemaCheck, DatabaseError> {
    let encoding = read_setting(transaction, "server_encoding").await?;
    if encoding != "UTF8" {
        return Ok(SchemaCheck::WrongEncoding(encoding));
    }
    for name in ["fsync", "full_page_writes"] {
        if read_setting(transaction, name).await? == "off" {
            tracing::warn!(
                setting = name,
                "the database is told not to wait for its disk: a power cut may lose confirmed records"
            );
        }
    }
    if is_true(transaction, "to_regclass('fieldsync.meta') IS NOT NULL").await? {
        return match read_version(transaction).await? {
            SCHEMA => {
                add_column(transaction, "device_id", "uuid").await?;
                add_column(transaction, "receipt", "text").await?;
                add_later_tables(transaction).await?;
                create_lane_tables(transaction).await?;
                create_device_table(transaction).await?;
                Ok(SchemaCheck::Ready)
            }
            other => Ok(SchemaCheck::UnknownVersion(other)),
        };
    }
    // An administrator may have created the schema, so that the gateway's role needs no permission for it.
    if is_true(transaction, "to_regnamespace('fieldsync') IS NULL").await? {
        transaction.batch_execute("CREATE SCHEMA fieldsync").await?;
    }
    transaction.batch_execute(CREATE_TABLES).await?;
    transaction.batch_execute(CREATE_LATER_TABLES).await?;
    create_lane_tables(transaction).await?;
    create_device_table(transaction).await?;
    let insert = "INSERT INTO fieldsync.meta VALUES ('schema', $1)";
    transaction.execute_typed(insert, &[(&SCHEMA, Type::INT8)]).await?;
    Ok(SchemaCheck::Ready)
}

/// Ledgers of older gateways lack such a column of the records.
async fn add_column(transaction: &Transaction<'_>, name: &str, kind: &str) -> Result<(), DatabaseError> {
    let has_column = format!(
        "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'fieldsync.records'::regclass \
         AND attname = '{name}' AND NOT attisdropped)"
    );
    if !is_true(transaction, &has_column).await? {
        transaction.batch_execute(&format!("ALTER TABLE fieldsync.records ADD COLUMN {name} {kind}")).await?;
    }
    Ok(())
}

async fn add_later_tables(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
    if is_true(transaction, "to_regclass('fieldsync.deliveries') IS NULL").await? {
        transaction.batch_execute(CREATE_LATER_TABLES).await?;
    }
    Ok(())
}

/// The version of the existing tables.
pub(super) async fn read_version(client: &impl GenericClient) -> Result<i64, DatabaseError> {
    let schema = "SELECT value FROM fieldsync.meta WHERE key = 'schema'";
    client.query_typed_one(schema, &[]).await?.try_get(0)
}

async fn read_setting(client: &impl GenericClient, name: &str) -> Result<String, DatabaseError> {
    client.query_typed_one("SELECT current_setting($1)", &[(&name, Type::TEXT)]).await?.try_get(0)
}

async fn is_true(client: &impl GenericClient, condition: &str) -> Result<bool, DatabaseError> {
    client.query_typed_one(&format!("SELECT {condition}"), &[]).await?.try_get(0)
}
