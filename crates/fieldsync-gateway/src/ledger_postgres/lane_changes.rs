//! How lanes change.
//!
//! The gateway that forwards and reviews at any gateway change lanes at the same time. Each of these transactions
//! first locks the rows of its lanes, so that the next statements see what the others committed. When a lane is due is a
//! time of the database; a gateway says how long from now.

use std::collections::HashSet;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::operation_error::OperationError;
use super::to_i64;
use crate::ledger::{ForwardVerdict, HoldReason, LaneId, OutboxEntry, PageSettlement};
use crate::model::RecordId;

const DELETE_FROM_OUTBOX: &str = "DELETE FROM fieldsync.outbox WHERE seq = ANY($1)";
const LOCK_LANES: &str =
    "SELECT lane FROM fieldsync.forward_lanes WHERE lane = ANY($1) ORDER BY lane FOR UPDATE";
const INSERT_LANE: &str = "
    INSERT INTO fieldsync.forward_lanes
        (lane, head_seq, record_id, due_at_ms, attempts, at_ms, code, message, field)
    SELECT $1, $2, $3, now_ms + $4, $5, now_ms, $6, $7, $8
    FROM (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms) AS clock
    ON CONFLICT DO NOTHING";
const INSERT_PARKED: &str = "
    INSERT INTO fieldsync.forward_parked
        (lane, seq, id, device_id, batch_id, type, key, applied_at_ms, payload)
    SELECT new.lane, seq, id, device_id, batch_id, type, key, applied_at_ms, payload
    FROM unnest($1, $2) AS new (lane, seq) JOIN fieldsync.outbox USING (seq)
    ON CONFLICT DO NOTHING";
pub(super) const DELETE_PARKED: &str = "
    DELETE FROM fieldsync.forward_parked USING unnest($1, $2) AS passed (lane, seq)
    WHERE forward_parked.lane = passed.lane AND forward_parked.seq = passed.seq";
const HOLD_LANE: &str = "
    UPDATE fieldsync.forward_lanes
    SET due_at_ms = now_ms + $3, attempts = attempts + 1, at_ms = now_ms, code = $4, message = $5, field = $6
    FROM (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms) AS clock
    WHERE lane = $1 AND head_seq = $2";
/// The first parked record becomes the first of its lane.
const ADVANCE_LANES: &str = "
    UPDATE fieldsync.forward_lanes
    SET head_seq = head.seq, record_id = head.id, due_at_ms = now_ms, attempts = 0, at_ms = now_ms,
        code = NULL, message = NULL, field = NULL
    FROM unnest($1) AS moved (lane) CROSS JOIN LATERAL (
        SELECT seq, id FROM fieldsync.forward_parked WHERE forward_parked.lane = moved.lane
        ORDER BY seq LIMIT 1
    ) AS head
    CROSS JOIN (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms) AS clock
    WHERE forward_lanes.lane = moved.lane AND head_seq <> head.seq";
const END_LANES: &str = "
    DELETE FROM fieldsync.forward_lanes WHERE lane = ANY($1) AND NOT EXISTS (
        SELECT 1 FROM fieldsync.forward_parked WHERE forward_parked.lane = forward_lanes.lane
    )";
const LOCK_REFUSED: &str = "
    SELECT lane, head_seq FROM fieldsync.forward_lanes
    WHERE due_at_ms IS NULL AND record_id = ANY($1) ORDER BY lane FOR UPDATE";
pub(super) const RELEASE_LANES: &str = "
    UPDATE fieldsync.forward_lanes SET due_at_ms = (extract(epoch FROM statement_timestamp()) * 1000)::bigint
    WHERE lane = ANY($1)";
pub(super) const REPLACE_PAYLOAD: &str =
    "UPDATE fieldsync.forward_parked SET payload = $3 WHERE lane = $1 AND seq = $2";

/// The parameters of `unnest($1, $2)` for these rows.
pub(super) struct LaneRows {
    pub(super) lanes: Vec<Uuid>,
    pub(super) seqs: Vec<i64>,
}

impl LaneRows {
    fn of<'e>(entries: impl Iterator<Item = &'e OutboxEntry>) -> Self {
        let (lanes, seqs) =
            entries.map(|entry| (LaneId::of_record(&entry.record).0, to_i64(entry.record.seq))).unzip();
        Self { lanes, seqs }
    }

    pub(super) async fn execute(&self, client: &Client, statement: &str) -> Result<(), OperationError> {
        if !self.lanes.is_empty() {
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&self.lanes, Type::UUID_ARRAY), (&self.seqs, Type::INT8_ARRAY)];
            client.execute_typed(statement, &parameters).await?;
        }
        Ok(())
    }
}

async fn lock_lanes(client: &Client, lanes: &Vec<Uuid>) -> Result<(), OperationError> {
    client.query_typed(LOCK_LANES, &[(lanes, Type::UUID_ARRAY)]).await?;
    Ok(())
}

