//! What devices are answered, record by record.

use fieldsync::protocol::wire::BatchResponse;
use fieldsync::protocol::wire::RecordStatus::{Applied, Duplicate, Rejected, Retry};
use serde_json::{Value, json};

use super::crm::{Crm, account, accounts, keyed, refused_account};
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::ledger_in;
use crate::support::wait::{directory, wait_for};

/// The CRM's ids in the receipts.
#[track_caller]
pub(crate) fn receipt_ids(response: &BatchResponse) -> Vec<String> {
    let ids = response.results.iter().map(|result| {
        let receipt = result.receipt.as_ref().unwrap_or_else(|| panic!("no receipt: {result:?}"));
        let receipt: Value = serde_json::from_str(receipt.as_str()).unwrap();
        receipt["id"].as_str().unwrap().to_owned()
    });
    ids.collect()
}

fn codes(response: &BatchResponse) -> Vec<&str> {
    response.results.iter().map(|result| result.code.as_deref().unwrap_or_default()).collect()
}

/// The response to a batch that may take longer than the device waits.
#[track_caller]
fn wait_for_outcome(gateway: &Gateway, batch: &Batch) -> BatchResponse {
    let found = wait_for("the outcome", || {
        Some(gateway.query_outcome(batch)).filter(|response| response.status == 200)
    });
    found.batch()
}

#[test]
fn what_the_crm_stored_has_a_receipt_in_every_response() {
    let directory = directory();
    let crm = Crm::start(&[]);
    let store = ledger_in(directory.path());
    let gateway = crm.gateway(&store, directory.path(), "20s");
    let batch = accounts(25);
    let first = gateway.post(&batch);
    assert_eq!(first.header("x-sync-time-budget-ms"), "20000");
    let first = first.batch();
    assert_eq!(statuses(&first), [Applied; 25]);
    let expected = crm.ids_of(&batch);
    assert_eq!(receipt_ids(&first), expected);
    let duplicates = gateway.post(&batch.again()).batch();
    assert_eq!(statuses(&duplicates), [Duplicate; 25]);
    gateway.kill();

    // Also from the disk, and for a gateway that has no destination any more.
    for has_destination in [true, false] {
        let gateway = if has_destination {
            crm.gateway(&store, directory.path(), "20s")
        } else {
            Gateway::start(directory.path(), &[])
        };
        for response in [gateway.post(&batch), gateway.query_outcome(&batch)].map(|response| response.batch())
        {
            assert!(response.replayed);
            assert_eq!(receipt_ids(&response), expected);
        }
        assert_eq!(receipt_ids(&gateway.post(&batch.again()).batch()), expected);
        assert_eq!(gateway.applied_ids(), batch.ids());
        gateway.kill();
    }
    let report = crm.accounts();
    assert_eq!(
        (&report["records"], &report["creates"], &report["updates"]),
        (&json!(25), &json!(25), &json!(0))
    );
}

#[test]
fn what_the_crm_refuses_is_rejected_in_its_words_and_holds_its_key() {
    let directory = directory();
    let crm = Crm::start(&[]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "20s");
    let batch = Batch::with(vec![
        account("one"),
        keyed(refused_account("INVALID_DATA"), "k"),
        keyed(account("behind it"), "k"),
        keyed(account("of another key"), "l"),
        refused_account("RECORD_LOCKED*9"),
    ]);
    let response = gateway.post(&batch).batch();
    assert_eq!(codes(&response), ["", "INVALID_DATA", "HELD", "", "RECORD_LOCKED"]);
    assert_eq!(statuses(&response), [Applied, Rejected, Retry, Applied, Retry]);
    assert!(response.results[1].field.is_some() && response.results[1].message.is_some(), "{response:?}");
    assert!(response.results[4].retry_after_s > Some(0), "{response:?}");
    assert_eq!(gateway.applied_ids(), [batch.records[0].id, batch.records[3].id]);

    // Mended under its id, the refused record is taken, and those behind it are not held any more.
    let mut mended = batch.again();
    mended.records.truncate(3);
    mended.records[1].payload = r#"{"name":"mended"}"#.into();
    let response = gateway.post(&mended).batch();
    assert_eq!(statuses(&response), [Duplicate, Applied, Applied]);
    assert_eq!(receipt_ids(&response), crm.ids_of(&mended));
    // Once applied, an id belongs to its content.
    mended.records[1].payload = r#"{"name":"changed"}"#.into();
    mended.records[2].key = Some("k".into());
    let changed = Batch::with(vec![mended.records[1].clone(), keyed(account("behind a conflict"), "k")]);
    let changed = Batch { device: batch.device, ..changed };
    assert_eq!(codes(&gateway.post(&changed).batch()), ["ID_CONFLICT", "HELD"]);
    assert_eq!(gateway.metric("fieldsync_gateway_destination_verdicts_total{outcome=\"applied\"}"), 4);
    assert_eq!(gateway.metric("fieldsync_gateway_destination_verdicts_total{outcome=\"rejected\"}"), 1);
    assert_eq!(gateway.metric("fieldsync_gateway_destination_delivery_seconds_count"), 2);
    assert_eq!(gateway.metric("fieldsync_gateway_destination_deliveries"), 0);
}

