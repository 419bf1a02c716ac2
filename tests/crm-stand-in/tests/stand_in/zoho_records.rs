//! Zoho: what becomes of single records.

use serde_json::{Value, json};

use crate::support::{RunningStandIn, account, account_with};

#[test]
fn a_new_record_is_inserted_and_a_known_one_updated() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let inserted = crm.zoho_upsert(&token, "Accounts", &json!([account("1")])).entry(200);
    let updated = crm
        .zoho_upsert(&token, "Accounts", &json!([account_with("1", json!({ "Employees": 5 }))]))
        .entry(200);
    for (entry, action, message, field) in [
        (&inserted, "insert", "record added", Value::Null),
        (&updated, "update", "record updated", json!("Fieldsync_Id")),
    ] {
        assert_eq!(entry["code"], "SUCCESS");
        assert_eq!(entry["status"], "success");
        assert_eq!(entry["action"], action);
        assert_eq!(entry["message"], message);
        assert_eq!(entry["duplicate_field"], field);
        assert_eq!(entry["details"]["$approval_state"], "approved");
        assert!(entry["details"]["Modified_By"]["id"].is_string());
    }
    assert_eq!(inserted["details"]["id"], updated["details"]["id"]);
    assert_eq!(inserted["details"]["Created_Time"], updated["details"]["Created_Time"]);
    let stored = crm.records("Accounts");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0]["fields"]["Employees"], 5);
    assert_eq!(stored[0]["fields"]["Industry"], "retail");
}

#[test]
fn the_status_follows_from_all_results() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let (good, bad) = (account("1"), account_with("2", json!({ "Employees": "many" })));
    let statuses = [json!([good]), json!([good, bad]), json!([bad, bad])]
        .map(|data| crm.zoho_upsert(&token, "Accounts", &data).status);
    assert_eq!(statuses, [200, 207, 400]);
    let mixed = crm.zoho_upsert(&token, "Accounts", &json!([bad, good])).expect(207);
    let codes: Vec<&Value> = mixed["data"].as_array().unwrap().iter().map(|entry| &entry["code"]).collect();
    assert_eq!(codes, ["INVALID_DATA", "SUCCESS"]);
}

#[test]
fn wrong_values_are_refused_by_the_schema() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    for (change, code, detail, expected) in [
        (json!({ "Employees": "5" }), "INVALID_DATA", "expected_data_type", json!("integer")),
        (json!({ "Annual_Revenue": "5" }), "INVALID_DATA", "expected_data_type", json!("double")),
        (json!({ "Email": "nobody" }), "INVALID_DATA", "expected_data_type", json!("email")),
        (json!({ "Account_Name": "x".repeat(61) }), "INVALID_DATA", "maximum_length", json!(60)),
        (json!({ "Account_Name": null }), "MANDATORY_NOT_FOUND", "api_name", json!("Account_Name")),
    ] {
        let field = change.as_object().unwrap().keys().next().unwrap().clone();
        let entry = crm.zoho_upsert(&token, "Accounts", &json!([account_with("1", change)])).entry(400);
        assert_eq!(entry["code"], code, "{entry}");
        assert_eq!(entry["status"], "error");
        assert_eq!(entry["details"][detail], expected, "{entry}");
        assert_eq!(entry["details"]["api_name"], *field);
        assert_eq!(entry["details"]["json_path"], format!("$.data[0].{field}"));
    }
    let picklist = json!([account_with("1", json!({ "Industry": "mining" }))]);
    let entry = crm.zoho_upsert(&token, "Accounts", &picklist).entry(400);
    assert!(entry["details"]["supported_values"].as_array().unwrap().contains(&json!("retail")));
    let entry = crm.zoho_upsert(&token, "Accounts", &json!(["no object"])).entry(400);
    assert_eq!(entry["details"]["expected_data_type"], "jsonobject");
    let date = json!([{ "Fieldsync_Id": "1", "Deal_Name": "d", "Stage": "Won", "Closing_Date": "3/1/2017" }]);
    let entry = crm.zoho_upsert(&token, "Deals", &date).entry(400);
    assert_eq!(entry["details"]["expected_data_type"], "date");
    assert!(crm.records("Accounts").is_empty());
}

#[test]
fn several_problems_of_a_record_come_in_one_entry() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let bad = json!({ "Fieldsync_Id": "1", "Employees": "many", "Industry": "mining" });
    let entry = crm.zoho_upsert(&token, "Accounts", &json!([bad])).entry(400);
    assert_eq!(entry["code"], "MULTIPLE_OR_MULTI_ERRORS");
    let errors = entry["details"]["errors"].as_array().unwrap();
    let codes: Vec<&Value> = errors.iter().map(|error| &error["code"]).collect();
    assert_eq!(codes, ["MANDATORY_NOT_FOUND", "INVALID_DATA", "INVALID_DATA"]);
}