/// Gives each lane its next record, and ends those without one.
pub(super) async fn advance_lanes(client: &Client, lanes: &Vec<Uuid>) -> Result<(), OperationError> {
    client.execute_typed(ADVANCE_LANES, &[(lanes, Type::UUID_ARRAY)]).await?;
    client.execute_typed(END_LANES, &[(lanes, Type::UUID_ARRAY)]).await?;
    Ok(())
}

/// Takes a page out of the outbox, and adds its blocked records to their lanes.
pub(super) async fn settle_new_page(
    transaction: &Client,
    settlement: &PageSettlement,
) -> Result<(), OperationError> {
    let blocked = settlement.records.iter().filter(|(_, verdict)| *verdict != ForwardVerdict::Passed);
    let parked = LaneRows::of(blocked.map(|(entry, _)| entry));
    if !parked.lanes.is_empty() {
        block_lanes(transaction, settlement, &parked).await?;
    }
    let seqs: Vec<i64> = settlement.records.iter().map(|(entry, _)| to_i64(entry.record.seq)).collect();
    transaction.execute_typed(DELETE_FROM_OUTBOX, &[(&seqs, Type::INT8_ARRAY)]).await?;
    Ok(())
}

async fn block_lanes(
    transaction: &Client,
    settlement: &PageSettlement,
    parked: &LaneRows,
) -> Result<(), OperationError> {
    let blocked = settlement.records.iter().filter(|(_, verdict)| *verdict != ForwardVerdict::Passed);
    lock_lanes(transaction, &parked.lanes).await?;
    let mut known = HashSet::new();
    for (entry, verdict) in blocked {
        let lane = LaneId::of_record(&entry.record).0;
        if !known.insert(lane) {
            continue;
        }
        // Behind a lane that a review ended meanwhile, the record is the next of its lane.
        let (delay, attempts, reason) = match verdict {
            ForwardVerdict::Held { due_at, reason } => (delay_ms(settlement, *due_at), 1_i64, reason.clone()),
            ForwardVerdict::Behind | ForwardVerdict::Passed => (Some(0), 0, HoldReason::default()),
        };
        transaction
            .execute_typed(
                INSERT_LANE,
                &[
                    (&lane, Type::UUID),
                    (&to_i64(entry.record.seq), Type::INT8),
                    (&entry.record.id.0, Type::UUID),
                    (&delay, Type::INT8),
                    (&attempts, Type::INT8),
                    (&reason.code, Type::TEXT),
                    (&reason.message, Type::TEXT),
                    (&reason.field, Type::TEXT),
                ],
            )
            .await?;
    }
    parked.execute(transaction, INSERT_PARKED).await
}

/// How long after the settlement a lane is due. `None` for a record under review.
fn delay_ms(settlement: &PageSettlement, due_at: Option<u64>) -> Option<i64> {
    due_at.map(|due_at| to_i64(due_at.saturating_sub(settlement.now)))
}

/// Takes passed records out of their lanes.
pub(super) async fn settle_lane_page(
    transaction: &Client,
    settlement: &PageSettlement,
) -> Result<(), OperationError> {
    let lanes = LaneRows::of(settlement.records.iter().map(|(entry, _)| entry)).lanes;
    lock_lanes(transaction, &lanes).await?;
    let passed = settlement.records.iter().filter(|(_, verdict)| *verdict == ForwardVerdict::Passed);
    LaneRows::of(passed.map(|(entry, _)| entry)).execute(transaction, DELETE_PARKED).await?;
    advance_lanes(transaction, &lanes).await?;
    for (entry, verdict) in &settlement.records {
        let ForwardVerdict::Held { due_at, reason } = verdict else {
            continue;
        };
        transaction
            .execute_typed(
                HOLD_LANE,
                &[
                    (&LaneId::of_record(&entry.record).0, Type::UUID),
                    (&to_i64(entry.record.seq), Type::INT8),
                    (&delay_ms(settlement, *due_at), Type::INT8),
                    (&reason.code, Type::TEXT),
                    (&reason.message, Type::TEXT),
                    (&reason.field, Type::TEXT),
                ],
            )
            .await?;
    }
    Ok(())
}

/// The lanes of these records as far as they are under review, locked, and their first rows.
pub(super) async fn lock_refused(client: &Client, ids: &[RecordId]) -> Result<LaneRows, OperationError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let mut rows = LaneRows { lanes: Vec::new(), seqs: Vec::new() };
    for row in client.query_typed(LOCK_REFUSED, &[(&ids, Type::UUID_ARRAY)]).await? {
        rows.lanes.push(row.try_get(0)?);
        rows.seqs.push(row.try_get(1)?);
    }
    Ok(rows)
}
