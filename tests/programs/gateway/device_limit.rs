//! The limit of batches in flight for each device.

use std::fs;
use std::thread;

use super::configuration::Setup;
use super::destination::crm::{Crm, account};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::postgres::ledger_in;
use crate::support::wait::{directory, wait_for};

#[test]
fn a_device_at_its_limit_waits_and_others_do_not() {
    let setup = Setup::with("max_in_flight_per_device = 1\n[faults]\nrecord_cost = \"1500ms\"\n");
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

#[test]
fn a_batch_counts_until_it_is_processed_and_not_only_until_its_response() {
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "4s"]);
    let file = crm.configure(directory.path(), "100ms");
    let destination = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("[gateway]\nmax_in_flight_per_device = 1\n{destination}")).unwrap();
    let store = ledger_in(directory.path());
    let gateway = Gateway::start_by(command(&store, ANY_PORT, &["--config", &file]));
    let slow = Batch::with(vec![account("one")]);
    let next = Batch { device: slow.device, ..Batch::with(vec![account("two")]) };
    assert_eq!(gateway.post(&slow).code(), "DESTINATION_SLOW");
    assert_eq!(gateway.post(&next).code(), "DEVICE_BUSY");
    wait_for("the first batch to be processed", || {
        (gateway.query_outcome(&slow).status == 200).then_some(())
    });
    assert_eq!(gateway.post(&next).code(), "DESTINATION_SLOW");
}
