//! The end of processing: what was accepted ends, and nothing new begins.

use std::sync::atomic::Ordering;

use super::BatchProcessor;

impl BatchProcessor {
    /// From now on, no batch is accepted.
    pub(crate) fn begin_drain(&self) {
        self.admission.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway is ending.
    pub(crate) fn is_draining(&self) -> bool {
        self.admission.draining.load(Ordering::Relaxed)
    }

    /// Ends deliveries now. Their batches are answered: the device sends the records without a verdict again.
    pub(crate) fn end_deliveries(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until every batch that was accepted has been uploaded and processed.
    pub(crate) async fn wait_until_idle(&self) {
        let mut uploads = self.admission.uploads.subscribe();
        let mut in_flight = self.in_flight_count.subscribe();
        // In this order: a batch is in flight before its upload counts as ended. A wait fails only without a sender, and
        // these live.
        drop(uploads.wait_for(|uploads| *uploads == 0).await);
        drop(in_flight.wait_for(|batches| *batches == 0).await);
    }
}
