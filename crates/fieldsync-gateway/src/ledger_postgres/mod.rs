//! The shared ledger: one PostgreSQL database, for any number of gateways.
//!
//! - A response is sent after its commit is on the server's disk (`synchronous_commit`).
//! - Any gateways may get the same record, even at the same time: unique rows decide, see [`settle`].
//! - No row is written by all transactions, and none holds a lock that all need: so gateways do not wait for each other.
//! - All times that are written, and those that they are compared with, are times of the database: the clocks of
//!   gateways do not matter.
//! - A claim on a batch is a row with a lease, and so is the right to forward records, see [`claims`].
//! - A transaction needs nothing of its session: a pooler in between may share sessions (pgbouncer:
//!   `pool_mode = transaction`).
//! - While the database is away, an operation fails within [`session_pool::OPERATION_TIMEOUT`]; none waits for
//!   the database to come back.

mod claims;
mod database_address;
mod delivery;
mod device_table;
mod devices;
mod host_connector;
mod lane_changes;
mod lane_tables;
mod leases;
mod migration;
mod operation_error;
mod outbox;
mod preparation;
mod records;
mod refused;
mod schema;
mod session_pool;
mod settle;
mod token_requests;
mod transaction;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) use database_address::{DatabaseAddress, DatabaseUrlError};
use operation_error::{OperationError, RedactedDbError};
use preparation::{SchemaCheck, prepare_tables};
use session_pool::SessionPool;

use super::ledger::{
    Admission, AppliedRecord, BatchSettlement, DeliveryId, DeliveryLedger, ForwardTurn, Ledger, LedgerError,
    LedgerOpenError, LedgerSize, PageLimit, StoredResponse, StoredVerdict,
};
use super::validated_batch::ValidatedBatch;
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchResponse;

/// Concurrent writing transactions: most of their time they wait for the server, whose disk takes several commits at
/// once.
const WRITERS_MAX: usize = 8;

const DELETE_OLD_RESPONSES: &str = "
    WITH old AS (
        SELECT device_id, batch_id FROM fieldsync.responses
        WHERE answered_at_ms < (extract(epoch FROM statement_timestamp()) * 1000)::bigint - $1
        ORDER BY answered_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM fieldsync.responses USING old
    WHERE responses.device_id = old.device_id AND responses.batch_id = old.batch_id";

/// A ledger in a PostgreSQL database.
pub(crate) struct PostgresLedger {
    sessions: SessionPool,
    /// Names this gateway in its claims and leases.
    holder: Uuid,
    /// Whether payloads are stored, to be forwarded by any gateway: see `forwards` in [`schema`].
    has_outbox: AtomicBool,
    /// For `has_outbox` false and true.
    settle_statements: [String; 2],
    is_forwarding: AtomicBool,
}

impl PostgresLedger {
    /// Connects, and creates or migrates the tables. `forwards` says that this gateway forwards records.
    pub(crate) fn open(address: DatabaseAddress, forwards: bool) -> Result<Self, LedgerOpenError> {
        let sessions = SessionPool::new(address).map_err(LedgerOpenError::Start)?;
        let ledger = Self {
            sessions,
            holder: Uuid::new_v4(),
            has_outbox: AtomicBool::new(forwards),
            settle_statements: [false, true].map(settle::settle_statement),
            is_forwarding: AtomicBool::new(false),
        };
        let database = || ledger.sessions.database_name().to_owned();
        let check = ledger
            .sessions
            .run_preparation(async |session| prepare_tables(session, forwards).await)
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
        self.sessions.run_in_any(async |session| {
            claims::claim_batch(&session.client, [device.0, batch.0], self.holder).await
        })
    }

    fn release_batch(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        self.sessions.run_in_any(async |session| {
            claims::release_batch(&session.client, [device.0, batch.0], self.holder).await
        })
    }

    fn renew_claims(&self) -> Result<(), LedgerError> {
        self.sessions.run_in_any(async |session| {
            claims::renew_claims(&session.client, self.holder).await?;
            if self.is_forwarding.load(Ordering::Relaxed) {
                let is_kept = claims::keep_forwarding(&session.client, self.holder).await?;
                self.is_forwarding.fetch_and(is_kept, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn is_claimed(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        self.sessions
            .run_in_any(async |session| claims::is_claimed(&session.client, [device.0, batch.0]).await)
    }

    fn stored_response(
        &self,
        device: DeviceId,
        batch: BatchId,
    ) -> Result<Option<StoredResponse>, LedgerError> {
        self.sessions
            .run_in_any(async |session| settle::load_response(&session.client, device.0, batch.0).await)
    }

    fn settle_batch(&self, batch: &ValidatedBatch, _: u64) -> Result<BatchSettlement, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let has_outbox = self.has_outbox.load(Ordering::Relaxed);
            let statement = &self.settle_statements[usize::from(has_outbox)];
            if let Some(settlement) = settle::settle_new_batch(session, statement, has_outbox, batch).await? {
                return Ok(settlement);
            }
            let (settlement, has_outbox) = settle::settle_batch(session, batch).await?;
            self.has_outbox.store(has_outbox, Ordering::Relaxed);
            Ok(settlement)
        })
    }

    fn prune_responses(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        let (retention, max_rows) = (claims::duration_to_ms(retention), count_to_i64(max));
        self.sessions.run_in_any(async |session| {
            let deleted = session
                .client
                .execute_typed(DELETE_OLD_RESPONSES, &[(&retention, Type::INT8), (&max_rows, Type::INT8)])
                .await?;
            claims::delete_dead_claims(&session.client).await?;
            Ok(usize::try_from(deleted).unwrap_or(max))
        })
    }

    fn prune_records(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        self.sessions
            .run_in_any(async |session| records::prune_records(&session.client, retention, max).await)
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<AppliedRecord>, LedgerError> {
        self.sessions
            .run_in_any(async |session| records::load_listing(&session.client, to_i64(seq), limit).await)
    }

    fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError> {
        let turn = self
            .sessions
            .run_in_any(async |session| outbox::next_to_forward(&session.client, self.holder, limit).await)?;
        self.is_forwarding.store(matches!(turn, ForwardTurn::ThisGateway { .. }), Ordering::Relaxed);
        Ok(turn)
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        self.is_forwarding.store(false, Ordering::Relaxed);
        self.sessions
            .run_in_any(async |session| claims::return_forwarding(&session.client, self.holder).await)
    }

    fn size_bytes(&self) -> Result<LedgerSize, LedgerError> {
        self.sessions.run_in_any(async |session| outbox::load_size(&session.client).await)
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
        _: u64,
    ) -> Result<(), LedgerError> {
        self.sessions
            .run_in_any(async |session| delivery::record_verdicts(session, batch, delivery, verdicts).await)
    }

    fn finish_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        response: &BatchResponse,
        _: u64,
    ) -> Result<BatchSettlement, LedgerError> {
        self.sessions.run_in_any(async |session| {
            delivery::finish_delivery(session, batch, delivery, verdicts, response).await
        })
    }

    fn prune_sent(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        let max_rows = count_to_i64(max);
        self.sessions.run_in_any(async |session| {
            let deleted = delivery::prune_sent(session, retention, max_rows).await?;
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
