//! The lanes of the shared ledger: records that forwarding set aside, and those behind them.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error as DatabaseError, Row};
use uuid::Uuid;

use super::claims::keep_forwarding;
use super::lane_changes::{
    DELETE_PARKED, RELEASE_LANES, REPLACE_PAYLOAD, advance_lanes, lock_refused, settle_lane_page,
    settle_new_page,
};
use super::outbox::decode_entry;
use super::{PostgresLedger, count_to_i64, to_u64};
use crate::ledger::{
    HoldReason, LaneCounts, LaneId, LanePage, LaneRecord, PageSettlement, PageSource, RefusedEntry,
    RefusedLedger, ReviewDecision,
};
use crate::ledger::{LedgerError, PageLimit};
use crate::model::RecordId;

const SELECT_LANE_RECORDS: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload, attempts FROM (
        SELECT *, sum(octet_length(payload)) OVER turns - octet_length(payload) AS bytes_before,
            row_number() OVER turns AS turn
        FROM (
            SELECT parked.*, due_at_ms, CASE WHEN seq = head_seq THEN attempts ELSE 0 END AS attempts
            FROM (
                SELECT lane, head_seq, due_at_ms, attempts FROM fieldsync.forward_lanes
                WHERE due_at_ms <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint
                ORDER BY due_at_ms, lane LIMIT $1
            ) AS due CROSS JOIN LATERAL (
                SELECT * FROM fieldsync.forward_parked WHERE forward_parked.lane = due.lane
                ORDER BY seq LIMIT $3
            ) AS parked
            ORDER BY due_at_ms, parked.lane, seq LIMIT $1
        ) AS next
        WINDOW turns AS (ORDER BY due_at_ms, lane, seq)
    ) AS sized WHERE bytes_before < $2 ORDER BY turn";
/// How long until then.
const SELECT_NEXT_DUE: &str = "
    SELECT min(due_at_ms) - (extract(epoch FROM statement_timestamp()) * 1000)::bigint
    FROM fieldsync.forward_lanes WHERE due_at_ms IS NOT NULL";
const SELECT_REFUSED: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload, attempts, at_ms, code, message, field
    FROM (
        SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS bytes_before
        FROM (
            SELECT parked.*, attempts, at_ms, code, message, field
            FROM fieldsync.forward_lanes AS lanes JOIN fieldsync.forward_parked AS parked
                ON parked.lane = lanes.lane AND parked.seq = lanes.head_seq
            WHERE due_at_ms IS NULL AND record_id > $1 ORDER BY record_id LIMIT $2
        ) AS next
    ) AS sized WHERE bytes_before < $3 ORDER BY id";
const SELECT_REFUSED_RECORD: &str = "
    SELECT seq, id, device_id, batch_id, type, key, applied_at_ms, payload, attempts, at_ms, code, message, field
    FROM fieldsync.forward_lanes AS lanes JOIN fieldsync.forward_parked AS parked
        ON parked.lane = lanes.lane AND parked.seq = lanes.head_seq
    WHERE due_at_ms IS NULL AND record_id = $1";
const SELECT_COUNTS: &str = "
    SELECT (SELECT count(*) FROM fieldsync.forward_lanes WHERE due_at_ms IS NULL),
        (SELECT count(*) FROM fieldsync.forward_parked), (SELECT count(*) FROM fieldsync.forward_lanes)";

fn decode_attempts(row: &Row) -> Result<u32, DatabaseError> {
    Ok(u32::try_from(row.try_get::<_, i64>(8)?).unwrap_or(u32::MAX))
}

fn decode_refused(row: &Row) -> Result<RefusedEntry, DatabaseError> {
    Ok(RefusedEntry {
        entry: decode_entry(row)?,
        attempts: decode_attempts(row)?,
        refused_at: to_u64(row.try_get(9)?),
        reason: HoldReason { code: row.try_get(10)?, message: row.try_get(11)?, field: row.try_get(12)? },
    })
}

impl RefusedLedger for PostgresLedger {
    fn blocked_lanes(&self, lanes: &[LaneId]) -> Result<Vec<LaneId>, LedgerError> {
        let lanes: Vec<Uuid> = lanes.iter().map(|lane| lane.0).collect();
        let select = "SELECT lane FROM fieldsync.forward_lanes WHERE lane = ANY($1)";
        self.sessions.run_in_any(async |session| {
            let rows = session.client.query_typed(select, &[(&lanes, Type::UUID_ARRAY)]).await?;
            rows.iter().map(|row| Ok(LaneId(row.try_get(0)?))).collect()
        })
    }

