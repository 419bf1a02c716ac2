//! What people do: put a record under review; retry, discard or mend one that is; pause the daemon. And small notes
//! of other rooms.

use redb::ReadableTable;
use thiserror::Error;
use uuid::Uuid;

use super::batch_rows::QuarantinedRecord;
use super::error::StoreError;
use super::op::{Op, Transaction};
use super::schema::{DUE_WHEN_UNBLOCKED, StoredError, StoredPhase, StoredState};
use crate::model::{BatchId, LastError, QueuePosition, RecordId};
use crate::protocol::exchange::truncate_text;

/// Records that one step changes at most, so that others get their turn in between.
pub const REVIEW_STEP_RECORDS: usize = 1000;

/// Retries or discards records under review.
pub struct Review {
    /// Which.
    pub selected: ReviewSelection,
    /// What.
    pub action: ReviewAction,
    /// Only of records that this user handed over, when one is named; others are passed over.
    pub submitter: Option<u32>,
}

/// Which records under review.
pub enum ReviewSelection {
    /// These; ids of others are passed over.
    These(Vec<RecordId>),
    /// The next [`REVIEW_STEP_RECORDS`] behind a place, in queue order. Whoever goes on from step to step meets each
    /// record once, though what is queued again may come back meanwhile.
    After(Option<QueuePosition>),
}

/// What to do with a record under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewAction {
    /// Back to PENDING.
    Retry,
    /// Gone for good.
    Discard,
}

/// What a step of a review did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewSummary {
    /// The records that changed.
    pub changed: Vec<RecordId>,
    /// Where the next step goes on; none when this was the last.
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
            let is_meant = self.submitter.is_none_or(|submitter| submitter == row.submitter);
            if row.state != StoredState::Quarantined || !is_meant {
                continue;
            }
            transaction.tables.quarantine.remove(row.position)?;
            match self.action {
                ReviewAction::Retry => {
                    row.state = StoredState::Pending;
                    row.updated_at = transaction.now.wall;
                    transaction.save_row(id, &row, Some(StoredState::Quarantined))?;
                    transaction.release_from_review(&row)?;
                }
                ReviewAction::Discard => {
                    transaction.remove_payload(row.position)?;
                    transaction.tables.manifest.remove(id)?;
                    transaction.state.counters.count_change(&row, Some(StoredState::Quarantined), None);
                    transaction.leave_lane(&row)?;
                }
            }
            changed.push(RecordId(Uuid::from_u128(id)));
        }
        Ok(ReviewSummary { changed, next })
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        !reply.changed.is_empty()
    }
}

/// The class of the error of a record that a person put under review.
const BY_HAND_CLASS: &str = "by_hand";

/// Puts records that wait under review, so that a person can mend or discard them.
pub struct AddToReview {
    /// Which.
    pub ids: Vec<RecordId>,
}

/// What [`AddToReview`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddToReviewSummary {
    /// Ids that were looked at, from the front: the others are for the next step.
    pub examined: usize,
    /// Records that this put under review.
    pub added: Vec<QuarantinedRecord>,
    /// Records that cannot be put under review. What was under review before is in neither list.
    pub refused: Vec<(RecordId, AddRefused)>,
    /// Batches that are no longer open, because a record was taken out of them.
    pub disbanded: Vec<BatchId>,
}

/// Why a record is not put under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddRefused {
    /// No record has this id.
    #[error("no record has this id")]
    Unknown,
    /// The server has it.
    #[error("the server has confirmed this record: it is SYNCED, and there is nothing to review")]
    Synced,
    /// It is being sent, or its outcome is not known yet.
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
    /// Puts one record under review, unless it is, and adds the number of records that this changed to `changed`.
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
            StoredState::Pending | StoredState::Failed => {}
        }
        *changed += 1;
        let row = match self.state.open.batch_of(row.position) {
            None => row,
            Some(batch) => {
                let lacking = StoreError::Inconsistent("a record is claimed by a batch that is not open");
                let open = self.state.open.get(batch).cloned().ok_or(lacking)?;
                if open.phase != StoredPhase::Waiting {
                    return Ok(Err(AddRefused::OutcomePending));
                }
                if open.attempt == 0 {
                    self.remove_member(batch, open, row.position)?;
                } else {
                    // What was sent under this id cannot be sent again: the others go under another.
                    *changed += open.members.len();
                    self.disband_batch(batch, &open)?;
                    disbanded.push(BatchId(Uuid::from_u128(batch)));
                }
                self.manifest_row(id)?.ok_or(StoreError::Inconsistent("a record is gone while it is read"))?
            }
        };
        let (submitter, record_type) = (row.submitter, row.record_type.clone());
        let error = by_hand_error(row.error.as_ref(), self.now.wall);
        self.quarantine_record(id, row, error.clone())?;
        let StoredError { class, http_status, code, message, at } = error;
        let error = LastError { class, http_status, code, message, at };
        let id = RecordId(Uuid::from_u128(id));
        Ok(Ok(Some(QuarantinedRecord { id, submitter, record_type, error })))
    }
}

/// Why the record is under review; what the last try met stays readable.
fn by_hand_error(earlier: Option<&StoredError>, now: u64) -> StoredError {
    let message = match earlier {
        Some(error) if error.class == BY_HAND_CLASS => error.message.clone(),
        Some(StoredError { class, message, .. }) => {
            format!("put under review by a person; its last failure was {class}: {message}")
        }
        None => "put under review by a person".to_owned(),
    };
    StoredError {
        class: BY_HAND_CLASS.into(),
        http_status: earlier.and_then(|error| error.http_status),
        code: Some("ADDED_BY_HAND".into()),
        message: truncate_text(message),
        at: now,
    }
}

/// Makes FAILED records due now: a person asked. A step at a time; true when there is more.
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
