//! Responses of Zoho, and what they mean.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::decode::CallTrouble;
use super::support::{
    decode, receipt_member, refusal, rejected_field, salesforce_mapping_in, zoho_test_mapping,
};
use crate::destination::Verdict;

fn zoho(status: u16, body: &Value, records: usize) -> Result<Vec<Verdict>, CallTrouble> {
    let mapping = zoho_test_mapping("https://accounts.example");
    decode(&mapping, status, body.to_string().as_bytes(), records).map(|decoded| decoded.verdicts)
}

fn success(id: &str) -> Value {
    json!({ "code": "SUCCESS", "status": "success", "action": "insert", "message": "record added",
            "duplicate_field": null, "details": { "id": id } })
}

fn error(code: &str, details: &Value) -> Value {
    json!({ "code": code, "status": "error", "message": "invalid data", "details": details })
}

fn field_error(index: usize, field: &str) -> Value {
    error("INVALID_DATA", &json!({ "api_name": field, "json_path": format!("$.data[{index}].{field}") }))
}

fn is_unknown(result: &Result<Vec<Verdict>, CallTrouble>) -> bool {
    matches!(result, Err(CallTrouble::Unknown { .. }))
}

#[test]
fn each_record_gets_its_own_verdict_also_when_all_failed() {
    let body = json!({ "data": [success("41"), field_error(1, "Employees")] });
    let verdicts = zoho(207, &body, 2).unwrap();
    assert_eq!(receipt_member(&verdicts[0], "id"), "41");
    assert_eq!(receipt_member(&verdicts[0], "module"), "Accounts");
    assert_eq!(receipt_member(&verdicts[0], "action"), "insert");
    assert_eq!(rejected_field(&verdicts[1]), Some("/employees"));
    let body = json!({ "data": [field_error(0, "Employees"), field_error(1, "Email")] });
    let verdicts = zoho(400, &body, 2).unwrap();
    assert_eq!(verdicts.iter().map(rejected_field).collect::<Vec<_>>(), [Some("/employees"), Some("/mail")]);
}

#[test]
fn a_rejection_has_the_words_and_details_of_the_destination() {
    let details = json!({ "api_name": "Employees", "json_path": "$.data[0].Employees", "expected_data_type": "integer" });
    let verdicts = zoho(400, &json!({ "data": [error("INVALID_DATA", &details)] }), 1).unwrap();
    let message = "invalid data (Employees, expected_data_type: integer)";
    let field = Some("/employees".into());
    assert_eq!(verdicts, [Verdict::Rejected { code: "INVALID_DATA".into(), message: message.into(), field }]);
    let subform = error("INVALID_DATA", &json!({ "api_name": "Qty", "json_path": "$.data[0].Lines[2].Qty" }));
    assert_eq!(
        rejected_field(&zoho(400, &json!({ "data": [subform] }), 1).unwrap()[0]),
        Some("/Lines/2/Qty")
    );
}

#[test]
fn results_that_do_not_certainly_belong_to_the_records_leave_the_outcome_unknown() {
    let two = |first: Value, second: Value| json!({ "data": [first, second] });
    let unknown = [
        json!({ "data": [success("1")] }),
        json!({ "data": [success("1"), success("2"), success("3")] }),
        json!({ "data": [] }),
        json!({ "data": {} }),
        json!({}),
        json!([]),
        json!(null),
        two(success("1"), success("1")),
        two(success("1"), json!({ "status": "success" })),
        two(success("1"), success("<b>")),
        two(success("1"), json!("ok")),
        two(success("1"), field_error(7, "Email")),
        two(field_error(1, "Email"), field_error(1, "Email")),
    ];
    for body in unknown {
        assert!(is_unknown(&zoho(200, &body, 2)), "{body}");
    }
    let mapping = zoho_test_mapping("https://accounts.example");
    for body in ["", "<html></html>", "{\"data\":[{\"code\":\"SUCC", "\u{0}"] {
        let decoded = decode(&mapping, 200, body.as_bytes(), 2).map(|decoded| decoded.verdicts);
        assert!(is_unknown(&decoded), "{body}");
    }
}

