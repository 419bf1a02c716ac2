//! The ledger forgets what is old enough, in small steps between which batches have their turn.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::BatchProcessor;
use crate::causes::with_causes;
use crate::ledger::{Ledger, LedgerError, SENT_RETENTION};

/// Rows that one transaction deletes: few, so that batches hardly wait for it.
const PRUNE_BATCH_SIZE: usize = 200;
/// Shortest and longest pause between two searches for old rows.
const PRUNE_INTERVAL_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// How often the search runs while a response is kept.
const PRUNES_PER_RETENTION: u32 = 10;

/// Deletes up to so many rows that are older than this. As many mean that there may be more.
type PruneStep = fn(&dyn Ledger, Duration, usize) -> Result<usize, LedgerError>;

impl BatchProcessor {
    /// Deletes responses and records that were kept long enough, and what is known for long enough of records that were
    /// sent without a certain outcome, for ever.
    pub(crate) async fn prune_forever(&self, keep_answers: Duration, keep_records: Duration) {
        let pause =
            (keep_answers / PRUNES_PER_RETENTION).clamp(PRUNE_INTERVAL_RANGE.0, PRUNE_INTERVAL_RANGE.1);
        let steps: [(Duration, PruneStep); 3] = [
            (keep_answers, |ledger, retention, max| ledger.prune_responses(retention, max)),
            (keep_records, |ledger, retention, max| ledger.prune_records(retention, max)),
            (SENT_RETENTION, |ledger, retention, max| ledger.prune_sent(retention, max)),
        ];
        loop {
            let mut has_more = false;
            for (retention, step) in steps {
                has_more |= self.prune(retention, step).await;
            }
            if has_more {
                yield_now().await;
            } else {
                sleep(pause).await;
            }
        }
    }

    /// Returns whether there may be more to delete.
    async fn prune(&self, retention: Duration, step: PruneStep) -> bool {
        match self.calls.write(move |ledger| step(ledger, retention, PRUNE_BATCH_SIZE)).await {
            Ok(rows) => rows >= PRUNE_BATCH_SIZE,
            Err(error) => {
                tracing::error!(error = with_causes(&error), "old rows of the ledger were not deleted");
                false
            }
        }
    }
}
