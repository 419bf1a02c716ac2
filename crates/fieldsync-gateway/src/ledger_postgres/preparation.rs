//! Prepares the tables at the start of a gateway.
//!
//! Gateways may start together. Those that create tables at the same time get an error, except one, and find its
//! tables in their next attempt.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as DatabaseError};

use super::device_table::CREATE_DEVICE_TABLE;
use super::lane_tables::CREATE_LANE_TABLES;
use super::migration::{OLD_SCHEMA, migrate_tables};
use super::operation_error::OperationError;
use super::schema::{
    CREATE_DELIVERY_TABLES, CREATE_META, CREATE_RECORD_INDEXES, CREATE_RESPONSES, CREATE_TABLES, SCHEMA,
    SET_FORWARDS, has_table, read_version,
};
use super::session_pool::DbSession;
use crate::service_manager::report_long_start;

/// How much more time each report to systemd asks for, and how often it is sent during a migration.
const START_EXTENSION: Duration = Duration::from_mins(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Whether a database can hold the ledger.
pub(super) enum SchemaCheck {
    /// It holds a ledger of this layout, which may be new.
    Ready,
    /// It holds a ledger of another version.
    UnknownVersion(i64),
    /// It stores text in an encoding other than UTF-8.
    WrongEncoding(String),
}

/// Creates or migrates the tables unless they have this layout. `forwards` says that this gateway forwards records.
pub(super) async fn prepare_tables(
    session: &mut DbSession,
    forwards: bool,
) -> Result<SchemaCheck, OperationError> {
    let encoding = read_setting(&session.client, "server_encoding").await?.unwrap_or_default();
    if encoding != "UTF8" {
        return Ok(SchemaCheck::WrongEncoding(encoding));
    }
    for name in ["fsync", "full_page_writes"] {
        if read_setting(&session.client, name).await?.as_deref() == Some("off") {
            tracing::warn!(
                setting = name,
                "the database is told not to wait for its disk: a power cut may lose confirmed records"
            );
        }
    }
    let version = if has_table(&session.client, "meta").await? {
        Some(read_version(&session.client).await?)
    } else {
        None
    };
    match version {
        None => create_tables(session).await?,
        Some(OLD_SCHEMA) => extend_start_during(migrate_tables(session, forwards)).await?,
        Some(SCHEMA) => {}
        Some(other) => return Ok(SchemaCheck::UnknownVersion(other)),
    }
    if forwards {
        session.client.execute_typed(SET_FORWARDS, &[]).await?;
    }
    Ok(SchemaCheck::Ready)
}

/// Without more time, systemd ends the gateway during the migration of a large ledger, and the next start begins with it
/// from nothing.
async fn extend_start_during<T>(migration: impl Future<Output = T>) -> T {
    let mut migration = pin!(migration);
    loop {
        report_long_start("Converting the ledger in the database", START_EXTENSION);
        if let Ok(done) = timeout(REPORT_INTERVAL, &mut migration).await {
            return done;
        }
    }
}

async fn create_tables(session: &mut DbSession) -> Result<(), OperationError> {
    let transaction = session.begin().await?;
    // An administrator may have created the schema, so that the gateway's role needs no permission for it.
    let has_schema = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'fieldsync')";
    if !transaction.query_typed_one(has_schema, &[]).await?.try_get::<_, bool>(0)? {
        create(&transaction, "CREATE SCHEMA fieldsync").await?;
    }
    create(&transaction, CREATE_META).await?;
    for statements in [
        CREATE_TABLES,
        CREATE_RECORD_INDEXES,
        CREATE_RESPONSES,
        CREATE_DELIVERY_TABLES,
        CREATE_LANE_TABLES,
        CREATE_DEVICE_TABLE,
    ] {
        transaction.batch_execute(statements).await?;
    }
    let insert = "INSERT INTO fieldsync.meta VALUES ('schema', $1)";
    transaction.execute_typed(insert, &[(&SCHEMA, Type::INT8)]).await?;
    transaction.commit().await
}

/// Another gateway may do the same at this moment: then this attempt is repeated, and finds its tables.
async fn create(client: &Client, statement: &str) -> Result<(), OperationError> {
    client.batch_execute(statement).await.map_err(|error| match error.code().map(SqlState::code) {
        // A unique row of the system's catalogs, a schema, or a table.
        Some("23505" | "42P06" | "42P07") => OperationError::Conflict,
        _ => error.into(),
    })
}

/// `None` where the database has no such setting.
async fn read_setting(client: &Client, name: &str) -> Result<Option<String>, DatabaseError> {
    client.query_typed_one("SELECT current_setting($1, true)", &[(&name, Type::TEXT)]).await?.try_get(0)
}
