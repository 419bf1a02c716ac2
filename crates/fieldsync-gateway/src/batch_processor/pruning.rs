//! The ledger forgets what is old enough, in steps between which batches have their turn.
//!
//! Over time, as much becomes old as is applied. A step is small, so that batches hardly wait for it; while more is left
//! than one step deletes, each step is twice as large as the one before.

use std::time::Duration;

use futures_util::future::join3;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::BatchProcessor;
use crate::causes::with_causes;
use crate::ledger::{Ledger, LedgerError, SENT_RETENTION};

/// Rows that one transaction deletes, at first and at most. A group of batches that share a commit applies fewer than at
/// most, as a rule.
const STEP_ROWS_RANGE: (usize, usize) = (200, 4000);
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
        join3(
            self.prune_kind(keep_answers, pause, |ledger, retention, max| {
                ledger.prune_responses(retention, max)
            }),
            self.prune_kind(keep_records, pause, |ledger, retention, max| {
                ledger.prune_records(retention, max)
            }),
            self.prune_kind(SENT_RETENTION, pause, |ledger, retention, max| {
                ledger.prune_sent(retention, max)
            }),
        )
        .await;
    }

    /// Never ends.
    async fn prune_kind(&self, retention: Duration, pause: Duration, step: PruneStep) {
        let (rows_min, rows_max) = STEP_ROWS_RANGE;
        let mut rows = rows_min;
        loop {
            if self.prune(retention, rows, step).await {
                rows = (rows * 2).min(rows_max);
                yield_now().await;
            } else {
                rows = (rows / 2).max(rows_min);
                sleep(pause).await;
            }
        }
    }

    /// Returns whether there may be more to delete.
    async fn prune(&self, retention: Duration, rows_max: usize, step: PruneStep) -> bool {
        match self.calls.write(move |ledger| step(ledger, retention, rows_max)).await {
            Ok(rows) => rows >= rows_max,
            Err(error) => {
                tracing::error!(error = with_causes(&error), "old rows of the ledger were not deleted");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use serde_json::value::RawValue;
    use tokio::runtime::Handle;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::clock::wall_ms;
    use crate::digest::sha256;
    use crate::fault_injection::FaultOptions;
    use crate::ledger_redb::RedbLedger;
    use crate::load_control::LoadLimits;
    use crate::metrics::Metrics;
    use crate::model::{BatchId, DeviceId, RecordId};
    use crate::protocol::wire::WireRecord;
    use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

    const RETENTION: Duration = Duration::from_millis(1);
    const WRITERS: usize = 8;
    /// Overdue rows at the start.
    const BACKLOG: u64 = 20_000;
    const WAIT_MAX: Duration = Duration::from_mins(2);

    fn batch(records: u64) -> ValidatedBatch {
        let record = || WireRecord {
            id: RecordId::new(),
            record_type: "Visits".into(),
            key: None,
            priority: None,
            created_at: 0,
            payload: RawValue::from_string("{}".into()).unwrap(),
        };
        ValidatedBatch {
            device: DeviceId(Uuid::new_v4()),
            id: BatchId::new(),
            fingerprint: sha256(b""),
            records: (0..records).map(|_| ValidatedRecord::new(record(), None)).collect(),
        }
    }

    /// Applies batches until it is told to stop, and counts their records.
    struct Load {
        ledger: Arc<RedbLedger>,
        applied: AtomicU64,
        is_ending: AtomicBool,
    }

    impl Load {
        fn apply(&self, records: u64) {
            self.ledger.settle_batch(&batch(records), wall_ms()).unwrap();
            self.applied.fetch_add(records, Ordering::SeqCst);
        }

        fn apply_until_end(&self) {
            while !self.is_ending.load(Ordering::SeqCst) {
                self.apply(25);
            }
        }

        async fn wait_until_pruned(&self) {
            let count = || self.ledger.size_bytes().unwrap().records.unwrap();
            while count() > BACKLOG / 4 {
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_backlog_of_old_records_shrinks_while_as_many_are_applied_as_the_ledger_can() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Arc::new(RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap());
        let limits = LoadLimits { time_limit: Duration::from_mins(1), in_flight_max: 8 };
        let metrics = Arc::new(Metrics::new(false));
        let processor = BatchProcessor::new(
            Arc::<RedbLedger>::clone(&ledger),
            Handle::current(),
            FaultOptions::default(),
            metrics,
            None,
            limits,
        );
        let load = Arc::new(Load { ledger, applied: AtomicU64::new(0), is_ending: AtomicBool::new(false) });
        (0..BACKLOG / 1000).for_each(|_| load.apply(1000));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let load = Arc::clone(&load);
                thread::spawn(move || load.apply_until_end())
            })
            .collect();
        let pruned = async {
            tokio::select! {
                () = processor.prune_forever(RETENTION, RETENTION) => {}
                () = load.wait_until_pruned() => {}
            }
        };
        let result = timeout(WAIT_MAX, pruned).await;
        load.is_ending.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().unwrap();
        }
        let applied = load.applied.load(Ordering::SeqCst);
        assert!(result.is_ok(), "the backlog did not shrink while {applied} records were applied");
    }
}
