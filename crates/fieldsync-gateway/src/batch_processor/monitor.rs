//! The condition of the destination, as batches, health checks, metrics and the log see it.
//!
//! A destination that is stopped makes a call now and then to find out whether an operator has acted. Until it has
//! given a verdict again, it is reported as stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::destination::{
    DESTINATION_BUSY, DESTINATION_STOPPED, Destination, DestinationCondition, DestinationLink, StoppedType,
    is_urgent,
};
use crate::metrics::{ConditionLabel, Metrics};
use crate::validated_batch::ValidatedBatch;

/// A shorter wait is spent inside of the delivery.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// A device waits so long before it offers a batch again: it may have an urgent record by then.
const SCARCE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Why a batch is not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DestinationRefusal {
    pub(crate) code: &'static str,
    pub(crate) wait: Duration,
    pub(crate) reason: String,
}

/// What is reported of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DestinationReport {
    pub(crate) condition: ConditionLabel,
    /// Why it takes no records.
    pub(crate) reason: Option<String>,
    pub(crate) stopped_types: Vec<StoppedType>,
}

struct SeenCondition {
    /// Whose condition it is: a reload replaces the destination.
    destination: Arc<dyn Destination>,
    label: ConditionLabel,
    reason: Option<String>,
}

/// Watches the destination in use.
pub(super) struct DestinationMonitor {
    link: DestinationLink,
    metrics: Arc<Metrics>,
    seen: Mutex<SeenCondition>,
}

impl DestinationMonitor {
    pub(super) fn new(link: DestinationLink, metrics: Arc<Metrics>) -> Self {
        let seen =
            SeenCondition { destination: link.slot.current(), label: ConditionLabel::Ready, reason: None };
        Self { link, metrics, seen: Mutex::new(seen) }
    }

    /// How long the response to a batch waits for the destination.
    pub(super) fn time_budget(&self) -> Duration {
        self.link.time_budget
    }

    pub(super) fn destination(&self) -> Arc<dyn Destination> {
        self.link.slot.current()
    }

    /// Why the batch is not to be begun now.
    pub(super) fn find_refusal(&self, batch: &ValidatedBatch) -> Option<DestinationRefusal> {
        let (code, wait, reason) = match self.note_condition(false) {
            DestinationCondition::Ready => return None,
            DestinationCondition::Waiting { wait, .. } if wait <= SHORT_WAIT => return None,
            // Each of its other records is told to wait.
            DestinationCondition::Scarce { .. } if batch.records.iter().any(is_urgent) => return None,
            DestinationCondition::Waiting { wait, reason } => (DESTINATION_BUSY, wait, reason),
            DestinationCondition::Scarce { wait, reason } => {
                (DESTINATION_BUSY, wait.min(SCARCE_WAIT_MAX), reason)
            }
            DestinationCondition::Stopped { wait, reason } => (DESTINATION_STOPPED, wait, reason),
        };
        Some(DestinationRefusal { code, wait, reason })
    }

    /// Logs a change of the condition. `has_decided`: a verdict of the destination itself has arrived.
    pub(super) fn note_condition(&self, has_decided: bool) -> DestinationCondition {
        let destination = self.link.slot.current();
        let condition = destination.condition();
        let mut seen = self.seen();
        let is_other = !Arc::ptr_eq(&seen.destination, &destination);
        let (label, reason) = match &condition {
            DestinationCondition::Ready => (ConditionLabel::Ready, None),
            DestinationCondition::Scarce { reason, .. } => (ConditionLabel::Scarce, Some(reason.clone())),
            DestinationCondition::Waiting { reason, .. } => (ConditionLabel::Waiting, Some(reason.clone())),
            DestinationCondition::Stopped { reason, .. } => (ConditionLabel::Stopped, Some(reason.clone())),
        };
        // The next call finds out whether the destination takes records again.
        let is_probe_due = seen.label == ConditionLabel::Stopped && label != ConditionLabel::Stopped;
        if is_probe_due && !has_decided && !is_other {
            return condition;
        }
        if seen.label != label || (label == ConditionLabel::Stopped && seen.reason != reason) {
            log_condition(label, reason.as_deref());
        }
        *seen = SeenCondition { destination, label, reason };
        condition
    }

    /// What health checks say.
    pub(super) fn report(&self) -> DestinationReport {
        self.note_condition(false);
        let seen = self.seen();
        DestinationReport {
            condition: seen.label,
            reason: seen.reason.clone(),
            stopped_types: seen.destination.stopped_types(),
        }
    }

    /// Brings the metrics up to date.
    pub(super) fn export(&self) {
        let report = self.report();
        self.metrics.destination.set_condition(report.condition, report.stopped_types.len());
    }

