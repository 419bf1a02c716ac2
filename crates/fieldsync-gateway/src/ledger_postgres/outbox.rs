//! The outbox: records that are still to be forwarded. A page leaves it when it is settled: there is no cursor.
//!
//! A record may appear behind others that were forwarded already: its number was taken earlier than theirs, and its
//! commit came later. It is the next one then. Of one device and key, records appear in the order of their numbers:
//! the device sends the next one only after the response to the one before.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as DatabaseError, Row};
use uuid::Uuid;

use super::claims::take_forwarding;
use super::operation_error::OperationError;
use super::records::decode_record;
use super::{count_to_i64, to_u64};
use crate::ledger::{ForwardTurn, LedgerSize, OutboxEntry, PageLimit};

const SELECT_PAGE: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload FROM (
        SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
        FROM (SELECT * FROM fieldsync.outbox ORDER BY seq LIMIT $1) AS next
    ) AS sized WHERE bytes_before < $2 ORDER BY seq";
/// Up to this many records that wait are counted. Of more, the first and the last number tell about how many there are.
const COUNTED_RECORDS_MAX: i64 = 10_000;
const COUNT_WAITING: &str = "
    SELECT (SELECT count(*) FROM (SELECT 1 FROM fieldsync.outbox LIMIT $1) AS counted),
        (SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM fieldsync.outbox)";
const COUNT_PARKED: &str =
    "SELECT count(*) FROM (SELECT 1 FROM fieldsync.forward_parked LIMIT $1) AS counted";
/// Not every database that speaks this protocol has the function.
const HAS_SIZES: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'pg_total_relation_size')";
const SELECT_BYTES: &str = "
    SELECT coalesce(sum(pg_total_relation_size(class.oid)), 0)::bigint
    FROM pg_catalog.pg_class AS class JOIN pg_catalog.pg_namespace AS space ON space.oid = class.relnamespace
    WHERE nspname = 'fieldsync' AND relkind = 'r'";

/// The records to forward next, if this gateway is the one to forward.
pub(super) async fn next_to_forward(
    client: &Client,
    holder: Uuid,
    limit: PageLimit,
) -> Result<ForwardTurn, OperationError> {
    if !take_forwarding(client, holder).await? {
        return Ok(ForwardTurn::OtherGateway);
    }
    let (rows, bytes) = (count_to_i64(limit.rows), count_to_i64(limit.bytes));
    let rows = client.query_typed(SELECT_PAGE, &[(&rows, Type::INT8), (&bytes, Type::INT8)]).await?;
    let page = rows.iter().map(decode_entry).collect::<Result<Vec<_>, _>>()?;
    let waiting = if page.is_empty() { 0 } else { count_waiting(client).await? };
    Ok(ForwardTurn::ThisGateway { page, waiting })
}

async fn count_waiting(client: &Client) -> Result<u64, DatabaseError> {
    let row = client.query_typed_one(COUNT_WAITING, &[(&COUNTED_RECORDS_MAX, Type::INT8)]).await?;
    let (counted, between): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(to_u64(if counted < COUNTED_RECORDS_MAX { counted } else { between.max(counted) }))
}

/// The seven columns of a record, and its payload.
pub(super) fn decode_entry(row: &Row) -> Result<OutboxEntry, DatabaseError> {
    Ok(OutboxEntry { record: decode_record(row)?, payload: row.try_get(7)? })
}

/// The size of the ledger.
pub(super) async fn load_size(client: &Client) -> Result<LedgerSize, OperationError> {
    let has_sizes: bool = client.query_typed_one(HAS_SIZES, &[]).await?.try_get(0)?;
    let bytes = if has_sizes {
        Some(to_u64(client.query_typed_one(SELECT_BYTES, &[]).await?.try_get(0)?))
    } else {
        None
    };
    let parked: i64 =
        client.query_typed_one(COUNT_PARKED, &[(&COUNTED_RECORDS_MAX, Type::INT8)]).await?.try_get(0)?;
    let outbox_records = count_waiting(client).await?.saturating_add(to_u64(parked));
    Ok(LedgerSize { bytes, records: None, outbox_records: Some(outbox_records) })
}
