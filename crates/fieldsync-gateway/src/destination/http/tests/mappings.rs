//! What a mapping may say, and how mistakes are reported.

use std::path::Path;

use super::super::mapping::HttpMapping;
use super::super::mapping_check::{check_complete, parse_mapping};
use super::super::presets::{SalesforceSettings, check_zoho_triggers, salesforce_mapping};
use super::support::{hubspot_mapping, salesforce_mapping_in, zoho_test_mapping};

const MINIMAL: &str = "
method = 'POST'
url = 'https://crm.example/{module}'
max_records = 10
wrap = { name = 'data' }
results = { path = '/data', ok = { path = '/ok', value = true } }
codes = { other = 'rejected' }
auth = { kind = 'bearer-file', credentials = { token_file = 'token' } }

[[type]]
name = 'Visits'
id_field = 'Sync_Id'
";

fn check(text: &str) -> Result<HttpMapping, String> {
    let mapping = parse_mapping(text).map_err(|error| error.to_string())?;
    check_complete(&mapping).map_err(|error| error.to_string())?;
    Ok(mapping)
}

#[test]
fn the_presets_and_the_example_are_complete() {
    let zoho = zoho_test_mapping("https://accounts.zoho.eu/");
    assert_eq!(zoho.auth.token_url.as_deref(), Some("https://accounts.zoho.eu/oauth/v2/token"));
    for mapping in
        [zoho, salesforce_mapping_in("https://x.my.salesforce.com", Path::new(".")), hubspot_mapping()]
    {
        check_complete(&mapping).unwrap();
    }
    let settings = SalesforceSettings {
        login_url: "https://x.my.salesforce.com".into(),
        api_version: "v65.0".into(),
        client_id: "id".into(),
        client_secret_file: "secret".into(),
    };
    assert!(salesforce_mapping(&settings).unwrap().url.contains("/v65.0/"));
    for version in ["62.0", "v62", "v62.0/../x", ""] {
        let settings = SalesforceSettings { api_version: version.into(), ..settings.clone() };
        assert!(salesforce_mapping(&settings).is_err(), "{version}");
    }
}

