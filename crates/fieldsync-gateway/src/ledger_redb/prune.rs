//! Forgets applied records that are old enough, from the start of the listing.
//!
//! A row whose payload still waits, in the outbox or a lane, is passed over and looked at in the next round. The rows are
//! in the order of application, so that a round ends at the first one that is too young. Rows of the future, from a clock
//! that was ahead, are passed over as well: the rows behind them are older. The last row stays in any case: it holds the number that the next one follows.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};

use super::lane_tables::open_parked;
use super::tables::{LISTING, OUTBOX, RECORD_DEVICES, RECORD_RECEIPTS, RECORDS, decode_record};
use crate::ledger::{AppliedRecord, LaneId, LedgerError};

/// A row that is further ahead of the clock than this is one of the future.
pub(super) const FUTURE_TOLERANCE: Duration = Duration::from_hours(24);

/// The rows at which pruning continues; 0: the first one.
#[derive(Default)]
pub(super) struct PrunePositions {
    pub(super) listing: u64,
    pub(super) sent: u128,
}

/// What one step of pruning did.
pub(super) struct PruneStep {
    pub(super) examined: usize,
    pub(super) forgotten: usize,
    /// Where the next step continues; 0 if the round has ended.
    pub(super) next_position: u64,
}

/// Looks at up to `max` rows from this position on, and forgets those that were applied before this time. Those that
/// were applied after `future_start` say nothing about the rows behind them.
pub(super) fn prune_listing(
    transaction: &WriteTransaction,
    position: u64,
    before: u64,
    future_start: u64,
    max: usize,
) -> Result<PruneStep, LedgerError> {
    let mut listing = transaction.open_table(LISTING)?;
    let last = listing.last()?.map_or(0, |(seq, _)| seq.value());
    let mut old: Vec<AppliedRecord> = Vec::new();
    let (mut examined, mut examined_last) = (0, position);
    for row in listing.range(position..last)?.take(max) {
        let (seq, columns) = row?;
        let record = decode_record(seq.value(), columns.value());
        let is_of_future = record.applied_at > future_start;
        if record.applied_at >= before && !is_of_future {
            break;
        }
        (examined, examined_last) = (examined + 1, record.seq);
        if !is_of_future {
            old.push(record);
        }
    }
    let next_position = if examined < max { 0 } else { examined_last + 1 };
    let mut step = PruneStep { examined, forgotten: 0, next_position };
    let (outbox, parked) = (transaction.open_table(OUTBOX)?, open_parked(transaction)?);
    let mut records = transaction.open_table(RECORDS)?;
    let mut devices = transaction.open_table(RECORD_DEVICES)?;
    let mut receipts = transaction.open_table(RECORD_RECEIPTS)?;
    for record in old {
        let lane = LaneId::of_record(&record).0.as_u128();
        if outbox.get(record.seq)?.is_some() || parked.get((lane, record.seq))?.is_some() {
            continue;
        }
        let id = record.id.0.as_u128();
        records.remove(id)?;
        devices.remove(id)?;
        receipts.remove(id)?;
        listing.remove(record.seq)?;
        step.forgotten += 1;
    }
    Ok(step)
}