    fn seen(&self) -> MutexGuard<'_, SeenCondition> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_condition(label: ConditionLabel, reason: Option<&str>) {
    match label {
        ConditionLabel::Ready => tracing::info!("the destination takes records"),
        ConditionLabel::Scarce => {
            tracing::warn!(
                reason,
                "the destination takes only urgent records: devices keep the others for now"
            );
        }
        ConditionLabel::Waiting => {
            tracing::warn!(reason, "the destination takes no records for now: devices wait, nothing is lost");
        }
        ConditionLabel::Stopped => tracing::error!(
            reason,
            "the destination takes no records until an administrator has removed the reason: devices keep their \
             records, and the first batch after a minute tries again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::destination::{DestinationSlot, RecordVerdict};
    use crate::digest::sha256;
    use crate::model::{BatchId, DeviceId, RecordId};
    use crate::protocol::wire::WireRecord;
    use crate::validated_batch::ValidatedRecord;

    /// A destination with this condition, which a test may change.
    struct FixedDestination(Mutex<DestinationCondition>);

    impl FixedDestination {
        fn new() -> Arc<Self> {
            Arc::new(Self(Mutex::new(DestinationCondition::Ready)))
        }

        fn set(&self, condition: DestinationCondition) {
            *self.0.lock().unwrap() = condition;
        }
    }

    impl Destination for FixedDestination {
        fn deliver<'a>(
            &'a self,
            _: &'a [&'a ValidatedRecord],
            _: Duration,
            _: tokio::sync::mpsc::Sender<Vec<RecordVerdict>>,
        ) -> BoxFuture<'a, ()> {
            Box::pin(std::future::ready(()))
        }

        fn condition(&self) -> DestinationCondition {
            self.0.lock().unwrap().clone()
        }

        fn stopped_types(&self) -> Vec<StoppedType> {
            Vec::new()
        }
    }

    fn monitor(destination: Arc<FixedDestination>) -> DestinationMonitor {
        let slot = Arc::new(DestinationSlot::new(destination));
        let link = DestinationLink { slot, time_budget: Duration::from_secs(1) };
        DestinationMonitor::new(link, Arc::new(Metrics::new(false)))
    }

    fn batch(priority: u8) -> ValidatedBatch {
        let record = WireRecord {
            id: RecordId::new(),
            record_type: "Visits".into(),
            key: None,
            priority: Some(priority),
            created_at: 0,
            payload: RawValue::from_string("{}".into()).unwrap(),
        };
        ValidatedBatch {
            device: DeviceId(Uuid::new_v4()),
            id: BatchId::new(),
            fingerprint: sha256(b""),
            records: vec![ValidatedRecord::new(record, None)],
        }
    }

    #[test]
    fn a_batch_is_refused_as_long_as_the_destination_takes_none_of_its_records() {
        let destination = FixedDestination::new();
        let monitor = monitor(Arc::clone(&destination));
        let reason = || "because".to_owned();
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(3));
        for (condition, usual, urgent) in [
            (DestinationCondition::Ready, None, None),
            (DestinationCondition::Waiting { wait: short, reason: reason() }, None, None),
            (
                DestinationCondition::Waiting { wait: long, reason: reason() },
                Some(DESTINATION_BUSY),
                Some(DESTINATION_BUSY),
            ),
            (DestinationCondition::Scarce { wait: long, reason: reason() }, Some(DESTINATION_BUSY), None),
            (
                DestinationCondition::Stopped { wait: short, reason: reason() },
                Some(DESTINATION_STOPPED),
                Some(DESTINATION_STOPPED),
            ),
        ] {
            destination.set(condition.clone());
            let codes = [5, 9].map(|priority| {
                let refusal = monitor.find_refusal(&batch(priority))?;
                assert_eq!(refusal.reason, "because");
                Some(refusal.code)
            });
            assert_eq!(codes, [usual, urgent], "{condition:?}");
        }
    }

    #[test]
    fn a_stop_is_reported_until_a_verdict_or_another_destination_ends_it() {
        let destination = FixedDestination::new();
        let monitor = monitor(Arc::clone(&destination));
        let stop = || DestinationCondition::Stopped { wait: Duration::from_mins(1), reason: "scope".into() };
        destination.set(stop());
        assert_eq!(monitor.report().condition, ConditionLabel::Stopped);
        // The next call finds out whether the destination takes records again.
        destination.set(DestinationCondition::Ready);
        assert_eq!(monitor.find_refusal(&batch(5)), None);
        assert_eq!(monitor.report().condition, ConditionLabel::Stopped);
        assert_eq!(monitor.report().reason.as_deref(), Some("scope"));
        monitor.note_condition(true);
        assert_eq!((monitor.report().condition, monitor.report().reason), (ConditionLabel::Ready, None));

        destination.set(stop());
        assert_eq!(monitor.report().condition, ConditionLabel::Stopped);
        monitor.link.slot.replace(FixedDestination::new());
        assert_eq!(monitor.report().condition, ConditionLabel::Ready);
    }
}
