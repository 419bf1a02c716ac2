//! The shared ledger: one PostgreSQL database, for any number of gateways.
//!
//! - A response is sent after its commit is on the server's disk (`synchronous_commit`).
//! - Any gateways may get the same record, even at the same time: unique rows decide, see [`settle`].
//! - A claim on a batch is an advisory lock, held by a session that each gateway keeps for claims alone. So the
//!   claims of a gateway that crashes are released with its session. The same holds for the right to forward
//!   records. Both need the session itself: a pooler in between must not share it (pgbouncer:
//!   `pool_mode = session`).
//! - While the database is away, an operation fails within [`session_pool::OPERATION_TIMEOUT`]; none waits for
//!   the database to come back.

mod database_address;
mod delivery;
mod device_table;
mod devices;
mod lane_changes;
mod lane_tables;
mod leases;
mod operation_error;
mod refused;
mod schema;
mod session_pool;
mod settle;
mod token_requests;

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) use database_address::{DatabaseAddress, DatabaseUrlError};
use operation_error::{OperationError, RedactedDbError};
use schema::SchemaCheck;
use session_pool::{DbSession, PinnedSession, SessionPool};

use super::digest::sha256;
use super::ledger::{
    Admission, AppliedEntry, BatchSettlement, DeliveryId, DeliveryLedger, ForwardTurn, Ledger, LedgerError,
    LedgerOpenError, PageLimit, StoredResponse, StoredVerdict,
};
use super::validated_batch::ValidatedBatch;
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::wire::BatchResponse;

/// Concurrent writing transactions: most of their time they wait for the server.
const WRITERS_MAX: usize = 4;
/// Key of the advisory lock of the gateway that forwards records.
const FORWARDING_LOCK: i64 = i64::from_be_bytes(*b"fs-forwd");

const SELECT_PAGE: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload FROM (
        SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
        FROM (SELECT * FROM fieldsync.applied WHERE seq > $1 ORDER BY seq LIMIT $2) AS next
    ) AS sized WHERE bytes_before < $3 ORDER BY seq";
const DELETE_OLD_RESPONSES: &str = "
    WITH old AS (
        SELECT device_id, batch_id FROM fieldsync.batches WHERE answered_at_ms < $1
        ORDER BY answered_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM fieldsync.batches USING old
    WHERE batches.device_id = old.device_id AND batches.batch_id = old.batch_id";
const SELECT_IS_CLAIMED: &str = "
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = $1
    )";

/// A ledger in a PostgreSQL database.
pub(crate) struct PostgresLedger {
    sessions: SessionPool,
    /// The session that holds the claims of this gateway.
    claims: PinnedSession,
    /// The session that holds the forwarding lock, or tries to get it.
    forwarding: PinnedSession,
}

impl PostgresLedger {
    /// Connects, and creates the tables if there are none.
    pub(crate) fn open(address: DatabaseAddress) -> Result<Self, LedgerOpenError> {
        let sessions = SessionPool::new(address).map_err(LedgerOpenError::Start)?;
        let ledger =
            Self { sessions, claims: PinnedSession::default(), forwarding: PinnedSession::default() };
        let database = || ledger.sessions.database_name().to_owned();
        let check = ledger
            .sessions
            .run_in_any(async |session| Ok(schema::prepare_tables(&mut session.client).await?))
            .map_err(|error| open_error(database(), error))?;
        match check {
            SchemaCheck::Ready => {
                ledger.sessions.mark_prepared();
                Ok(ledger)
            }
            SchemaCheck::UnknownVersion(found) => Err(LedgerOpenError::Schema {
                store: database(),
                found: found.cast_unsigned(),
                known: schema::SCHEMA.cast_unsigned(),
            }),
            SchemaCheck::WrongEncoding(encoding) => Err(LedgerOpenError::Unfit {
                database: database(),
                source: format!("its encoding is {encoding}, and must be UTF8").into(),
            }),
        }
    }

    /// Where the database is, for people and logs.
    pub(crate) fn database_name(&self) -> &str {
        self.sessions.database_name()
    }
}

