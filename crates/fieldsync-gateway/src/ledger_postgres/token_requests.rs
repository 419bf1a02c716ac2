//! When access tokens were asked for, by all gateways of the ledger.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::operation_error::OperationError;
use super::session_pool::DbSession;
use crate::clock::millis;

/// Key of the advisory lock of the gateway that counts a request.
const TOKEN_LOCK: i64 = i64::from_be_bytes(*b"fs-token");
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
    let transaction = session.client.transaction().await?;
    transaction.execute_typed("SELECT pg_advisory_xact_lock($1)", &[(&TOKEN_LOCK, Type::INT8)]).await?;
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
