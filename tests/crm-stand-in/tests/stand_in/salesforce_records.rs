//! Salesforce: what becomes of single records.

use serde_json::{Value, json};

use crate::support::{ACCOUNT_PATH, RunningStandIn, account_collection, salesforce_account};

#[test]
fn records_are_created_and_updated_in_order() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    let first = crm.salesforce_upsert(&token, &[salesforce_account("1", json!({}))]).entry(200);
    assert_eq!(first["success"], true);
    assert_eq!(first["created"], true);
    assert_eq!(first["errors"], json!([]));
    let both =
        [salesforce_account("2", json!({})), salesforce_account("1", json!({ "NumberOfEmployees": 5 }))];
    let answer = crm.salesforce_upsert(&token, &both).expect(200);
    assert_eq!(answer[0]["created"], true);
    assert_eq!(answer[1]["created"], false);
    assert_eq!(answer[1]["id"], first["id"]);
    let stored = crm.records("Account");
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0]["fields"]["NumberOfEmployees"], 5);
    assert!(stored[0]["fields"].get("attributes").is_none());
    let runs = &crm.report()["modules"]["Account"]["workflow_runs"]["flow"];
    assert_eq!(*runs, json!({ "create": 2, "update": 1 }));
}

#[test]
fn wrong_values_are_refused_by_the_schema() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    for (change, code) in [
        (json!({ "Name": null }), "REQUIRED_FIELD_MISSING"),
        (json!({ "Name": "x".repeat(61) }), "STRING_TOO_LONG"),
        (json!({ "Industry": "mining" }), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        (json!({ "NumberOfEmployees": "many" }), "JSON_PARSER_ERROR"),
        (json!({ "Email__c": "nobody" }), "INVALID_EMAIL_ADDRESS"),
        (json!({ "Colour__c": "red" }), "INVALID_FIELD"),
        (json!({ "id": "a01xx0000000001AAA" }), "INVALID_FIELD"),
        (json!({ "Fieldsync_Id__c": null }), "MISSING_ARGUMENT"),
    ] {
        let good = salesforce_account("good", json!({}));
        let answer = crm.salesforce_upsert(&token, &[salesforce_account("1", change), good]).expect(200);
        assert_eq!(answer[0]["success"], false, "{answer}");
        assert_eq!(answer[0]["errors"][0]["statusCode"], code, "{answer}");
        assert!(answer[0]["errors"][0]["message"].is_string());
        assert!(answer[0]["errors"][0]["fields"].is_array());
        assert_eq!(answer[1]["success"], true);
    }
    assert_eq!(crm.records("Account").len(), 1);
    assert_eq!(crm.report()["violations"], json!({ "id_in_record": 1 }));
}

#[test]
fn what_the_parser_finds_may_refuse_the_whole_call() {
    let crm = RunningStandIn::salesforce(&["--field-errors", "call"]);
    let token = crm.salesforce_token();
    for (change, code) in [
        (json!({ "NumberOfEmployees": "many" }), "JSON_PARSER_ERROR"),
        (json!({ "Colour__c": "red" }), "INVALID_FIELD"),
    ] {
        let records = [salesforce_account("1", json!({})), salesforce_account("2", change)];
        let answer = crm.salesforce_upsert(&token, &records).expect(400);
        assert_eq!(answer[0]["errorCode"], code);
    }
    assert!(crm.records("Account").is_empty());
}

#[test]
fn each_code_of_a_record_comes_on_demand() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    for code in [
        "REQUIRED_FIELD_MISSING",
        "STRING_TOO_LONG",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "INVALID_FIELD",
        "JSON_PARSER_ERROR",
        "UNABLE_TO_LOCK_ROW",
        "DUPLICATE_VALUE",
        "DUPLICATE_EXTERNAL_ID",
    ] {
        let entry = crm
            .salesforce_upsert(&token, &[salesforce_account(code, json!({ "Stand_In": code }))])
            .entry(200);
        assert_eq!(entry["errors"][0]["statusCode"], code);
    }
    let several = json!({ "Stand_In": "INVALID_FIELD:UNABLE_TO_LOCK_ROW" });
    let entry = crm.salesforce_upsert(&token, &[salesforce_account("several", several)]).entry(200);
    assert_eq!(entry["errors"][1]["statusCode"], "UNABLE_TO_LOCK_ROW");
}

#[test]
fn a_locked_row_is_free_after_some_tries() {
    let crm = RunningStandIn::salesforce(&["--fault", "lock-records=1.0", "--transient-tries", "2"]);
    let token = crm.salesforce_token();
    let tries =
        [0; 3].map(|_| crm.salesforce_upsert(&token, &[salesforce_account("1", json!({}))]).entry(200));
    assert_eq!(tries[0]["errors"][0]["statusCode"], "UNABLE_TO_LOCK_ROW");
    assert_eq!(tries.map(|entry| entry["success"] == true), [false, false, true]);
}

#[test]
fn the_same_external_id_twice_refuses_both() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    let records = ["1", "2", "1"].map(|id| salesforce_account(id, json!({})));
    let answer = crm.salesforce_upsert(&token, &records).expect(200);
    let codes: Vec<&Value> =
        answer.as_array().unwrap().iter().map(|result| &result["errors"][0]["statusCode"]).collect();
    assert_eq!(codes, [&json!("DUPLICATE_VALUE"), &Value::Null, &json!("DUPLICATE_VALUE")]);
    assert_eq!(crm.report()["violations"], json!({ "id_twice_in_call": 1 }));
}

#[test]
fn all_or_none_stores_nothing_when_one_record_fails() {
    let crm = RunningStandIn::salesforce(&[]);
    let token = crm.salesforce_token();
    let mut body = account_collection(&[
        salesforce_account("1", json!({})),
        salesforce_account("2", json!({ "Name": null })),
    ]);
    body["allOrNone"] = true.into();
    let answer = crm.salesforce_call(&token, ACCOUNT_PATH, &body).expect(200);
    assert_eq!(answer[0]["errors"][0]["statusCode"], "ALL_OR_NONE_OPERATION_ROLLED_BACK");
    assert_eq!(answer[1]["errors"][0]["statusCode"], "REQUIRED_FIELD_MISSING");
    assert!(crm.records("Account").is_empty());
}
