//! Gateways that end while they hand records over.

use fieldsync::protocol::wire::RecordStatus;
use serde_json::json;

use super::crm::{Crm, account, accounts, keyed};
use super::responses::receipt_ids;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::ledger_in;
use crate::support::wait::{directory, wait_for};

/// Calls that are applied soon and answered late: gateways end in between.
const LATE_ANSWERS: [&str; 4] = ["--call-cost", "4s", "--apply-share", "0.05"];

/// A gateway ends when the CRM has the first call, and the next one gets the records again.
fn end_while_handing_over(end: impl FnOnce(Gateway)) {
    let directory = directory();
    let crm = Crm::start(&LATE_ANSWERS);
    let store = ledger_in(directory.path());
    let gateway = crm.gateway(&store, directory.path(), "100ms");
    let mut batch = accounts(30);
    batch.records.extend(["one", "two", "three"].map(|name| keyed(account(name), "k")));
    assert_eq!(gateway.post(&batch).status, 504);
    crm.wait_for_calls(1);
    end(gateway);
    crm.set_faults(&json!({"call_cost": "0s"}));

    let gateway = crm.gateway(&store, directory.path(), "30s");
    // The response was not stored: the device sends the batch again, or its records in others.
    assert_eq!(gateway.query_outcome(&batch).code(), "UNKNOWN_BATCH");
    let mut seen = 0;
    let response = wait_for("the records to be handed over", || {
        let batch = if seen == 0 { batch.clone() } else { batch.again() };
        seen += 1;
        let response = gateway.post(&batch).batch();
        response.results.iter().all(|result| result.status.is_stored()).then_some(response)
    });
    assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    assert_eq!(gateway.applied_ids().len(), 33);
    let report = crm.accounts();
    assert_eq!((&report["records"], &report["creates"]), (&33.into(), &33.into()), "{report}");
}

#[test]
fn what_a_killed_gateway_was_handing_over_is_handed_over_again() {
    end_while_handing_over(Gateway::kill);
}

#[test]
fn what_a_gateway_could_not_finish_at_its_end_is_handed_over_again() {
    end_while_handing_over(|gateway| {
        gateway.signal("TERM");
        gateway.signal("KILL");
        gateway.wait_for_exit();
    });
}

#[test]
fn verdicts_are_kept_as_each_call_ends() {
    let directory = directory();
    let crm = Crm::start(&LATE_ANSWERS);
    let store = ledger_in(directory.path());
    let gateway = crm.gateway(&store, directory.path(), "100ms");
    // Records of one key are in calls of their own, one after the other.
    let batch = Batch::with(["one", "two", "three"].map(|name| keyed(account(name), "k")).into());
    assert_eq!(gateway.post(&batch).status, 504);
    wait_for("the first verdict", || (gateway.applied_ids() == [batch.records[0].id]).then_some(()));
    assert_eq!(gateway.query_outcome(&batch).status, 202);
    gateway.kill();
    crm.set_faults(&json!({"call_cost": "0s"}));
    let gateway = crm.gateway(&store, directory.path(), "20s");
    let response = wait_for("the records to be handed over", || {
        let response = gateway.post(&batch.again()).batch();
        response.results.iter().all(|result| result.status.is_stored()).then_some(response)
    });
    assert_eq!(statuses(&response), [RecordStatus::Duplicate, RecordStatus::Applied, RecordStatus::Applied]);
    assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    assert_eq!((gateway.applied_ids(), crm.accounts()["creates"].as_u64()), (batch.ids(), Some(3)));
}

#[test]
fn a_gateway_that_ends_finishes_what_the_crm_answers_soon() {
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "1s"]);
    let store = ledger_in(directory.path());
    let gateway = crm.gateway(&store, directory.path(), "100ms");
    let batch = Batch::with(vec![account("one")]);
    assert_eq!(gateway.post(&batch).status, 504);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let gateway = crm.gateway(&store, directory.path(), "20s");
    let outcome = gateway.query_outcome(&batch).batch();
    assert_eq!((outcome.replayed, statuses(&outcome)), (true, vec![RecordStatus::Applied]));
    assert_eq!(crm.accounts()["updates"], 0);
}

#[test]
fn a_gateway_that_ends_stores_which_records_may_be_in_the_crm() {
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "2m"]);
    let store = ledger_in(directory.path());
    let gateway = crm.gateway(&store, directory.path(), "100ms");
    let batch = Batch::with(vec![account("one")]);
    assert_eq!(gateway.post(&batch).status, 504);
    crm.wait_for_calls(1);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let gateway = crm.gateway(&store, directory.path(), "30s");
    let outcome = gateway.query_outcome(&batch).batch();
    assert_eq!(outcome.results[0].code.as_deref(), Some("DESTINATION_UNCLEAR"));
    assert_eq!(statuses(&outcome), [RecordStatus::Retry]);
    // Other content of another device must not replace what may be there.
    let mut other = Batch::with(vec![account("two")]);
    other.records[0].id = batch.records[0].id;
    assert_eq!(gateway.post(&other).batch().results[0].code.as_deref(), Some("ID_OF_OTHER_DEVICE"));
}
