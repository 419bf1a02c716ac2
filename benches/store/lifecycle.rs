//! The life of a record, as both stores lead it: append, claim, settle, prune.

use crate::record::Record;

/// Records of a batch.
pub(crate) const BATCH_RECORDS: usize = 50;
/// Each commit is a millisecond in the life of a store here, and a receipt is kept for so many.
pub(crate) const KEEP_RECEIPTS_MS: u64 = 100;

pub(crate) trait RecordLifecycle {
    /// Takes records in, in one commit.
    fn append(&mut self, records: Vec<Record>);

    /// Settles the batch under way as synced, prunes old receipts and claims the next batch.
    fn settle_and_claim(&mut self);

    /// Commits so far.
    fn commit_count(&self) -> u64;
}
