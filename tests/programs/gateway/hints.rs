//! What the gateway tells devices about its speed.

use std::time::Duration;

use super::configuration::Setup;
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;

/// Batches before the first hint.
const MEASURED_BATCHES: usize = 12;

fn post_batches(gateway: &Gateway, records: usize) {
    for _ in 0..MEASURED_BATCHES {
        gateway.post(&Batch::with((0..records).map(|_| Record::new("{}")).collect())).batch();
    }
}

fn hint(gateway: &Gateway, name: &str) -> Option<u64> {
    let response = gateway.query_outcome(&Batch::of(&["{}"]));
    response.headers.get(name).map(|value| value.to_str().unwrap().parse().unwrap())
}

#[test]
fn a_gateway_tells_nothing_of_its_speed_before_it_has_measured_it() {
    let setup = Setup::with("");
    let gateway = setup.start(&[]);
    for name in ["x-sync-max-records", "x-sync-time-budget-ms", "x-sync-max-in-flight"] {
        assert_eq!(hint(&gateway, name), None, "{name}");
    }
}

#[test]
fn a_fast_gateway_sets_no_limit_that_a_device_reaches() {
    let setup = Setup::with("");
    let gateway = setup.start(&[]);
    post_batches(&gateway, 20);
    // The defaults of the device: batch.max_batch_records, and its time limit less batch.safety_margin.
    assert!(hint(&gateway, "x-sync-max-records").unwrap() >= 1000);
    assert!(hint(&gateway, "x-sync-time-budget-ms").unwrap() >= 45_000);
    assert_eq!(hint(&gateway, "x-sync-max-in-flight"), None);
}

#[test]
fn a_slow_gateway_asks_for_batches_that_fit_the_time_limit() {
    let limit = Duration::from_millis(800);
    let text = format!("device_time_limit = \"{}ms\"\n[faults]\nrecord_cost = \"10ms\"\n", limit.as_millis());
    let setup = Setup::with(&text);
    let gateway = setup.start(&[]);
    post_batches(&gateway, 20);
    // Sixty records of 10 ms take three quarters of the limit, and 72 end in time; what the machine adds makes it fewer.
    let records = hint(&gateway, "x-sync-max-records").unwrap();
    assert!((10..=72).contains(&records), "{records}");
    let budget = Duration::from_millis(hint(&gateway, "x-sync-time-budget-ms").unwrap());
    assert!(budget >= limit.mul_f64(0.75) && budget <= limit.mul_f64(0.9), "{budget:?}");
}
