//! Limits how many batches of one device are in flight, so that one device cannot take the places of all others.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::request_error::RequestError;
use crate::model::DeviceId;
use crate::protocol::wire::MAX_IN_FLIGHT;

/// Counts the requests with batches, by device.
pub(crate) struct DeviceLimit {
    /// Without it, only the limit of all devices together holds.
    in_flight_max: Option<NonZeroUsize>,
    /// Devices without a batch in flight have no entry.
    in_flight: Mutex<HashMap<DeviceId, usize>>,
}

/// The place of one request; free again when it is dropped.
pub(crate) struct DevicePlace<'a> {
    limit: &'a DeviceLimit,
    device: DeviceId,
}

impl DeviceLimit {
    pub(crate) fn new(in_flight_max: Option<NonZeroUsize>) -> Self {
        Self { in_flight_max, in_flight: Mutex::default() }
    }

    /// Takes a place for a batch of this device.
    pub(crate) fn take_place(&self, device: DeviceId) -> Result<DevicePlace<'_>, RequestError> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_flight.get(&device).copied().unwrap_or(0);
        if let Some(limit) = self.in_flight_max.map(NonZeroUsize::get).filter(|limit| count >= *limit) {
            return Err(RequestError::DeviceBusy { limit });
        }
        in_flight.insert(device, count + 1);
        Ok(DevicePlace { limit: self, device })
    }

    /// Tells the device how many batches it may have in flight.
    pub(crate) fn add_hint(&self, response: &mut HttpResponse) {
        if let Some(limit) = self.in_flight_max {
            let hint = (HeaderName::from_static(MAX_IN_FLIGHT), HeaderValue::from(limit.get()));
            response.headers_mut().insert(hint.0, hint.1);
        }
    }
}

impl Drop for DevicePlace<'_> {
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
        let limit = DeviceLimit::new(NonZeroUsize::new(2));
        let [one, other] = [(); 2].map(|()| DeviceId(Uuid::new_v4()));
        let places = [limit.take_place(one).unwrap(), limit.take_place(one).unwrap()];
        assert!(matches!(limit.take_place(one), Err(RequestError::DeviceBusy { limit: 2 })));
        drop(limit.take_place(other).unwrap());
        drop(places);
        drop(limit.take_place(one).unwrap());
        assert!(limit.in_flight.lock().unwrap().is_empty());
        let unlimited = DeviceLimit::new(None);
        let _places: Vec<_> = (0..100).map(|_| unlimited.take_place(one).unwrap()).collect();
    }
}
