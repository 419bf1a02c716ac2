//! What the metrics say of the devices. No label names one of them.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug)]
pub(crate) struct FleetMetrics {
    known: Gauge<i64, AtomicI64>,
    overdue: Gauge<i64, AtomicI64>,
}

impl FleetMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { known: Gauge::default(), overdue: Gauge::default() };
        registry.register("devices", "Devices that the ledger knows", metrics.known.clone());
        registry.register(
            "devices_overdue",
            "Devices without contact for longer than fleet.overdue_after",
            metrics.overdue.clone(),
        );
        metrics
    }

    pub(crate) fn set_counts(&self, known: u64, overdue: u64) {
        self.known.set(i64::try_from(known).unwrap_or(i64::MAX));
        self.overdue.set(i64::try_from(overdue).unwrap_or(i64::MAX));
    }
}
