//! The lanes of the file: records that forwarding set aside, and those behind them.

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, WriteTransaction,
};
use uuid::Uuid;

use super::RedbLedger;
use super::group_commit::Written;
use super::lane_tables::{DUE, LANES, LaneColumns, PARKED, ParkedTable, REFUSED};
use super::tables::{OUTBOX, decode_entry};
use crate::ledger::{AppliedRecord, LedgerError, OutboxEntry, PageLimit};
use crate::ledger::{
    ForwardVerdict, HoldReason, LaneCounts, LaneId, LanePage, LaneRecord, PageSettlement, PageSource,
    RefusedEntry, RefusedLedger, ReviewDecision,
};
use crate::model::RecordId;

/// A row of [`LANES`].
struct LaneRow {
    head: u64,
    head_id: u128,
    due_at: Option<u64>,
    attempts: u32,
    at: u64,
    reason: HoldReason,
}

impl LaneRow {
    fn decode((head, head_id, due_at, attempts, at, (code, message, field)): LaneColumns<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(Into::into);
        let reason = HoldReason { code: owned(code), message: owned(message), field: owned(field) };
        Self { head, head_id, due_at, attempts, at, reason }
    }

    /// A lane whose first record was not sent since it became the first.
    fn due_now(head: &AppliedRecord, now: u64) -> Self {
        let (head, head_id) = (head.seq, head.id.0.as_u128());
        Self { head, head_id, due_at: Some(now), attempts: 0, at: now, reason: HoldReason::default() }
    }

    fn columns(&self) -> LaneColumns<'_> {
        let HoldReason { code, message, field } = &self.reason;
        let reason = (code.as_deref(), message.as_deref(), field.as_deref());
        (self.head, self.head_id, self.due_at, self.attempts, self.at, reason)
    }
}

/// The tables of a transaction that changes lanes.
struct LaneTables<'t> {
    lanes: Table<'t, u128, LaneColumns<'static>>,
    parked: ParkedTable<'t>,
    due: Table<'t, (u64, u128), ()>,
    refused: Table<'t, u128, u128>,
}

