//! The order of records with the same key within a batch.

use std::collections::HashSet;

use crate::protocol::wire::RecordResult;
use crate::validated_batch::{HELD, HELD_MESSAGE, ValidatedRecord};

/// The keys of those records of a batch that are not applied. Later records of these keys are not applied either.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys<'b>(HashSet<&'b str>);

impl<'b> HeldKeys<'b> {
    /// The result of the next record of the batch; `None` if it is to be applied.
    ///
    /// `own` is its result if it was settled before, or can never be applied. `obstacle` is asked last.
    pub(crate) fn find_result(
        &mut self,
        record: &'b ValidatedRecord,
        own: Option<RecordResult>,
        obstacle: impl FnOnce() -> Option<RecordResult>,
    ) -> Option<RecordResult> {
        let result = own.or_else(|| self.hold_record(record)).or_else(obstacle);
        if result.as_ref().is_some_and(|result| !result.status.is_stored()) {
            self.0.extend(record.key.as_deref());
        }
        result
    }

    fn hold_record(&self, record: &ValidatedRecord) -> Option<RecordResult> {
        let is_held = record.key.as_deref().is_some_and(|key| self.0.contains(key));
        is_held.then(|| record.retry(HELD, HELD_MESSAGE))
    }
}
