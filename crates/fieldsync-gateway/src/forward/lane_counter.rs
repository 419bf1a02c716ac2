//! Counts records that wait, for the metrics. A database has to count its rows, so this is not done for each page.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch_processor::BatchProcessor;
use crate::causes::with_causes;
use crate::metrics::Metrics;

/// How often waiting records are counted while records are sent, and while nothing happens here.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) struct LaneCounter {
    processor: Arc<BatchProcessor>,
    metrics: Arc<Metrics>,
    counted_at: Option<Instant>,
    /// Lanes may have changed since they were counted.
    is_due: bool,
}

impl LaneCounter {
    pub(super) fn new(processor: Arc<BatchProcessor>, metrics: Arc<Metrics>) -> Self {
        Self { processor, metrics, counted_at: None, is_due: true }
    }

    pub(super) fn note_change(&mut self) {
        self.is_due = true;
    }

    /// For a gateway that does not forward.
    pub(super) fn report_none(&mut self) {
        self.metrics.forward.set_lanes(0, 0, 0);
        self.is_due = true;
    }

    /// Between two pages.
    pub(super) async fn count_sometimes(&mut self) {
        if self.is_due {
            self.count_after(BUSY_INTERVAL).await;
        }
    }

    /// Before a wait.
    pub(super) async fn count(&mut self) {
        self.count_after(if self.is_due { Duration::ZERO } else { IDLE_INTERVAL }).await;
    }

    async fn count_after(&mut self, interval: Duration) {
        if self.counted_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        self.counted_at = Some(Instant::now());
        match self.processor.read_ledger(|ledger| ledger.lane_counts()).await {
            Ok(counts) => {
                self.is_due = false;
                self.metrics.forward.set_lanes(counts.refused, counts.parked, counts.lanes);
            }
            Err(error) => tracing::debug!(error = with_causes(&error), "waiting records were not counted"),
        }
    }
}