    fn next_lane_records(
        &self,
        now: u64,
        limit: PageLimit,
        per_lane: usize,
    ) -> Result<LanePage, LedgerError> {
        let (rows, bytes, per_lane) =
            (count_to_i64(limit.rows), count_to_i64(limit.bytes), count_to_i64(per_lane));
        self.sessions.run_in_any(async |session| {
            let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                [(&rows, Type::INT8), (&bytes, Type::INT8), (&per_lane, Type::INT8)];
            let found = session.client.query_typed(SELECT_LANE_RECORDS, &parameters).await?;
            let records = found
                .iter()
                .map(|row| Ok(LaneRecord { entry: decode_entry(row)?, attempts: decode_attempts(row)? }))
                .collect::<Result<Vec<_>, DatabaseError>>()?;
            if !records.is_empty() {
                return Ok(LanePage { records, next_due_at: None });
            }
            let delay: Option<i64> =
                session.client.query_typed_one(SELECT_NEXT_DUE, &[]).await?.try_get(0)?;
            Ok(LanePage { records, next_due_at: delay.map(|delay| now.saturating_add(to_u64(delay))) })
        })
    }

    fn settle_page(&self, settlement: &PageSettlement) -> Result<bool, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let transaction = session.begin().await?;
            if !keep_forwarding(&transaction, self.holder).await? {
                transaction.roll_back().await?;
                return Ok(false);
            }
            match settlement.source {
                PageSource::Outbox => settle_new_page(&transaction, settlement).await?,
                PageSource::Lanes => settle_lane_page(&transaction, settlement).await?,
            }
            transaction.commit().await?;
            Ok(true)
        })
    }

    fn refused_after(
        &self,
        after: Option<RecordId>,
        limit: PageLimit,
    ) -> Result<Vec<RefusedEntry>, LedgerError> {
        // No record has the id of zeros: devices make random ones.
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let (rows, bytes) = (count_to_i64(limit.rows), count_to_i64(limit.bytes));
        self.sessions.run_in_any(async |session| {
            let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                [(&after, Type::UUID), (&rows, Type::INT8), (&bytes, Type::INT8)];
            let found = session.client.query_typed(SELECT_REFUSED, &parameters).await?;
            found.iter().map(|row| Ok(decode_refused(row)?)).collect()
        })
    }

    fn refused_record(&self, id: RecordId) -> Result<Option<RefusedEntry>, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let row = session.client.query_typed_opt(SELECT_REFUSED_RECORD, &[(&id.0, Type::UUID)]).await?;
            Ok(row.as_ref().map(decode_refused).transpose()?)
        })
    }

    fn review_records(&self, ids: &[RecordId], decision: ReviewDecision, _: u64) -> Result<u64, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let transaction = session.begin().await?;
            let rows = lock_refused(&transaction, ids).await?;
            match decision {
                ReviewDecision::Retry => {
                    transaction.execute_typed(RELEASE_LANES, &[(&rows.lanes, Type::UUID_ARRAY)]).await?;
                }
                ReviewDecision::Discard => {
                    rows.execute(&transaction, DELETE_PARKED).await?;
                    advance_lanes(&transaction, &rows.lanes).await?;
                }
            }
            transaction.commit().await?;
            Ok(u64::try_from(rows.lanes.len()).unwrap_or(u64::MAX))
        })
    }

    fn replace_refused_payload(&self, id: RecordId, payload: &str, _: u64) -> Result<bool, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let transaction = session.begin().await?;
            let rows = lock_refused(&transaction, &[id]).await?;
            let (Some(lane), Some(seq)) = (rows.lanes.first(), rows.seqs.first()) else {
                transaction.roll_back().await?;
                return Ok(false);
            };
            let row: [(&(dyn ToSql + Sync), Type); 3] =
                [(lane, Type::UUID), (seq, Type::INT8), (&payload, Type::TEXT)];
            transaction.execute_typed(REPLACE_PAYLOAD, &row).await?;
            transaction.execute_typed(RELEASE_LANES, &[(&rows.lanes, Type::UUID_ARRAY)]).await?;
            transaction.commit().await?;
            Ok(true)
        })
    }

    fn lane_counts(&self) -> Result<LaneCounts, LedgerError> {
        self.sessions.run_in_any(async |session| {
            let row = session.client.query_typed_one(SELECT_COUNTS, &[]).await?;
            let number = |column: usize| Ok::<_, DatabaseError>(to_u64(row.try_get(column)?));
            let (refused, parked, lanes) = (number(0)?, number(1)?, number(2)?);
            Ok(LaneCounts { refused, parked: parked.saturating_sub(lanes), lanes })
        })
    }
}