impl<'t> LaneTables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, LedgerError> {
        Ok(Self {
            lanes: transaction.open_table(LANES)?,
            parked: transaction.open_table(PARKED)?,
            due: transaction.open_table(DUE)?,
            refused: transaction.open_table(REFUSED)?,
        })
    }

    fn load_lane(&self, lane: u128) -> Result<Option<LaneRow>, LedgerError> {
        Ok(self.lanes.get(lane)?.map(|row| LaneRow::decode(row.value())))
    }

    /// Deletes the row of a lane and what leads to it.
    fn remove_lane(&mut self, lane: u128) -> Result<(), LedgerError> {
        if let Some(row) = self.load_lane(lane)? {
            match row.due_at {
                Some(due_at) => drop(self.due.remove((due_at, lane))?),
                None => drop(self.refused.remove(row.head_id)?),
            }
            self.lanes.remove(lane)?;
        }
        Ok(())
    }

    fn store_lane(&mut self, lane: u128, row: &LaneRow) -> Result<(), LedgerError> {
        self.remove_lane(lane)?;
        match row.due_at {
            Some(due_at) => drop(self.due.insert((due_at, lane), ())?),
            None => drop(self.refused.insert(row.head_id, lane)?),
        }
        self.lanes.insert(lane, row.columns())?;
        Ok(())
    }

    fn park(&mut self, lane: u128, entry: &OutboxEntry) -> Result<(), LedgerError> {
        let OutboxEntry { record, payload } = entry;
        let columns = (
            record.id.0.as_u128(),
            record.device.0.as_u128(),
            record.batch.0.as_u128(),
            record.record_type.as_str(),
            record.key.as_deref(),
            record.applied_at,
            payload.as_str(),
        );
        self.parked.insert((lane, record.seq), columns)?;
        Ok(())
    }

    fn first_parked(&self, lane: u128) -> Result<Option<OutboxEntry>, LedgerError> {
        let first = self.parked.range((lane, 0)..=(lane, u64::MAX))?.next().transpose()?;
        Ok(first.map(|(key, columns)| decode_entry(key.value().1, columns.value())))
    }

    /// Makes the first parked record the first of its lane, or ends the lane.
    fn advance_lane(&mut self, lane: u128, now: u64) -> Result<(), LedgerError> {
        let Some(first) = self.first_parked(lane)? else {
            return self.remove_lane(lane);
        };
        match self.load_lane(lane)? {
            Some(row) if row.head == first.record.seq => Ok(()),
            _ => self.store_lane(lane, &LaneRow::due_now(&first.record, now)),
        }
    }

    fn settle_new(
        &mut self,
        entry: &OutboxEntry,
        verdict: &ForwardVerdict,
        now: u64,
    ) -> Result<(), LedgerError> {
        let lane = LaneId::of_record(&entry.record).0.as_u128();
        let row = match verdict {
            ForwardVerdict::Passed => return Ok(()),
            ForwardVerdict::Behind => LaneRow::due_now(&entry.record, now),
            ForwardVerdict::Held { due_at, reason } => LaneRow {
                due_at: *due_at,
                attempts: 1,
                reason: reason.clone(),
                ..LaneRow::due_now(&entry.record, now)
            },
        };
        // A review may have ended the lane meanwhile.
        if self.lanes.get(lane)?.is_none() {
            self.store_lane(lane, &row)?;
        }
        self.park(lane, entry)
    }

    fn settle_parked(
        &mut self,
        entry: &OutboxEntry,
        verdict: &ForwardVerdict,
        now: u64,
    ) -> Result<(), LedgerError> {
        let lane = LaneId::of_record(&entry.record).0.as_u128();
        match verdict {
            ForwardVerdict::Behind => {}
            ForwardVerdict::Passed => {
                self.parked.remove((lane, entry.record.seq))?;
                self.advance_lane(lane, now)?;
            }
            ForwardVerdict::Held { due_at, reason } => {
                if let Some(row) = self.load_lane(lane)?.filter(|row| row.head == entry.record.seq) {
                    let attempts = row.attempts.saturating_add(1);
                    let held = LaneRow { due_at: *due_at, attempts, at: now, reason: reason.clone(), ..row };
                    self.store_lane(lane, &held)?;
                }
            }
        }
        Ok(())
    }

    /// The lane of a record under review.
    fn refused_lane(&self, id: RecordId) -> Result<Option<(u128, LaneRow)>, LedgerError> {
        let Some(lane) = self.refused.get(id.0.as_u128())?.map(|lane| lane.value()) else {
            return Ok(None);
        };
        Ok(self.load_lane(lane)?.map(|row| (lane, row)))
    }
}

impl RefusedLedger for RedbLedger {
    fn blocked_lanes(&self, lanes: &[LaneId]) -> Result<Vec<LaneId>, LedgerError> {
        self.with_database(|database| {
            let rows = database.begin_read()?.open_table(LANES)?;
            let mut blocked = Vec::new();
            for lane in lanes {
                if rows.get(lane.0.as_u128())?.is_some() {
                    blocked.push(*lane);
                }
            }
            Ok(blocked)
        })
    }

