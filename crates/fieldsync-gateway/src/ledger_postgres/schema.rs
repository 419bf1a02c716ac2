//! The tables of the shared ledger, made by the gateway that comes first.
//!
//! All of it is in one schema, so that the database may be used for other things, too. A change of
//! layout is a new number and a step in [`prepare`] that leads to it from the one before; a gateway
//! refuses a number that it does not know. A column that older gateways may leave empty is added without a new
//! number: they go on beside newer ones.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as DatabaseError, GenericClient, Transaction};

/// The layout of the tables below.
pub(super) const SCHEMA: i64 = 1;
/// Held while the tables are made or looked at: gateways start together.
const PREPARING: i64 = i64::from_be_bytes(*b"fs-schem");

/// `records`: the index that makes an application happen once. `applied`: append-only, in order of
/// application, and written without a look at the index, so that a failure of the index would show here.
/// `batches`: the answers. `counters`: the last row of `applied`, and the last that was handed on.
const TABLES: &str = "
    CREATE TABLE fieldsync.meta (key text PRIMARY KEY, value bigint NOT NULL);
    CREATE TABLE fieldsync.records (id uuid PRIMARY KEY, digest bytea NOT NULL, device_id uuid);
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

/// What a database is found to be.
pub(super) enum Found {
    /// A ledger of this layout, perhaps new.
    Ready,
    /// A ledger of another layout.
    Schema(i64),
    /// It keeps text in another encoding than UTF-8.
    Encoding(String),
}

/// Makes the tables unless they are there.
pub(super) async fn prepare(client: &mut Client) -> Result<Found, DatabaseError> {
    let transaction = client.transaction().await?;
    transaction.execute_typed("SELECT pg_advisory_xact_lock($1)", &[(&PREPARING, Type::INT8)]).await?;
    let found = look_or_make(&transaction).await?;
    match found {
        Found::Ready => transaction.commit().await?,
        // Whoever waits for the lock is not to wait for the end of this session.
        Found::Schema(_) | Found::Encoding(_) => transaction.rollback().await?,
    }
    Ok(found)
}

async fn look_or_make(transaction: &Transaction<'_>) -> Result<Found, DatabaseError> {
    let encoding = setting(transaction, "server_encoding").await?;
    if encoding != "UTF8" {
        return Ok(Found::Encoding(encoding));
    }
    for name in ["fsync", "full_page_writes"] {
        if setting(transaction, name).await? == "off" {
            tracing::warn!(
                setting = name,
                "the database is told not to wait for its disk: a power cut may take records that were confirmed"
            );
        }
    }
    if is(transaction, "to_regclass('fieldsync.meta') IS NOT NULL").await? {
        return match of(transaction).await? {
            SCHEMA => {
                add_device_of_records(transaction).await?;
                Ok(Found::Ready)
            }
            other => Ok(Found::Schema(other)),
        };
    }
    // Where somebody made the schema for the gateway, its role need not be allowed to make any.
    if is(transaction, "to_regnamespace('fieldsync') IS NULL").await? {
        transaction.batch_execute("CREATE SCHEMA fieldsync").await?;
    }
    transaction.batch_execute(TABLES).await?;
    let made = "INSERT INTO fieldsync.meta VALUES ('schema', $1)";
    transaction.execute_typed(made, &[(&SCHEMA, Type::INT8)]).await?;
    Ok(Found::Ready)
}

/// Ledgers of older gateways do not have it.
async fn add_device_of_records(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
    let has_it = "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'fieldsync.records'::regclass \
         AND attname = 'device_id' AND NOT attisdropped)";
    if !is(transaction, has_it).await? {
        transaction.batch_execute("ALTER TABLE fieldsync.records ADD COLUMN device_id uuid").await?;
    }
    Ok(())
}

/// The layout that the tables have.
pub(super) async fn of(client: &impl GenericClient) -> Result<i64, DatabaseError> {
    let schema = "SELECT value FROM fieldsync.meta WHERE key = 'schema'";
    client.query_typed_one(schema, &[]).await?.try_get(0)
}

async fn setting(client: &impl GenericClient, name: &str) -> Result<String, DatabaseError> {
    client.query_typed_one("SELECT current_setting($1)", &[(&name, Type::TEXT)]).await?.try_get(0)
}

async fn is(client: &impl GenericClient, condition: &str) -> Result<bool, DatabaseError> {
    client.query_typed_one(&format!("SELECT {condition}"), &[]).await?.try_get(0)
}
