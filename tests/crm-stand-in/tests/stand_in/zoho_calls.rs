//! Zoho: tokens, and calls that are refused as a whole.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{RunningStandIn, ZOHO_TOKEN_BODY, account, account_with, accounts};

#[test]
fn a_token_comes_for_a_form_or_a_query_and_names_the_domain() {
    let crm = RunningStandIn::zoho(&["--token-lifetime", "90s"]);
    let query = format!("/oauth/v2/token?{ZOHO_TOKEN_BODY}");
    for (path, body) in [("/oauth/v2/token", ZOHO_TOKEN_BODY), (query.as_str(), "")] {
        let answer = crm.send("POST", path, &[], body).expect(200);
        assert_eq!(answer["api_domain"], format!("http://{}", crm.address));
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], 90);
        crm.zoho_upsert(answer["access_token"].as_str().unwrap(), "Accounts", &accounts(1)).expect(200);
    }
    for (wrong, error) in [
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=refresh_token&client_id=other", "invalid_client"),
        ("grant_type=refresh_token&client_id=stand%2Din-client&client_secret=x", "invalid_client_secret"),
        (
            "grant_type=refresh_token&client_id=stand-in-client&client_secret=stand-in-secret&refresh_token=x",
            "invalid_code",
        ),
    ] {
        let answer = crm.send("POST", "/oauth/v2/token", &[], wrong).expect(200);
        assert_eq!(answer["error"], error);
    }
}

#[test]
fn token_requests_above_the_limit_get_200_and_access_denied() {
    let crm = RunningStandIn::zoho(&["--token-requests", "2", "--token-window", "500ms"]);
    crm.zoho_token();
    crm.zoho_token();
    let answer = crm.send("POST", "/oauth/v2/token", &[], ZOHO_TOKEN_BODY).expect(200);
    assert_eq!(answer["error"], "Access Denied");
    assert!(answer.get("access_token").is_none());
    assert_eq!(crm.report()["violations"], json!({ "token_requests_above_limit": 1 }));
    thread::park_timeout(Duration::from_millis(600));
    crm.zoho_token();
}

#[test]
fn the_oldest_token_dies_when_too_many_live() {
    let crm = RunningStandIn::zoho(&["--live-tokens", "2"]);
    let tokens = [0; 3].map(|_| crm.zoho_token());
    let statuses = tokens.each_ref().map(|token| crm.zoho_upsert(token, "Accounts", &accounts(1)).status);
    assert_eq!(statuses, [401, 200, 200]);
}

#[test]
fn a_token_expires_and_its_use_after_the_401_is_a_violation() {
    let crm = RunningStandIn::zoho(&["--token-lifetime", "100ms", "--reaction-time", "0s"]);
    let token = crm.zoho_token();
    thread::park_timeout(Duration::from_millis(200));
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(401);
    assert_eq!(answer["code"], "INVALID_TOKEN");
    assert_eq!(crm.report()["violations"], json!({}));
    crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(401);
    assert_eq!(crm.report()["violations"], json!({ "token_used_after_refusal": 1 }));
}

#[test]
fn callers_without_rights_are_refused() {
    let crm = RunningStandIn::zoho(&["--forbid", "Deals"]);
    let token = crm.zoho_token();
    let answer = crm.send("POST", "/crm/v8/Accounts/upsert", &[], "{}").expect(401);
    assert_eq!(answer["code"], "AUTHENTICATION_FAILURE");
    let answer = crm.zoho_upsert(&token, "Deals", &json!([{}])).expect(403);
    assert_eq!(answer["code"], "NO_PERMISSION");
    assert_eq!(answer["details"]["permissions"], json!(["Crm_Implied_Create_Deals"]));
    let headers = [("Authorization", &*format!("Zoho-oauthtoken {token}")), ("Host", "www.zohoapis.example")];
    let answer = crm.send("POST", "/crm/v8/Accounts/upsert", &headers, "{}").expect(400);
    assert_eq!(answer["code"], "INVALID_HOST");
    let crm = RunningStandIn::zoho(&["--scope", "ZohoCRM.modules.READ,ZohoCRM.modules.deals.CREATE"]);
    let token = crm.zoho_token();
    let answer = crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(401);
    assert_eq!(answer["code"], "OAUTH_SCOPE_MISMATCH");
    crm.zoho_upsert(&token, "Deals", &json!([{ "Deal_Name": "d", "Stage": "Won" }])).expect(200);
}

