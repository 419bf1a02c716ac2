//! What no record is to blame for: stopped types, throttled calls, credits.

use std::time::Duration;

use serde_json::json;

use super::crm_process::TestCrm;
use super::support::{account, opportunity, refusal};
use crate::destination::{Destination, DestinationCondition, Verdict};
use crate::validated_batch::ValidatedRecord;

const BUDGET: Duration = Duration::from_secs(20);

fn accounts(first: u128, count: u128) -> Vec<ValidatedRecord> {
    (first..first + count).map(|number| account(number, None, "")).collect()
}

fn are_applied(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(Verdict::is_applied)
}

#[test]
fn a_module_that_may_not_be_written_stops_its_type_only() {
    let crm = TestCrm::zoho(&["--forbid", "Deals"], |_| {});
    let records = [account(1, None, ""), opportunity(2, None), account(3, None, ""), opportunity(4, None)];
    for _ in 0..2 {
        let verdicts = crm.deliver(&records, BUDGET);
        assert!([0, 2].iter().all(|at: &usize| verdicts[*at].is_applied()), "{verdicts:?}");
        assert_eq!([1, 3].map(|at| refusal(&verdicts[at])), [("DESTINATION_STOPPED", false); 2]);
    }
    let stopped = crm.destination.stopped_types();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].record_type, "Opportunities");
    assert!(stopped[0].reason.starts_with("NO_PERMISSION"), "{stopped:?}");
    assert_eq!(crm.destination.condition(), DestinationCondition::Ready);
    // The second delivery did not call for it.
    assert_eq!(crm.assert_clean()["refused_calls"]["NO_PERMISSION"], 1);
}

#[test]
fn refusals_of_whole_calls_reject_no_record_in_either_shape() {
    for shape in ["top", "data"] {
        for code in ["INVALID_MODULE", "OAUTH_SCOPE_MISMATCH", "AUTHORIZATION_FAILED", "INVALID_HOST"] {
            let crm = TestCrm::zoho(&["--refusal-shape", shape, "--refuse", &format!("{code}=1.0")], |_| {});
            for records in [accounts(1, 1), accounts(1, 30)] {
                let verdicts = crm.deliver(&records, BUDGET);
                assert!(
                    verdicts.iter().all(|verdict| refusal(verdict) == ("DESTINATION_STOPPED", false)),
                    "{code}"
                );
            }
            assert!(crm.stored("Accounts").is_empty());
        }
    }
}

#[test]
fn a_call_with_too_many_records_is_halved() {
    let crm =
        TestCrm::zoho(&["--max-records", "30"], |mapping| mapping.limits.small_call_records = Some(100));
    assert!(are_applied(&crm.deliver(&accounts(1, 100), BUDGET)));
    let report = crm.report();
    assert_eq!(report["modules"]["Accounts"]["duplicates"], 0);
    assert_eq!(report["modules"]["Accounts"]["records"], 100);
}

#[test]
fn a_limit_of_calls_at_a_time_is_kept_once_it_is_known() {
    for options in [&["--retry-after", "1s"][..], &[]] {
        let all = [&["--concurrency", "2", "--call-cost", "80ms", "--reaction-time", "0s"], options].concat();
        let crm = TestCrm::zoho(&all, |mapping| mapping.limits.max_in_flight = 6);
        for first in [1, 101, 201] {
            assert!(are_applied(&crm.deliver_until_settled(&accounts(first, 60), BUDGET)));
        }
        // Calls that were on their way when the first was refused are no violation: the reaction time is zero.
        let report = crm.report();
        assert!(report["refused_calls"]["TOO_MANY_REQUESTS"].as_u64().unwrap() <= 4, "{report}");
        assert_eq!(report["modules"]["Accounts"]["duplicates"], 0);
    }
}

#[test]
fn a_wait_that_does_not_fit_is_handed_to_the_device() {
    let crm = TestCrm::zoho(&["--retry-after", "30s"], |_| {});
    crm.set_faults(&json!({ "throttle": { "next": 1 } }));
    let verdicts = crm.deliver(&accounts(1, 5), Duration::from_secs(2));
    for verdict in &verdicts {
        let Verdict::Retry { after: Some(after), code, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(code, "DESTINATION_BUSY");
        assert!((Duration::from_secs(25)..=Duration::from_secs(30)).contains(after), "{after:?}");
    }
    let DestinationCondition::Waiting { wait, reason } = crm.destination.condition() else { panic!() };
    assert!(wait > Duration::from_secs(25) && reason.starts_with("TOO_MANY_REQUESTS"), "{reason}");
    crm.assert_clean();
}

#[test]
fn the_last_credits_are_kept_for_urgent_records() {
    let crm = TestCrm::zoho(&["--credits", "20"], |mapping| mapping.limits.credits_min = 8);
    let mut applied = 0;
    for first in (1..).step_by(10).take(20) {
        let verdicts = crm.deliver(&accounts(first, 10), BUDGET);
        applied += verdicts.iter().filter(|verdict| verdict.is_applied()).count();
    }
    // The answer to the thirteenth call says that 7 are left.
    assert_eq!(applied, 130);
    let DestinationCondition::Scarce { reason, .. } = crm.destination.condition() else { panic!() };
    assert!(reason.contains("credits"), "{reason}");
    let mut mixed = accounts(201, 3);
    for (record, priority) in mixed.iter_mut().zip([6, 7, 9]) {
        record.priority = priority;
    }
    let verdicts = crm.deliver(&mixed, BUDGET);
    assert_eq!(refusal(&verdicts[0]), ("DESTINATION_BUSY", false));
    assert!(are_applied(&verdicts[1..]));
    assert_eq!(crm.assert_clean()["credits_spent"], 14);
}

#[test]
fn what_stops_one_record_does_not_stop_the_others_of_its_type() {
    let crm = TestCrm::zoho(&[], |_| {});
    let mut records = accounts(1, 5);
    records.push(account(6, None, r#", "Stand_In": "STORAGE_SPACE_EXCEEDED""#));
    let verdicts = crm.deliver(&records, BUDGET);
    assert!(are_applied(&verdicts[..5]));
    assert_eq!(refusal(&verdicts[5]), ("DESTINATION_STOPPED", false));
    assert!(crm.destination.stopped_types().is_empty());
    let verdicts = crm.deliver(&records[5..], BUDGET);
    assert_eq!(refusal(&verdicts[0]), ("DESTINATION_STOPPED", false));
    assert_eq!(crm.destination.stopped_types().len(), 1);
    crm.assert_clean();
}

#[test]
fn a_delivery_ends_with_its_time_budget() {
    let crm = TestCrm::zoho(&["--call-cost", "1s"], |mapping| {
        mapping.limits.call_timeout = Duration::from_secs(10);
    });
    let records: Vec<ValidatedRecord> = (1..=20).map(|number| account(number, Some("k"), "")).collect();
    let clock = crate::clock::Clock::start();
    let verdicts = crm.deliver(&records, Duration::from_secs(4));
    // All of them would take 20 s.
    assert!(clock.now() < Duration::from_secs(15), "{:?}", clock.now());
    let applied = verdicts.iter().take_while(|verdict| verdict.is_applied()).count();
    assert!((1..=3).contains(&applied), "{verdicts:?}");
    assert!(
        verdicts[applied + 1..].iter().all(|verdict| refusal(verdict) == ("HELD", false)),
        "{verdicts:?}"
    );
    crm.assert_clean();
}
