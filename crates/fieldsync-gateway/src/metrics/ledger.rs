//! What the metrics say of the ledger.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::HistogramFamily;
use super::ledger_size::{LedgerSizeCollector, LedgerSizeValues};

/// Upper ends of the histogram of operations: a commit takes as long as the disk.
const OPERATION_SECONDS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Read,
    /// One transaction with its commit.
    Write,
    HealthCheck,
}

impl OperationKind {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::HealthCheck];

    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::HealthCheck => "health_check",
        }
    }
}

#[derive(Debug)]
pub(crate) struct LedgerMetrics {
    operations: Family<[(&'static str, &'static str); 2], Counter>,
    durations: HistogramFamily,
    pub(crate) size: Arc<LedgerSizeValues>,
}

impl LedgerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            operations: Family::default(),
            durations: HistogramFamily::new_with_constructor(|| Histogram::new(OPERATION_SECONDS)),
            size: Arc::default(),
        };
        registry.register(
            "ledger_operations",
            "Operations on the ledger, by kind and result",
            metrics.operations.clone(),
        );
        registry.register_with_unit(
            "ledger_operation_duration",
            "Time of operations on the ledger without waits for their turn; a write includes its commit",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register_collector(Box::new(LedgerSizeCollector(Arc::clone(&metrics.size))));
        for kind in OperationKind::ALL {
            for result in [true, false] {
                drop(metrics.operations.get_or_create(&labels_of(kind, result)));
            }
        }
        metrics
    }

    pub(crate) fn count_operation(&self, kind: OperationKind, is_success: bool) {
        self.operations.get_or_create(&labels_of(kind, is_success)).inc();
    }

    pub(crate) fn observe_operation(&self, kind: OperationKind, duration: Duration) {
        self.durations.get_or_create(&[("kind", kind.as_str())]).observe(duration.as_secs_f64());
    }
}

fn labels_of(kind: OperationKind, is_success: bool) -> [(&'static str, &'static str); 2] {
    [("kind", kind.as_str()), ("result", if is_success { "ok" } else { "error" })]
}