#[test]
fn results_in_another_order_count_if_their_errors_tell_it() {
    let body = json!({ "data": [field_error(2, "Email"), success("1"), field_error(0, "Employees")] });
    let verdicts = zoho(207, &body, 3).unwrap();
    assert_eq!(rejected_field(&verdicts[0]), Some("/employees"));
    assert_eq!(receipt_member(&verdicts[1], "id"), "1");
    assert_eq!(rejected_field(&verdicts[2]), Some("/mail"));
    let ambiguous = json!({ "data": [field_error(2, "Email"), success("1"), success("2")] });
    assert!(is_unknown(&zoho(207, &ambiguous, 3)));
    // An example of the vendor has no index.
    let unindexed =
        error("INVALID_DATA", &json!({ "api_name": "service", "json_path": "$.data.service.id" }));
    let verdicts = zoho(207, &json!({ "data": [success("1"), unindexed] }), 2).unwrap();
    assert_eq!(rejected_field(&verdicts[1]), Some("/service/id"));
}

#[test]
fn a_duplicate_is_ours_only_by_the_field_with_the_records_id() {
    let duplicate = |field: &str, record: &Value| {
        let path = format!("$.data[0].{field}");
        let details = json!({ "api_name": field, "json_path": path, "duplicate_record": record });
        zoho(400, &json!({ "data": [error("DUPLICATE_DATA", &details)] }), 1).unwrap().remove(0)
    };
    let record = json!({ "id": "77", "module": { "api_name": "Accounts" } });
    let ours = duplicate("Fieldsync_Id", &record);
    assert_eq!(
        (receipt_member(&ours, "id"), receipt_member(&ours, "action")),
        ("77".into(), "exists".into())
    );
    let Verdict::Rejected { message, field, .. } = duplicate("Email", &record) else { panic!() };
    assert!(message.starts_with("possible duplicate of Accounts 77: "), "{message}");
    assert_eq!(field.as_deref(), Some("/mail"));
    // Without its id there is no receipt: the next upsert brings one.
    assert_eq!(refusal(&duplicate("Fieldsync_Id", &json!({}))), ("DUPLICATE_DATA", false));
}

#[test]
fn several_errors_count_by_the_worst_and_what_stops_rejects_nothing() {
    let several = |codes: &[&str]| {
        let path = json!({ "api_name": "Email", "json_path": "$.data[1].Email" });
        let errors: Vec<Value> = codes.iter().map(|code| error(code, &path)).collect();
        let entry = error("MULTIPLE_OR_MULTI_ERRORS", &json!({ "errors": errors }));
        let mapping = zoho_test_mapping("https://accounts.example");
        let body = json!({ "data": [success("1"), entry] }).to_string();
        decode(&mapping, 207, body.as_bytes(), 2).unwrap()
    };
    for (codes, expected) in [
        (&["MANDATORY_NOT_FOUND", "INVALID_DATA"][..], ("MANDATORY_NOT_FOUND", true)),
        (&["RECORD_LOCKED", "INVALID_DATA"], ("INVALID_DATA", true)),
        (&["RECORD_LOCKED", "NOT_APPROVED"], ("RECORD_LOCKED", false)),
        (&["DUPLICATE_DATA", "RECORD_LOCKED"], ("DUPLICATE_DATA", true)),
        (&["NEVER_SEEN"], ("NEVER_SEEN", false)),
    ] {
        let decoded = several(codes);
        assert_eq!(refusal(&decoded.verdicts[1]), expected, "{codes:?}");
        assert_eq!(decoded.stop, None, "{codes:?}");
    }
    assert_eq!(refusal(&several(&[]).verdicts[1]), ("MULTIPLE_OR_MULTI_ERRORS", false));
    let beside = json!({ "code": "MULTIPLE_OR_MULTI_ERRORS", "status": "error", "message": "m", "details": {},
                         "errors": [field_error(0, "Email"), error("RECORD_LOCKED", &json!({}))] });
    let verdicts = zoho(400, &json!({ "data": [beside] }), 1).unwrap();
    assert_eq!(rejected_field(&verdicts[0]), Some("/mail"));
    let decoded = several(&["MANDATORY_NOT_FOUND", "NO_PERMISSION", "INVALID_DATA"]);
    assert_eq!(refusal(&decoded.verdicts[1]), ("DESTINATION_STOPPED", false));
    assert!(decoded.stop.unwrap().starts_with("NO_PERMISSION"));
}

