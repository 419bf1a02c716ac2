//! What the metrics say of the destination.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clock::Clock;

/// Upper ends of the histogram of deliveries.
const DELIVERY_SECONDS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

type LabelledCounter = Family<[(&'static str, &'static str); 1], Counter>;
type LabelledGauge = Family<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>;

/// Whether the destination takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionLabel {
    Ready,
    /// Only urgent records.
    Scarce,
    Waiting,
    Stopped,
}

impl ConditionLabel {
    const ALL: [Self; 4] = [Self::Ready, Self::Scarce, Self::Waiting, Self::Stopped];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Scarce => "scarce",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

/// How many records of a delivery got which verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VerdictCounts {
    pub(crate) applied: u64,
    pub(crate) rejected: u64,
    pub(crate) retry: u64,
}

#[derive(Debug)]
pub(crate) struct DestinationMetrics {
    verdicts: LabelledCounter,
    condition: LabelledGauge,
    stopped_types: Gauge<i64, AtomicI64>,
    deliveries: Gauge<i64, AtomicI64>,
    delivery_seconds: Histogram,
}

impl DestinationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            verdicts: LabelledCounter::default(),
            condition: LabelledGauge::default(),
            stopped_types: Gauge::default(),
            deliveries: Gauge::default(),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
        };
        registry.register(
            "destination_verdicts",
            "Verdicts of the destination on records, by outcome",
            metrics.verdicts.clone(),
        );
        registry.register(
            "destination_condition",
            "1 for the condition of the destination, if there is one: ready, scarce (only urgent records), waiting, or stopped until an \
             administrator acts",
            metrics.condition.clone(),
        );
        registry.register(
            "destination_stopped_types",
            "Record types that the destination does not take until an administrator acts",
            metrics.stopped_types.clone(),
        );
        registry.register(
            "destination_deliveries",
            "Batches that are being handed over to the destination",
            metrics.deliveries.clone(),
        );
        registry.register(
            "destination_delivery_seconds",
            "How long the destination took for a batch",
            metrics.delivery_seconds.clone(),
        );
        // Series that exist from the start show their first increment.
        metrics.count_verdicts(VerdictCounts::default());
        metrics
    }

    /// Counts the verdicts of a delivery.
    pub(crate) fn count_verdicts(&self, verdicts: VerdictCounts) {
        let VerdictCounts { applied, rejected, retry } = verdicts;
        for (outcome, count) in [("applied", applied), ("rejected", rejected), ("retry", retry)] {
            self.verdicts.get_or_create(&[("outcome", outcome)]).inc_by(count);
        }
    }

    pub(crate) fn set_condition(&self, condition: ConditionLabel, stopped_types: usize) {
        for label in ConditionLabel::ALL {
            let series = self.condition.get_or_create(&[("condition", label.as_str())]);
            series.set(i64::from(label == condition));
        }
        self.stopped_types.set(i64::try_from(stopped_types).unwrap_or(i64::MAX));
    }

    /// A delivery is in flight until the result is dropped.
    pub(crate) fn start_delivery<'a>(&'a self, clock: &'a Clock) -> DeliveryTimer<'a> {
        self.deliveries.inc();
        DeliveryTimer { metrics: self, clock, began: clock.now() }
    }
}

/// Measures a delivery.
pub(crate) struct DeliveryTimer<'a> {
    metrics: &'a DestinationMetrics,
    clock: &'a Clock,
    began: Duration,
}

impl Drop for DeliveryTimer<'_> {
    fn drop(&mut self) {
        self.metrics.deliveries.dec();
        self.metrics.delivery_seconds.observe(self.clock.now().saturating_sub(self.began).as_secs_f64());
    }
}
