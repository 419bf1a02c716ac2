//! The part of a ledger for devices: when each was last in contact, and what it reported.
//!
//! One row for each device. Rows are written in steps of many, some time after the requests; losing the last of them
//! in a crash loses no record.

use super::LedgerError;
use crate::model::DeviceId;
use crate::protocol::device_status::DeviceStatus;

/// Gateways of a ledger may differ by so much in their clocks. Times that are further ahead of the clock were noted while
/// a clock was wrong, and any other time replaces them: otherwise the device could not be overdue until then.
const CLOCK_TOLERANCE_MS: u64 = 5 * 60 * 1000;

/// The latest time that can be right.
pub(crate) fn latest_plausible(now: u64) -> u64 {
    now.saturating_add(CLOCK_TOLERANCE_MS)
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceEntry {
    pub(crate) device: DeviceId,
    /// Empty if the device has shown none. Of a write, empty means unchanged.
    pub(crate) name: String,
    /// The last request of any kind, in wall milliseconds.
    pub(crate) last_contact_at: u64,
    /// Of a write, `None` means unchanged.
    pub(crate) report: Option<DeviceReport>,
}

/// A status, and when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceReport {
    /// Wall milliseconds.
    pub(crate) received_at: u64,
    pub(crate) status: DeviceStatus,
}

impl DeviceEntry {
    /// Adds what is newer in another entry of the device. What is later than `latest` was never right.
    pub(crate) fn merge(&mut self, other: Self, latest: u64) {
        let is_replaced = |own: u64, other: u64| own <= other || own > latest;
        let is_newer = is_replaced(self.last_contact_at, other.last_contact_at);
        if !other.name.is_empty() && (is_newer || self.name.is_empty()) {
            self.name = other.name;
        }
        if is_newer {
            self.last_contact_at = other.last_contact_at;
        }
        if let Some(report) = other.report
            && self.report.as_ref().is_none_or(|own| is_replaced(own.received_at, report.received_at))
        {
            self.report = Some(report);
        }
    }

    /// Its place in the order of last contacts.
    pub(crate) fn position(&self) -> DevicePosition {
        DevicePosition { last_contact_at: self.last_contact_at, device: self.device }
    }
}

/// A place in the order of last contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DevicePosition {
    pub(crate) last_contact_at: u64,
    pub(crate) device: DeviceId,
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceCounts {
    pub(crate) known: u64,
    /// With a last contact before the given time.
    pub(crate) overdue: u64,
}

/// Which devices are deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevicePruning {
    /// Those whose last contact was before this time.
    pub(crate) before: u64,
    /// Those of the oldest contacts, beyond so many.
    pub(crate) devices_max: u64,
    /// At most so many at once.
    pub(crate) step_max: usize,
}

/// The devices of a ledger. Each operation is one transaction.
pub(crate) trait DeviceLedger {
    /// Merges these entries, each of another device, with the stored ones, as [`DeviceEntry::merge`].
    fn store_devices(&self, entries: &[DeviceEntry], latest: u64) -> Result<(), LedgerError>;

    /// The devices after a position, in the order of their last contacts: those without contact for the longest time
    /// first. With `before`, only those whose last contact was before that time.
    fn devices_after(
        &self,
        after: Option<DevicePosition>,
        before: Option<u64>,
        rows_max: usize,
    ) -> Result<Vec<DeviceEntry>, LedgerError>;

    /// How many devices there are, and how many had their last contact before this time.
    fn count_devices(&self, overdue_before: u64) -> Result<DeviceCounts, LedgerError>;

    /// Deletes devices. Returns how many.
    fn prune_devices(&self, pruning: DevicePruning) -> Result<usize, LedgerError>;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_newer_wins_in_whichever_order_it_comes() {
        let report = |received_at| DeviceReport { received_at, status: DeviceStatus::default() };
        let entry = |name: &str, last_contact_at, report| DeviceEntry {
            device: DeviceId(Uuid::nil()),
            name: name.into(),
            last_contact_at,
            report,
        };
        let old = entry("old", 10, Some(report(10)));
        let new = entry("new", 20, Some(report(20)));
        let nameless = entry("", 30, None);
        let mut forwards = old.clone();
        forwards.merge(new.clone(), 1000);
        forwards.merge(nameless.clone(), 1000);
        let mut backwards = nameless;
        backwards.merge(new, 1000);
        backwards.merge(old, 1000);
        assert_eq!(forwards, entry("new", 30, Some(report(20))));
        assert_eq!(backwards.report, forwards.report);
        assert_eq!((backwards.name.as_str(), backwards.last_contact_at), ("new", 30));
        let mut from_the_future = entry("ahead", 5000, Some(report(5000)));
        from_the_future.merge(entry("now", 40, Some(report(40))), 1000);
        assert_eq!(from_the_future, entry("now", 40, Some(report(40))));
    }
}
