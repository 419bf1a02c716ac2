//! The shared ledger: one PostgreSQL database, for any number of gateways.
//!
//! - What is answered is committed, and the commit is on the server's disk (`synchronous_commit`).
//! - Which gateway gets a record, or how many at once, makes no difference: unique rows decide, see [`settle`].
//! - A claim on a batch is an advisory lock of a session that each gateway keeps for nothing else, so a
//!   gateway that dies gives up its claims by that; so is the right to hand records on. Both need the session
//!   itself: a pooler in between must not give it to others (pgbouncer: `pool_mode = session`).
//! - A database that is away fails an operation within [`LIMIT`]; none of it waits for the database's return.

mod database_address;
mod schema;
mod session_pool;
mod settle;

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) use database_address::{Address, AddressError};
use schema::Found;
use session_pool::{Failure, LIMIT, Place, Said, Session, Sessions};

use super::ledger::{
    Application, CheckedBatch, KeptAnswer, Ledger, LedgerError, OpenError, PageLimit, Settled, Turn, sha256,
};
use crate::model::{BatchId, DeviceId, RecordId};

/// Transactions side by side: most of one is waiting for the server.
const WRITERS: usize = 4;
/// The lock of the gateway that hands records on.
const FORWARDING: i64 = i64::from_be_bytes(*b"fs-forwd");

const PAGE: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload FROM (
        SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
        FROM (SELECT * FROM fieldsync.applied WHERE seq > $1 ORDER BY seq LIMIT $2) AS next
    ) AS sized WHERE bytes_before < $3 ORDER BY seq";
const PRUNE: &str = "
    WITH old AS (
        SELECT device_id, batch_id FROM fieldsync.batches WHERE answered_at_ms < $1
        ORDER BY answered_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM fieldsync.batches USING old
    WHERE batches.device_id = old.device_id AND batches.batch_id = old.batch_id";
const CLAIMED: &str = "
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = $1
    )";

/// The ledger in a database.
pub(crate) struct PostgresLedger {
    sessions: Sessions,
    /// The session that holds this gateway's claims.
    claims: Place,
    /// The session that hands records on, or tries to become the one that does.
    forwarding: Place,
}

impl PostgresLedger {
    /// Connects, and makes the tables when there are none.
    pub(crate) fn open(address: Address) -> Result<Self, OpenError> {
        let sessions = Sessions::new(address).map_err(OpenError::Start)?;
        let ledger = Self { sessions, claims: Place::default(), forwarding: Place::default() };
        let database = || ledger.sessions.name().to_owned();
        let found = ledger
            .sessions
            .run(LIMIT, async |session| Ok(schema::prepare(&mut session.client).await?))
            .map_err(|error| open_error(database(), error))?;
        match found {
            Found::Ready => {
                ledger.sessions.prepared();
                Ok(ledger)
            }
            Found::Schema(found) => Err(OpenError::Schema {
                store: database(),
                found: found.cast_unsigned(),
                known: schema::SCHEMA.cast_unsigned(),
            }),
            Found::Encoding(encoding) => Err(OpenError::Unfit {
                database: database(),
                source: format!("its encoding is {encoding}, and must be UTF8").into(),
            }),
        }
    }

    /// Where it is, for people and logs.
    pub(crate) fn name(&self) -> &str {
        self.sessions.name()
    }
}

