//! Every code of Zoho's table by its class, and what a status means without one.

use serde_json::json;

use super::super::decode::CallTrouble;
use super::support::{decode, refusal, zoho_test_mapping};

/// What a result with this code makes of its record.
fn verdict_of(code: &str, qualifier: Option<&str>) -> (String, bool, bool) {
    let mapping = zoho_test_mapping("https://accounts.example");
    let entry = |code: &str| json!({ "code": code, "status": "error", "message": "m", "details": { "dependency_error": qualifier } });
    let ok = json!({ "code": "SUCCESS", "status": "success", "details": { "id": "1" } });
    let body = json!({ "data": [ok, entry(code)] }).to_string();
    let decoded = decode(&mapping, 207, body.as_bytes(), 2).unwrap();
    let (code, is_rejected) = refusal(&decoded.verdicts[1]);
    (code.to_owned(), is_rejected, decoded.stop.is_some())
}

#[test]
fn codes_of_records_are_rejected_retried_or_stop() {
    for code in [
        "INVALID_DATA",
        "MANDATORY_NOT_FOUND",
        "DEPENDENT_FIELD_MISSING",
        "DEPENDENT_MISMATCH",
        "DUPLICATE_DATA",
        "PATTERN_NOT_MATCHED",
        "EXPECTED_FIELD_MISSING",
        "ID_ALREADY_CONVERTED",
        "NOT_ALLOWED",
    ] {
        assert_eq!(verdict_of(code, None), (code.to_owned(), true, false));
    }
    for code in
        ["NOT_APPROVED", "NOT_REVIEWED", "RECORD_LOCKED", "RECORD_IN_BLUEPRINT", "DEPENDENT_SERVICE_ERROR"]
    {
        assert_eq!(verdict_of(code, Some("LIMIT_EXCEEDED")), (code.to_owned(), false, false));
    }
    for code in ["A_CODE_OF_THE_FUTURE", "MULTIPLE_OR_MULTI_ERRORS"] {
        assert_eq!(verdict_of(code, None), (code.to_owned(), false, false));
    }
    let stopped = ("DESTINATION_STOPPED".to_owned(), false, true);
    for code in ["INVALID_MODULE", "INVALID_REQUEST_METHOD", "AUTHORIZATION_FAILED", "STORAGE_SPACE_EXCEEDED"]
    {
        assert_eq!(verdict_of(code, None), stopped, "{code}");
    }
    assert_eq!(verdict_of("DEPENDENT_SERVICE_ERROR", Some("NO_PERMISSION")), stopped);
}

#[derive(Debug, PartialEq, Eq)]
enum TroubleKind {
    Unknown,
    Throttled,
    AuthExpired,
    Stopped,
    Denied,
    Later,
    Refused,
    TooLarge,
}

fn trouble_of(status: u16, body: &str) -> TroubleKind {
    let mapping = zoho_test_mapping("https://accounts.example");
    match decode(&mapping, status, body.as_bytes(), 3).unwrap_err() {
        CallTrouble::Unknown { .. } => TroubleKind::Unknown,
        CallTrouble::Throttled { .. } => TroubleKind::Throttled,
        CallTrouble::AuthExpired { .. } => TroubleKind::AuthExpired,
        CallTrouble::Stopped { .. } => TroubleKind::Stopped,
        CallTrouble::Denied { .. } => TroubleKind::Denied,
        CallTrouble::Later { .. } => TroubleKind::Later,
        CallTrouble::Refused { .. } => TroubleKind::Refused,
        CallTrouble::TooLarge { .. } => TroubleKind::TooLarge,
    }
}

#[test]
fn codes_of_calls_are_told_apart() {
    let cases = [
        (401, "INVALID_TOKEN", TroubleKind::AuthExpired),
        (401, "AUTHENTICATION_FAILURE", TroubleKind::AuthExpired),
        (401, "OAUTH_SCOPE_MISMATCH", TroubleKind::Stopped),
        (403, "NO_PERMISSION", TroubleKind::Stopped),
        (404, "INVALID_URL_PATTERN", TroubleKind::Stopped),
        (400, "INVALID_HOST", TroubleKind::Stopped),
        (400, "INVALID_MODULE", TroubleKind::Stopped),
        (400, "A_CODE_OF_THE_FUTURE", TroubleKind::Denied),
        (403, "NOT_ALLOWED", TroubleKind::Refused),
        (412, "ALREADY_MODIFIED", TroubleKind::Later),
        (400, "LIMIT_EXCEEDED", TroubleKind::TooLarge),
        (400, "PATTERN_NOT_MATCHED", TroubleKind::Refused),
        (429, "TOO_MANY_REQUESTS", TroubleKind::Throttled),
        (429, "RATE_LIMIT_EXCEEDED", TroubleKind::Throttled),
        (500, "INTERNAL_ERROR", TroubleKind::Unknown),
        (503, "SERVICE_UNAVAILABLE", TroubleKind::Throttled),
        (500, "INVALID_DATA", TroubleKind::Unknown),
    ];
    for (status, code, expected) in cases {
        let error = json!({ "code": code, "message": "m", "status": "error", "details": {} });
        assert_eq!(trouble_of(status, &error.to_string()), expected, "{code}");
        assert_eq!(trouble_of(status, &json!({ "data": [error] }).to_string()), expected, "{code} in data");
    }
}

#[test]
fn a_status_without_a_code_of_the_destination_never_rejects() {
    let cases = [
        (200, TroubleKind::Unknown),
        (302, TroubleKind::Unknown),
        (400, TroubleKind::Unknown),
        (401, TroubleKind::AuthExpired),
        (403, TroubleKind::Denied),
        (404, TroubleKind::Denied),
        (408, TroubleKind::Unknown),
        (413, TroubleKind::TooLarge),
        (429, TroubleKind::Throttled),
        (500, TroubleKind::Unknown),
        (502, TroubleKind::Unknown),
        (503, TroubleKind::Unknown),
        (504, TroubleKind::Unknown),
    ];
    for (status, expected) in cases {
        for body in ["", "<html><h1>Sorry</h1></html>", "{}", "{\"data\":[{\"co"] {
            assert_eq!(trouble_of(status, body), expected, "{status} {body}");
        }
    }
}

#[test]
fn a_throttled_call_says_how_long_and_how_many() {
    let mapping = zoho_test_mapping("https://accounts.example");
    let details = json!({ "retry_after": 7, "limit": 5, "window": 1 });
    let body = json!({ "code": "TOO_MANY_REQUESTS", "message": "m", "status": "error", "details": details });
    let trouble = decode(&mapping, 429, body.to_string().as_bytes(), 1).unwrap_err();
    let CallTrouble::Throttled { after, limit, is_limit, .. } = trouble else { panic!() };
    assert_eq!((after.map(|after| after.as_secs()), limit, is_limit), (Some(7), Some(5), true));
}
