//! Deliveries to Zoho's stand-in without faults.

use std::time::Duration;

use futures_util::future::join;
use serde_json::json;

use super::crm_process::TestCrm;
use super::support::{account, opportunity, receipt_member, record_id, refusal, rejected_field, test_record};
use crate::destination::{Destination, RecordVerdict, Verdict, collect_verdicts};
use crate::validated_batch::ValidatedRecord;

const BUDGET: Duration = Duration::from_secs(20);

/// Accounts and opportunities of a few keys, in turn.
fn mixed_records(count: u128) -> Vec<ValidatedRecord> {
    let keys = ["north", "south", "east", "west"];
    (1..=count)
        .map(|number| match usize::try_from(number).unwrap() % 7 {
            0..=3 => opportunity(number, None),
            4 => account(number, None, ""),
            rest => account(number, Some(keys[rest % 4]), ""),
        })
        .collect()
}

#[test]
fn each_record_arrives_once_with_a_receipt_that_names_it() {
    let crm = TestCrm::zoho(&[], |_| {});
    let records = mixed_records(140);
    let verdicts = crm.deliver(&records, BUDGET);
    let stored = [crm.stored("Accounts"), crm.stored("Deals")].concat();
    assert_eq!(stored.len(), records.len());
    for (record, verdict) in records.iter().zip(&verdicts) {
        let id = receipt_member(verdict, "id");
        let own = stored.iter().find(|stored| stored["id"] == id.as_str()).expect(&id);
        assert_eq!(own["fields"]["Fieldsync_Id"], record.id.to_string());
        assert_eq!(receipt_member(verdict, "action"), "insert");
    }
    let again = crm.deliver(&records, BUDGET);
    assert!(again.iter().all(|verdict| receipt_member(verdict, "action") == "update"));
    let report = crm.assert_clean();
    assert_eq!(report["modules"]["Accounts"]["unknown_fields"], json!({}));
    assert_eq!(report["modules"]["Accounts"]["workflow_runs"], json!({}));
    assert_eq!(report["modules"]["Deals"]["workflow_runs"]["workflow"]["create"], 80);
    assert_eq!(report["token_requests"], 1);
}

