//! What responses tell devices about the gateway: limits to keep to, and that it holds records of a key.

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::GatewayState;
use crate::clock::millis;
use crate::protocol::wire::{HOLDS_KEYS, MAX_IN_FLIGHT, MAX_RECORDS, TIME_BUDGET_MS};

impl GatewayState {
    /// Adds the hints to a response. A hint holds on the device until a response comes without it.
    pub(super) fn add_hints(&self, mut response: HttpResponse) -> HttpResponse {
        let measured = self.processor.load_hints(self.device_limit.count_devices());
        let configured = self.device_limit.in_flight_max().map(std::num::NonZeroUsize::get);
        let time_budget = measured.time_budget.into_iter().chain(self.processor.time_budget()).min();
        let hints = [
            (MAX_RECORDS, measured.records_max.map(HeaderValue::from)),
            (
                MAX_IN_FLIGHT,
                measured.in_flight_max.into_iter().chain(configured).min().map(HeaderValue::from),
            ),
            (TIME_BUDGET_MS, time_budget.map(|budget| HeaderValue::from(millis(budget)))),
            (HOLDS_KEYS, Some(HeaderValue::from_static("true"))),
        ];
        for (name, value) in hints {
            if let Some(value) = value {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
