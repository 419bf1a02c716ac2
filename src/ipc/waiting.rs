//! Why a record is not sent yet: what the store has of it, and what the actors announce, for the decision in
//! [`crate::policy::waiting`].

use super::error::ApiError;
use super::state::ApiState;
use super::status::StatusSources;
use crate::api::WaitingFor;
use crate::clock::wall_ms;
use crate::model::{BatchId, ManifestEntry, RecordId};
use crate::policy::waiting::{RecordFacts, waiting_for};
use crate::protocol::receipt::Receipt;

/// One record, for [`super::records`].
pub(super) struct RecordView {
    pub(super) entry: ManifestEntry,
    /// What the server said it became.
    pub(super) receipt: Option<Receipt>,
    /// Why it is not sent yet.
    pub(super) waiting_for: Option<WaitingFor>,
}

impl ApiState {
    /// One record, and what is told of it besides; none where it is not known.
    pub(super) async fn read_record(&self, id: RecordId) -> Result<Option<RecordView>, ApiError> {
        // A batch may end or begin while the store is read: it is sent at that time if it is sent before or after.
        let sent_before = self.sources.batches_in_flight();
        let found = self.with_view(move |view| {
            let Some(record) = view.standing_of(id)? else { return Ok(None) };
            let blocker =
                record.entry.blocked_by.map(|blocker| view.standing_of(blocker)).transpose()?.flatten();
            let receipt = view.receipt_of(&record.entry)?;
            Ok(Some((record, blocker, receipt)))
        });
        let Some((record, blocker, receipt)) = found.await? else { return Ok(None) };
        let sent = [sent_before, self.sources.batches_in_flight()].concat();
        let is_sending = record.entry.batch_id.is_some_and(|batch| sent.contains(&batch));
        let facts = RecordFacts { record: &record, is_sending, blocker: blocker.as_ref() };
        let waiting_for = self.sources.waiting_for(&facts);
        Ok(Some(RecordView { entry: record.entry, receipt, waiting_for }))
    }
}

impl StatusSources {
    fn batches_in_flight(&self) -> Vec<BatchId> {
        self.planner.borrow().batches.iter().map(|batch| batch.id).collect()
    }

    fn waiting_for(&self, facts: &RecordFacts<'_>) -> Option<WaitingFor> {
        waiting_for(facts, &self.snapshot().device_facts(wall_ms()))
    }
}
