//! Bodies and addresses of calls.

use std::path::Path;

use serde_json::{Value, json};

use super::super::encode::{EncodedRecord, encode_body, encode_record, encode_url};
use super::super::mapping::HttpMapping;
use super::support::{
    account, hubspot_mapping, record_id, salesforce_mapping_in, test_record, zoho_test_mapping,
};
use crate::destination::Verdict;

fn encode(mapping: &HttpMapping, payload: &str) -> Result<EncodedRecord, Verdict> {
    encode_record(mapping, &mapping.types[0], &test_record(7, "Accounts", Some("a\"b"), payload))
}

fn encode_call(mapping: &HttpMapping, payload: &str) -> Value {
    let encoded = encode(mapping, payload).unwrap();
    serde_json::from_slice(&encode_body(mapping, &mapping.types[0], [&encoded].into_iter())).unwrap()
}

#[test]
fn zoho_gets_the_unique_field_the_trigger_and_renamed_fields() {
    let mut mapping = zoho_test_mapping("https://accounts.example");
    let id = record_id(7).to_string();
    let body = encode_call(&mapping, r#"{"account": "Acme", "Rating": 5}"#);
    let data = json!([{ "Account_Name": "Acme", "Rating": 5, "Fieldsync_Key": "a\"b", "Fieldsync_Id": id }]);
    assert_eq!(body, json!({ "duplicate_check_fields": ["Fieldsync_Id"], "trigger": [], "data": data }));
    mapping.types[0].trigger = None;
    assert_eq!(encode_call(&mapping, "{}").get("trigger"), None);
    let url = encode_url(&mapping, &mapping.types[1], "https://www.zohoapis.eu/");
    assert_eq!(url, "https://www.zohoapis.eu/crm/v8/Deals/upsert");
}

#[test]
fn salesforce_gets_the_external_id_in_the_address_and_the_type_in_each_record() {
    let mapping = salesforce_mapping_in("https://x.example", Path::new("."));
    let id = record_id(7).to_string();
    let record = json!({
        "attributes": { "type": "Account" }, "Name": "Acme", "Fieldsync_Key__c": "a\"b", "Fieldsync_Id__c": id,
    });
    assert_eq!(
        encode_call(&mapping, r#"{"account": "Acme"}"#),
        json!({ "allOrNone": false, "records": [record] })
    );
    let url = encode_url(&mapping, &mapping.types[0], "https://x.example");
    assert_eq!(url, "https://x.example/services/data/v62.0/composite/sobjects/Account/Fieldsync_Id__c");
}

#[test]
fn a_key_that_is_not_in_the_body_stands_beside_the_fields() {
    let mapping = hubspot_mapping();
    let id = record_id(7).to_string();
    let properties = json!({ "name": "Acme", "lifecyclestage": "customer" });
    let input =
        json!({ "id": id, "idProperty": "fieldsync_id", "objectWriteTraceId": id, "properties": properties });
    assert_eq!(encode_call(&mapping, r#"{"account": "Acme"}"#), json!({ "inputs": [input] }));
}

#[test]
fn values_are_copied_digit_by_digit() {
    let mapping = zoho_test_mapping("https://accounts.example");
    let encoded =
        encode(&mapping, r#"{"a": 1.50, "b": 12345678901234567890123, "c": {"d": [1e400]}}"#).unwrap();
    assert!(encoded.as_str().starts_with(r#"{"a":1.50,"b":12345678901234567890123,"c":{"d": [1e400]},"#));
}

#[test]
fn a_payload_never_sets_what_the_mapping_or_the_destination_sets() {
    let mapping = zoho_test_mapping("https://accounts.example");
    let cases = [
        (r#"{"id": "4150868000000000001"}"#, "/id"),
        (r#"{"ID": "4150868000000000001"}"#, "/ID"),
        (r#"{"\u0069d": 1}"#, "/id"),
        (r#"{"Fieldsync_Id": "1"}"#, "/Fieldsync_Id"),
        (r#"{"FIELDSYNC_KEY": "1"}"#, "/FIELDSYNC_KEY"),
        (r#"{"account": "a", "Account_Name": "b"}"#, "/Account_Name"),
        (r#"{"a": 1, "a": 2}"#, "/a"),
    ];
    for (payload, field) in cases {
        let Err(Verdict::Rejected { code, field: found, .. }) = encode(&mapping, payload) else {
            panic!("{payload}")
        };
        assert_eq!((code.as_str(), found.as_deref()), ("INVALID_DATA", Some(field)), "{payload}");
    }
    let mut renamed = mapping.clone();
    renamed.types[0].fields.insert("id".into(), "App_Id".into());
    assert!(encode(&renamed, r#"{"id": 1}"#).unwrap().as_str().starts_with(r#"{"App_Id":1,"#));
    for payload in ["[]", "1", "null"] {
        assert!(encode(&mapping, payload).is_err(), "{payload}");
    }
}

#[test]
fn several_records_make_one_array_and_a_mapping_may_have_nothing_around_it() {
    let mut mapping = zoho_test_mapping("https://accounts.example");
    mapping.wrap.name.clear();
    mapping.wrap.constants.clear();
    let encoded =
        [1, 2].map(|number| encode_record(&mapping, &mapping.types[0], &account(number, None, "")).unwrap());
    let body: Value =
        serde_json::from_slice(&encode_body(&mapping, &mapping.types[0], encoded.iter())).unwrap();
    let names: Vec<&Value> = body.as_array().unwrap().iter().map(|record| &record["Account_Name"]).collect();
    assert_eq!(names, ["Account 1", "Account 2"]);
}