#[test]
fn no_type_sets_a_name_that_means_something_to_zoho_or_triggers_what_zoho_does_not_know() {
    let check = |text: &str| {
        let mut mapping = zoho_test_mapping("https://accounts.zoho.eu");
        mapping.types = vec![toml::from_str(&format!("name = 'Visits'\n{text}")).unwrap()];
        check_zoho_triggers(&mapping.types).and_then(|()| check_complete(&mapping))
    };
    let every = "['workflow', 'approval', 'blueprint', 'pathfinder', 'orchestration']";
    check(&format!("id_field = 'A'\ntrigger = {every}")).unwrap();
    for (text, expected) in [
        ("id_field = 'id'", "must not set `id`"),
        ("id_field = 'A'\nkey_field = 'ID'", "must not set `ID`"),
        ("id_field = 'A'\nconstants = { Id = 1 }", "must not set `Id`"),
        ("id_field = 'A'\nfields = { b = 'id' }", "`type.fields.b` of `Visits` must not be `id`"),
        ("id_field = 'A'\ntrigger = ['workflows']", "`type.trigger` of `Visits` has `workflows`"),
    ] {
        let error = check(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_mistake_is_reported_with_its_place_and_without_what_may_be_a_secret() {
    let cases = [
        ("'POST'", "'GET'", "line 2, column 10: method: unknown variant `GET`"),
        ("name = 'data'", "name = 5111", "wrap: wrong type, expected"),
        ("'bearer-file'", "'s3cret'", "line 8, column 17: auth: wrong type, expected one of"),
        ("token_file = 'token'", "client_secret = 's3cret'", "unknown key client_secret"),
        ("token_file = 'token'", "client_secret_file = 5111", "auth: wrong type, expected"),
        ("token_file = 'token'", "token_file = 's3cret", ", column "),
        ("token_file = 'token'", "token_file = s3cret", ", column "),
        ("codes =", "headers = { 'X-Key' = 5111 }\ncodes =", "headers: wrong type, expected a string"),
    ];
    for (good, bad, expected) in cases {
        assert!(MINIMAL.contains(good), "{good}");
        let error = check(&MINIMAL.replace(good, bad)).map(|_| ()).expect_err(bad);
        assert!(error.contains(expected), "{bad}: {error}");
        assert!(!error.contains("s3cret") && !error.contains("5111") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_mistake_is_reported_with_its_key() {
    check(MINIMAL).unwrap();
    let cases = [
        ("max_records = 10", "max_records = 0", "`max_records` must not be zero"),
        ("max_records = 10", "max_record = 10", "max_record"),
        ("'POST'", "'GET'", "GET"),
        ("{module}'", "{modul}'", "`url` cannot use `{modul}`"),
        ("https://crm", "ftp://crm", "`url` must be an http"),
        ("https://crm", "https://me:secret@crm", "`url` must be an http"),
        ("https://crm.example", "{api}", "`api` is needed"),
        ("path = '/data'", "path = 'data'", "is not a JSON Pointer"),
        (", ok = { path = '/ok', value = true }", "", "`results.ok` is needed"),
        ("path = '/data', ", "", "`results.path` is needed"),
        ("results = {", "results = { by = 'field', ", "`results.record_id` is needed"),
        ("results = {", "results = { errors_path = '/e', ", "`results.errors_path` needs"),
        ("other =", "stop = ['A'], retry = ['A'], other =", "has `A`"),
        ("token_file = 'token'", "", "`auth.credentials.token_file` is needed"),
        ("'bearer-file'", "'oauth-refresh'", "`auth.token_url` is needed"),
        ("wrap = { name = 'data' }", "wrap = { name = '', constants = { a = 1 } }", "`wrap.constants` needs"),
        ("name = 'data'", "name = 'data', constants = { a = '{b}' }", "`wrap.constants` cannot use `{b}`"),
        ("name = 'data'", "name = 'data', constants = { a = 2026-01-01 }", "`wrap.constants` has a date"),
        ("codes =", "limits = { call_timeout = '0s' }\ncodes =", "must not be zero"),
        ("codes =", "limits = { call_timeout = '25h' }\ncodes =", "`limits.call_timeout` must not be longer"),
        ("credentials =", "token_window = '2d', credentials =", "`auth.token_window` must not be longer"),
        (
            "credentials =",
            "max_token_requests = 0, credentials =",
            "`auth.max_token_requests` must not be zero",
        ),
        ("id_field = 'Sync_Id'", "id_field = 'A'\nconstants = { b = nan }", "`type.constants` has a number"),
        (
            "id_field = 'Sync_Id'",
            "id_field = 'A'\nconstants = { b = [-inf] }",
            "`type.constants` has a number",
        ),
        ("id_field = 'Sync_Id'", "id_field = 'A'\nconstants = { a = 1 }", "sets the field `a` twice"),
        ("codes =", "limits = { max_in_flight = 0 }\ncodes =", "`limits.max_in_flight` must"),
        ("codes =", "limits = { small_call_records = 10 }\ncodes =", "`limits.small_call_records` needs"),
        ("id_field = 'Sync_Id'", "id_field = '../x'", "`type.id_field` of `Visits`"),
        ("id_field = 'Sync_Id'", "id_field = 'A'\nkey_field = 'a'", "sets the field `a` twice"),
        (
            "id_field = 'Sync_Id'",
            "id_field = 'A'\nfields = { b = 'A' }",
            "`type.fields.b` of `Visits` must not",
        ),
        ("id_field = 'Sync_Id'", "id_field = 'A'\nfields = { b = 'C', c = 'C' }", "has `C` twice"),
        (
            "id_field = 'Sync_Id'",
            "id_field = 'A'\n[[type]]\nname = 'Visits'\nid_field = 'B'",
            "has `Visits` twice",
        ),
        ("[[type]]\nname = 'Visits'\nid_field = 'Sync_Id'", "", "`type` is needed"),
    ];
    for (good, bad, expected) in cases {
        assert!(MINIMAL.contains(good), "{good}");
        let error = check(&MINIMAL.replace(good, bad)).map(|_| ()).expect_err(bad);
        assert!(error.contains(expected), "{bad}: {error}");
    }
}
