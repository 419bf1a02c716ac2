//! Limits how many batches of one device are in flight, so that one device cannot take the places of all others.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::DeviceId;

/// Counts the batches in flight, by device: from the request until the batch is processed.
pub(crate) struct DeviceLimit {
    /// Without it, only the limit of all devices together holds.
    in_flight_max: Option<NonZeroUsize>,
    /// Devices without a batch in flight have no entry.
    in_flight: Mutex<HashMap<DeviceId, usize>>,
}

/// As many batches of the device as allowed are in flight.
#[derive(Debug)]
pub(crate) struct DeviceBusy {
    pub(crate) limit: usize,
}

/// The place of one batch; free again when it is dropped.
pub(crate) struct DevicePlace {
    limit: Arc<DeviceLimit>,
    device: DeviceId,
}

impl DeviceLimit {
    pub(crate) fn new(in_flight_max: Option<NonZeroUsize>) -> Self {
        Self { in_flight_max, in_flight: Mutex::default() }
    }

    /// Takes a place for a batch of this device.
    pub(crate) fn take_place(self: &Arc<Self>, device: DeviceId) -> Result<DevicePlace, DeviceBusy> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_flight.get(&device).copied().unwrap_or(0);
        if let Some(limit) = self.in_flight_max.map(NonZeroUsize::get).filter(|limit| count >= *limit) {
            return Err(DeviceBusy { limit });
        }
        in_flight.insert(device, count + 1);
        Ok(DevicePlace { limit: Arc::clone(self), device })
    }

    /// How many devices have batches in flight.
    pub(crate) fn count_devices(&self) -> usize {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many batches a device may have in flight.
    pub(crate) fn in_flight_max(&self) -> Option<NonZeroUsize> {
        self.in_flight_max
    }
}

impl Drop for DevicePlace {
    fn drop(&mut self) {
        let mut in_flight = self.limit.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_device_at_its_limit_does_not_hinder_others_and_leaves_nothing_behind() {
        let limit = Arc::new(DeviceLimit::new(NonZeroUsize::new(2)));
        let [one, other] = [(); 2].map(|()| DeviceId(Uuid::new_v4()));
        let places = [limit.take_place(one).unwrap(), limit.take_place(one).unwrap()];
        assert!(matches!(limit.take_place(one), Err(DeviceBusy { limit: 2 })));
        drop(limit.take_place(other).unwrap());
        drop(places);
        drop(limit.take_place(one).unwrap());
        assert!(limit.in_flight.lock().unwrap().is_empty());
        let unlimited = Arc::new(DeviceLimit::new(None));
        let _places: Vec<_> = (0..100).map(|_| unlimited.take_place(one).unwrap()).collect();
    }
}
