//! Deliveries to Zoho's stand-in while calls and tokens fail in every way that it knows.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::mapping::HttpMapping;
use super::crm_process::TestCrm;
use super::support::{account, opportunity, refusal};
use crate::destination::{Destination, DestinationCondition, Verdict};
use crate::validated_batch::ValidatedRecord;

const BUDGET: Duration = Duration::from_secs(20);

const CALL_FAULTS: [&str; 17] = [
    "close-before",
    "close-after",
    "hang",
    "cut",
    "empty",
    "gateway-timeout-before",
    "gateway-timeout",
    "server-error",
    "server-error-after",
    "unavailable",
    "throttle",
    "html-200",
    "html-500",
    "too-few",
    "too-many",
    "reordered",
    "id-twice",
];

/// 24 records with numbers from `first`, half of them of one type, and two of each key.
fn some_records(first: u128) -> Vec<ValidatedRecord> {
    let record = |number: u128| {
        let key = format!("key-{}", number / 2);
        if number % 4 < 2 { account(number, Some(&key), "") } else { opportunity(number, Some(&key)) }
    };
    (first..first + 24).map(record).collect()
}

#[track_caller]
fn assert_all_applied(verdicts: &[Verdict], what: &str) {
    for verdict in verdicts {
        assert!(verdict.is_applied(), "{what}: {verdict:?}");
    }
}

#[test]
fn every_fault_of_a_call_is_survived_within_the_time_budget() {
    let crm = TestCrm::zoho(&[], |_| {});
    let mut expected = 0;
    for (number, fault) in (1..).zip(CALL_FAULTS) {
        for times in [1, 3] {
            crm.set_faults(&json!({ fault: { "next": times } }));
            let records = some_records(10_000 * number + 1000 * times);
            expected += records.len();
            assert_all_applied(&crm.deliver_until_settled(&records, BUDGET), fault);
            crm.clear_faults();
        }
    }
    let report = crm.assert_clean();
    let stored =
        |module: &str| usize::try_from(report["modules"][module]["records"].as_u64().unwrap()).unwrap();
    assert_eq!(stored("Accounts") + stored("Deals"), expected);
    let faults = report["faults"].as_object().unwrap();
    assert_eq!(faults.len(), CALL_FAULTS.len(), "{report}");
}

#[test]
fn tokens_that_expire_or_are_refused_in_the_middle_delay_records_only() {
    let crm = TestCrm::zoho(&["--token-requests", "100"], |mapping| {
        mapping.auth.max_token_requests = Some(90);
    });
    assert_all_applied(&crm.deliver(&some_records(1000), BUDGET), "first");
    for (first, fault) in
        [(2000, "expire-tokens"), (3000, "token-denied"), (4000, "token-error"), (5000, "token-hang")]
    {
        crm.set_faults(&json!({ fault: { "next": 1 }, "expire-tokens": { "next": 1 } }));
        assert_all_applied(&crm.deliver_until_settled(&some_records(first), BUDGET), fault);
        crm.clear_faults();
    }
    let report = crm.assert_clean();
    assert!(report["token_requests"].as_u64().unwrap() <= 9, "{report}");
}

#[test]
fn short_lived_tokens_are_renewed_before_they_expire() {
    let options = ["--token-lifetime", "2s", "--record-cost", "60ms", "--reaction-time", "0s"];
    let crm = TestCrm::zoho(&options, |_| {});
    let records: Vec<ValidatedRecord> = (1..=8).map(|number| account(number, Some("k"), "")).collect();
    for _ in 0..5 {
        assert_all_applied(&crm.deliver_until_settled(&records, BUDGET), "renewed");
    }
    crm.assert_clean();
}

#[test]
fn token_requests_stay_below_the_limit_when_tokens_die_all_the_time() {
    let crm = TestCrm::zoho(&[], |_| {});
    crm.set_faults(&json!({ "expire-tokens": 1.0 }));
    for first in [1000, 2000, 3000] {
        let verdicts = crm.deliver(&some_records(first), Duration::from_secs(3));
        for verdict in &verdicts {
            assert!(
                ["DESTINATION_STOPPED", "DESTINATION_BUSY", "HELD"].contains(&refusal(verdict).0),
                "{verdict:?}"
            );
            assert!(!refusal(verdict).1);
        }
    }
    assert!(matches!(crm.destination.condition(), DestinationCondition::Stopped { .. }));
    crm.assert_clean();
}