#[test]
fn only_what_the_crm_refuses_is_rejected_and_only_its_own_key_waits() {
    let crm = TestCrm::zoho(&[], |_| {});
    let records = [
        account(1, Some("a"), ""),
        account(2, Some("a"), r#", "employees": "many""#),
        account(3, Some("a"), ""),
        account(4, Some("b"), ""),
        account(5, None, r#", "mail": "nowhere""#),
        test_record(6, "Accounts", Some("b"), r#"{"account": "x", "id": "4150868000000000001"}"#),
        account(7, Some("b"), ""),
        test_record(8, "Visits", None, "{}"),
    ];
    let verdicts = crm.deliver(&records, BUDGET);
    assert!([0, 3].iter().all(|at: &usize| verdicts[*at].is_applied()), "{verdicts:?}");
    assert_eq!(rejected_field(&verdicts[1]), Some("/employees"));
    assert!(matches!(&verdicts[4], Verdict::Rejected { .. }));
    assert_eq!(rejected_field(&verdicts[5]), Some("/id"));
    assert_eq!([2, 6].map(|at| refusal(&verdicts[at])), [("HELD", false); 2]);
    assert_eq!(refusal(&verdicts[7]), ("DESTINATION_STOPPED", false));
    assert_eq!(crm.stored("Accounts").len(), 2);
    crm.assert_clean();
}

#[test]
fn verdicts_come_as_each_call_ends() {
    let crm = TestCrm::zoho(&["--call-cost", "50ms"], |_| {});
    let records: Vec<ValidatedRecord> = (1..=4).map(|number| account(number, Some("k"), "")).collect();
    let records: Vec<&ValidatedRecord> = records.iter().collect();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<RecordVerdict>>(1);
    let collected = async {
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await {
            messages.push(message.iter().map(|verdict| verdict.position).collect::<Vec<_>>());
        }
        messages
    };
    let ((), messages) = crm.run(join(crm.destination.deliver(&records, BUDGET, sender), collected));
    assert_eq!(messages, [[0], [1], [2], [3]]);
    crm.assert_clean();
}

#[test]
fn two_gateways_that_deliver_the_same_records_store_them_once() {
    let crm = TestCrm::zoho(&["--call-cost", "30ms"], |_| {});
    let other = crm.connect_another();
    let records = mixed_records(60);
    let records: Vec<&ValidatedRecord> = records.iter().collect();
    let (first, second) = crm.run(join(
        collect_verdicts(&crm.destination, &records, BUDGET),
        collect_verdicts(&other, &records, BUDGET),
    ));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(receipt_member(first, "id"), receipt_member(second, "id"));
    }
    let report = crm.assert_clean();
    assert_eq!(crm.stored("Accounts").len() + crm.stored("Deals").len(), records.len());
    let races = |module: &str| report["modules"][module]["races"].as_u64().unwrap();
    assert!(races("Accounts") + races("Deals") > 0, "{report}");
}

#[test]
fn a_duplicate_of_another_record_is_rejected_and_named() {
    let crm = TestCrm::zoho(&[], |_| {});
    let records = [
        account(1, None, r#", "Stand_In": "DUPLICATE_DATA:Email""#),
        account(2, None, r#", "Stand_In": "DUPLICATE_DATA:Fieldsync_Id""#),
    ];
    let verdicts = crm.deliver(&records, BUDGET);
    let Verdict::Rejected { message, field, .. } = &verdicts[0] else { panic!("{verdicts:?}") };
    assert!(message.starts_with("possible duplicate of Accounts 4150868000000999001"), "{message}");
    assert_eq!(field.as_deref(), Some("/mail"));
    assert_eq!(receipt_member(&verdicts[1], "id"), "4150868000000999001");
    assert_ne!(record_id(1), record_id(2));
}

#[test]
fn magic_codes_of_every_class_get_the_verdict_of_their_class() {
    let crm = TestCrm::zoho(&[], |_| {});
    let rejected = [
        "INVALID_DATA",
        "INVALID_DATA:unindexed",
        "MANDATORY_NOT_FOUND",
        "DEPENDENT_MISMATCH",
        "EXPECTED_FIELD_MISSING",
        "NOT_ALLOWED",
        "MULTIPLE_OR_MULTI_ERRORS",
        "MULTIPLE_OR_MULTI_ERRORS:RECORD_LOCKED,INVALID_DATA",
    ];
    let retried = [
        "RECORD_LOCKED",
        "NOT_APPROVED",
        "DEPENDENT_SERVICE_ERROR",
        "MULTIPLE_OR_MULTI_ERRORS:RECORD_LOCKED,NOT_REVIEWED",
    ];
    let magic = |(number, code): (u128, &&str)| account(number, None, &format!(r#", "Stand_In": "{code}""#));
    let records: Vec<ValidatedRecord> =
        (1..).zip(rejected.iter().chain(&retried)).map(magic).chain([account(99, None, "")]).collect();
    let verdicts = crm.deliver(&records, BUDGET);
    for (code, verdict) in rejected.iter().zip(&verdicts) {
        assert!(refusal(verdict).1, "{code}: {verdict:?}");
    }
    for (code, verdict) in retried.iter().zip(&verdicts[rejected.len()..]) {
        let Verdict::Retry { after: Some(_), .. } = verdict else { panic!("{code}: {verdict:?}") };
    }
    assert!(verdicts[rejected.len() + retried.len()].is_applied());
    let settled = crm.deliver_until_settled(&records, BUDGET);
    let applied = settled.iter().filter(|verdict| verdict.is_applied()).count();
    // The last of the retried codes is not transient.
    assert_eq!(applied, retried.len());
    crm.assert_clean();
}