    fn next_lane_records(
        &self,
        now: u64,
        limit: PageLimit,
        per_lane: usize,
    ) -> Result<LanePage, LedgerError> {
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let (due, lanes) = (transaction.open_table(DUE)?, transaction.open_table(LANES)?);
            let parked = transaction.open_table(PARKED)?;
            let mut page = LanePage::default();
            let mut bytes = 0;
            for row in due.iter()? {
                let (due_at, lane) = row?.0.value();
                if due_at > now {
                    page.next_due_at = Some(due_at);
                    break;
                }
                let head_attempts = lanes.get(lane)?.map_or(0, |row| row.value().3);
                let records = parked.range((lane, 0)..=(lane, u64::MAX))?.take(per_lane);
                for (position, record) in records.enumerate() {
                    let (key, columns) = record?;
                    let entry = decode_entry(key.value().1, columns.value());
                    let attempts = if position == 0 { head_attempts } else { 0 };
                    bytes += entry.payload.len();
                    page.records.push(LaneRecord { entry, attempts });
                    if page.records.len() >= limit.rows || bytes >= limit.bytes {
                        return Ok(page);
                    }
                }
            }
            Ok(page)
        })
    }

    fn settle_page(&self, settlement: &PageSettlement) -> Result<bool, LedgerError> {
        let PageSettlement { source, records, now } = settlement;
        self.write(|transaction| {
            if *source == PageSource::Outbox {
                let mut outbox = transaction.open_table(OUTBOX)?;
                for (entry, _) in records {
                    outbox.remove(entry.record.seq)?;
                }
            }
            let blocks = |(_, verdict): &(_, ForwardVerdict)| *verdict != ForwardVerdict::Passed;
            if *source == PageSource::Lanes || records.iter().any(blocks) {
                let mut tables = LaneTables::open(transaction)?;
                for (entry, verdict) in records {
                    match source {
                        PageSource::Outbox => tables.settle_new(entry, verdict, *now)?,
                        PageSource::Lanes => tables.settle_parked(entry, verdict, *now)?,
                    }
                }
            }
            Ok(Written::Changed(true))
        })
    }

    fn refused_after(
        &self,
        after: Option<RecordId>,
        limit: PageLimit,
    ) -> Result<Vec<RefusedEntry>, LedgerError> {
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let refused = transaction.open_table(REFUSED)?;
            let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.0.as_u128()));
            let mut page = Vec::new();
            let mut bytes = 0;
            for row in refused.range::<u128>((start, Bound::Unbounded))? {
                let Some(entry) = load_refused(&transaction, row?.1.value())? else {
                    continue;
                };
                bytes += entry.entry.payload.len();
                page.push(entry);
                if page.len() >= limit.rows || bytes >= limit.bytes {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn refused_record(&self, id: RecordId) -> Result<Option<RefusedEntry>, LedgerError> {
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let lane = transaction.open_table(REFUSED)?.get(id.0.as_u128())?.map(|lane| lane.value());
            lane.map_or(Ok(None), |lane| load_refused(&transaction, lane))
        })
    }

    fn review_records(
        &self,
        ids: &[RecordId],
        decision: ReviewDecision,
        now: u64,
    ) -> Result<u64, LedgerError> {
        let ids: BTreeSet<Uuid> = ids.iter().map(|id| id.0).collect();
        self.write(|transaction| {
            let mut tables = LaneTables::open(transaction)?;
            let mut reviewed = 0;
            for id in &ids {
                let Some((lane, row)) = tables.refused_lane(RecordId(*id))? else {
                    continue;
                };
                reviewed += 1;
                match decision {
                    ReviewDecision::Retry => {
                        tables.store_lane(lane, &LaneRow { due_at: Some(now), ..row })?;
                    }
                    ReviewDecision::Discard => {
                        tables.parked.remove((lane, row.head))?;
                        tables.advance_lane(lane, now)?;
                    }
                }
            }
            Ok(Written::Changed(reviewed))
        })
    }

    fn replace_refused_payload(&self, id: RecordId, payload: &str, now: u64) -> Result<bool, LedgerError> {
        self.write(|transaction| {
            let mut tables = LaneTables::open(transaction)?;
            let Some((lane, row)) = tables.refused_lane(id)? else {
                return Ok(Written::Unchanged(false));
            };
            let Some(first) = tables.first_parked(lane)? else {
                return Ok(Written::Unchanged(false));
            };
            tables.park(lane, &OutboxEntry { payload: payload.into(), ..first })?;
            tables.store_lane(lane, &LaneRow { due_at: Some(now), ..row })?;
            Ok(Written::Changed(true))
        })
    }

    fn lane_counts(&self) -> Result<LaneCounts, LedgerError> {
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let lanes = transaction.open_table(LANES)?.len()?;
            Ok(LaneCounts {
                refused: transaction.open_table(REFUSED)?.len()?,
                parked: transaction.open_table(PARKED)?.len()?.saturating_sub(lanes),
                lanes,
            })
        })
    }
}

/// The first record of a lane, which was refused.
fn load_refused(transaction: &ReadTransaction, lane: u128) -> Result<Option<RefusedEntry>, LedgerError> {
    let row = transaction.open_table(LANES)?.get(lane)?.map(|row| LaneRow::decode(row.value()));
    let Some(row) = row else {
        return Ok(None);
    };
    let parked = transaction.open_table(PARKED)?;
    let entry = parked.get((lane, row.head))?.map(|columns| decode_entry(row.head, columns.value()));
    Ok(entry.map(|entry| RefusedEntry {
        entry,
        reason: row.reason,
        refused_at: row.at,
        attempts: row.attempts,
    }))
}
