//! A batch on its way to the destination: leased, handed over, its verdicts stored as they come, then its response.
//!
//! The leases are extended while the delivery runs. A delivery that cannot be sure of its leases any more is given up:
//! then another gateway may hand over the same records. One that the end of the process cuts short is answered at once:
//! the device sends the records without a verdict again.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::monitor::DestinationMonitor;
use super::verdict_list::{VerdictList, build_response};
use super::{BatchProcessor, ProcessingOutcome};
use crate::causes::with_causes;
use crate::clock::wall_ms;
use crate::destination::RecordVerdict;
use crate::fault_injection::SimulatedWork;
use crate::ledger::{
    Admission, BatchSettlement, DeliveryId, Ledger, LedgerError, StoredResponse, StoredVerdict,
};
use crate::protocol::wire::BatchResponse;
use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

/// How long the leases of a gateway that died keep others from its records. A call that it left behind at the
/// destination may take longer: then it writes its records once more as they were, possibly after later ones of their
/// keys.
const LEASE_TIME: Duration = Duration::from_secs(20);
/// How often the leases are extended.
const LEASE_EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
/// So long before its leases end, a delivery is given up.
const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// A delivery may take this many times as long as the response waits for it, and at least so long: the device finds
/// the outcome in a query.
const DELIVERY_TIME_FACTOR: u32 = 2;
const DELIVERY_TIME_MIN: Duration = Duration::from_mins(1);
/// Verdicts wait so long for the others of their batch, so that they share its commit. If the gateway dies meanwhile,
/// the records are handed over once more, which stores nothing twice.
const VERDICT_STORE_DELAY: Duration = Duration::from_millis(250);
/// Messages with verdicts that wait while others are stored.
const VERDICT_MESSAGES_MAX: usize = 16;
/// The pause before a response is stored again that the ledger could not store.
const STORE_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often that is tried.
const STORE_TRIES_MAX: u32 = 10;

/// How the ledger begins a delivery.
enum DeliveryStart {
    /// Nothing is handed over.
    Ended(ProcessingOutcome),
    Admitted(Vec<Admission>),
}

/// A batch that was begun.
struct DeliveryRun<'a> {
    processor: &'a BatchProcessor,
    batch: &'a Arc<ValidatedBatch>,
    delivery: DeliveryId,
    /// Their positions in the batch.
    positions: &'a [usize],
    /// Those without a stored verdict. Locked while verdicts are stored or leases extended, so that a lease that ends
    /// with its verdict is not taken for a lost one.
    leased: AsyncMutex<Vec<usize>>,
}

impl BatchProcessor {
    /// Hands the batch over, unless it has a response, or the destination takes no records now.
    pub(super) async fn deliver_batch(
        &self,
        monitor: &DestinationMonitor,
        batch: &Arc<ValidatedBatch>,
    ) -> Result<ProcessingOutcome, LedgerError> {
        let refusal = monitor.find_refusal(batch);
        let delivery = DeliveryId::new();
        let lease_end = self.clock.now() + LEASE_TIME;
        let leased = Arc::clone(batch);
        let begin = move |ledger: &dyn Ledger| {
            if let Some(stored) = ledger.stored_response(leased.device, leased.id)?
                && !is_outdated(&stored, &leased)
            {
                let settlement = stored.settle_for(&leased.fingerprint);
                return Ok(DeliveryStart::Ended(ProcessingOutcome::Settled(settlement)));
            }
            match refusal {
                Some(refusal) => Ok(DeliveryStart::Ended(ProcessingOutcome::Refused(refusal))),
                None => ledger.begin_delivery(&leased, delivery, LEASE_TIME).map(DeliveryStart::Admitted),
            }
        };
        let admissions = match self.calls.read(begin).await? {
            DeliveryStart::Ended(outcome) => return Ok(outcome),
            DeliveryStart::Admitted(admissions) => admissions,
        };
        let positions: Vec<usize> = (0..)
            .zip(&admissions)
            .filter(|(_, admission)| **admission == Admission::Deliver)
            .map(|(position, _)| position)
            .collect();
        let leased = AsyncMutex::new(positions.clone());
        let run = DeliveryRun { processor: self, batch, delivery, positions: &positions, leased };
        let work = async {
            if self.faults.simulate_work(batch).await == SimulatedWork::Hung {
                return Ok(ProcessingOutcome::Abandoned);
            }
            let list = run.hand_over(monitor).await;
            let response = build_response(batch, &admissions, &positions, &list.verdicts);
            run.store_response(response, list.into_final(&positions)).await.map(ProcessingOutcome::Settled)
        };
        tokio::select! {
            outcome = work => outcome,
            lost = run.keep_lease(lease_end) => match lost { Err(error) => Err(error), Ok(never) => match never {} },
        }
    }
}

