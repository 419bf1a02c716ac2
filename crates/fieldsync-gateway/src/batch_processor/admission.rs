//! Which batches are accepted, decided before their bodies are read.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{BatchProcessor, BatchStatus, ProcessingOutcome};
use crate::ledger::{BatchSettlement, LedgerError};
use crate::load_control::{Admission, BatchHead, EndedBatch, LoadControl, LoadHints, LoadLimits};
use crate::model::BatchId;

/// What decides about batches.
pub(super) struct AdmissionGate {
    limits: LoadLimits,
    control: Mutex<LoadControl>,
    /// Accepted batches that are not processed yet: their bodies are being read.
    pub(super) uploads: watch::Sender<usize>,
    /// Whether the gateway is ending.
    pub(super) draining: AtomicBool,
}

/// The place of a batch that was accepted, while its body is read.
pub(crate) struct UploadPlace(Arc<BatchProcessor>);

/// Why a batch is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AdmissionRefusal {
    /// The gateway is ending.
    Draining,
    /// It is being processed.
    InFlight,
    /// Too many others are. The device should return after this time.
    Busy { wait: Duration },
}

/// A batch whose duration is measured.
pub(super) struct Measurement {
    began: Duration,
    in_flight: usize,
}

impl AdmissionGate {
    pub(super) fn new(limits: LoadLimits) -> Self {
        Self {
            limits,
            control: Mutex::new(LoadControl::new(limits)),
            uploads: watch::Sender::new(0),
            draining: AtomicBool::new(false),
        }
    }

    fn with_control<T>(&self, decide: impl FnOnce(&mut LoadControl) -> T) -> T {
        decide(&mut self.control.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Batches that are being processed, and those that will be soon. An idle gateway does not count bodies that are
    /// being read: on slow links that takes long, and costs nothing.
    fn count_batches(&self, in_flight: usize) -> usize {
        let is_busy = in_flight.saturating_mul(2) >= self.limits.in_flight_max;
        if is_busy { in_flight.saturating_add(*self.uploads.borrow()) } else { in_flight }
    }
}

impl BatchProcessor {
    /// Accepts a batch, or says when its device should return. A batch that has a response already is refused last: a
    /// read of the ledger answers it.
    pub(crate) async fn admit_batch(
        self: &Arc<Self>,
        head: BatchHead,
        batch: BatchId,
        is_resend: bool,
    ) -> Result<UploadPlace, AdmissionRefusal> {
        if self.is_draining() {
            return Err(AdmissionRefusal::Draining);
        }
        let device = head.device;
        let wait = match self.decide_admission(head) {
            Admission::Accepted => return Ok(UploadPlace::new(self)),
            Admission::Refused { wait } => wait,
        };
        if self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains(&(device, batch)) {
            return Err(AdmissionRefusal::InFlight);
        }
        if is_resend && matches!(self.batch_status(device, batch).await, Ok(BatchStatus::Responded(_))) {
            let in_flight = self.admission.count_batches(*self.in_flight_count.borrow());
            if self.admission.with_control(|control| control.admit_known(device, in_flight)) {
                return Ok(UploadPlace::new(self));
            }
        }
        Err(AdmissionRefusal::Busy { wait })
    }

    /// How long a device whose batch found no room after its upload should wait.
    pub(crate) fn refuse_batch(&self, head: BatchHead) -> Duration {
        match self.decide_admission(head) {
            // There is room by now.
            Admission::Accepted => Duration::ZERO,
            Admission::Refused { wait } => wait,
        }
    }

    /// What responses say about the speed of the gateway, while so many devices have batches in flight.
    pub(crate) fn load_hints(&self, devices: usize) -> LoadHints {
        self.admission.with_control(|control| control.hints(devices))
    }

    /// Learns how large the body of a batch was on its way.
    pub(crate) fn note_upload(&self, body_bytes: usize, records: usize) {
        self.admission.with_control(|control| control.record_upload(body_bytes, records));
    }

    fn decide_admission(&self, head: BatchHead) -> Admission {
        let in_flight = self.admission.count_batches(*self.in_flight_count.borrow());
        let (now, mut rng) = (self.clock.now(), fastrand::Rng::new());
        self.admission.with_control(|control| control.admit(now, head, in_flight, &mut rng))
    }

    pub(super) fn start_measurement(&self) -> Measurement {
        Measurement { began: self.clock.now(), in_flight: *self.in_flight_count.borrow() }
    }

    /// Learns from a batch, and returns its duration.
    pub(super) fn end_measurement(
        &self,
        measurement: &Measurement,
        records: usize,
        outcome: &Result<ProcessingOutcome, LedgerError>,
    ) -> Duration {
        let now = self.clock.now();
        let duration = now.saturating_sub(measurement.began);
        let in_flight = *self.in_flight_count.borrow();
        let was_processed = matches!(outcome, Ok(ProcessingOutcome::Settled(BatchSettlement::New(_))));
        let batch = EndedBatch {
            records,
            duration,
            in_flight: average_count(measurement.in_flight, in_flight),
            was_processed,
        };
        self.admission.with_control(|control| control.record_end(now, batch, in_flight));
        duration
    }
}

impl UploadPlace {
    fn new(processor: &Arc<BatchProcessor>) -> Self {
        processor.admission.uploads.send_modify(|uploads| *uploads += 1);
        Self(Arc::clone(processor))
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        self.0.admission.uploads.send_modify(|uploads| *uploads -= 1);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn average_count(one: usize, other: usize) -> f64 {
    f64::midpoint(one as f64, other as f64)
}