#[test]
fn a_wrong_secret_stops_all_and_a_new_one_is_read() {
    let crm = TestCrm::zoho(&[], |_| {});
    crm.write_secret("secret", "wrong");
    let verdicts = crm.deliver(&some_records(1000), BUDGET);
    assert!(verdicts.iter().all(|verdict| !refusal(verdict).1));
    let DestinationCondition::Stopped { reason, .. } = crm.destination.condition() else { panic!() };
    assert!(reason.contains("invalid_client_secret"), "{reason}");
    crm.write_secret("secret", "stand-in-secret");
    let another = crm.connect_another();
    assert_all_applied(&crm.deliver_through(&another, &some_records(1000), BUDGET), "new secret");
    crm.assert_clean();
}

#[test]
fn calls_that_take_longer_than_the_crm_allows_are_made_smaller() {
    let options = ["--time-limit", "400ms", "--record-cost", "12ms"];
    let crm = TestCrm::zoho(&options, |mapping| mapping.limits.small_call_records = Some(100));
    let records: Vec<ValidatedRecord> = (1..=150).map(|number| account(number, None, "")).collect();
    assert_all_applied(&crm.deliver_until_settled(&records, BUDGET), "time limit");
    let report = crm.assert_clean();
    assert!(report["responses"]["504"].as_u64().unwrap() > 0, "{report}");
    let before = report["responses"]["504"].as_u64().unwrap();
    assert_all_applied(&crm.deliver_until_settled(&records, BUDGET), "time limit, again");
    let after = crm.assert_clean()["responses"]["504"].as_u64().unwrap();
    assert!(after - before <= 2, "{before} and {after}");
}

#[test]
fn calls_that_are_applied_after_their_504_store_nothing_twice() {
    let options = ["--time-limit", "100ms", "--call-cost", "150ms", "--apply-share", "1.3"];
    let crm = TestCrm::zoho(&options, |_| {});
    let records = some_records(1000);
    let verdicts = crm.deliver(&records, Duration::from_secs(2));
    assert!(verdicts.iter().all(|verdict| !refusal(verdict).1));
    crm.set_faults(&json!({ "call_cost": "10ms" }));
    assert_all_applied(&crm.deliver_until_settled(&records, BUDGET), "late");
    crm.assert_clean();
}

#[test]
fn many_faults_at_once_lose_and_repeat_nothing_and_reject_only_what_is_wrong() {
    let crm = TestCrm::zoho(&["--seed", "7", "--token-requests", "1000"], |mapping| {
        mapping.auth.max_token_requests = Some(990);
        mapping.limits.call_timeout = Duration::from_millis(300);
        mapping.limits.record_retry_after = Duration::from_millis(1);
    });
    let mut faults: Map<String, Value> =
        CALL_FAULTS.iter().map(|fault| ((*fault).to_owned(), json!(0.02))).collect();
    faults.insert("expire-tokens".into(), json!(0.02));
    faults.insert("lock-records".into(), json!(0.1));
    crm.set_faults(&Value::Object(faults));
    let is_faulty = |number: u128| number % 50 == 17;
    let records: Vec<ValidatedRecord> = (1..=200)
        .map(|number| {
            let key = format!("key-{}", number / 3);
            // A rejected record holds back those behind it, so that it is the last of its key.
            if is_faulty(number) {
                account(number, None, r#", "employees": "many""#)
            } else {
                account(number, Some(&key), "")
            }
        })
        .collect();
    let verdicts = crm.deliver_until_settled(&records, Duration::from_secs(5));
    for (number, verdict) in (1..).zip(&verdicts) {
        assert_eq!(verdict.is_applied(), !is_faulty(number), "{number}: {verdict:?}");
    }
    let report = crm.assert_clean();
    assert_eq!(report["modules"]["Accounts"]["records"], 196, "{report}");
}

#[test]
fn results_in_a_wrong_order_neither_lose_a_record_nor_reject_another() {
    let change = |mapping: &mut HttpMapping| mapping.max_records = 15;
    let zoho = TestCrm::zoho(&["--seed", "3"], change);
    let salesforce = TestCrm::salesforce(&["--seed", "3"], change);
    for (crm, module) in [(zoho, "Accounts"), (salesforce, "Account")] {
        crm.set_faults(&json!({ "reordered": 0.4, "lock-records": 0.05 }));
        let is_faulty = |number: u128| number % 11 == 5;
        let records: Vec<ValidatedRecord> = (1..=200)
            .map(|number| {
                account(number, None, if is_faulty(number) { r#", "mail": "nowhere""# } else { "" })
            })
            .collect();
        let verdicts = crm.deliver_until_settled(&records, BUDGET);
        for (number, verdict) in (1..).zip(&verdicts) {
            assert_eq!(verdict.is_applied(), !is_faulty(number), "{module} {number}: {verdict:?}");
        }
        let report = crm.assert_clean();
        assert_eq!(report["modules"][module]["records"], 182, "{report}");
        assert!(report["faults"]["reordered"].as_u64().unwrap() > 3, "{report}");
    }
}