impl Ledger for PostgresLedger {
    fn writers(&self) -> usize {
        WRITERS
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn claim(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run_at(&self.claims, LIMIT, async |session| try_lock(session, key).await)
    }

    fn release(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run_at(&self.claims, LIMIT, async |session| unlock(session, key).await)
    }

    fn is_claimed(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError> {
        let key = claim_key(device, batch);
        self.sessions.run(LIMIT, async |session| {
            Ok(session.client.query_typed_one(CLAIMED, &[(&key, Type::INT8)]).await?.try_get(0)?)
        })
    }

    fn answer(&self, device: DeviceId, batch: BatchId) -> Result<Option<KeptAnswer>, LedgerError> {
        self.sessions
            .run(LIMIT, async |session| settle::kept_answer(&session.client, device.0, batch.0).await)
    }

    fn settle(&self, batch: &CheckedBatch, now: u64) -> Result<Settled, LedgerError> {
        self.sessions.run(LIMIT, async |session| settle::settle(session, batch, signed(now)).await)
    }

    fn prune(&self, before: u64, most: usize) -> Result<usize, LedgerError> {
        let (before, most_rows) = (signed(before), rows(most));
        self.sessions.run(LIMIT, async |session| {
            let pruned = session
                .client
                .execute_typed(PRUNE, &[(&before, Type::INT8), (&most_rows, Type::INT8)])
                .await?;
            Ok(usize::try_from(pruned).unwrap_or(most))
        })
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<Application>, LedgerError> {
        self.sessions.run(LIMIT, async |session| page_after(session, signed(seq), limit).await)
    }

    fn to_forward(&self, limit: PageLimit) -> Result<Turn, LedgerError> {
        self.sessions.run_at(&self.forwarding, LIMIT, async |session| {
            if !session.forwards {
                session.forwards = try_lock(session, FORWARDING).await?;
            }
            if !session.forwards {
                return Ok(Turn::Elsewhere);
            }
            let counter = async |name: &str| -> Result<i64, Failure> {
                let select = "SELECT seq FROM fieldsync.counters WHERE name = $1";
                Ok(session.client.query_typed_one(select, &[(&name, Type::TEXT)]).await?.try_get(0)?)
            };
            let (forwarded, head) = (counter("forwarded").await?, counter("applied").await?);
            let waiting = unsigned(head - forwarded);
            let page = if waiting == 0 { Vec::new() } else { page_after(session, forwarded, limit).await? };
            Ok(Turn::Ours { page, waiting })
        })
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        self.sessions.run_at(&self.forwarding, LIMIT, async |session| {
            if session.forwards {
                unlock(session, FORWARDING).await?;
                session.forwards = false;
            }
            Ok(())
        })
    }

    fn forwarded(&self, seq: u64) -> Result<(), LedgerError> {
        let seq = signed(seq);
        self.sessions.run_at(&self.forwarding, LIMIT, async |session| {
            // Never back: in a new session, another gateway may have gone on.
            let update = "UPDATE fieldsync.counters SET seq = $1 WHERE name = 'forwarded' AND seq < $1";
            session.client.execute_typed(update, &[(&seq, Type::INT8)]).await?;
            Ok(())
        })
    }

    fn probe(&self) -> Result<(), LedgerError> {
        self.sessions.run(LIMIT, async |session| {
            match schema::of(&session.client).await? {
                schema::SCHEMA => {}
                other => return Err(Failure::Schema(other)),
            }
            let only_reads = "SELECT current_setting('transaction_read_only')::boolean";
            let only_reads: bool = session.client.query_typed_one(only_reads, &[]).await?.try_get(0)?;
            if only_reads { Err(Failure::ReadsOnly) } else { Ok(()) }
        })
    }

    fn close(&self) -> Result<(), LedgerError> {
        self.sessions.close();
        Ok(())
    }
}

async fn try_lock(session: &Session, key: i64) -> Result<bool, Failure> {
    let row =
        session.client.query_typed_one("SELECT pg_try_advisory_lock($1)", &[(&key, Type::INT8)]).await?;
    Ok(row.try_get(0)?)
}

/// False: it was not held any more.
async fn unlock(session: &Session, key: i64) -> Result<bool, Failure> {
    let row = session.client.query_typed_one("SELECT pg_advisory_unlock($1)", &[(&key, Type::INT8)]).await?;
    Ok(row.try_get(0)?)
}

async fn page_after(session: &Session, seq: i64, limit: PageLimit) -> Result<Vec<Application>, Failure> {
    let (most_rows, bytes) = (rows(limit.rows), rows(limit.bytes));
    let page = session
        .client
        .query_typed(PAGE, &[(&seq, Type::INT8), (&most_rows, Type::INT8), (&bytes, Type::INT8)])
        .await?;
    page.iter().map(|row| Ok(application(row)?)).collect()
}

fn application(row: &Row) -> Result<Application, tokio_postgres::Error> {
    Ok(Application {
        seq: unsigned(row.try_get(0)?),
        id: RecordId(row.try_get(1)?),
        device: DeviceId(row.try_get(2)?),
        batch: BatchId(row.try_get(3)?),
        record_type: row.try_get(4)?,
        key: row.try_get(5)?,
        applied_at: unsigned(row.try_get(6)?),
        payload: row.try_get(7)?,
    })
}

/// Two batches with the same key, which hardly ever are at work together, would take turns.
fn claim_key(device: DeviceId, batch: BatchId) -> i64 {
    let bytes: [&Uuid; 2] = [&device.0, &batch.0];
    let digest = sha256(bytes.map(|id| *id.as_bytes()).as_flattened());
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

fn open_error(database: String, error: LedgerError) -> OpenError {
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        LedgerError::Unreachable(source) | LedgerError::Storage(source) => source,
        other => other.into(),
    };
    if source.downcast_ref::<Said>().is_some_and(|said| said.needs_a_person) {
        OpenError::Unfit { database, source }
    } else {
        OpenError::Unreachable { database, source }
    }
}

/// Milliseconds and rows are far from where the sign would matter.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn rows(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
