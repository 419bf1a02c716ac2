//! Deliveries to Salesforce's stand-in.

use std::time::Duration;

use serde_json::json;

use super::crm_process::TestCrm;
use super::support::{account, opportunity, receipt_member, refusal, rejected_field};
use crate::destination::{Destination, DestinationCondition, Verdict};
use crate::validated_batch::ValidatedRecord;

const BUDGET: Duration = Duration::from_secs(20);

fn some_records(first: u128, count: u128) -> Vec<ValidatedRecord> {
    let record = |number: u128| {
        let key = format!("key-{}", number / 3);
        if number.is_multiple_of(2) {
            account(number, Some(&key), "")
        } else {
            opportunity(number, Some(&key))
        }
    };
    (first..first + count).map(record).collect()
}

#[track_caller]
fn assert_all_applied(verdicts: &[Verdict], what: &str) {
    for verdict in verdicts {
        assert!(verdict.is_applied(), "{what}: {verdict:?}");
    }
}

#[test]
fn records_arrive_once_with_receipts() {
    let crm = TestCrm::salesforce(&[], |_| {});
    let records = some_records(1, 120);
    let verdicts = crm.deliver(&records, BUDGET);
    assert!(verdicts.iter().all(|verdict| receipt_member(verdict, "action") == "insert"));
    let again = crm.deliver(&records, BUDGET);
    assert!(again.iter().all(|verdict| receipt_member(verdict, "action") == "update"));
    let report = crm.assert_clean();
    assert_eq!(crm.stored("Account").len() + crm.stored("Opportunity").len(), 120);
    assert_eq!(report["token_requests"], 1);
}

#[test]
fn only_faulty_records_are_rejected_also_if_the_parser_refuses_the_whole_call() {
    for scope in ["record", "call"] {
        let crm = TestCrm::salesforce(&["--field-errors", scope], |_| {});
        let records: Vec<ValidatedRecord> = (1..=30)
            .map(|number| match number {
                7 => account(number, None, r#", "employees": "many""#),
                20 => account(number, None, r#", "mail": "nowhere""#),
                number => account(number, None, ""),
            })
            .collect();
        let verdicts = crm.deliver(&records, BUDGET);
        for (number, verdict) in (1..).zip(&verdicts) {
            assert_eq!(verdict.is_applied(), ![7, 20].contains(&number), "{scope} {number}: {verdict:?}");
        }
        assert_eq!(refusal(&verdicts[6]), ("JSON_PARSER_ERROR", true));
        assert_eq!(rejected_field(&verdicts[19]), Some("/mail"));
        crm.assert_clean();
    }
}

#[test]
fn all_or_none_calls_are_sent_again_without_the_faulty_record() {
    let crm = TestCrm::salesforce(&[], |mapping| {
        mapping.wrap.constants.insert("allOrNone".into(), json!(true));
        mapping.limits.record_retry_after = Duration::from_millis(1);
    });
    let mut records: Vec<ValidatedRecord> = (1..=20).map(|number| account(number, None, "")).collect();
    records.push(account(21, None, r#", "mail": "nowhere""#));
    let verdicts = crm.deliver_until_settled(&records, BUDGET);
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_applied()).count(), 20);
    assert_eq!(rejected_field(&verdicts[20]), Some("/mail"));
    crm.assert_clean();
}

#[test]
fn faults_of_calls_and_tokens_lose_and_repeat_nothing() {
    let crm = TestCrm::salesforce(&[], |_| {});
    let faults = [
        "close-after",
        "hang",
        "cut",
        "empty",
        "gateway-timeout",
        "server-error",
        "unavailable",
        "throttle",
        "html-200",
        "too-few",
        "too-many",
        "id-twice",
    ];
    for (number, fault) in (1..).zip(faults) {
        crm.set_faults(&json!({ fault: { "next": 2 } }));
        assert_all_applied(&crm.deliver_until_settled(&some_records(1000 * number, 12), BUDGET), fault);
        crm.clear_faults();
    }
    crm.set_faults(&json!({ "token-denied": { "next": 1 }, "expire-tokens": { "next": 1 } }));
    assert_all_applied(&crm.deliver_until_settled(&some_records(50_000, 12), BUDGET), "token-denied");
    let report = crm.assert_clean();
    let stored = crm.stored("Account").len() + crm.stored("Opportunity").len();
    assert_eq!(stored, 12 * (faults.len() + 1), "{report}");
}

#[test]
fn a_duplicate_by_a_call_at_the_same_time_is_ours() {
    let crm = TestCrm::salesforce(&["--call-cost", "40ms"], |_| {});
    let other = crm.connect_another();
    let records = some_records(1, 40);
    let records: Vec<&ValidatedRecord> = records.iter().collect();
    let (first, second) = crm.run(futures_util::future::join(
        crate::destination::collect_verdicts(&crm.destination, &records, BUDGET),
        crate::destination::collect_verdicts(&other, &records, BUDGET),
    ));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(receipt_member(first, "id"), receipt_member(second, "id"));
    }
    crm.assert_clean();
}

#[test]
fn a_wrong_client_and_a_missing_object_stop() {
    let crm = TestCrm::salesforce(&[], |mapping| mapping.types[1].module = Some("Opportunitee".into()));
    let verdicts = crm.deliver(&some_records(2, 2), BUDGET);
    assert!(verdicts[0].is_applied());
    assert_eq!(refusal(&verdicts[1]).0, "DESTINATION_STOPPED");
    assert_eq!(crm.destination.stopped_types()[0].record_type, "Opportunities");
    crm.write_secret("secret", "wrong");
    let other = crm.connect_another();
    let verdicts = crm.deliver_through(&other, &some_records(10, 2), BUDGET);
    assert!(verdicts.iter().all(|verdict| !verdict.is_applied() && !refusal(verdict).1));
    assert!(matches!(other.condition(), DestinationCondition::Stopped { .. }));
}
