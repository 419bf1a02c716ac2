//! Credits, and calls at a time.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::{RunningStandIn, account, accounts, salesforce_account};

/// Sends as many calls at a time, and returns their statuses in ascending order.
fn send_together(crm: &RunningStandIn, token: &str, calls: usize, records: usize) -> Vec<u16> {
    let mut statuses = thread::scope(|scope| {
        let send = |call: usize| {
            let data = (0..records).map(|record| account(&format!("{call}-{record}"))).collect();
            crm.zoho_upsert(token, "Accounts", &data).status
        };
        let threads: Vec<_> = (0..calls).map(|call| scope.spawn(move || send(call))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    statuses.sort_unstable();
    statuses
}

#[test]
fn a_call_costs_a_credit_for_each_ten_records_and_the_rest_is_told_when_half_is_spent() {
    let crm = RunningStandIn::zoho(&["--credits", "5", "--retry-after", "7s"]);
    let token = crm.zoho_token();
    let left = |records: usize| {
        let answer = crm.zoho_upsert(&token, "Accounts", &accounts(records));
        (answer.status, answer.header("x-api-credits-remaining").map(str::to_owned))
    };
    assert_eq!(left(11), (200, None));
    assert_eq!(left(10), (200, Some("2".into())));
    assert_eq!(left(10), (200, Some("1".into())));
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(20));
    assert_eq!(answer.header("retry-after"), Some("7"));
    let details = &answer.expect(429)["details"];
    assert_eq!(details["retry_after"], 7);
    assert_eq!(details["limit"], 5);
    assert_eq!(details["window"], 86_400);
    assert!(details["trace_id"].is_string());
    assert_eq!(left(1), (200, Some("0".into())));
    assert_eq!(crm.report()["credits_spent"], 5);
}

#[test]
fn credits_come_back_after_the_window() {
    let crm = RunningStandIn::zoho(&[
        "--credits",
        "1",
        "--credit-window",
        "300ms",
        "--limit-code",
        "RATE_LIMIT_EXCEEDED",
    ]);
    let token = crm.zoho_token();
    crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(200);
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(429);
    assert_eq!(answer["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(answer["details"], json!({}));
    thread::park_timeout(Duration::from_millis(400));
    crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(200);
}

#[test]
fn too_many_calls_at_a_time_are_refused() {
    let crm = RunningStandIn::zoho(&["--concurrency", "2", "--call-cost", "2s"]);
    let token = crm.zoho_token();
    assert_eq!(send_together(&crm, &token, 3, 1), [200, 200, 429]);
    assert_eq!(crm.report()["most_calls_at_a_time"], 2);
}

#[test]
fn large_calls_have_a_lower_limit_at_a_time() {
    let crm = RunningStandIn::zoho(&["--large-call-concurrency", "1", "--call-cost", "2s"]);
    let token = crm.zoho_token();
    assert_eq!(send_together(&crm, &token, 2, 11), [200, 429]);
    assert_eq!(send_together(&crm, &token, 2, 10), [200, 200]);
}

#[test]
fn calls_above_a_limit_are_a_violation_once_a_refusal_has_named_it() {
    for (retry_after, expected) in
        [(&["--retry-after", "1s"][..], json!({ "calls_above_announced_limit": 1 })), (&[], json!({}))]
    {
        let options = ["--concurrency", "1", "--call-cost", "2s", "--reaction-time", "0s"];
        let crm = RunningStandIn::zoho(&[&options, retry_after].concat());
        let token = crm.zoho_token();
        assert_eq!(send_together(&crm, &token, 3, 1), [200, 429, 429]);
        assert_eq!(crm.report()["violations"], expected);
    }
}

#[test]
fn salesforce_refuses_calls_above_its_limits_with_403() {
    let crm = RunningStandIn::salesforce(&["--api-calls", "1"]);
    let token = crm.salesforce_token();
    let answer = crm.salesforce_upsert(&token, &[salesforce_account("1", json!({}))]);
    assert_eq!(answer.header("sforce-limit-info"), Some("api-usage=1/1"));
    answer.expect(200);
    let answer = crm.salesforce_upsert(&token, &[salesforce_account("1", json!({}))]).expect(403);
    assert_eq!(answer[0]["errorCode"], "REQUEST_LIMIT_EXCEEDED");
    let crm = RunningStandIn::salesforce(&["--concurrency", "0"]);
    let answer = crm.salesforce_upsert(&crm.salesforce_token(), &[]).expect(403);
    assert_eq!(answer[0]["errorCode"], "REQUEST_LIMIT_EXCEEDED");
}
