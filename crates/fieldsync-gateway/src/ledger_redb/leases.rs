//! The leases of deliveries, in memory: the file has one owner, and with it all deliveries end.
//!
//! A row in the file would say the same, and would be void at the next start. It would cost each batch a second
//! commit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::ledger::{Admission, DeliveryId};
use crate::model::{DeviceId, RecordId};
use crate::validated_batch::ValidatedBatch;

type KeyName = (DeviceId, String);

/// Which delivery has which record and key.
#[derive(Default)]
pub(super) struct LeaseTable {
    ends: HashMap<DeliveryId, Duration>,
    records: HashMap<RecordId, DeliveryId>,
    keys: HashMap<KeyName, DeliveryId>,
}

/// What a delivery could lease of its batch.
pub(super) struct LeasedParts {
    pub(super) records: HashSet<RecordId>,
    pub(super) keys: HashSet<String>,
}

impl LeaseTable {
    /// Leases the records and keys that no living delivery has.
    pub(super) fn lease_batch(
        &mut self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        lease: Duration,
        now: Duration,
    ) -> LeasedParts {
        self.remove_lapsed(now);
        self.ends.insert(delivery, now + lease);
        let mut leased = LeasedParts { records: HashSet::new(), keys: HashSet::new() };
        for record in batch.records.iter().filter(|record| record.fault.is_none()) {
            if *self.records.entry(record.id).or_insert(delivery) == delivery {
                leased.records.insert(record.id);
            }
            if let Some(key) = &record.key
                && *self.keys.entry((batch.device, key.clone())).or_insert(delivery) == delivery
            {
                leased.keys.insert(key.clone());
            }
        }
        leased
    }

    /// Returns false if the lease has lapsed.
    pub(super) fn extend(&mut self, delivery: DeliveryId, lease: Duration, now: Duration) -> bool {
        match self.ends.get_mut(&delivery) {
            Some(end) if now < *end => {
                *end = now + lease;
                true
            }
            _ => false,
        }
    }

    /// Ends the lease of a record.
    pub(super) fn release_record(&mut self, id: RecordId, delivery: DeliveryId) {
        if self.records.get(&id) == Some(&delivery) {
            self.records.remove(&id);
        }
    }

    /// Ends the lease of a key.
    pub(super) fn release_key(&mut self, device: DeviceId, key: &str, delivery: DeliveryId) {
        let name = (device, key.to_owned());
        if self.keys.get(&name) == Some(&delivery) {
            self.keys.remove(&name);
        }
    }

    /// Ends the leases of what is not handed over.
    pub(super) fn keep_delivered(
        &mut self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        admissions: &[Admission],
    ) {
        let with_admissions = || batch.records.iter().zip(admissions);
        let delivered_keys: HashSet<&str> = with_admissions()
            .filter(|(_, admission)| **admission == Admission::Deliver)
            .filter_map(|(record, _)| record.key.as_deref())
            .collect();
        for (record, _) in with_admissions().filter(|(_, admission)| **admission != Admission::Deliver) {
            self.release_record(record.id, delivery);
            if let Some(key) = record.key.as_deref().filter(|key| !delivered_keys.contains(key)) {
                self.release_key(batch.device, key, delivery);
            }
        }
    }

    /// Ends a delivery of this batch with all that it has leased.
    pub(super) fn end_delivery(&mut self, batch: &ValidatedBatch, delivery: DeliveryId) {
        for record in &batch.records {
            self.release_record(record.id, delivery);
            if let Some(key) = &record.key {
                self.release_key(batch.device, key, delivery);
            }
        }
        self.ends.remove(&delivery);
    }

    fn remove_lapsed(&mut self, now: Duration) {
        let all = self.ends.len();
        self.ends.retain(|_, end| now < *end);
        if self.ends.len() < all {
            let ends = &self.ends;
            self.records.retain(|_, delivery| ends.contains_key(delivery));
            self.keys.retain(|_, delivery| ends.contains_key(delivery));
        }
    }
}
