//! The batches in flight, and their processing.
//!
//! A batch is processed at most once at a time, in a task of its own: a client that hangs up does not
//! stop it, and its entry in the table ends with the task, even by a panic. Gateways that share a ledger
//! also claim a batch there that takes long, so that the others know: see `claims`. Without a destination, the ledger
//! settles a batch at once; `delivery` hands it over.

mod admission;
mod claims;
mod delivery;
mod drain;
mod in_flight;
mod ledger_calls;
mod monitor;
mod outcome_label;
mod pruning;
mod verdict_list;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use admission::AdmissionGate;
pub(crate) use admission::AdmissionRefusal;
use in_flight::{AddResult, BatchKey, InFlightTable};
use ledger_calls::LedgerCalls;
use monitor::DestinationMonitor;
pub(crate) use monitor::{DestinationRefusal, DestinationReport};
use outcome_label::label_outcome;

use super::destination::DestinationLink;
use super::device_limit::DevicePlace;
use super::fault_injection::{FaultOptions, SimulatedWork};
use super::ledger::{
    AppliedRecord, BatchSettlement, ForwardTurn, Ledger, LedgerError, LedgerSize, PageLimit,
};
use super::load_control::LoadLimits;
use super::metrics::{Metrics, ResultCounts};
use super::validated_batch::ValidatedBatch;
use crate::causes::with_causes;
use crate::clock::{Clock, millis, wall_ms};
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchResponse;

/// So long the metrics wait for the size of the ledger.
const SIZE_TIMEOUT: Duration = Duration::from_secs(1);

/// Processes batches.
pub(crate) struct BatchProcessor {
    calls: LedgerCalls,
    /// `None` without a destination.
    monitor: Option<DestinationMonitor>,
    admission: AdmissionGate,
    in_flight: Mutex<InFlightTable>,
    in_flight_count: watch::Sender<usize>,
    /// When the claims in the ledger were extended last, by the clock of this processor.
    claims_renewed_at: Mutex<Duration>,
    /// Whether deliveries are to end.
    ending: watch::Sender<bool>,
    /// Notified when records were applied.
    applied: Notify,
    faults: FaultOptions,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// What became of a submitted batch.
pub(crate) enum SubmitResult {
    /// Processing began; the caller may wait for its end.
    Started(JoinHandle<Result<ProcessingOutcome, LedgerError>>),
    /// The same batch is already in flight.
    InFlight,
    /// A batch with this id and another body is in flight.
    IdReused,
    /// Too many other batches, or bytes of them, are in flight.
    Busy,
}

/// How the processing of a batch ended.
pub(crate) enum ProcessingOutcome {
    /// With a response, or because the id belongs to another body.
    Settled(BatchSettlement),
    /// Another gateway is processing it.
    ClaimedElsewhere,
    /// The destination takes no records now.
    Refused(DestinationRefusal),
    /// It was given up, and nothing of it was applied.
    Abandoned,
}

/// The state of a batch, for an outcome query.
pub(crate) enum BatchStatus {
    Responded(BatchResponse),
    InFlight,
    Unknown,
}

impl BatchProcessor {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        runtime: Handle,
        faults: FaultOptions,
        metrics: Arc<Metrics>,
        destination: Option<DestinationLink>,
        limits: LoadLimits,
    ) -> Self {
        Self {
            calls: LedgerCalls::new(ledger, runtime, Arc::clone(&metrics)),
            monitor: destination.map(|link| DestinationMonitor::new(link, Arc::clone(&metrics))),
            admission: AdmissionGate::new(limits),
            in_flight: Mutex::new(InFlightTable::new(limits.places())),
            in_flight_count: watch::Sender::new(0),
            claims_renewed_at: Mutex::default(),
            ending: watch::Sender::new(false),
            applied: Notify::new(),
            faults,
            metrics,
            clock: Clock::start(),
        }
    }

