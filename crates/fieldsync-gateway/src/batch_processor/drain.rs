//! The end of processing: what is in flight ends, and nothing new begins.

use super::BatchProcessor;

impl BatchProcessor {
    /// Ends deliveries now. Their batches are answered: the device sends the records without a verdict again.
    pub(crate) fn end_deliveries(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until no batch is in flight.
    pub(crate) async fn wait_until_idle(&self) {
        let mut count = self.in_flight_count.subscribe();
        // It fails only without a sender, and this one lives.
        drop(count.wait_for(|batches| *batches == 0).await);
    }
}
