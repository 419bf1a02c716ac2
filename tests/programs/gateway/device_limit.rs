//! The limit of batches in flight for each device.

use std::thread;

use super::configuration::Setup;
use crate::support::device::{Batch, Record};
use crate::support::wait::wait_for;

#[test]
fn a_device_at_its_limit_waits_and_others_do_not() {
    let setup = Setup::with("max_in_flight_per_device = 1\n[faults]\nrecord_cost = \"300ms\"\n");
    let gateway = setup.start(&[]);
    let slow = Batch::of(&["{}", "{}", "{}"]);
    let own = Batch { device: slow.device, ..Batch::of(&["{}"]) };
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&slow));
        wait_for("the batch to be at work", || (gateway.query_outcome(&slow).status == 202).then_some(()));
        let refused = gateway.post(&own);
        assert_eq!((refused.status, refused.code().as_str()), (503, "DEVICE_BUSY"));
        assert_eq!((refused.header("retry-after"), refused.header("x-sync-max-in-flight")), ("1", "1"));
        let other = gateway.post(&Batch::with(vec![Record::new("{}")]));
        assert_eq!((other.status, other.header("x-sync-max-in-flight")), (200, "1"));
        assert_eq!(sender.join().unwrap().status, 200);
    });
    gateway.post(&own).batch();
}
