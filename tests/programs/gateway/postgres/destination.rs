//! Gateways that share a ledger, in front of one CRM.

use std::thread;
use std::time::Duration;

use fieldsync::protocol::wire::RecordStatus;

use crate::gateway::destination::crm::{Crm, account, accounts, keyed};
use crate::gateway::destination::responses::receipt_ids;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::Postgres;
use crate::support::wait::{directory, pace, wait_for};

fn codes(gateway: &Gateway, batch: &Batch) -> Vec<String> {
    let results = gateway.post(batch).batch().results;
    results.into_iter().map(|result| result.code.unwrap_or_default()).collect()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn two_gateways_never_hand_over_one_record_or_key_at_the_same_time() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directories = [directory(), directory()];
    let crm = Crm::start(&["--call-cost", "6s", "--parallel-creates", "duplicate"]);
    let one = crm.gateway(&store, directories[0].path(), "200ms");
    let other = crm.gateway(&store, directories[1].path(), "15s");
    let batch = Batch::with(vec![keyed(account("one"), "k"), account("two")]);
    assert_eq!(one.post(&batch).status, 504);
    crm.wait_for_calls(1);
    let later = Batch { device: batch.device, ..Batch::with(vec![keyed(account("later"), "k")]) };
    assert_eq!(codes(&other, &batch.again()), ["IN_PROGRESS", "IN_PROGRESS"]);
    assert_eq!(codes(&other, &later), ["IN_PROGRESS"]);
    assert_eq!(other.query_outcome(&batch).expect_json(202)["state"], "processing");
    let outcome = wait_for("the outcome", || {
        Some(other.query_outcome(&batch)).filter(|response| response.status == 200)
    });
    assert_eq!(statuses(&outcome.batch()), [RecordStatus::Applied; 2]);
    let again = other.post(&batch.again()).batch();
    assert_eq!(
        (statuses(&again), receipt_ids(&again)),
        (vec![RecordStatus::Duplicate; 2], crm.ids_of(&batch))
    );
    assert_eq!(crm.accounts()["calls"], 1);
    let rows =
        "SELECT (SELECT count(*) FROM fieldsync.deliveries) + (SELECT count(*) FROM fieldsync.delivery_keys)";
    assert_eq!(postgres.query("sync", rows), "0");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_same_records_at_three_gateways_at_once_are_in_the_crm_once() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directories = [directory(), directory(), directory()];
    let crm = Crm::start(&["--call-cost", "5ms", "--parallel-creates", "duplicate"]);
    let gateways = directories.each_ref().map(|directory| crm.gateway(&store, directory.path(), "30s"));
    for round in 0..15 {
        let mut batch = accounts(20);
        for (number, record) in batch.records.iter_mut().enumerate() {
            record.key = (number % 2 == 0).then(|| format!("{round}-{}", number % 3));
        }
        thread::scope(|scope| {
            for gateway in &gateways {
                let mut batch = batch.again();
                scope.spawn(move || {
                    wait_for("all records to be stored", || {
                        batch = batch.again();
                        let response = gateway.post(&batch);
                        let response = (response.status == 200).then(|| response.batch())?;
                        response.results.iter().all(|result| result.status.is_stored()).then_some(())
                    });
                });
            }
        });
    }
    let report = crm.accounts();
    assert_eq!((&report["records"], &report["creates"]), (&300.into(), &300.into()), "{report}");
    assert_eq!(gateways[0].applied_ids().len(), 300);
}

#[test]
#[ignore = "needs PostgreSQL, and waits for a lease to lapse"]
fn the_records_of_a_killed_gateway_are_handed_over_by_the_other_once_its_lease_lapses() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directories = [directory(), directory()];
    let crm = Crm::start(&["--call-cost", "400ms"]);
    let one = crm.gateway(&store, directories[0].path(), "200ms");
    let other = crm.gateway(&store, directories[1].path(), "15s");
    let batch = accounts(30);
    assert_eq!(one.post(&batch).status, 504);
    crm.wait_for_calls(1);
    one.kill();
    assert!(codes(&other, &batch.again()).contains(&"IN_PROGRESS".to_owned()));
    // A lease lasts 20 s.
    for _ in 0..2 {
        pace(Duration::from_secs(6));
        assert!(codes(&other, &batch.again()).contains(&"IN_PROGRESS".to_owned()));
    }
    // What the dead gateway may have sent is not overwritten by the record of another device.
    let mut record = batch.records[0].clone();
    record.payload = r#"{"name":"of another device"}"#.into();
    let stranger = Batch::with(vec![record]);
    let code = wait_for("the lease to lapse", || {
        codes(&other, &stranger.again()).pop().filter(|code| code != "IN_PROGRESS")
    });
    assert_eq!(code, "ID_OF_OTHER_DEVICE");
    let response = wait_for("the records to be handed over", || {
        let response = other.post(&batch.again());
        let response = (response.status == 200).then(|| response.batch())?;
        response.results.iter().all(|result| result.status.is_stored()).then_some(response)
    });
    assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    assert_eq!(crm.accounts()["creates"], 30);
    assert_eq!(other.applied_ids().len(), 30);
}

