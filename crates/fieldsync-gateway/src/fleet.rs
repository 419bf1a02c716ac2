//! The devices of the fleet: keeps their rows in the ledger up to date, and works out which are overdue.
//!
//! Rows are written at most once a minute, all that changed together, and before an operator reads them. Nothing runs
//! while no device is in contact.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::batch_processor::BatchProcessor;
use super::device_contacts::DeviceContacts;
use super::ledger::{
    DeviceCounts, DeviceEntry, DevicePosition, DevicePruning, LedgerError, latest_plausible,
};
use super::metrics::FleetMetrics;
use super::option_values::PositiveDuration;
use crate::causes::with_causes;
use crate::clock::{millis, wall_ms};

/// Devices that the ledger remembers. Beyond it, those that were not in contact for the longest time are forgotten.
pub(crate) const DEVICES_MAX: u64 = 100_000;
/// The pause before entries are written.
const STORE_INTERVAL: Duration = Duration::from_mins(1);
/// Rows that one transaction writes or deletes: few, so that batches hardly wait for it.
const STORE_ROWS: usize = 500;
/// How long the end of the gateway waits for the last rows.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long `/metrics` waits for the ledger; then it shows the former counts.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);

/// `[fleet]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FleetSection {
    /// A device without contact for longer is overdue.
    pub(crate) overdue_after: PositiveDuration,
}

impl Default for FleetSection {
    fn default() -> Self {
        // Longer than a weekend.
        Self { overdue_after: PositiveDuration::secs(3 * 24 * 3600) }
    }
}

/// All devices, those of other gateways on the same ledger included.
pub(crate) struct Fleet {
    pub(crate) contacts: DeviceContacts,
    processor: Arc<BatchProcessor>,
    overdue_after: Duration,
    /// Devices without contact for longer are forgotten.
    retention: Duration,
    /// One at a time, so that a reader finds what another is writing.
    storing: tokio::sync::Mutex<()>,
}

impl Fleet {
    pub(crate) fn new(
        processor: Arc<BatchProcessor>,
        section: &FleetSection,
        keep_records: Duration,
    ) -> Self {
        let overdue_after = section.overdue_after.0;
        Self {
            contacts: DeviceContacts::default(),
            processor,
            overdue_after,
            // A device is overdue for as long again before it is forgotten.
            retention: keep_records.max(overdue_after.saturating_mul(2)),
            storing: tokio::sync::Mutex::default(),
        }
    }

    /// Devices whose last contact was before this time are overdue.
    pub(crate) fn overdue_before(&self, now: u64) -> u64 {
        now.saturating_sub(millis(self.overdue_after))
    }

    /// Since when a device is overdue.
    pub(crate) fn overdue_since(&self, last_contact_at: u64, now: u64) -> Option<u64> {
        let is_overdue = last_contact_at < self.overdue_before(now);
        is_overdue.then(|| last_contact_at.saturating_add(millis(self.overdue_after)))
    }

    /// Writes what changed to the ledger, for ever.
    pub(crate) async fn store_forever(&self) {
        loop {
            self.contacts.wait_until_pending().await;
            tokio::select! {
                () = sleep(STORE_INTERVAL) => {}
                () = self.contacts.wait_until_full() => {}
            }
            let stored = async {
                self.store_entries().await?;
                self.prune_devices().await
            };
            if let Err(error) = stored.await {
                let error = with_causes(&error);
                tracing::warn!(error, "the last contacts of devices could not be stored: trying again");
                sleep(STORE_INTERVAL).await;
            }
        }
    }

    /// Writes what changed to the ledger. What could not be written is kept.
    pub(crate) async fn store_entries(&self) -> Result<(), LedgerError> {
        let _turn = self.storing.lock().await;
        let mut taken = self.contacts.take_entries();
        while !taken.entries.is_empty() {
            let rest = taken.entries.len().saturating_sub(STORE_ROWS);
            let rows = taken.entries[rest..].to_vec();
            let latest = latest_plausible(wall_ms());
            self.processor.write_ledger(move |ledger| ledger.store_devices(&rows, latest)).await?;
            taken.entries.truncate(rest);
        }
        Ok(())
    }

    /// Writes what changed before the gateway ends, unless the ledger takes too long.
    pub(crate) async fn store_at_end(&self) {
        if !matches!(timeout(END_TIMEOUT, self.store_entries()).await, Ok(Ok(()))) {
            tracing::warn!("the last contacts of devices were not stored; their next requests renew them");
        }
    }

    /// The devices after a position, those without contact for the longest time first.
    pub(crate) async fn devices_after(
        &self,
        after: Option<DevicePosition>,
        before: Option<u64>,
        rows_max: usize,
    ) -> Result<Vec<DeviceEntry>, LedgerError> {
        self.processor.read_ledger(move |ledger| ledger.devices_after(after, before, rows_max)).await
    }

    /// How many devices there are, and how many are overdue.
    pub(crate) async fn count_devices(&self, now: u64) -> Result<DeviceCounts, LedgerError> {
        let overdue_before = self.overdue_before(now);
        self.processor.read_ledger(move |ledger| ledger.count_devices(overdue_before)).await
    }

    /// Brings the metrics up to date.
    pub(crate) async fn export_counts(&self, metrics: &FleetMetrics) {
        if let Ok(Ok(counts)) = timeout(COUNT_TIMEOUT, self.count_devices(wall_ms())).await {
            metrics.set_counts(counts.known, counts.overdue);
        }
    }

    async fn prune_devices(&self) -> Result<(), LedgerError> {
        let before = wall_ms().saturating_sub(millis(self.retention));
        let pruning = DevicePruning { before, devices_max: DEVICES_MAX, step_max: STORE_ROWS };
        while self.processor.write_ledger(move |ledger| ledger.prune_devices(pruning)).await? == STORE_ROWS {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