#[test]
fn wrong_paths_and_methods_are_refused() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let answer = crm.zoho_upsert(&token, "Accountz", &accounts(1)).expect(400);
    assert_eq!(answer["code"], "INVALID_MODULE");
    assert_eq!(answer["details"]["resource_path_index"], 0);
    let answer = crm.send("PUT", "/crm/v8/Accounts/upsert", &[], "").expect(400);
    assert_eq!(answer["code"], "INVALID_REQUEST_METHOD");
    let answer = crm.send("POST", "/crm/v7/Accounts/upsert", &[], "").expect(404);
    assert_eq!(answer["code"], "INVALID_URL_PATTERN");
    let answer = crm.send("POST", "/crm/v8/Accounts", &[], "").expect(403);
    assert_eq!(answer["code"], "NO_PERMISSION");
    assert_eq!(crm.report()["violations"], json!({ "insert_called": 1 }));
}

#[test]
fn wrong_requests_are_refused_at_the_top_or_in_data() {
    let bodies = [
        (json!("text"), "MANDATORY_NOT_FOUND", json!("$.data")),
        (json!({}), "MANDATORY_NOT_FOUND", json!("$.data")),
        (json!({ "data": [] }), "MANDATORY_NOT_FOUND", json!("$.data")),
        (json!({ "data": {} }), "INVALID_DATA", json!("$.data")),
        (
            json!({ "data": [{}], "duplicate_check_fields": "x" }),
            "INVALID_DATA",
            json!("$.duplicate_check_fields"),
        ),
        (
            json!({ "data": [{}], "duplicate_check_fields": ["Fieldsync_Id", "Industry"] }),
            "INVALID_DATA",
            json!("$.duplicate_check_fields[1]"),
        ),
        (
            json!({ "data": [{}], "duplicate_check_fields": ["Fieldsync_Id"], "trigger": ["mail"] }),
            "INVALID_DATA",
            json!("$.trigger"),
        ),
        (json!({ "data": accounts(101) }), "LIMIT_EXCEEDED", Value::Null),
    ];
    for (shape, pointer) in [("top", ""), ("data", "/data/0")] {
        let crm = RunningStandIn::zoho(&["--refusal-shape", shape]);
        let token = crm.zoho_token();
        for (body, code, path) in &bodies {
            let answer = crm.zoho_call(&token, "Accounts", body).expect(400);
            let entry = answer.pointer(pointer).unwrap();
            assert_eq!(entry["code"], *code, "{entry}");
            assert_eq!(entry["details"]["json_path"], *path);
        }
        assert_eq!(crm.report()["violations"], json!({ "too_many_records": 1 }));
        assert!(crm.records("Accounts").is_empty());
    }
}

#[test]
fn codes_of_whole_calls_come_on_demand() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    for (code, status) in [
        ("OAUTH_SCOPE_MISMATCH", 401),
        ("INVALID_TOKEN", 401),
        ("AUTHENTICATION_FAILURE", 401),
        ("NO_PERMISSION", 403),
        ("INVALID_URL_PATTERN", 404),
        ("TOO_MANY_REQUESTS", 429),
        ("RATE_LIMIT_EXCEEDED", 429),
        ("INTERNAL_ERROR", 500),
        ("SERVICE_UNAVAILABLE", 503),
        ("INVALID_MODULE", 400),
        ("AUTHORIZATION_FAILED", 400),
        ("INVALID_HOST", 400),
    ] {
        crm.set_faults(&json!({ "refuse": { code: { "next": 1 } } }));
        assert_eq!(crm.zoho_upsert(&token, "Accounts", &accounts(1)).expect(status)["code"], code);
        // A magic value of one record refuses the call, too.
        let data = json!([account("1"), account_with(code, json!({ "Stand_In": format!("{code}*1") }))]);
        assert_eq!(crm.zoho_upsert(&token, "Accounts", &data).expect(status)["code"], code);
    }
    assert!(crm.records("Accounts").is_empty());
    assert_eq!(crm.report()["refused_calls"]["NO_PERMISSION"], 2);
}

#[test]
fn a_record_that_was_modified_since_refuses_the_call() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let stored = crm.zoho_upsert(&token, "Accounts", &accounts(1)).entry(200);
    let body = json!({ "data": accounts(1), "duplicate_check_fields": ["Fieldsync_Id"] }).to_string();
    let authorization = format!("Zoho-oauthtoken {token}");
    let send = |since: &str| {
        let headers = [("Authorization", authorization.as_str()), ("If-Unmodified-Since", since)];
        crm.send("POST", "/crm/v8/Accounts/upsert", &headers, &body)
    };
    let entry = send("2020-01-01T00:00:00+00:00").entry(412);
    assert_eq!(entry["code"], "ALREADY_MODIFIED");
    assert_eq!(entry["details"]["id"], stored["details"]["id"]);
    send("Wed, 01 Jan 2020 00:00:00 GMT").entry(412);
    assert_eq!(send("yesterday").expect(400)["code"], "INVALID_DATA");
    send(stored["details"]["Modified_Time"].as_str().unwrap()).expect(200);
}