impl DeliveryRun<'_> {
    async fn hand_over(&self, monitor: &DestinationMonitor) -> VerdictList {
        let mut list = VerdictList::new(self.positions.len());
        if self.positions.is_empty() {
            return list;
        }
        let metrics = &self.processor.metrics.destination;
        let timer = metrics.start_delivery(&self.processor.clock);
        let records: Vec<&ValidatedRecord> =
            self.positions.iter().filter_map(|position| self.batch.records.get(*position)).collect();
        let destination = monitor.destination();
        let limit = (monitor.time_budget() * DELIVERY_TIME_FACTOR).max(DELIVERY_TIME_MIN);
        let (sender, receiver) = mpsc::channel(VERDICT_MESSAGES_MAX);
        let mut ending = self.processor.ending.subscribe();
        tokio::select! {
            _ = join(destination.deliver(&records, limit, sender), self.collect(receiver, &mut list)) => {}
            _ = ending.wait_for(|is_ending| *is_ending) => {}
        }
        drop(timer);
        let counts = list.count();
        metrics.count_verdicts(counts);
        monitor.note_condition(counts.applied + counts.rejected > 0);
        list
    }

    /// Takes verdicts, and stores them after a while as long as others are missing. The last ones are left for the
    /// response, which is stored in the same commit.
    async fn collect(&self, mut receiver: mpsc::Receiver<Vec<RecordVerdict>>, list: &mut VerdictList) {
        let mut store_at = None;
        loop {
            let next = match store_at {
                None => Ok(receiver.recv().await),
                Some(store_at) => timeout_at(store_at, receiver.recv()).await,
            };
            match next {
                Ok(Some(message)) => {
                    list.take(message, self.positions);
                    if !list.unstored.is_empty() {
                        store_at = store_at.or_else(|| Some(Instant::now() + VERDICT_STORE_DELAY));
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    self.store_verdicts(&mut list.unstored).await;
                    store_at = None;
                }
            }
        }
    }

    /// Verdicts that cannot be stored now are stored with later ones.
    async fn store_verdicts(&self, unstored: &mut Vec<StoredVerdict>) {
        let mut leased = self.leased.lock().await;
        let (batch, delivery, verdicts) = (Arc::clone(self.batch), self.delivery, unstored.clone());
        let stored = self
            .processor
            .calls
            .write(move |ledger| ledger.record_verdicts(&batch, delivery, &verdicts, wall_ms()))
            .await;
        match stored {
            Ok(()) => {
                leased.retain(|position| unstored.iter().all(|verdict| verdict.position != *position));
                unstored.clear();
                self.processor.applied.notify_one();
            }
            Err(error) => {
                let (batch_id, error) = (self.batch.id, with_causes(&error));
                tracing::warn!(%batch_id, error, "verdicts of the destination could not be stored yet");
            }
        }
    }

    async fn store_response(
        &self,
        response: BatchResponse,
        unstored: Vec<StoredVerdict>,
    ) -> Result<BatchSettlement, LedgerError> {
        let (response, verdicts) = (Arc::new(response), Arc::new(unstored));
        let mut tries = 1;
        loop {
            let (batch, delivery) = (Arc::clone(self.batch), self.delivery);
            let (response, verdicts) = (Arc::clone(&response), Arc::clone(&verdicts));
            let leased = self.leased.lock().await;
            let stored = self
                .processor
                .calls
                .write(move |ledger| {
                    ledger.finish_delivery(&batch, delivery, &verdicts, &response, wall_ms())
                })
                .await;
            drop(leased);
            match stored {
                Err(LedgerError::Unreachable(cause)) if tries < STORE_TRIES_MAX => {
                    let (batch_id, error) = (self.batch.id, with_causes(cause.as_ref()));
                    tracing::warn!(%batch_id, error, "the response to a batch could not be stored yet");
                }
                stored => return stored,
            }
            tries += 1;
            sleep(STORE_RETRY_PAUSE).await;
        }
    }

    /// Extends the leases, and ends when they cannot be relied on any more.
    async fn keep_lease(&self, mut end: Duration) -> Result<Infallible, LedgerError> {
        if self.positions.is_empty() {
            return pending().await;
        }
        let calls = &self.processor.calls;
        let now = || self.processor.clock.now();
        loop {
            sleep(LEASE_EXTENSION_INTERVAL).await;
            let asked = now();
            let given_up = end.saturating_sub(LEASE_MARGIN);
            let (batch, delivery) = (Arc::clone(self.batch), self.delivery);
            let extending = async {
                let leased = self.leased.lock().await;
                let positions = leased.clone();
                calls.read(move |ledger| ledger.extend_lease(&batch, delivery, &positions, LEASE_TIME)).await
            };
            match timeout(given_up.saturating_sub(asked), extending).await {
                Ok(Ok(true)) => end = asked + LEASE_TIME,
                Ok(Err(_)) if now() + LEASE_EXTENSION_INTERVAL < given_up => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(false)) | Err(_) => return Err(lease_lost()),
            }
        }
    }
}

