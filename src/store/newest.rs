//! The newest records first, as people look for them.
//!
//! Positions are in queue order: by priority, then by arrival. So the walk backwards merges the ends of ten ranges, one
//! for each priority, of each table.

use uuid::Uuid;

use super::codec;
use super::error::StoreError;
use super::lane_view::LaneView;
use super::read::{
    IdRange, PAGE_LANE_STEPS_MAX, PAGE_SCAN_RECORDS_MAX, PayloadRange, ReceiptRange, StoreView, visible_state,
};
use super::schema::{ManifestRow, RecordHeader};
use crate::model::{BatchId, ManifestEntry, PRIORITY_MAX, QueuePosition, RecordId, RecordState};

/// Which records a page shows, the newest first.
#[derive(Clone, Debug, Default)]
pub struct NewestFilter {
    /// Only records in these states; all if it is empty.
    pub states: Vec<RecordState>,
    /// Only records of this type.
    pub record_type: Option<String>,
    /// Only records with this key.
    pub key: Option<String>,
    /// Only records whose last batch is this one.
    pub batch: Option<BatchId>,
    /// Only records of this user.
    pub submitter: Option<u32>,
    /// Only records that were accepted at this time or later, in wall milliseconds.
    pub created_from: Option<u64>,
    /// Only records that arrived before the one with this number.
    pub before: Option<u64>,
    /// The most entries of a page.
    pub limit: usize,
}

/// A page of records, the newest first.
#[derive(Debug, Default)]
pub struct NewestPage {
    /// The entries.
    pub entries: Vec<ManifestEntry>,
    /// The number before which the next page continues, if there may be more.
    pub next: Option<u64>,
}

impl StoreView {
    /// A page of records, the newest first.
    pub fn list_newest(&self, filter: &NewestFilter) -> Result<NewestPage, StoreError> {
        let mut walk = BackwardWalk::new(self, &filter.states, filter.before.unwrap_or(1 << 56))?;
        let mut lanes = LaneView::new(&self.snapshot, &self.open, self.key_space);
        let mut page = NewestPage::default();
        for _ in 0..PAGE_SCAN_RECORDS_MAX {
            let Some((position, id)) = walk.next()? else {
                page.next = None;
                return Ok(page);
            };
            if page.entries.len() == filter.limit || lanes.steps_taken() >= PAGE_LANE_STEPS_MAX {
                return Ok(page);
            }
            if let Some(row) = self.manifest_row(id)?
                && filter.wants(&row, visible_state(&self.open, &row))
                && filter.batch.is_none_or(|batch| self.last_batch_of(&row) == Some(batch))
            {
                page.entries.push(self.to_entry(&mut lanes, RecordId(Uuid::from_u128(id)), row)?);
            }
            page.next = Some(QueuePosition(position).seq());
        }
        Ok(page)
    }

    fn last_batch_of(&self, row: &ManifestRow) -> Option<BatchId> {
        let batch = self.open.batch_of(row.position).or(row.batch);
        batch.map(|batch| BatchId(Uuid::from_u128(batch)))
    }

    /// The batches with records that are not settled yet.
    pub fn list_open_batches(&self) -> Vec<BatchId> {
        self.open.iter().map(|(id, _)| BatchId(Uuid::from_u128(id))).collect()
    }
}

impl NewestFilter {
    fn wants(&self, row: &ManifestRow, state: RecordState) -> bool {
        let is_of_state = self.states.is_empty() || self.states.contains(&state);
        is_of_state
            && self.record_type.as_ref().is_none_or(|record_type| *record_type == row.record_type)
            && self.key.as_ref().is_none_or(|key| Some(key) == row.key.as_ref())
            && self.submitter.is_none_or(|submitter| submitter == row.submitter)
            && self.created_from.is_none_or(|from| row.created_at >= from)
    }
}

/// Walks positions and ids by arrival, the newest first.
struct BackwardWalk<'s>(Vec<ClassEnd<'s>>);

/// The end of the records of one priority in one table.
struct ClassEnd<'s> {
    range: TableRange<'s>,
    /// The next entry.
    waiting: Option<(u64, u128)>,
}

enum TableRange<'s> {
    Payloads(PayloadRange<'s>),
    Receipts(ReceiptRange<'s>),
    /// Of discarded records, or of those that need review.
    Ids(IdRange<'s>),
}

impl<'s> BackwardWalk<'s> {
    /// `before`: the number of arrival.
    fn new(view: &'s StoreView, states: &[RecordState], before: u64) -> Result<Self, StoreError> {
        let is_wanted = |state: &RecordState| states.is_empty() || states.contains(state);
        let is_settled = |state: &RecordState| matches!(state, RecordState::Synced | RecordState::Discarded);
        let has_unsettled = states.is_empty() || !states.iter().all(is_settled);
        let has_discarded = is_wanted(&RecordState::Discarded);
        let mut ends = Vec::new();
        for class in 0..=u64::from(PRIORITY_MAX) {
            let positions = class << 56..(class << 56) + before.min(1 << 56);
            if states == [RecordState::Quarantined] {
                // A few among many that wait.
                ends.push(TableRange::Ids(view.snapshot.quarantine.range(positions)?));
                continue;
            }
            if has_unsettled {
                ends.push(TableRange::Payloads(view.snapshot.payload.range(positions.clone())?));
            }
            if is_wanted(&RecordState::Synced) {
                ends.push(TableRange::Receipts(view.snapshot.receipts.range(positions)?));
            } else if let Some(table) = view.snapshot.discarded.as_ref().filter(|_| has_discarded) {
                ends.push(TableRange::Ids(table.range(positions)?));
            }
        }
        let ends = ends.into_iter().map(ClassEnd::start).collect::<Result<_, _>>()?;
        Ok(Self(ends))
    }

    fn next(&mut self) -> Result<Option<(u64, u128)>, StoreError> {
        let arrival = |end: &ClassEnd<'_>| end.waiting.map(|(position, _)| QueuePosition(position).seq());
        let newest = self.0.iter_mut().max_by_key(|end| arrival(end));
        let Some(newest) = newest.filter(|end| end.waiting.is_some()) else { return Ok(None) };
        let next = newest.range.next_back()?;
        Ok(std::mem::replace(&mut newest.waiting, next))
    }
}

impl<'s> ClassEnd<'s> {
    fn start(mut range: TableRange<'s>) -> Result<Self, StoreError> {
        Ok(Self { waiting: range.next_back()?, range })
    }
}

impl TableRange<'_> {
    fn next_back(&mut self) -> Result<Option<(u64, u128)>, StoreError> {
        match self {
            Self::Payloads(range) => {
                while let Some(item) = range.next_back() {
                    let (position, sealed) = item?;
                    if let Ok(row) = codec::unseal_row::<RecordHeader>(sealed.value()) {
                        return Ok(Some((position.value(), row.header.id)));
                    }
                }
                Ok(None)
            }
            Self::Receipts(range) => {
                let item = range.next_back().transpose()?;
                Ok(item.map(|(position, value)| (position.value(), value.value().0)))
            }
            Self::Ids(range) => {
                let item = range.next_back().transpose()?;
                Ok(item.map(|(position, id)| (position.value(), id.value())))
            }
        }
    }
}