impl Ledger for PostgresLedger {
    fn writers_max(&self) -> usize {
        WRITERS_MAX
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn claim_batch(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run_in_pinned(&self.claims, async |session| try_lock(session, key).await)
    }

    fn release_batch(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run_in_pinned(&self.claims, async |session| release_lock(session, key).await)
    }

    fn is_claimed(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run_in_any(async |session| {
            Ok(session.client.query_typed_one(SELECT_IS_CLAIMED, &[(&key, Type::INT8)]).await?.try_get(0)?)
        })
    }

    fn stored_response(
        &self,
        device: DeviceId,
        batch: BatchId,
    ) -> Result<Option<StoredResponse>, LedgerError> {
        self.sessions
            .run_in_any(async |session| settle::load_response(&session.client, device.0, batch.0).await)
    }

    fn settle_batch(&self, batch: &ValidatedBatch, now: u64) -> Result<BatchSettlement, LedgerError> {
        self.sessions.run_in_any(async |session| settle::settle_batch(session, batch, to_i64(now)).await)
    }

    fn prune_responses(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        let (before, max_rows) = (to_i64(before), count_to_i64(max));
        self.sessions.run_in_any(async |session| {
            let deleted = session
                .client
                .execute_typed(DELETE_OLD_RESPONSES, &[(&before, Type::INT8), (&max_rows, Type::INT8)])
                .await?;
            Ok(usize::try_from(deleted).unwrap_or(max))
        })
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<AppliedEntry>, LedgerError> {
        self.sessions.run_in_any(async |session| load_page_after(session, to_i64(seq), limit).await)
    }

    fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError> {
        self.sessions.run_in_pinned(&self.forwarding, async |session| {
            if !session.is_forwarding {
                session.is_forwarding = try_lock(session, FORWARDING_LOCK).await?;
            }
            if !session.is_forwarding {
                return Ok(ForwardTurn::OtherGateway);
            }
            let read_counter = async |name: &str| -> Result<i64, OperationError> {
                let select = "SELECT seq FROM fieldsync.counters WHERE name = $1";
                Ok(session.client.query_typed_one(select, &[(&name, Type::TEXT)]).await?.try_get(0)?)
            };
            let (forwarded, head) = (read_counter("forwarded").await?, read_counter("applied").await?);
            let waiting = to_u64(head - forwarded);
            let page =
                if waiting == 0 { Vec::new() } else { load_page_after(session, forwarded, limit).await? };
            Ok(ForwardTurn::ThisGateway { page, waiting })
        })
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        self.sessions.run_in_pinned(&self.forwarding, async |session| {
            if session.is_forwarding {
                release_lock(session, FORWARDING_LOCK).await?;
                session.is_forwarding = false;
            }
            Ok(())
        })
    }

    fn check_health(&self) -> Result<(), LedgerError> {
        self.sessions.run_in_any(async |session| {
            match schema::read_version(&session.client).await? {
                schema::SCHEMA => {}
                other => return Err(OperationError::SchemaChanged(other)),
            }
            let is_read_only = "SELECT current_setting('transaction_read_only')::boolean";
            let is_read_only: bool = session.client.query_typed_one(is_read_only, &[]).await?.try_get(0)?;
            if is_read_only { Err(OperationError::ReadOnly) } else { Ok(()) }
        })
    }

    fn close(&self) -> Result<(), LedgerError> {
        self.sessions.close();
        Ok(())
    }
}

impl DeliveryLedger for PostgresLedger {
    fn begin_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        lease: Duration,
    ) -> Result<Vec<Admission>, LedgerError> {
        self.sessions
            .run_in_any(async |session| delivery::begin_delivery(session, batch, delivery, lease).await)
    }

    fn extend_lease(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        positions: &[usize],
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        self.sessions.run_in_any(async |session| {
            delivery::extend_lease(session, batch, delivery, positions, lease).await
        })
    }

    fn record_verdicts(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        now: u64,
    ) -> Result<(), LedgerError> {
        self.sessions.run_in_any(async |session| {
            delivery::record_verdicts(session, batch, delivery, verdicts, to_i64(now)).await
        })
    }

    fn finish_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        response: &BatchResponse,
        now: u64,
    ) -> Result<BatchSettlement, LedgerError> {
        self.sessions.run_in_any(async |session| {
            delivery::finish_delivery(session, batch, delivery, verdicts, response, to_i64(now)).await
        })
    }

    fn prune_sent(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        let (before, max_rows) = (to_i64(before), count_to_i64(max));
        self.sessions.run_in_any(async |session| {
            let deleted = delivery::prune_sent(session, before, max_rows).await?;
            Ok(usize::try_from(deleted).unwrap_or(max))
        })
    }

    fn take_token_request(
        &self,
        requests_max: usize,
        window: Duration,
        _: u64,
    ) -> Result<Option<Duration>, LedgerError> {
        self.sessions.run_in_any(async |session| {
            token_requests::take_token_request(session, requests_max, window).await
        })
    }
}

async fn try_lock(session: &DbSession, key: i64) -> Result<bool, OperationError> {
    let row =
        session.client.query_typed_one("SELECT pg_try_advisory_lock($1)", &[(&key, Type::INT8)]).await?;
    Ok(row.try_get(0)?)
}

/// Returns false if the lock was no longer held.
async fn release_lock(session: &DbSession, key: i64) -> Result<bool, OperationError> {
    let row = session.client.query_typed_one("SELECT pg_advisory_unlock($1)", &[(&key, Type::INT8)]).await?;
    Ok(row.try_get(0)?)
}

async fn load_page_after(
    session: &DbSession,
    seq: i64,
    limit: PageLimit,
) -> Result<Vec<AppliedEntry>, OperationError> {
    let (max_rows, bytes) = (count_to_i64(limit.rows), count_to_i64(limit.bytes));
    let page = session
        .client
        .query_typed(SELECT_PAGE, &[(&seq, Type::INT8), (&max_rows, Type::INT8), (&bytes, Type::INT8)])
        .await?;
    page.iter().map(|row| Ok(decode_entry(row)?)).collect()
}

fn decode_entry(row: &Row) -> Result<AppliedEntry, tokio_postgres::Error> {
    Ok(AppliedEntry {
        seq: to_u64(row.try_get(0)?),
        id: RecordId(row.try_get(1)?),
        device: DeviceId(row.try_get(2)?),
        batch: BatchId(row.try_get(3)?),
        record_type: row.try_get(4)?,
        key: row.try_get(5)?,
        applied_at: to_u64(row.try_get(6)?),
        payload: row.try_get(7)?,
    })
}

/// Two batches with the same key would only take turns, and they are hardly ever in flight together.
fn claim_key(device: DeviceId, batch: BatchId) -> i64 {
    let bytes: [&Uuid; 2] = [&device.0, &batch.0];
    let digest = sha256(bytes.map(|id| *id.as_bytes()).as_flattened());
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

fn open_error(database: String, error: LedgerError) -> LedgerOpenError {
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        LedgerError::Unreachable(source) | LedgerError::Storage(source) => source,
        other => other.into(),
    };
    if source.downcast_ref::<RedactedDbError>().is_some_and(|error| error.is_permanent) {
        LedgerOpenError::Unfit { database, source }
    } else {
        LedgerOpenError::Unreachable { database, source }
    }
}

/// Milliseconds and row counts never reach the sign bit.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn count_to_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