/// Whether the response was given before there was a destination: the batch is handed over now.
pub(super) fn is_outdated(stored: &StoredResponse, batch: &ValidatedBatch) -> bool {
    stored.lacks_receipts() && stored.fingerprint == batch.fingerprint
}

fn lease_lost() -> LedgerError {
    LedgerError::Unreachable(
        "the leases on the records of a batch could not be extended in time, or were lost".into(),
    )
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use serde_json::value::RawValue;
    use tokio::runtime::Handle;
    use uuid::Uuid;

    use super::*;
    use crate::batch_processor::SubmitResult;
    use crate::destination::{
        Destination, DestinationCondition, DestinationLink, DestinationSlot, StoppedType,
    };
    use crate::device_limit::DeviceLimit;
    use crate::digest::sha256;
    use crate::fault_injection::FaultOptions;
    use crate::ledger_redb::RedbLedger;
    use crate::load_control::LoadLimits;
    use crate::metrics::Metrics;
    use crate::model::{BatchId, DeviceId, RecordId};
    use crate::protocol::wire::WireRecord;

    /// It hangs, and the leases end meanwhile.
    struct HangingDestination(Arc<RedbLedger>);

    impl Destination for HangingDestination {
        fn deliver<'a>(
            &'a self,
            _: &'a [&'a ValidatedRecord],
            _: Duration,
            _: mpsc::Sender<Vec<RecordVerdict>>,
        ) -> BoxFuture<'a, ()> {
            self.0.end_leases();
            Box::pin(pending())
        }

        fn condition(&self) -> DestinationCondition {
            DestinationCondition::Ready
        }

        fn stopped_types(&self) -> Vec<StoppedType> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn a_delivery_whose_lease_has_ended_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Arc::new(RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap());
        let slot = Arc::new(DestinationSlot::new(Arc::new(HangingDestination(Arc::clone(&ledger)))));
        let link = DestinationLink { slot, time_budget: Duration::from_secs(1) };
        let (faults, metrics) = (FaultOptions::default(), Arc::new(Metrics::new(false)));
        let limits = LoadLimits { time_limit: Duration::from_mins(1), in_flight_max: 8 };
        let processor =
            Arc::new(BatchProcessor::new(ledger, Handle::current(), faults, metrics, Some(link), limits));
        let record = WireRecord {
            id: RecordId::new(),
            record_type: "Visits".into(),
            key: None,
            priority: None,
            created_at: 0,
            payload: RawValue::from_string("{}".into()).unwrap(),
        };
        let batch = ValidatedBatch {
            device: DeviceId(Uuid::new_v4()),
            id: BatchId::new(),
            fingerprint: sha256(b""),
            records: vec![ValidatedRecord::new(record, None)],
        };
        let place = Arc::new(DeviceLimit::new(None)).take_place(batch.device).unwrap();
        let SubmitResult::Started(task) = processor.submit_batch(batch, place, "van-12".into()) else {
            panic!("not started")
        };
        let outcome = timeout(LEASE_TIME, task).await.expect("it ends").unwrap();
        assert!(matches!(outcome, Err(LedgerError::Unreachable(_))));
    }
}