    /// Starts to process a batch, unless it is already in flight. It keeps its place until it is processed, also if the
    /// caller stops waiting. The name of the device is for the log.
    pub(crate) fn submit_batch(
        self: &Arc<Self>,
        batch: ValidatedBatch,
        place: DevicePlace,
        device_name: String,
    ) -> SubmitResult {
        let key = (batch.device, batch.id);
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        match in_flight.add_batch(&batch) {
            AddResult::Present => SubmitResult::InFlight,
            AddResult::IdReused => SubmitResult::IdReused,
            AddResult::Full => SubmitResult::Busy,
            AddResult::Added => {
                self.report_in_flight(in_flight.len());
                let guard = InFlightGuard { processor: Arc::clone(self), key, device_name, _place: place };
                SubmitResult::Started(self.calls.runtime().spawn(process_batch(guard, batch)))
            }
        }
    }

    /// What is known of a batch.
    pub(crate) async fn batch_status(
        &self,
        device: DeviceId,
        batch: BatchId,
    ) -> Result<BatchStatus, LedgerError> {
        // In this order: a batch leaves the table only after its response is in the ledger.
        let is_in_flight =
            self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains(&(device, batch));
        if is_in_flight {
            return Ok(BatchStatus::InFlight);
        }
        let has_destination = self.monitor.is_some();
        self.calls
            .read(move |ledger| {
                // In this order: a claim is released only after the response is stored.
                let is_claimed = ledger.is_claimed(device, batch)?;
                let stored = ledger.stored_response(device, batch)?;
                Ok(match stored.filter(|stored| !(has_destination && stored.lacks_receipts())) {
                    Some(stored) => BatchStatus::Responded(stored.into_replay()),
                    None if is_claimed => BatchStatus::InFlight,
                    None => BatchStatus::Unknown,
                })
            })
            .await
    }

    /// A page of the listing.
    pub(crate) async fn applied_after(
        &self,
        seq: u64,
        limit: PageLimit,
    ) -> Result<Vec<AppliedRecord>, LedgerError> {
        self.calls.read(move |ledger| ledger.applied_after(seq, limit)).await
    }

    /// The records to forward next.
    pub(crate) async fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError> {
        self.calls.read(move |ledger| ledger.next_to_forward(limit)).await
    }

    /// An operation on the ledger that reads.
    pub(crate) async fn read_ledger<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.calls.read(operation).await
    }

    /// An operation on the ledger that writes.
    pub(crate) async fn write_ledger<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.calls.write(operation).await
    }

    /// Waits until this gateway has applied records since the last wait.
    pub(crate) async fn wait_for_applied(&self) {
        self.applied.notified().await;
    }

    /// Whether other gateways may apply records, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.calls.is_shared()
    }

    /// Fails when the ledger does not respond soon.
    pub(crate) async fn check_health(&self) -> Result<(), LedgerError> {
        self.calls.check_health().await
    }

    /// How long the response to a batch waits for the destination; `None` without one.
    pub(crate) fn time_budget(&self) -> Option<Duration> {
        self.monitor.as_ref().map(DestinationMonitor::time_budget)
    }

    /// The condition of the destination; `None` without one.
    pub(crate) fn report_destination(&self) -> Option<DestinationReport> {
        self.monitor.as_ref().map(DestinationMonitor::report)
    }

    /// Brings the metrics of the destination up to date.
    pub(crate) fn export_destination(&self) {
        if let Some(monitor) = &self.monitor {
            monitor.export();
        }
    }

    /// Brings the metrics of the ledger's size up to date, unless they are new, or the ledger does not respond soon.
    pub(crate) async fn export_ledger_size(&self) {
        let size = &self.metrics.ledger.size;
        if !size.begin_measurement(self.clock.now()) {
            return;
        }
        match timeout(SIZE_TIMEOUT, self.calls.read(|ledger| ledger.size_bytes())).await {
            Ok(Ok(LedgerSize { bytes, records, outbox_records })) => size.set(bytes, records, outbox_records),
            Ok(Err(error)) => tracing::debug!(error = with_causes(&error), "the ledger was not measured"),
            Err(_) => tracing::debug!("the ledger was not measured in time"),
        }
    }

    /// Lets another gateway forward records.
    pub(crate) async fn yield_forwarding(&self) -> Result<(), LedgerError> {
        self.calls.read(|ledger| ledger.yield_forwarding()).await
    }

    async fn settle_claimed(&self, batch: &Arc<ValidatedBatch>) -> Result<ProcessingOutcome, LedgerError> {
        if let Some(monitor) = &self.monitor {
            return self.deliver_batch(monitor, batch).await;
        }
        // A ledger in a file finds a response at once. Another one looks for it in the transaction.
        if !self.is_shared() || self.faults.simulates_work() {
            let (device, id) = (batch.device, batch.id);
            let stored = self.calls.read(move |ledger| ledger.stored_response(device, id)).await?;
            if let Some(stored) = stored {
                return Ok(ProcessingOutcome::Settled(stored.settle_for(&batch.fingerprint)));
            }
            if self.faults.simulate_work(batch).await == SimulatedWork::Hung {
                return Ok(ProcessingOutcome::Abandoned);
            }
        }
        let batch = Arc::clone(batch);
        self.calls
            .write(move |ledger| ledger.settle_batch(&batch, wall_ms()))
            .await
            .map(ProcessingOutcome::Settled)
    }

    fn report_in_flight(&self, batches: usize) {
        self.in_flight_count.send_replace(batches);
        self.metrics.set_processing(batches);
    }
}