#[test]
fn each_code_of_a_record_comes_on_demand_with_its_details() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    for (magic, code, pointer, expected) in [
        ("INVALID_DATA", "INVALID_DATA", "/json_path", json!("$.data[0].Stand_In")),
        ("INVALID_DATA:unindexed", "INVALID_DATA", "/json_path", json!("$.data.Stand_In")),
        ("MANDATORY_NOT_FOUND", "MANDATORY_NOT_FOUND", "/api_name", json!("Stand_In")),
        ("DEPENDENT_FIELD_MISSING", "DEPENDENT_FIELD_MISSING", "/dependee/api_name", json!("Country")),
        ("DEPENDENT_MISMATCH", "DEPENDENT_MISMATCH", "/dependee/json_path", json!("$.data[0].Country")),
        ("DUPLICATE_DATA:Email", "DUPLICATE_DATA", "/api_name", json!("Email")),
        ("DUPLICATE_DATA", "DUPLICATE_DATA", "/duplicate_record/module/api_name", json!("Accounts")),
        (
            "MULTIPLE_OR_MULTI_ERRORS",
            "MULTIPLE_OR_MULTI_ERRORS",
            "/errors/0/code",
            json!("MANDATORY_NOT_FOUND"),
        ),
        (
            "MULTIPLE_OR_MULTI_ERRORS:RECORD_LOCKED,NOT_ALLOWED",
            "MULTIPLE_OR_MULTI_ERRORS",
            "/errors/1/code",
            json!("NOT_ALLOWED"),
        ),
        ("NOT_APPROVED", "NOT_APPROVED", "/id", json!("4150868000000999001")),
        ("NOT_REVIEWED", "NOT_REVIEWED", "/id", json!("4150868000000999001")),
        ("RECORD_IN_BLUEPRINT", "RECORD_IN_BLUEPRINT", "/id", json!("4150868000000999001")),
        ("RECORD_LOCKED", "RECORD_LOCKED", "/action", json!("record_locking")),
        (
            "DEPENDENT_SERVICE_ERROR",
            "DEPENDENT_SERVICE_ERROR",
            "/dependency_error",
            json!("PROCESSING_ERROR"),
        ),
        (
            "DEPENDENT_SERVICE_ERROR:NO_PERMISSION",
            "DEPENDENT_SERVICE_ERROR",
            "/dependency_error",
            json!("NO_PERMISSION"),
        ),
        ("PATTERN_NOT_MATCHED", "PATTERN_NOT_MATCHED", "/api_name", json!("Stand_In")),
        (
            "EXPECTED_FIELD_MISSING",
            "EXPECTED_FIELD_MISSING",
            "/expected_fields/0/api_name",
            json!("Stand_In"),
        ),
        ("ID_ALREADY_CONVERTED", "ID_ALREADY_CONVERTED", "/id", json!("4150868000000999001")),
        ("NOT_ALLOWED", "NOT_ALLOWED", "", json!({})),
        ("STORAGE_SPACE_EXCEEDED", "STORAGE_SPACE_EXCEEDED", "", json!({})),
    ] {
        let data = json!([account_with(magic, json!({ "Stand_In": magic }))]);
        let entry = crm.zoho_upsert(&token, "Accounts", &data).entry(400);
        assert_eq!(entry["code"], code, "{magic}");
        assert_eq!(entry["details"].pointer(pointer), Some(&expected), "{entry}");
    }
    assert!(crm.records("Accounts").is_empty());
}

#[test]
fn transient_codes_go_away_after_some_tries_and_others_stay() {
    let crm = RunningStandIn::zoho(&["--transient-tries", "2"]);
    let token = crm.zoho_token();
    let tries = |magic: &str| {
        let data = json!([account_with(magic, json!({ "Stand_In": magic }))]);
        [0; 4].map(|_| crm.zoho_upsert(&token, "Accounts", &data).status)
    };
    assert_eq!(tries("RECORD_LOCKED"), [400, 400, 200, 200]);
    assert_eq!(tries("NOT_APPROVED*1"), [400, 200, 200, 200]);
    assert_eq!(tries("INVALID_DATA*3"), [400, 400, 400, 200]);
    assert_eq!(tries("INVALID_DATA"), [400; 4]);
    let stored = crm.records("Accounts");
    assert_eq!(stored.len(), 3);
    assert!(stored.iter().all(|record| record["fields"].get("Stand_In").is_none()));
}

#[test]
fn records_are_locked_by_a_rate() {
    let crm = RunningStandIn::zoho(&["--fault", "lock-records=next:1", "--transient-tries", "1"]);
    let token = crm.zoho_token();
    let data = json!([account("1"), account("2")]);
    let first = crm.zoho_upsert(&token, "Accounts", &data).expect(207);
    let code = first["data"][0]["code"].as_str().unwrap().to_owned();
    assert!(["RECORD_LOCKED", "NOT_APPROVED"].contains(&code.as_str()), "{code}");
    crm.zoho_upsert(&token, "Accounts", &data).expect(200);
}

#[test]
fn another_record_with_a_unique_value_is_named() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let known = crm.zoho_upsert(&token, "Accounts", &json!([account("1"), account("2")])).expect(200);
    // Found by its name, and it takes the unique value of the other one.
    let body = json!({
        "data": [{ "Account_Name": "Account 1", "Fieldsync_Id": "2" }],
        "duplicate_check_fields": ["Account_Name"],
    });
    let entry = crm.zoho_call(&token, "Accounts", &body).entry(400);
    assert_eq!(entry["code"], "DUPLICATE_DATA");
    assert_eq!(entry["details"]["api_name"], "Fieldsync_Id");
    assert_eq!(entry["details"]["duplicate_record"]["id"], known["data"][1]["details"]["id"]);
    assert_eq!(entry["details"]["more_records"], false);
}

#[test]
fn unknown_fields_are_dropped_and_counted_or_refused() {
    let data = json!([account_with("1", json!({ "Colour": "red" }))]);
    let crm = RunningStandIn::zoho(&[]);
    crm.zoho_upsert(&crm.zoho_token(), "Accounts", &data).expect(200);
    assert_eq!(crm.report()["modules"]["Accounts"]["unknown_fields"], json!({ "Colour": 1 }));
    assert!(crm.records("Accounts")[0]["fields"].get("Colour").is_none());
    let crm = RunningStandIn::zoho(&["--unknown-fields", "refuse"]);
    let entry = crm.zoho_upsert(&crm.zoho_token(), "Accounts", &data).entry(400);
    assert_eq!(entry["details"]["api_name"], "Colour");
}
