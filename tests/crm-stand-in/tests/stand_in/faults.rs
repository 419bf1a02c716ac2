//! Faults on demand.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Response, RunningStandIn, ZOHO_TOKEN_BODY, account, account_with, accounts, salesforce_account,
    wait_until,
};

/// A stand-in whose next call has the fault; the answer, and how many records were stored.
fn call_with(fault: &str) -> (Option<Response>, usize) {
    let crm = RunningStandIn::zoho(&["--fault", &format!("{fault}=next:1")]);
    let token = crm.zoho_token();
    let body = json!({ "data": accounts(2), "duplicate_check_fields": ["Fieldsync_Id"] }).to_string();
    let headers = [("Authorization", &*format!("Zoho-oauthtoken {token}"))];
    let answer = crm.exchange("POST", "/crm/v8/Accounts/upsert", &headers, &body);
    let stored = crm.records("Accounts").len();
    let report = crm.report();
    assert_eq!(report["faults"][fault], 1, "{report}");
    // The next call has no fault.
    crm.zoho_upsert(&token, "Accounts", &accounts(2)).expect(200);
    assert_eq!(crm.records("Accounts").len(), 2);
    (answer, stored)
}

#[test]
fn connections_close_before_or_after_the_call_is_applied() {
    let (answer, stored) = call_with("close-before");
    assert!(answer.is_none());
    assert_eq!(stored, 0);
    let (answer, stored) = call_with("close-after");
    assert!(answer.is_none());
    assert_eq!(stored, 2);
}

#[test]
fn an_answer_is_cut_or_empty() {
    let (answer, stored) = call_with("cut");
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.is_complete, stored), (200, false, 2));
    assert!(answer.body.starts_with("{\"data\":[{"), "{}", answer.body);
    let (answer, stored) = call_with("empty");
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.body.as_str(), stored), (200, "", 2));
}

#[test]
fn proxies_and_servers_fail_before_or_after_the_call_is_applied() {
    for (fault, status, is_html, expected) in [
        ("gateway-timeout-before", 504, true, 0),
        ("gateway-timeout", 504, true, 2),
        ("server-error", 500, false, 0),
        ("server-error-after", 500, false, 2),
        ("unavailable", 503, false, 0),
        ("throttle", 429, false, 0),
        ("html-200", 200, true, 0),
        ("html-500", 500, true, 0),
    ] {
        let (answer, stored) = call_with(fault);
        let answer = answer.unwrap();
        assert_eq!((answer.status, stored), (status, expected), "{fault}");
        assert_eq!(answer.header("content-type") == Some("text/html"), is_html, "{fault}");
        assert_eq!(answer.body.contains("<html>"), is_html, "{fault}");
    }
}

#[test]
fn results_are_too_few_too_many_or_have_one_id_twice() {
    let results = |fault: &str| {
        let answer = call_with(fault).0.unwrap().expect(200);
        answer["data"].as_array().unwrap().clone()
    };
    assert_eq!(results("too-few").len(), 1);
    assert_eq!(results("too-many").len(), 3);
    let twice = results("id-twice");
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0]["details"]["id"], twice[1]["details"]["id"]);
}

#[test]
fn reordered_results_keep_the_path_of_their_record() {
    let crm = RunningStandIn::zoho(&["--fault", "reordered=next:1"]);
    let data = json!([account("1"), account_with("2", json!({ "Employees": "many" })), account("3")]);
    let answer =
        crm.zoho_upsert(&crm.zoho_token(), "Accounts", &json!([data[1], data[0], data[2]])).expect(207);
    let results = answer["data"].as_array().unwrap();
    assert_eq!(results[0]["code"], "SUCCESS");
    assert_eq!(results[2]["details"]["json_path"], "$.data[0].Employees");
}

#[test]
fn the_faults_of_results_are_those_of_salesforce_too() {
    let crm = RunningStandIn::salesforce(&["--fault", "too-few=next:1"]);
    let token = crm.salesforce_token();
    let both = ["1", "2"].map(|id| salesforce_account(id, json!({})));
    assert_eq!(crm.salesforce_upsert(&token, &both).expect(200).as_array().unwrap().len(), 1);
    crm.set_faults(&json!({ "id-twice": { "next": 1 } }));
    let answer = crm.salesforce_upsert(&token, &both).expect(200);
    assert_eq!(answer[0]["id"], answer[1]["id"]);
}

