//! Responses of Salesforce, of the example in `docs`, and of a destination that takes all or nothing.

use std::path::Path;

use serde_json::{Value, json};

use super::super::decode::CallTrouble;
use super::super::encode::encode_record;
use super::super::mapping_check::parse_mapping;
use super::support::{
    decode, hubspot_mapping, receipt_member, record_id, refusal, rejected_field, salesforce_mapping_in,
    test_record,
};
use crate::destination::Verdict;

fn salesforce(status: u16, body: &Value, records: usize) -> Result<Vec<Verdict>, CallTrouble> {
    let mapping = salesforce_mapping_in("https://x.example", Path::new("."));
    decode(&mapping, status, body.to_string().as_bytes(), records).map(|decoded| decoded.verdicts)
}

#[test]
fn salesforce_says_for_each_record_what_was_done_or_what_is_wrong() {
    let body = json!([
        { "id": "001A", "success": true, "errors": [], "created": true },
        { "id": "001B", "success": true, "errors": [], "created": false },
        { "success": false, "errors": [
            { "statusCode": "REQUIRED_FIELD_MISSING", "message": "Required fields are missing: [Name]", "fields": ["Name"] },
            { "statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked", "fields": [] } ] },
        { "success": false, "errors": [
            { "statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked", "fields": [] } ] },
    ]);
    let verdicts = salesforce(200, &body, 4).unwrap();
    let actions = [0, 1].map(|at| receipt_member(&verdicts[at], "action"));
    assert_eq!(actions, ["insert", "update"]);
    assert_eq!(receipt_member(&verdicts[0], "module"), "Account");
    assert_eq!(rejected_field(&verdicts[2]), Some("/account"));
    assert_eq!(refusal(&verdicts[3]), ("UNABLE_TO_LOCK_ROW", false));
}

#[test]
fn the_message_of_salesforce_tells_whose_duplicate_it_is() {
    let duplicate = |field: &str, id: &str| {
        let message = format!("duplicate value found: {field} duplicates value on record with id: {id}");
        let error = json!({ "statusCode": "DUPLICATE_VALUE", "message": message, "fields": [] });
        salesforce(200, &json!([{ "success": false, "errors": [error] }]), 1).unwrap().remove(0)
    };
    assert_eq!(receipt_member(&duplicate("Fieldsync_Id__c", "a01x"), "id"), "a01x");
    assert_eq!(refusal(&duplicate("Fieldsync_Id__c", "<unknown>")), ("DUPLICATE_VALUE", false));
    assert_eq!(rejected_field(&duplicate("Email__c", "a01x")), Some("/mail"));
}

#[test]
fn a_refusal_of_the_whole_call_is_not_read_as_results() {
    let refused = |code: &str| json!([{ "errorCode": code, "message": "m" }]);
    let trouble = |status, code: &str| salesforce(status, &refused(code), 1).unwrap_err();
    assert!(matches!(trouble(401, "INVALID_SESSION_ID"), CallTrouble::AuthExpired { .. }));
    assert!(matches!(trouble(403, "REQUEST_LIMIT_EXCEEDED"), CallTrouble::Throttled { is_limit: true, .. }));
    assert!(matches!(trouble(404, "NOT_FOUND"), CallTrouble::Stopped { .. }));
    assert!(matches!(trouble(400, "JSON_PARSER_ERROR"), CallTrouble::Refused { .. }));
    assert!(matches!(trouble(503, "SERVER_UNAVAILABLE"), CallTrouble::Throttled { is_limit: false, .. }));
    assert!(matches!(trouble(500, "UNKNOWN_EXCEPTION"), CallTrouble::Unknown { .. }));
}

#[test]
fn the_example_for_hubspot_finds_results_by_what_it_repeats() {
    let mapping = hubspot_mapping();
    let trace = |number| record_id(number).to_string();
    let body = json!({
        "status": "COMPLETE", "numErrors": 1,
        "results": [
            { "id": "902", "new": false, "objectWriteTraceId": trace(3) },
            { "id": "901", "new": true, "objectWriteTraceId": trace(1) },
        ],
        "errors": [{
            "status": "error", "category": "VALIDATION_ERROR", "message": "many was not a valid number",
            "context": { "objectWriteTraceId": [trace(2)], "propertyName": ["numberofemployees"] },
        }],
    });
    let verdicts = decode(&mapping, 207, body.to_string().as_bytes(), 3).unwrap().verdicts;
    assert_eq!([0, 2].map(|at| receipt_member(&verdicts[at], "id")), ["901", "902"]);
    assert_eq!([0, 2].map(|at| receipt_member(&verdicts[at], "action")), ["insert", "update"]);
    assert_eq!(rejected_field(&verdicts[1]), Some("/employees"));
    for records in [2, 4] {
        let trouble = decode(&mapping, 207, body.to_string().as_bytes(), records).unwrap_err();
        assert!(matches!(trouble, CallTrouble::Unknown { .. }), "{records}");
    }
    let limited = json!({ "status": "error", "category": "RATE_LIMITS", "message": "m" });
    let trouble = decode(&mapping, 429, limited.to_string().as_bytes(), 3).unwrap_err();
    assert!(matches!(trouble, CallTrouble::Throttled { .. }));
}

#[test]
fn an_atomic_destination_applies_all_or_refuses_the_call() {
    let mapping = parse_mapping(super::canned_server::ATOMIC_MAPPING).unwrap();
    let verdicts = decode(&mapping, 204, b"", 2).unwrap().verdicts;
    assert_eq!([0, 1].map(|at| receipt_member(&verdicts[at], "module")), ["accounts", "accounts"]);
    for name in ["@odata.id", "@ODATA.ID", "sync_id"] {
        let record = test_record(1, "Accounts", None, &json!({ name: "accounts(1)" }).to_string());
        assert!(encode_record(&mapping, &mapping.types[0], &record).is_err(), "{name}");
    }
    let body = json!({ "error": { "code": "0x80040265", "message": "m" } }).to_string();
    assert!(matches!(decode(&mapping, 400, body.as_bytes(), 2), Err(CallTrouble::Refused { .. })));
}
