//! The open batches and their members: a copy of the table in memory. Readers share it as of the last commit.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::schema::{BatchRow, StoredPhase};
use crate::model::{BatchId, OpenBatch, QueuePosition};

/// The open batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OpenBatches {
    rows: BTreeMap<u128, BatchRow>,
    /// Position → batch of each member.
    claimed: BTreeMap<u64, u128>,
}

impl OpenBatches {
    pub(super) fn get(&self, id: u128) -> Option<&BatchRow> {
        self.rows.get(&id)
    }

    /// Adds or replaces a batch with its members.
    pub(super) fn insert_batch(&mut self, id: u128, row: BatchRow) {
        self.claimed.extend(row.members.iter().map(|member| (member.position, id)));
        self.rows.insert(id, row);
    }

    /// Removes a batch whose members were released or moved to other batches.
    pub(super) fn remove_batch(&mut self, id: u128) -> Option<BatchRow> {
        self.rows.remove(&id)
    }

    /// Removes the record at a position from its batch.
    pub(super) fn release_member(&mut self, position: u64) {
        self.claimed.remove(&position);
    }

    /// The batch of the record at a position.
    pub(super) fn batch_of(&self, position: u64) -> Option<u128> {
        self.claimed.get(&position).copied()
    }

    /// Whether the record at this position is in a batch that is being sent.
    pub(super) fn is_in_flight(&self, position: u64) -> bool {
        let batch = self.batch_of(position).and_then(|batch| self.rows.get(&batch));
        batch.is_some_and(|row| row.phase == StoredPhase::InFlight)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, &BatchRow)> {
        self.rows.iter().map(|(id, row)| (*id, row))
    }

    pub(super) fn batch_rows(&self) -> impl Iterator<Item = &BatchRow> {
        self.rows.values()
    }

    /// Positions of all members, in queue order.
    pub(super) fn member_places(&self) -> impl Iterator<Item = u64> {
        self.claimed.keys().copied()
    }
}

/// The batch as the planner sees it.
pub(super) fn to_open_batch(id: u128, row: &BatchRow) -> OpenBatch {
    OpenBatch {
        id: BatchId(Uuid::from_u128(id)),
        parent: row.parent.map(|parent| BatchId(Uuid::from_u128(parent))),
        stage: row.stage.into(),
        rule: row.rule.into(),
        place: QueuePosition(row.members.first().map_or(0, |member| member.position)),
        records: row.members.len(),
        bytes: row.bytes,
        attempt: row.attempt,
        lone_failures: row.lone_failures,
        phase: row.phase.into(),
    }
}