#[test]
fn a_slow_call_gets_504_after_it_was_applied_and_occupies_its_place_until_it_is_done() {
    let options = ["--time-limit", "200ms", "--record-cost", "400ms", "--concurrency", "1"];
    let crm = RunningStandIn::zoho(&options);
    let token = crm.zoho_token();
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(2));
    assert_eq!(answer.status, 504);
    assert!(answer.body.contains("504 Gateway Time-out"));
    assert_eq!(crm.records("Accounts").len(), 2);
    crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(429);
    crm.set_faults(&json!({ "time_limit": null, "record_cost": "0s" }));
    wait_until(|| crm.zoho_upsert(&token, "Accounts", &accounts(1)).status == 200);
}

#[test]
fn a_slow_call_may_be_applied_after_its_504() {
    let crm = RunningStandIn::zoho(&["--time-limit", "200ms", "--call-cost", "2s", "--apply-share", "5"]);
    let token = crm.zoho_token();
    assert_eq!(crm.zoho_upsert(&token, "Accounts", &accounts(1)).status, 504);
    assert!(crm.records("Accounts").is_empty());
    wait_until(|| !crm.records("Accounts").is_empty());
}

#[test]
fn all_tokens_expire_at_once() {
    let crm = RunningStandIn::zoho(&["--fault", "expire-tokens=next:1"]);
    let token = crm.zoho_token();
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(401);
    assert_eq!(answer["code"], "INVALID_TOKEN");
    crm.zoho_upsert(&crm.zoho_token(), "Accounts", &accounts(1)).expect(200);
}

#[test]
fn the_token_endpoint_fails() {
    let crm = RunningStandIn::zoho(&["--fault", "token-denied=next:1"]);
    let answer = crm.send("POST", "/oauth/v2/token", &[], ZOHO_TOKEN_BODY).expect(200);
    assert_eq!(answer["error"], "Access Denied");
    crm.set_faults(&json!({ "token-error": { "next": 1 } }));
    let answer = crm.send("POST", "/oauth/v2/token", &[], ZOHO_TOKEN_BODY);
    assert_eq!((answer.status, answer.header("content-type")), (500, Some("text/html")));
    crm.zoho_token();
}

#[test]
fn answers_never_come() {
    let crm = RunningStandIn::zoho(&["--fault", "hang=next:1", "--fault", "token-hang=next:1"]);
    let time = Duration::from_millis(300);
    assert!(crm.is_silent("/oauth/v2/token", &[], ZOHO_TOKEN_BODY, time));
    let authorization = format!("Zoho-oauthtoken {}", crm.zoho_token());
    let body = json!({ "data": accounts(2), "duplicate_check_fields": ["Fieldsync_Id"] }).to_string();
    assert!(crm.is_silent("/crm/v8/Accounts/upsert", &[("Authorization", &authorization)], &body, time));
    assert_eq!(crm.records("Accounts").len(), 2);
    assert_eq!(crm.end("TERM")["responses"], json!({ "hung": 1 }));
}

#[test]
fn the_help_names_every_fault() {
    let program = env!("CARGO_BIN_EXE_fieldsync-crm-stand-in");
    let help = Command::new(program).args(["zoho", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = help.split("Names for --fault:\n").nth(1).unwrap().lines();
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        RunningStandIn::zoho(&["--fault", &format!("{name}=0.5")]).end("TERM");
    }
}

#[test]
fn faults_are_changed_shown_and_cleared_while_it_runs() {
    let crm = RunningStandIn::zoho(&["--fault", "cut=0.25"]);
    let shown = crm.send("GET", "/stand-in/faults", &[], "").expect(200);
    assert_eq!(shown["cut"], 0.25);
    crm.set_faults(&json!({ "hang": { "next": 2 }, "call_cost": "5ms", "transient_tries": 3 }));
    for wrong in [json!({ "nothing": 1.0 }), json!({ "cut": 2 }), json!({ "call_cost": "long" }), json!([])] {
        let answer = crm.send("POST", "/stand-in/faults", &[], &wrong.to_string()).expect(400);
        assert!(answer["error"].is_string());
    }
    let shown = crm.send("GET", "/stand-in/faults", &[], "").expect(200);
    assert_eq!((&shown["hang"], &shown["call_cost"]), (&json!({ "next": 2 }), &json!("5ms")));
    let cleared = crm.send("DELETE", "/stand-in/faults", &[], "").expect(200);
    assert_eq!(
        (&cleared["hang"], &cleared["cut"], &cleared["call_cost"]),
        (&Value::Null, &Value::Null, &json!("5ms"))
    );
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let statuses = |seed: &str| {
        let crm = RunningStandIn::zoho(&["--fault", "server-error=0.5", "--seed", seed]);
        let token = crm.zoho_token();
        [0; 24].map(|_| crm.zoho_upsert(&token, "Accounts", &accounts(1)).status)
    };
    assert_eq!(statuses("7"), statuses("7"));
    assert_ne!(statuses("7"), statuses("8"));
}
