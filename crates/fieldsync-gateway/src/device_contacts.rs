//! The devices that were in contact since the ledger was last brought up to date.
//!
//! A request changes memory only: the ledger gets one row for each device, many at a time.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ledger::{DeviceEntry, DeviceReport, latest_plausible};
use crate::clock::wall_ms;
use crate::model::DeviceId;
use crate::protocol::device_status::DeviceStatus;

/// Devices in memory. Contacts of others are lost until these are in the ledger.
const PENDING_DEVICES_MAX: usize = 10_000;

/// The entries that are not in the ledger yet.
#[derive(Default)]
pub(crate) struct DeviceContacts {
    pending: Mutex<HashMap<DeviceId, DeviceEntry>>,
    /// Notified when there is a first entry.
    is_pending: Notify,
    /// Notified when there is no room for more.
    is_full: Notify,
}

impl DeviceContacts {
    /// A device sent a request. `name` may be empty.
    pub(crate) fn note_contact(&self, device: DeviceId, name: String, now: u64) {
        self.add(DeviceEntry { device, name, last_contact_at: now, report: None }, now);
    }

    /// A device reported its status.
    pub(crate) fn note_status(&self, device: DeviceId, name: String, status: DeviceStatus, now: u64) {
        let report = Some(DeviceReport { received_at: now, status });
        self.add(DeviceEntry { device, name, last_contact_at: now, report }, now);
    }

    /// Takes all entries.
    pub(crate) fn take_entries(&self) -> TakenEntries<'_> {
        TakenEntries { contacts: self, entries: mem::take(&mut *self.lock()).into_values().collect() }
    }

    /// Waits until there are entries.
    pub(crate) async fn wait_until_pending(&self) {
        while self.lock().is_empty() {
            self.is_pending.notified().await;
        }
    }

    /// Waits until there is no room for more.
    pub(crate) async fn wait_until_full(&self) {
        self.is_full.notified().await;
    }

    fn add(&self, entry: DeviceEntry, now: u64) {
        let mut pending = self.lock();
        if let Some(own) = pending.get_mut(&entry.device) {
            own.merge(entry, latest_plausible(now));
        } else if pending.len() < PENDING_DEVICES_MAX {
            pending.insert(entry.device, entry);
            self.is_pending.notify_one();
        } else {
            self.is_full.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, DeviceEntry>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries that are being stored. When it is dropped, even because a caller gave up, those that are left go back.
pub(crate) struct TakenEntries<'a> {
    contacts: &'a DeviceContacts,
    /// Without those that are in the ledger.
    pub(crate) entries: Vec<DeviceEntry>,
}

impl Drop for TakenEntries<'_> {
    fn drop(&mut self) {
        let now = wall_ms();
        for entry in self.entries.drain(..) {
            self.contacts.add(entry, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_device_has_one_entry_and_their_number_is_limited() {
        let contacts = DeviceContacts::default();
        let device = DeviceId(Uuid::new_v4());
        contacts.note_status(device, "one".into(), DeviceStatus::default(), 1);
        contacts.note_contact(device, String::new(), 2);
        let taken = contacts.take_entries();
        let [entry] = &taken.entries[..] else { panic!("{:?}", taken.entries) };
        assert_eq!((entry.name.as_str(), entry.last_contact_at), ("one", 2));
        assert!(entry.report.is_some());
        contacts.note_contact(device, "two".into(), 3);
        drop(taken);
        let mut taken = contacts.take_entries();
        assert_eq!((taken.entries[0].name.as_str(), taken.entries[0].last_contact_at), ("two", 3));
        assert!(taken.entries[0].report.is_some());
        taken.entries.clear();
        drop(taken);
        for _ in 0..PENDING_DEVICES_MAX + 5 {
            contacts.note_contact(DeviceId(Uuid::new_v4()), String::new(), 4);
        }
        let mut taken = contacts.take_entries();
        assert_eq!(taken.entries.len(), PENDING_DEVICES_MAX);
        taken.entries.clear();
        drop(taken);
        assert!(contacts.take_entries().entries.is_empty());
    }
}
