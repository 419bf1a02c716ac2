//! What this gateway alone may do for now: process a batch, or forward records.
//!
//! A claim on a batch, and the right to forward, is a row that names its holder, and until when that has it: by the
//! database's clock, so that the clocks of gateways do not matter. Holders extend their leases while they work. Then
//! the row is free for others: that of a gateway that crashes, after [`CLAIM_LEASE`] at most.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::operation_error::OperationError;
use crate::clock::millis;
use crate::ledger::CLAIM_LEASE;

const CLAIM_BATCH: &str = "
    INSERT INTO fieldsync.claims AS present (device_id, batch_id, holder, lease_until)
    VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond')
    ON CONFLICT (device_id, batch_id) DO UPDATE
    SET holder = excluded.holder, lease_until = excluded.lease_until
    WHERE present.holder = excluded.holder OR present.lease_until <= clock_timestamp()";
const RELEASE_BATCH: &str =
    "DELETE FROM fieldsync.claims WHERE device_id = $1 AND batch_id = $2 AND holder = $3";
const SELECT_IS_CLAIMED: &str = "
    SELECT EXISTS (
        SELECT 1 FROM fieldsync.claims WHERE device_id = $1 AND batch_id = $2 AND lease_until > clock_timestamp()
    )";
/// Sorted, so that this cannot deadlock with others that delete rows.
const RENEW_CLAIMS: &str = "
    UPDATE fieldsync.claims SET lease_until = clock_timestamp() + $2 * interval '1 millisecond'
    WHERE (device_id, batch_id) IN (
        SELECT device_id, batch_id FROM fieldsync.claims
        WHERE holder = $1 AND lease_until > clock_timestamp() ORDER BY device_id, batch_id FOR UPDATE
    )";
/// Of gateways that died.
const DELETE_DEAD_CLAIMS: &str = "
    DELETE FROM fieldsync.claims WHERE (device_id, batch_id) IN (
        SELECT device_id, batch_id FROM fieldsync.claims
        WHERE lease_until < clock_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED
    )";
const TAKE_LEASE: &str = "
    INSERT INTO fieldsync.leases AS present (name, holder, lease_until)
    VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
    WHERE present.holder = excluded.holder OR present.lease_until <= clock_timestamp()";
/// Nobody took it over meanwhile, whether it has ended or not.
const KEEP_LEASE: &str = "
    UPDATE fieldsync.leases SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE name = $1 AND holder = $2";
const RETURN_LEASE: &str = "DELETE FROM fieldsync.leases WHERE name = $1 AND holder = $2";
/// The name of the lease of the gateway that forwards records.
const FORWARDING: &str = "forwarding";

fn lease_ms() -> i64 {
    duration_to_ms(CLAIM_LEASE)
}

pub(super) fn duration_to_ms(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}

/// Returns false if another gateway has it.
pub(super) async fn claim_batch(
    client: &Client,
    batch: [Uuid; 2],
    holder: Uuid,
) -> Result<bool, OperationError> {
    let [device, batch] = batch;
    let lease = lease_ms();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&device, Type::UUID), (&batch, Type::UUID), (&holder, Type::UUID), (&lease, Type::INT8)];
    Ok(client.execute_typed(CLAIM_BATCH, &parameters).await? > 0)
}

/// Returns false if another gateway took it over.
pub(super) async fn release_batch(
    client: &Client,
    batch: [Uuid; 2],
    holder: Uuid,
) -> Result<bool, OperationError> {
    let [device, batch] = batch;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&device, Type::UUID), (&batch, Type::UUID), (&holder, Type::UUID)];
    Ok(client.execute_typed(RELEASE_BATCH, &parameters).await? > 0)
}

pub(super) async fn is_claimed(client: &Client, batch: [Uuid; 2]) -> Result<bool, OperationError> {
    let [device, batch] = batch;
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&device, Type::UUID), (&batch, Type::UUID)];
    Ok(client.query_typed_one(SELECT_IS_CLAIMED, &parameters).await?.try_get(0)?)
}

/// Extends the leases of all claims of this gateway.
pub(super) async fn renew_claims(client: &Client, holder: Uuid) -> Result<(), OperationError> {
    let lease = lease_ms();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&holder, Type::UUID), (&lease, Type::INT8)];
    client.execute_typed(RENEW_CLAIMS, &parameters).await?;
    Ok(())
}

pub(super) async fn delete_dead_claims(client: &Client) -> Result<(), OperationError> {
    client.execute_typed(DELETE_DEAD_CLAIMS, &[]).await?;
    Ok(())
}

/// Becomes or stays the gateway that forwards. Returns false if another one is.
pub(super) async fn take_forwarding(client: &Client, holder: Uuid) -> Result<bool, OperationError> {
    execute_on_forwarding(client, TAKE_LEASE, holder).await
}

/// Stays the gateway that forwards, and locks the row until the end of the transaction. Returns false if another one
/// has taken over.
pub(super) async fn keep_forwarding(client: &Client, holder: Uuid) -> Result<bool, OperationError> {
    execute_on_forwarding(client, KEEP_LEASE, holder).await
}

/// Lets another gateway forward.
pub(super) async fn return_forwarding(client: &Client, holder: Uuid) -> Result<(), OperationError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&FORWARDING, Type::TEXT), (&holder, Type::UUID)];
    client.execute_typed(RETURN_LEASE, &parameters).await?;
    Ok(())
}

async fn execute_on_forwarding(
    client: &Client,
    statement: &str,
    holder: Uuid,
) -> Result<bool, OperationError> {
    let lease = lease_ms();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&FORWARDING, Type::TEXT), (&holder, Type::UUID), (&lease, Type::INT8)];
    Ok(client.execute_typed(statement, &parameters).await? > 0)
}
