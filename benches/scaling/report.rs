//! How long the daemon takes to answer questions about its queue.

use fieldsync::clock::Clock;

use crate::caller::Caller;
use crate::curves::median;
use crate::device::Device;

/// Calls of each kind in a round, of which the median counts.
const CALLS: usize = 25;

/// Microseconds.
pub(crate) struct Calls {
    pub(crate) status: f64,
    /// The first page of the list.
    pub(crate) list: f64,
    /// The same, with the newest records first.
    pub(crate) newest: f64,
}

pub(crate) fn measure_calls(device: &Device) -> Calls {
    let mut caller = device.caller();
    Calls {
        status: time_call(&mut caller, "GET /v1/status"),
        list: time_call(&mut caller, "GET /v1/records?limit=100"),
        newest: time_call(&mut caller, "GET /v1/records?limit=100&order=newest"),
    }
}

fn time_call(caller: &mut Caller, request: &str) -> f64 {
    let times = (0..CALLS).map(|_| {
        let clock = Clock::start();
        caller.call(request, b"");
        clock.now().as_secs_f64() * 1e6
    });
    median(times.collect())
}