#[test]
fn what_the_mapping_got_wrong_stops_and_rejects_nothing() {
    let stopped = |status, body: &Value, records| {
        let result = zoho(status, body, records);
        assert!(matches!(result, Err(CallTrouble::Stopped { .. })), "{body}: {result:?}");
    };
    let check_fields =
        json!({ "api_name": "duplicate_check_fields", "json_path": "$.duplicate_check_fields[0]" });
    for details in
        [check_fields, json!({ "api_name": "data", "json_path": "$.data" }), json!({ "json_path": "$" })]
    {
        let error = error("INVALID_DATA", &details);
        for records in [1, 3] {
            stopped(400, &error, records);
            stopped(400, &json!({ "data": [error.clone()] }), records);
        }
    }
    let module = error("INVALID_MODULE", &json!({ "resource_path_index": 0 }));
    for records in [2, 100] {
        stopped(400, &module, records);
        stopped(400, &json!({ "data": [module.clone()] }), records);
    }
    let own_field = field_error(0, "Fieldsync_Id");
    let mapping = zoho_test_mapping("https://accounts.example");
    let decoded = decode(&mapping, 400, json!({ "data": [own_field] }).to_string().as_bytes(), 1).unwrap();
    assert_eq!(refusal(&decoded.verdicts[0]), ("DESTINATION_STOPPED", false));
    assert!(decoded.stop.is_some());
}

#[test]
fn mixed_results_are_certain_only_if_the_errors_name_their_records() {
    let is_certain = |entries: &[Value]| {
        let mapping = zoho_test_mapping("https://accounts.example");
        let body = json!({ "data": entries }).to_string();
        decode(&mapping, 207, body.as_bytes(), entries.len()).unwrap().is_certain
    };
    let unnamed = |code: &str| error(code, &json!({}));
    assert!(is_certain(&[success("1"), success("2")]));
    assert!(is_certain(&[success("1"), field_error(1, "Email"), success("2")]));
    assert!(is_certain(&[unnamed("NOT_ALLOWED"), field_error(1, "Email")]));
    assert!(is_certain(&[unnamed("NOT_ALLOWED")]));
    assert!(!is_certain(&[success("1"), unnamed("NOT_ALLOWED")]));
    assert!(!is_certain(&[unnamed("RECORD_LOCKED"), unnamed("NOT_ALLOWED")]));
    assert!(!is_certain(&[success("1"), unnamed("RECORD_LOCKED"), field_error(2, "Email")]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_responses_never_panic_and_never_leave_a_record_out(
        status in prop_oneof![Just(200u16), Just(207), Just(400), 100u16..600],
        body in prop_oneof![any_bytes(), any_results()],
        records in 0usize..5,
    ) {
        for mapping in [
            zoho_test_mapping("https://accounts.example"),
            salesforce_mapping_in("https://x.example", std::path::Path::new(".")),
            super::support::hubspot_mapping(),
        ] {
            if let Ok(decoded) = decode(&mapping, status, &body, records) {
                prop_assert_eq!(decoded.verdicts.len(), records);
            }
        }
    }
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..100)
}

/// Entries that are nearly right.
fn any_results() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::sample::select(vec![
        "SUCCESS",
        "INVALID_DATA",
        "DUPLICATE_DATA",
        "RECORD_LOCKED",
        "NO_PERMISSION",
        "TOO_MANY_REQUESTS",
        "X",
    ]);
    let path = prop::sample::select(vec![
        "$.data[0].A",
        "$.data[1]",
        "$.data",
        "$",
        "$.data[99999999999999999999].A",
        "][",
    ]);
    let entry = (code, path, 0u8..4, any::<bool>()).prop_map(|(code, path, id, is_ok)| {
        let status = if is_ok { "success" } else { "error" };
        let details = json!({ "id": id.to_string(), "api_name": "A", "json_path": path });
        json!({ "code": code, "status": status, "details": details, "success": is_ok, "id": id.to_string(),
                "errors": [{ "statusCode": code }] })
    });
    (prop::collection::vec(entry, 0..5), 0u8..3).prop_map(|(entries, shape)| {
        let body = match shape {
            0 => json!({ "data": entries }),
            1 => json!(entries),
            _ => json!({ "results": entries, "errors": entries }),
        };
        body.to_string().into_bytes()
    })
}
