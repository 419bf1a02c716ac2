//! When access tokens were asked for, by all gateways of the ledger.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::operation_error::OperationError;
use super::session_pool::DbSession;
use crate::clock::millis;

/// The row that a gateway locks while it counts a request. It has no holder: its lock ends with the transaction.
const LOCK_TURN: &str = "
    INSERT INTO fieldsync.leases (name, holder, lease_until)
    VALUES ('token requests', '00000000-0000-0000-0000-000000000000', clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until";
const DELETE_OLD_REQUESTS: &str = "
    DELETE FROM fieldsync.token_requests WHERE at <= clock_timestamp() - $1 * interval '1 millisecond'";
const COUNT_REQUESTS: &str = "
    SELECT count(*), (extract(epoch FROM min(at) - clock_timestamp()) * 1000)::bigint + $1
    FROM fieldsync.token_requests";
const INSERT_REQUEST: &str = "INSERT INTO fieldsync.token_requests (at) VALUES (clock_timestamp())";

/// Counts a request, unless the window has its number already. Then it returns how long to wait.
pub(super) async fn take_token_request(
    session: &mut DbSession,
    requests_max: usize,
    window: Duration,
) -> Result<Option<Duration>, OperationError> {
    let window = i64::try_from(millis(window)).unwrap_or(i64::MAX);
    let transaction = session.begin().await?;
    transaction.execute_typed(LOCK_TURN, &[]).await?;
    transaction.execute_typed(DELETE_OLD_REQUESTS, &[(&window, Type::INT8)]).await?;
    let row = transaction.query_typed_one(COUNT_REQUESTS, &[(&window, Type::INT8)]).await?;
    let (count, wait): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let wait = if usize::try_from(count).is_ok_and(|count| count < requests_max) {
        transaction.execute_typed(INSERT_REQUEST, &[]).await?;
        None
    } else {
        Some(Duration::from_millis(wait.and_then(|wait| u64::try_from(wait).ok()).unwrap_or_default()))
    };
    transaction.commit().await?;
    Ok(wait)
}
