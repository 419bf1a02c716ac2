//! The life of a record, as both stores lead it: append, claim, settle, prune.

use crate::record::Record;

/// Records of a batch.
pub(crate) const BATCH: usize = 50;
/// Each commit is a millisecond in the life of a store here, and a receipt is kept for so many.
pub(crate) const KEEP_RECEIPTS: u64 = 100;

pub(crate) trait Life {
    /// Takes records in, in one commit.
    fn append(&mut self, records: Vec<Record>);

    /// Settles the batch under way as synced, prunes old receipts and claims the next batch.
    fn turn(&mut self);

    /// Commits so far.
    fn commits(&self) -> u64;
}
