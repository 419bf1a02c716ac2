//! Salesforce: tokens, and calls that are refused as a whole.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ACCOUNT_PATH, RunningStandIn, account_collection, salesforce_account};

#[test]
fn a_token_comes_for_client_credentials_and_does_not_say_how_long_it_lives() {
    let crm = RunningStandIn::salesforce(&["--token-lifetime", "300ms", "--reaction-time", "0s"]);
    let body = crate::support::SALESFORCE_TOKEN_BODY;
    let answer = crm.send("POST", "/services/oauth2/token", &[], body).expect(200);
    assert_eq!(answer["instance_url"], format!("http://{}", crm.address));
    assert_eq!(answer["token_type"], "Bearer");
    assert!(answer.get("expires_in").is_none());
    let token = answer["access_token"].as_str().unwrap();
    thread::park_timeout(Duration::from_millis(400));
    for violations in [json!({}), json!({ "token_used_after_refusal": 1 })] {
        let answer = crm.salesforce_upsert(token, &[]).expect(401);
        assert_eq!(answer[0]["errorCode"], "INVALID_SESSION_ID");
        assert_eq!(crm.report()["violations"], violations);
    }
    for (wrong, error) in [
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=client_credentials&client_id=x", "invalid_client_id"),
        ("grant_type=client_credentials&client_id=stand-in-client&client_secret=x", "invalid_client"),
    ] {
        assert_eq!(crm.send("POST", "/services/oauth2/token", &[], wrong).expect(400)["error"], error);
    }
}

#[test]
fn wrong_requests_are_refused() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    let many: Vec<Value> = (0..201).map(|id| salesforce_account(&id.to_string(), json!({}))).collect();
    let other_type = salesforce_account("1", json!({ "attributes": { "type": "Opportunity" } }));
    for (body, code) in [
        (json!("text"), "JSON_PARSER_ERROR"),
        (json!({ "records": {} }), "JSON_PARSER_ERROR"),
        (json!({ "records": ["text"] }), "JSON_PARSER_ERROR"),
        (json!({ "records": [], "allOrNone": "no" }), "JSON_PARSER_ERROR"),
        (json!({ "records": [{ "Name": "without a type" }] }), "INVALID_TYPE"),
        (account_collection(&[other_type]), "INVALID_TYPE"),
        (account_collection(&many), "EXCEEDED_ID_LIMIT"),
    ] {
        let answer = crm.salesforce_call(&token, ACCOUNT_PATH, &body).expect(400);
        assert_eq!(answer[0]["errorCode"], code);
        assert!(answer[0]["message"].is_string());
    }
    let answer = crm.salesforce_call("wrong", ACCOUNT_PATH, &json!({})).expect(401);
    assert_eq!(answer[0]["errorCode"], "INVALID_SESSION_ID");
    assert_eq!(crm.report()["violations"], json!({ "mixed_types": 2, "too_many_records": 1 }));
}

#[test]
fn wrong_paths_are_not_found_and_inserts_are_a_violation() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    for path in [
        "/services/data/v62.0/composite/sobjects/Visit/Fieldsync_Id__c",
        "/services/data/v62.0/composite/sobjects/Account/Name",
        "/services/data/v45.0/composite/sobjects/Account/Fieldsync_Id__c",
        "/services/data/newest/composite/sobjects/Account/Fieldsync_Id__c",
        "/elsewhere",
    ] {
        let answer = crm.salesforce_call(&token, path, &account_collection(&[])).expect(404);
        assert_eq!(answer[0]["errorCode"], "NOT_FOUND", "{path}");
    }
    assert_eq!(crm.send("POST", ACCOUNT_PATH, &[], "{}").expect(405)[0]["errorCode"], "METHOD_NOT_ALLOWED");
    for path in ["/services/data/v62.0/composite/sobjects", "/services/data/v62.0/sobjects/Account"] {
        assert_eq!(crm.send("POST", path, &[], "{}").status, 403);
    }
    assert_eq!(crm.report()["violations"], json!({ "insert_called": 2 }));
}

#[test]
fn codes_of_whole_calls_come_on_demand() {
    let crm = RunningStandIn::salesforce(&["--retry-after", "3s"]);
    let token = crm.salesforce_token();
    for (code, status) in [
        ("INVALID_SESSION_ID", 401),
        ("REQUEST_LIMIT_EXCEEDED", 403),
        ("API_DISABLED_FOR_ORG", 403),
        ("NOT_FOUND", 404),
        ("UNKNOWN_EXCEPTION", 500),
        ("SERVER_UNAVAILABLE", 503),
    ] {
        crm.set_faults(&json!({ "refuse": { code: { "next": 1 } } }));
        assert_eq!(crm.salesforce_upsert(&token, &[]).expect(status)[0]["errorCode"], code);
        let magic = salesforce_account(code, json!({ "Stand_In": format!("{code}*1") }));
        assert_eq!(crm.salesforce_upsert(&token, &[magic]).expect(status)[0]["errorCode"], code);
    }
    crm.set_faults(&json!({ "unavailable": { "next": 1 } }));
    let answer = crm.salesforce_upsert(&token, &[]);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("3")));
}