#[test]
fn a_batch_that_takes_too_long_is_answered_504_and_its_outcome_is_found() {
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "5s"]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "200ms");
    let batch = accounts(5);
    let response = gateway.post(&batch);
    assert_eq!((response.status, response.code().as_str()), (504, "DESTINATION_SLOW"));
    assert_eq!(response.header("x-sync-time-budget-ms"), "200");
    let outcome = gateway.query_outcome(&batch);
    assert_eq!(outcome.expect_json(202)["state"], "processing");
    assert!(!outcome.header("retry-after").is_empty());
    wait_for("the delivery", || {
        (gateway.metric("fieldsync_gateway_destination_deliveries") == 1).then_some(())
    });
    let resent = gateway.post(&batch);
    assert_eq!((resent.status, resent.code().as_str()), (409, "PROCESSING"));
    let outcome = wait_for_outcome(&gateway, &batch);
    assert_eq!((statuses(&outcome), receipt_ids(&outcome)), (vec![Applied; 5], crm.ids_of(&batch)));
    assert_eq!(crm.accounts()["updates"], 0);
}

#[test]
fn what_another_batch_is_handing_over_is_tried_again_later() {
    let directory = directory();
    let crm = Crm::start(&["--call-cost", "6s"]);
    // Long enough for the responses that wait for no call.
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "2s");
    let first = Batch::with(vec![keyed(account("one"), "k"), account("two")]);
    assert_eq!(gateway.post(&first).status, 504);
    crm.wait_for_calls(1);
    // The same records in other batches, and a later one of the key.
    let mut second = first.again();
    second.records.push(keyed(account("behind"), "k"));
    let later = Batch { device: first.device, ..Batch::with(vec![keyed(account("later"), "k")]) };
    for (batch, expected) in
        [(&second, vec!["IN_PROGRESS", "IN_PROGRESS", "HELD"]), (&later, vec!["IN_PROGRESS"])]
    {
        let response = gateway.post(batch).batch();
        assert_eq!(codes(&response), expected);
        assert!(response.results[0].retry_after_s > Some(0), "{response:?}");
        assert!(response.results.iter().all(|result| result.status == Retry));
    }
    // The same key of another device is another key.
    let other = Batch::with(vec![keyed(account("other"), "k")]);
    assert_eq!(gateway.post(&other).status, 504);
    let outcome = wait_for_outcome(&gateway, &first);
    assert_eq!(statuses(&outcome), [Applied; 2]);
    assert_eq!(statuses(&wait_for_outcome(&gateway, &other)), [Applied]);
    crm.set_faults(&json!({"call_cost": "0s"}));
    let again = second.again();
    gateway.post(&again);
    assert_eq!(statuses(&wait_for_outcome(&gateway, &again)), [Duplicate, Duplicate, Applied]);
    assert_eq!(crm.accounts()["updates"], 0);
}

#[test]
fn what_was_applied_without_a_destination_is_handed_over_when_it_is_sent_again() {
    let directory = directory();
    let batch = accounts(3);
    let without = Gateway::start(directory.path(), &[]);
    assert_eq!(statuses(&without.post(&batch).batch()), [Applied; 3]);
    without.kill();
    let crm = Crm::start(&[]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "20s");
    // The former response does not say that the CRM has the records.
    assert_eq!(gateway.query_outcome(&batch).code(), "UNKNOWN_BATCH");
    let mut changed = batch.clone();
    changed.records.pop();
    assert_eq!(gateway.post(&changed).code(), "BATCH_ID_REUSED");
    let response = gateway.post(&batch).batch();
    assert_eq!((response.replayed, statuses(&response)), (false, vec![Applied; 3]));
    assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    for response in [gateway.post(&batch), gateway.query_outcome(&batch)].map(|response| response.batch()) {
        assert!(response.replayed);
        assert_eq!(receipt_ids(&response), crm.ids_of(&batch));
    }
    // They were applied once, then and now.
    assert_eq!(gateway.applied_ids(), batch.ids());
    assert_eq!(crm.accounts()["records"], 3);
}

#[test]
fn another_device_does_not_take_the_id_of_a_record_that_the_crm_may_have() {
    let directory = directory();
    let crm = Crm::start(&[]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "20s");
    let batch =
        Batch::with(vec![keyed(refused_account("RECORD_LOCKED*1"), "k"), keyed(account("behind it"), "k")]);
    assert_eq!(codes(&gateway.post(&batch).batch()), ["RECORD_LOCKED", "HELD"]);
    let mut changed = batch.again();
    changed.records[0].payload = r#"{"name":"other"}"#.into();
    changed.records.push(account("of no key"));
    let mut of_other_device = Batch::with(changed.records.clone());
    of_other_device.records[1].payload = r#"{"name":"other"}"#.into();
    assert_eq!(codes(&gateway.post(&of_other_device).batch())[..2], ["ID_OF_OTHER_DEVICE"; 2]);
    // Its own device may correct it.
    assert_eq!(codes(&gateway.post(&changed).batch()), ["", "", ""]);
    assert_eq!(statuses(&gateway.post(&changed.again()).batch()), [Duplicate; 3]);
    assert_eq!(crm.accounts()["updates"], 0);
}