/// Keeps a batch in flight; dropping it, even by a panic, takes the batch out of the table.
struct InFlightGuard {
    processor: Arc<BatchProcessor>,
    key: BatchKey,
    device_name: String,
    _place: DevicePlace,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut in_flight = self.processor.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.remove(&self.key);
        self.processor.report_in_flight(in_flight.len());
    }
}

async fn process_batch(
    guard: InFlightGuard,
    batch: ValidatedBatch,
) -> Result<ProcessingOutcome, LedgerError> {
    let processor = &guard.processor;
    let measurement = processor.start_measurement();
    let batch = Arc::new(batch);
    let outcome = processor.claim_and_settle(&batch).await;
    let duration = processor.end_measurement(&measurement, batch.records.len(), &outcome);
    let duration_ms = millis(duration);
    let (batch_id, device_id, records) = (batch.id, batch.device, batch.records.len());
    let device_name = guard.device_name.as_str();
    processor.metrics.count_batch(label_outcome(&outcome), duration);
    match &outcome {
        Ok(ProcessingOutcome::Settled(BatchSettlement::New(response))) => {
            let counts = ResultCounts::from_response(response);
            processor.metrics.count_records(counts);
            if counts.applied > 0 {
                processor.applied.notify_one();
            }
            let ResultCounts { applied, duplicate, rejected, retry } = counts;
            tracing::info!(
                %batch_id, %device_id, device_name, records, applied, duplicate, rejected, retry, duration_ms,
                "batch settled"
            );
        }
        Ok(ProcessingOutcome::Settled(BatchSettlement::Replayed(_))) => {
            tracing::info!(%batch_id, %device_id, device_name, records, duration_ms, "batch replayed");
        }
        // The log line of the request has it.
        Ok(
            ProcessingOutcome::Settled(BatchSettlement::IdReused)
            | ProcessingOutcome::ClaimedElsewhere
            | ProcessingOutcome::Refused(_),
        ) => {}
        Ok(ProcessingOutcome::Abandoned) => {
            tracing::warn!(%batch_id, %device_id, device_name, records, duration_ms, "batch given up");
        }
        Err(error) => {
            let error = with_causes(error);
            tracing::error!(%batch_id, %device_id, device_name, records, duration_ms, error, "batch failed");
        }
    }
    outcome
}
