//! The life of a record in both stores: append, claim, settle, prune.

use crate::record::Record;

/// Records of a batch.
pub(crate) const BATCH_RECORDS: usize = 50;
/// How long a receipt is kept. Each commit here takes a millisecond of the store's time.
pub(crate) const KEEP_RECEIPTS_MS: u64 = 100;

pub(crate) trait RecordLifecycle {
    /// Appends records in one commit.
    fn append(&mut self, records: Vec<Record>);

    /// Settles the current batch as synced, prunes old receipts and claims the next batch.
    fn settle_and_claim(&mut self);

    /// Commits so far.
    fn commit_count(&self) -> u64;
}
