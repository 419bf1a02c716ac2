//! Calls that a destination denies, and what that means for their records and the others of their type.

use serde_json::{Value, json};

use super::canned_server::CannedDestination;
use super::support::{refusal, test_record};
use crate::destination::{Destination, DestinationCondition, Verdict};
use crate::validated_batch::ValidatedRecord;

/// A destination with a result for each record, played by a thread.
const MAPPING: &str = r#"
api = "http://127.0.0.1:9"
method = "POST"
url = "{api}/{module}"
max_records = 100

[wrap]
name = "data"

[results]
statuses = [200, 400]
path = "/data"
ok = { path = "/status", value = "success" }
id = "/id"
code = "/code"
message = "/message"
index = { paths = ["/path"], root = "$.data" }

[call_error]
paths = [""]
code = "/code"
message = "/message"

[codes]
rejected = ["NOT_ALLOWED"]
retry = ["ALREADY_MODIFIED"]
stop = ["NO_PERMISSION"]
too_large = ["LIMIT_EXCEEDED"]
other = "retry"

[limits]
record_retry_after = "5m"

[auth]
kind = "bearer-file"
credentials = { token_file = "token" }

[[type]]
name = "Accounts"
id_field = "sync_id"
"#;

fn respond(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Applies all records; the destination's id of each is a part of its own.
fn apply(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let result = |record: &Value| {
        let id = record["name"].as_str().unwrap();
        json!({ "status": "success", "id": id })
    };
    let results: Vec<Value> = body["data"].as_array().unwrap().iter().map(result).collect();
    respond(200, &json!({ "data": results }).to_string())
}

/// Applies calls without a faulty record, and answers the others like this.
fn destination(status: u16, body: &'static str) -> CannedDestination {
    CannedDestination::with_mapping(MAPPING, move |_, call| {
        if call.contains("faulty") { respond(status, body) } else { apply(call) }
    })
}

fn good(number: u128) -> ValidatedRecord {
    test_record(number, "Accounts", None, &json!({ "name": number.to_string() }).to_string())
}

fn faulty(number: u128) -> ValidatedRecord {
    test_record(number, "Accounts", None, r#"{"name": "faulty"}"#)
}

/// The code of a verdict, and when the record is tried again.
#[track_caller]
fn retry(verdict: &Verdict) -> (&str, u64) {
    let Verdict::Retry { after, code, .. } = verdict else { panic!("{verdict:?}") };
    (code, after.unwrap_or_default().as_secs())
}

const NOT_ALLOWED: &str = r#"{"code": "NOT_ALLOWED", "message": "not for you"}"#;
const STOPPED: (&str, u64) = ("DESTINATION_STOPPED", 60);

#[test]
fn a_refused_call_rejects_a_record_only_if_others_of_its_type_pass() {
    let crm = destination(403, NOT_ALLOWED);
    // The faulty one comes first, so that it is sent again behind the others.
    let verdicts = crm.deliver(&[faulty(1), good(2), good(3)]);
    assert_eq!(refusal(&verdicts[0]), ("NOT_ALLOWED", true));
    assert!(verdicts[1..].iter().all(Verdict::is_applied), "{verdicts:?}");
    // Alone, it waits until others have passed, in whichever delivery.
    for _ in 0..4 {
        let verdicts = crm.deliver(&[faulty(9)]);
        assert_eq!(retry(&verdicts[0]), STOPPED);
        let Verdict::Retry { message, .. } = &verdicts[0] else { panic!() };
        assert_eq!(message, "NOT_ALLOWED: not for you");
    }
    assert!(crm.destination.stopped_types().is_empty());
    crm.deliver(&[good(2)]);
    assert_eq!(refusal(&crm.deliver(&[faulty(9)])[0]), ("NOT_ALLOWED", true));
}

#[test]
fn a_type_that_is_refused_as_a_whole_stops_after_few_calls_and_rejects_nothing() {
    let crm = destination(403, NOT_ALLOWED);
    let records: Vec<ValidatedRecord> = (1..=64).map(faulty).collect();
    let verdicts = crm.deliver(&records);
    assert!(
        verdicts.iter().all(|verdict| refusal(verdict) == ("DESTINATION_STOPPED", false)),
        "{verdicts:?}"
    );
    assert_eq!(crm.destination.stopped_types()[0].reason, "NOT_ALLOWED");
    assert!(crm.call_count() <= 12);
}

#[test]
fn an_error_that_names_its_record_rejects_it_without_others() {
    let crm = destination(403, r#"{"code": "NOT_ALLOWED", "message": "m", "path": "$.data[0].name"}"#);
    assert_eq!(refusal(&crm.deliver(&[faulty(1)])[0]), ("NOT_ALLOWED", true));
    let crm = destination(400, r#"{"data": [{"code": "NOT_ALLOWED", "status": "error", "message": "m"}]}"#);
    assert_eq!(refusal(&crm.deliver(&[faulty(1)])[0]), ("NOT_ALLOWED", true));
}

#[test]
fn a_denied_record_does_not_stop_its_type_until_three_in_a_row_are_denied() {
    for (status, body) in
        [(403, "<html>firewall</html>"), (404, ""), (410, ""), (400, r#"{"code": "PARSER"}"#), (401, "")]
    {
        let crm = destination(status, body);
        let verdicts = crm.deliver(&[good(1), good(2), faulty(3), good(4), good(5)]);
        for (number, verdict) in (1..).zip(&verdicts) {
            assert!(verdict.is_applied() || number == 3, "{status} {number}: {verdict:?}");
        }
        assert_eq!(retry(&verdicts[2]), STOPPED);
        // The same record counts once, and a good one in between begins the count again.
        for record in [faulty(3), faulty(3), faulty(3), faulty(8), good(6), faulty(8), faulty(9), faulty(10)]
        {
            crm.deliver(&[record]);
        }
        assert!(crm.destination.stopped_types().is_empty());
        crm.deliver(&[faulty(11)]);
        assert_eq!(crm.destination.stopped_types().len(), 1, "{status}");
        assert_eq!(refusal(&crm.deliver(&[good(7)])[0]), ("DESTINATION_STOPPED", false));
    }
}

#[test]
fn a_code_that_stops_does_so_at_once() {
    let crm = destination(403, r#"{"code": "NO_PERMISSION"}"#);
    crm.deliver(&[faulty(1), good(2)]);
    assert_eq!((crm.call_count(), crm.destination.stopped_types().len()), (1, 1));
}

#[test]
fn a_call_that_may_be_taken_later_holds_up_its_records_only() {
    let crm = destination(412, r#"{"code": "ALREADY_MODIFIED", "message": "m"}"#);
    assert_eq!(retry(&crm.deliver(&[faulty(1)])[0]), ("ALREADY_MODIFIED", 300));
    assert_eq!(crm.destination.condition(), DestinationCondition::Ready);
    assert!(crm.deliver(&[good(2)])[0].is_applied());
}

#[test]
fn a_503_of_a_proxy_leaves_the_outcome_of_its_call_unknown_and_holds_up_no_other() {
    let crm = destination(503, "<html>worker died</html>");
    let verdicts = crm.deliver(&[faulty(1), good(2), good(3)]);
    assert_eq!(refusal(&verdicts[0]), ("DESTINATION_UNCLEAR", false));
    assert!(verdicts[1..].iter().all(Verdict::is_applied), "{verdicts:?}");
    assert_eq!(crm.destination.condition(), DestinationCondition::Ready);
}

#[test]
fn a_result_of_one_record_that_concerns_calls_stops_nothing() {
    let crm = destination(
        400,
        r#"{"data": [{"code": "LIMIT_EXCEEDED", "status": "error", "message": "too many"}]}"#,
    );
    assert_eq!(retry(&crm.deliver(&[faulty(1)])[0]), ("LIMIT_EXCEEDED", 300));
    assert!(crm.destination.stopped_types().is_empty());
}

/// Gives the same id to all records.
fn merge(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let records = body["data"].as_array().unwrap().len();
    let results = vec![json!({ "status": "success", "id": "7" }); records];
    respond(200, &json!({ "data": results }).to_string())
}

#[test]
fn records_that_the_destination_merges_are_not_applied_and_stop_their_type() {
    let crm = CannedDestination::with_mapping(MAPPING, |_, body| merge(body));
    assert!(crm.deliver(&[good(1)])[0].is_applied());
    assert!(crm.deliver(&[good(1)])[0].is_applied());
    let verdicts = crm.deliver(&[good(2)]);
    assert_eq!(retry(&verdicts[0]), STOPPED);
    let DestinationCondition::Stopped { reason, .. } = crm.destination.condition() else { panic!() };
    assert_eq!(reason, "the destination stored two records as one: check that sync_id is unique there");
    // Also those of one call: it is halved until each is alone.
    let crm = CannedDestination::with_mapping(MAPPING, |_, body| merge(body));
    let verdicts = crm.deliver(&[good(1), good(2), good(3)]);
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_applied()).count(), 1, "{verdicts:?}");
}