#[test]
#[ignore = "needs PostgreSQL, and takes longer than a lease"]
fn a_delivery_that_takes_longer_than_a_lease_keeps_its_records() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directories = [directory(), directory()];
    let crm = Crm::start(&["--call-cost", "26s"]);
    let one = crm.gateway(&store, directories[0].path(), "200ms");
    let other = crm.gateway(&store, directories[1].path(), "15s");
    let batch = Batch::with(vec![keyed(account("one"), "k"), account("two")]);
    assert_eq!(one.post(&batch).status, 504);
    crm.wait_for_calls(1);
    let left = "SELECT extract(epoch FROM min(lease_until) - clock_timestamp()) FROM (
        SELECT lease_until FROM fieldsync.deliveries UNION ALL SELECT lease_until FROM fieldsync.delivery_keys) AS rows";
    // More than a lease.
    for _ in 0..3 {
        pace(Duration::from_secs(7));
        let left: f64 = postgres.query("sync", left).parse().unwrap();
        // Without an extension, nothing would be left in the end.
        assert!((1.0..=20.0).contains(&left), "{left}");
        assert_eq!(codes(&other, &batch.again()), ["IN_PROGRESS", "IN_PROGRESS"]);
    }
    let outcome = wait_for("the outcome", || {
        Some(other.query_outcome(&batch)).filter(|response| response.status == 200)
    });
    assert_eq!(receipt_ids(&outcome.batch()), crm.ids_of(&batch));
    assert_eq!(crm.accounts()["calls"], 1);
}

#[test]
#[ignore = "needs PostgreSQL, and waits for a lease to lapse"]
fn a_delivery_whose_lease_cannot_be_extended_is_given_up_and_repeated() {
    let mut postgres = Postgres::start();
    let store = postgres.create("sync");
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "25s"]);
    let gateway = crm.gateway(&store, directory.path(), "60s");
    let batch = accounts(3);
    let given_up = thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&batch));
        crm.wait_for_calls(1);
        postgres.crash();
        sender.join().unwrap()
    });
    assert_eq!((given_up.status, given_up.code().as_str()), (503, "LEDGER_UNREACHABLE"));
    postgres.start_again();
    crm.set_faults(&serde_json::json!({"call_cost": "0s"}));
    let response = wait_for("the records to be handed over", || {
        let response = gateway.post(&batch.again());
        let response = (response.status == 200).then(|| response.batch())?;
        response.results.iter().all(|result| result.status.is_stored()).then_some(response)
    });
    assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    assert_eq!((crm.accounts()["creates"].as_u64(), gateway.applied_ids().len()), (Some(3), 3));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn gateways_that_share_a_ledger_share_the_token_requests() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    // A token is asked for with each gateway that starts, and the CRM refuses the eleventh within ten minutes.
    let crm = Crm::start(&[]);
    let mut refused = 0;
    for _ in 0..12 {
        let directory = directory();
        let gateway = crm.gateway(&store, directory.path(), "20s");
        let response = gateway.post(&accounts(1)).batch();
        if response.results[0].status == RecordStatus::Retry {
            assert_eq!(response.results[0].code.as_deref(), Some("DESTINATION_BUSY"));
            assert!(response.results[0].retry_after_s > Some(300), "{response:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
    assert_eq!(postgres.query("sync", "SELECT count(*) FROM fieldsync.token_requests"), "10");
    // That the CRM saw no more than it allows is a violation otherwise.
    assert_eq!(crm.accounts()["records"], 10);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_delivery_gives_up_once_another_one_has_all_of_its_records() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "2m"]);
    let gateway = crm.gateway(&store, directory.path(), "1m");
    let batch = Batch::with(vec![keyed(account("one"), "k"), account("two")]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&batch));
        crm.wait_for_calls(1);
        // As another gateway does whose leases are not seen in time.
        let taken = "WITH taken AS (UPDATE fieldsync.deliveries SET delivery = gen_random_uuid(), \
                     lease_until = clock_timestamp() + interval '1 hour' RETURNING 1) SELECT count(*) FROM taken";
        assert_eq!(postgres.query("sync", taken), "2");
        let response = sender.join().unwrap();
        assert_eq!((response.status, response.code().as_str()), (503, "LEDGER_UNREACHABLE"));
    });
}
