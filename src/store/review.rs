//! What people do with records: quarantine them, retry or discard quarantined ones, and make failed ones due now.

use redb::ReadableTable;
use thiserror::Error;
use uuid::Uuid;

use super::batch_rows::QuarantinedRecord;
use super::error::StoreError;
use super::op::{Op, Transaction};
use super::schema::{DUE_WHEN_UNBLOCKED, ManifestRow, StoredError, StoredPhase, StoredState};
use crate::model::{BatchId, QueuePosition, RecordId};
use crate::protocol::exchange::truncate_text;

/// Records that one step changes at most, so that other operations can run in between.
pub const REVIEW_STEP_RECORDS: usize = 1000;

/// Retries or discards quarantined records.
pub struct Review {
    /// The records.
    pub selected: ReviewSelection,
    /// What to do with them.
    pub action: ReviewAction,
    /// If set, only records of this user. Others are skipped.
    pub submitter: Option<u32>,
}

/// A choice of quarantined records.
pub enum ReviewSelection {
    /// These. Ids of other records are skipped.
    These(Vec<RecordId>),
    /// The next [`REVIEW_STEP_RECORDS`] behind a position, in queue order. A walk from step to step meets each record
    /// once, even if retried records are quarantined again meanwhile.
    After(Option<QueuePosition>),
}

/// What to do with a quarantined record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewAction {
    /// Back to PENDING.
    Retry,
    /// Delete it, and keep a receipt.
    Discard {
        /// The user who discards it, for the receipt.
        by: String,
    },
}

/// The result of one step of a review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewSummary {
    /// The records that changed.
    pub changed: Vec<RecordId>,
    /// Where the next step continues; none after the last one.
    pub next: Option<QueuePosition>,
}

impl Op for Review {
    type Reply = ReviewSummary;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let mut next = None;
        let ids = match &self.selected {
            ReviewSelection::These(ids) => ids.iter().map(|id| id.0.as_u128()).collect(),
            ReviewSelection::After(after) => {
                let mut ids = Vec::new();
                let start = after.map_or(0, |position| position.0 + 1);
                for item in transaction.tables.quarantine.range(start..)?.take(REVIEW_STEP_RECORDS) {
                    let (position, id) = item?;
                    ids.push(id.value());
                    next = Some(QueuePosition(position.value())).filter(|_| ids.len() == REVIEW_STEP_RECORDS);
                }
                ids
            }
        };
        let mut changed = Vec::new();
        for id in ids {
            let Some(mut row) = transaction.manifest_row(id)? else {
                continue;
            };
            let is_selected = self.submitter.is_none_or(|submitter| submitter == row.submitter);
            if row.state != StoredState::Quarantined || !is_selected {
                continue;
            }
            transaction.tables.quarantine.remove(row.position)?;
            row.updated_at = transaction.now.wall;
            match &self.action {
                ReviewAction::Retry => {
                    row.state = StoredState::Pending;
                    transaction.save_row(id, &row, Some(StoredState::Quarantined))?;
                    transaction.release_from_review(&row)?;
                }
                ReviewAction::Discard { by } => transaction.discard_record(id, row, by.clone())?,
            }
            changed.push(RecordId(Uuid::from_u128(id)));
        }
        if matches!(self.action, ReviewAction::Discard { .. }) && !changed.is_empty() {
            transaction.make_room_for_receipts(changed.len())?;
        }
        Ok(ReviewSummary { changed, next })
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        !reply.changed.is_empty()
    }
}

/// The error class of a record that a person quarantined.
const BY_HAND_CLASS: &str = "by_hand";

/// Quarantines waiting records, so that a person can edit or discard them.
pub struct AddToReview {
    /// The records.
    pub ids: Vec<RecordId>,
}

/// The result of [`AddToReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddToReviewSummary {
    /// How many ids were examined, from the front. The others are for the next step.
    pub examined: usize,
    /// Records that were quarantined.
    pub added: Vec<QuarantinedRecord>,
    /// Records that cannot be quarantined. Records that already were are in neither list.
    pub refused: Vec<(RecordId, AddRefused)>,
    /// Batches that were disbanded because a record was removed.
    pub disbanded: Vec<BatchId>,
}

/// Why a record is not quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddRefused {
    /// No record has this id.
    #[error("no record has this id")]
    Unknown,
    /// The server has confirmed it.
    #[error("the server has confirmed this record: it is SYNCED, and there is nothing to review")]
    Synced,
    /// It was discarded.
    #[error("this record was discarded: its payload is deleted, and there is nothing to review")]
    Discarded,
    /// It is being sent, or its outcome is unknown.
    #[error(
        "the record is being sent, or the outcome of its last send is not known yet: the server may have it. Nothing was \
         changed. Try again when the outcome is known; a pause while it waits (fieldsync pause) keeps it from being sent \
         again meanwhile"
    )]
    OutcomePending,
}

