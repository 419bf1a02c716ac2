//! The tables of the shared ledger, created by the first gateway.
//!
//! They are in a schema of their own, so that the database can serve other purposes, too. A change of layout
//! gets a new version number, and [`super::migration`] migrates from the version before. A gateway rejects a version
//! that it does not know.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as DatabaseError};

/// The version of the table layout.
pub(super) const SCHEMA: i64 = 2;

/// - `records`: the applied records, without payload; the primary key lets a record be applied once. `seq` is in
///   the order of application for records of one device and key. Others may be committed in another order, and
///   numbers may be left out.
/// - `outbox`: the records that are still to be forwarded, if any gateway forwards.
/// - `responses`: the responses to batches.
/// - `claims`: the batches that gateways process, and until when only these may do so.
/// - `leases`: what one gateway at a time does, and until when.
/// - `deliveries` and `delivery_keys`: what is being handed over to the destination, by which delivery, and until when
///   only that may do so; a row of `deliveries` stays until its record is applied or rejected.
/// - `token_requests`: when access tokens were asked for.
pub(super) const CREATE_TABLES: &str = "
    CREATE SEQUENCE fieldsync.record_seq;
    CREATE TABLE fieldsync.records (
        id uuid PRIMARY KEY, seq bigint NOT NULL, digest bytea NOT NULL, device_id uuid NOT NULL,
        batch_id uuid NOT NULL, type text NOT NULL, key text, applied_at_ms bigint NOT NULL, receipt text
    );
    CREATE TABLE fieldsync.outbox (
        seq bigint PRIMARY KEY, id uuid NOT NULL, device_id uuid NOT NULL, batch_id uuid NOT NULL,
        type text NOT NULL, key text, applied_at_ms bigint NOT NULL, payload text NOT NULL
    );
    CREATE TABLE fieldsync.claims (
        device_id uuid, batch_id uuid, holder uuid NOT NULL, lease_until timestamptz NOT NULL,
        PRIMARY KEY (device_id, batch_id)
    );
    CREATE INDEX claims_by_holder ON fieldsync.claims (holder);
    CREATE TABLE fieldsync.leases (name text PRIMARY KEY, holder uuid NOT NULL, lease_until timestamptz NOT NULL);
";
/// After the rows of an older ledger were copied.
pub(super) const CREATE_RECORD_INDEXES: &str = "
    CREATE UNIQUE INDEX records_by_seq ON fieldsync.records (seq);
    CREATE INDEX records_by_age ON fieldsync.records (applied_at_ms);
";
pub(super) const CREATE_RESPONSES: &str = "
    CREATE TABLE fieldsync.responses (
        device_id uuid, batch_id uuid, fingerprint bytea NOT NULL, answered_at_ms bigint NOT NULL,
        answer text NOT NULL, PRIMARY KEY (device_id, batch_id)
    );
    CREATE INDEX responses_by_age ON fieldsync.responses (answered_at_ms);
";
pub(super) const CREATE_DELIVERY_TABLES: &str = "
    CREATE TABLE fieldsync.deliveries (
        id uuid PRIMARY KEY, device_id uuid NOT NULL, digest bytea NOT NULL, delivery uuid NOT NULL,
        lease_until timestamptz NOT NULL, was_sent boolean NOT NULL DEFAULT false
    );
    CREATE TABLE fieldsync.delivery_keys (
        device_id uuid, key_digest bytea, delivery uuid NOT NULL, lease_until timestamptz NOT NULL,
        PRIMARY KEY (device_id, key_digest)
    );
    CREATE TABLE fieldsync.token_requests (at timestamptz NOT NULL);
";
/// `forwards` is set once a gateway of the ledger forwards records.
pub(super) const CREATE_META: &str =
    "CREATE TABLE fieldsync.meta (key text PRIMARY KEY, value bigint NOT NULL)";
pub(super) const SET_FORWARDS: &str =
    "INSERT INTO fieldsync.meta VALUES ('forwards', 1) ON CONFLICT DO NOTHING";
const SELECT_FORWARDS: &str = "SELECT EXISTS (SELECT 1 FROM fieldsync.meta WHERE key = 'forwards')";

pub(super) async fn has_table(client: &Client, name: &str) -> Result<bool, DatabaseError> {
    let select = "SELECT EXISTS (
        SELECT 1 FROM pg_catalog.pg_class AS class JOIN pg_catalog.pg_namespace AS space
            ON space.oid = class.relnamespace
        WHERE nspname = 'fieldsync' AND relname = $1
    )";
    client.query_typed_one(select, &[(&name, Type::TEXT)]).await?.try_get(0)
}

/// The version of the existing tables.
pub(super) async fn read_version(client: &Client) -> Result<i64, DatabaseError> {
    let schema = "SELECT value FROM fieldsync.meta WHERE key = 'schema'";
    client.query_typed_one(schema, &[]).await?.try_get(0)
}

/// Whether a gateway of this ledger forwards records.
pub(super) async fn read_forwards(client: &Client) -> Result<bool, DatabaseError> {
    client.query_typed_one(SELECT_FORWARDS, &[]).await?.try_get(0)
}
