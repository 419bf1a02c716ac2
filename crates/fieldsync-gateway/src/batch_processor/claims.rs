//! Claims in a ledger that gateways share: on batches whose processing takes long, so that the others know of it.
//!
//! A batch without a destination is settled by one transaction, and needs no claim: two gateways that get it at the same
//! time cannot both apply it.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::delivery::is_outdated;
use super::{BatchProcessor, ProcessingOutcome};
use crate::causes::with_causes;
use crate::ledger::{CLAIM_LEASE, LedgerError};
use crate::model::{BatchId, DeviceId};
use crate::validated_batch::ValidatedBatch;

/// How often the claims of this gateway are extended while it has any: two attempts may fail.
const RENEWAL_INTERVAL: Duration = CLAIM_LEASE.checked_div(4).expect("a divisor other than zero");

/// Keeps a batch claimed in the ledger; dropping it, even by a panic, releases the claim in the background.
struct LedgerClaimGuard {
    processor: Arc<BatchProcessor>,
    device: DeviceId,
    batch: BatchId,
}

impl BatchProcessor {
    pub(super) async fn claim_and_settle(
        self: &Arc<Self>,
        batch: &Arc<ValidatedBatch>,
    ) -> Result<ProcessingOutcome, LedgerError> {
        let takes_long = self.monitor.is_some() || self.faults.simulates_work();
        if !self.is_shared() || !takes_long {
            return self.settle_claimed(batch).await;
        }
        let (device, id) = (batch.device, batch.id);
        if !self.calls.read(move |ledger| ledger.claim_batch(device, id)).await? {
            // For a moment after the response was stored, the batch may still be claimed.
            let stored = self.calls.read(move |ledger| ledger.stored_response(device, id)).await?;
            let stored = stored.filter(|stored| self.monitor.is_none() || !is_outdated(stored, batch));
            return Ok(stored.map_or(ProcessingOutcome::ClaimedElsewhere, |stored| {
                ProcessingOutcome::Settled(stored.settle_for(&batch.fingerprint))
            }));
        }
        let _guard = LedgerClaimGuard { processor: Arc::clone(self), device, batch: id };
        self.keep_claims_during(self.settle_claimed(batch)).await
    }

    /// Extends the claims of this gateway, and its right to forward records, while it works.
    pub(crate) async fn keep_claims_during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.renew_claims_forever() => match never {},
        }
    }

    /// All claims are extended at once, so that only one of the batches that wait here does it.
    async fn renew_claims_forever(&self) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            if !self.is_shared() || !self.begin_renewal() {
                continue;
            }
            if let Err(error) = self.calls.read(|ledger| ledger.renew_claims()).await {
                tracing::warn!(error = with_causes(&error), "the claims on batches could not be extended");
            }
        }
    }

    /// Returns false if the claims were extended a short time ago.
    fn begin_renewal(&self) -> bool {
        let now = self.clock.now();
        let mut last = self.claims_renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that began between two renewals wait for the one after the next at most.
        let is_due = now.saturating_sub(*last) >= RENEWAL_INTERVAL / 2;
        if is_due {
            *last = now;
        }
        is_due
    }
}

impl Drop for LedgerClaimGuard {
    fn drop(&mut self) {
        let (processor, device, batch) = (Arc::clone(&self.processor), self.device, self.batch);
        self.processor.calls.runtime().spawn(async move {
            match processor.calls.read(move |ledger| ledger.release_batch(device, batch)).await {
                Ok(true) | Err(LedgerError::Closed) => {}
                Ok(false) => {
                    tracing::warn!(batch_id = %batch, "the claim on a batch was lost before its end");
                }
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(batch_id = %batch, error, "the claim on a batch could not be released");
                }
            }
        });
    }
}