impl Op for AddToReview {
    type Reply = AddToReviewSummary;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let mut done = AddToReviewSummary::default();
        let mut changed = 0;
        for id in &self.ids {
            if changed >= REVIEW_STEP_RECORDS {
                break;
            }
            done.examined += 1;
            match transaction.add_to_review(id.0.as_u128(), &mut changed, &mut done.disbanded)? {
                Ok(Some(set_aside)) => done.added.push(set_aside),
                Ok(None) => {}
                Err(refused) => done.refused.push((*id, refused)),
            }
        }
        Ok(done)
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        !reply.added.is_empty()
    }
}

impl Transaction<'_, '_> {
    /// Deletes the payload of a record that is no longer in the list of quarantined ones. Its receipt is kept as those
    /// of synced records are.
    fn discard_record(&mut self, id: u128, mut row: ManifestRow, by: String) -> Result<(), StoreError> {
        row.state = StoredState::Discarded;
        row.discarded_by = Some(by);
        self.state.totals.discarded += 1;
        self.remove_payload(row.position)?;
        self.tables.receipts.insert(row.position, (id, self.now.steady))?;
        self.tables.discarded.insert(row.position, id)?;
        self.save_row(id, &row, Some(StoredState::Quarantined))?;
        self.leave_lane(&row)
    }

    /// Quarantines one record, and adds the number of changed records to `changed`. None if it already is quarantined.
    fn add_to_review(
        &mut self,
        id: u128,
        changed: &mut usize,
        disbanded: &mut Vec<BatchId>,
    ) -> Result<Result<Option<QuarantinedRecord>, AddRefused>, StoreError> {
        let Some(row) = self.manifest_row(id)? else {
            return Ok(Err(AddRefused::Unknown));
        };
        match row.state {
            StoredState::Quarantined => return Ok(Ok(None)),
            StoredState::Synced => return Ok(Err(AddRefused::Synced)),
            StoredState::Discarded => return Ok(Err(AddRefused::Discarded)),
            StoredState::Pending | StoredState::Failed => {}
        }
        *changed += 1;
        let row = match self.state.open.batch_of(row.position) {
            None => row,
            Some(batch) => {
                let missing = StoreError::Inconsistent("a record is claimed by a batch that is not open");
                let open = self.state.open.get(batch).cloned().ok_or(missing)?;
                if open.phase != StoredPhase::Waiting {
                    return Ok(Err(AddRefused::OutcomePending));
                }
                if open.attempt == 0 {
                    self.remove_member(batch, open, row.position)?;
                } else {
                    // This id cannot be sent again without all of its members. The others get another id.
                    *changed += open.members.len();
                    self.disband_batch(batch, &open)?;
                    disbanded.push(BatchId(Uuid::from_u128(batch)));
                }
                self.manifest_row(id)?
                    .ok_or(StoreError::Inconsistent("a record disappeared while it was read"))?
            }
        };
        let (submitter, record_type) = (row.submitter, row.record_type.clone());
        let error = by_hand_error(row.error.as_ref(), self.now.wall);
        self.quarantine_record(id, row, error.clone())?;
        let id = RecordId(Uuid::from_u128(id));
        Ok(Ok(Some(QuarantinedRecord { id, submitter, record_type, error: error.into() })))
    }
}

/// The error of a record that a person quarantined. Keeps message and field of its last failure.
fn by_hand_error(earlier: Option<&StoredError>, now: u64) -> StoredError {
    let message = match earlier {
        Some(error) if error.class == BY_HAND_CLASS => error.message.clone(),
        Some(StoredError { class, message, .. }) => {
            format!("marked for review by a person; its last failure was {class}: {message}")
        }
        None => "marked for review by a person".to_owned(),
    };
    StoredError {
        class: BY_HAND_CLASS.into(),
        http_status: earlier.and_then(|error| error.http_status),
        code: Some("ADDED_BY_HAND".into()),
        message: truncate_text(message),
        at: now,
        field: earlier.and_then(|error| error.field.clone()),
    }
}

/// Makes FAILED records due now, one step at a time. True when there are more.
pub struct Expedite;

impl Op for Expedite {
    type Reply = bool;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let later = (transaction.now.steady + 1, 0)..(DUE_WHEN_UNBLOCKED, 0);
        let mut waiting = Vec::new();
        for item in transaction.tables.retry.range(later)?.take(REVIEW_STEP_RECORDS) {
            waiting.push(item?.0.value());
        }
        for (due, position) in &waiting {
            if let Some(header) = transaction.readable_header(*position)? {
                transaction.reschedule_retry(header.id, *position, *due, transaction.now.steady)?;
            }
        }
        Ok(waiting.len() == REVIEW_STEP_RECORDS)
    }
}
