//! Points about the form of responses: results, errors, hints.

use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use serde_json::Value;
use std::collections::HashSet;

use super::finding::{Finding, PointResult, require};
use super::point::{ALL_RESPONSES, Point, RESPONSE, SERVER_DUTIES};
use super::request::KitRequest;
use super::response::{BatchResults, KitResponse, record_id};
use super::server::TestedServer;
use super::settling::is_unclear;
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{HOLDS_KEYS, MAX_BYTES, MAX_IN_FLIGHT, MAX_RECORDS, TIME_BUDGET_MS};
use crate::retry_after::parse_retry_after;

/// A proxy may replace some of them.
const FIRST_RESPONSES: usize = 4;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "responses.results",
        title: "The response has one result for each record, and for no other",
        paragraph: RESPONSE,
        check: |server| Box::pin(each_record_has_one_result(server)),
    },
    Point {
        id: "responses.first",
        title: "The first response to a batch does not claim to be a replay",
        paragraph: RESPONSE,
        check: |server| Box::pin(the_first_response_is_no_replay(server)),
    },
    Point {
        id: "responses.optional-fields",
        title: "Receipt, field and retry_after_s have the type and size that devices take",
        paragraph: RESPONSE,
        check: |server| Box::pin(optional_fields_are_well_formed(server)),
    },
    Point {
        id: "responses.length",
        title: "A response says how long it is",
        paragraph: "What the server must do: Respond in valid HTTP/1.1",
        check: |server| Box::pin(responses_say_how_long_they_are(server)),
    },
    Point {
        id: "responses.interim",
        title: "No interim response (1xx) comes before a response",
        paragraph: "What the server must do: Respond in valid HTTP/1.1",
        check: |server| Box::pin(no_interim_response_comes_first(server)),
    },
    Point {
        id: "responses.errors",
        title: "A refusal has a body with code and message",
        paragraph: ALL_RESPONSES,
        check: |server| Box::pin(refusals_have_code_and_message(server)),
    },
    Point {
        id: "responses.hints",
        title: "Hints are whole numbers above 0, and Accept-Encoding is a list",
        paragraph: SERVER_DUTIES,
        check: |server| Box::pin(hints_can_be_used(server)),
    },
];

async fn each_record_has_one_result(server: &TestedServer) -> PointResult {
    let batch = server.large_batch();
    let results = server.submit(&batch).await?;
    let sent: HashSet<_> = batch.record_ids().into_iter().collect();
    let mut seen = HashSet::new();
    for result in results.list() {
        let id = record_id(result);
        let is_own = id.is_some_and(|id| sent.contains(&id));
        require(is_own, "results for records of the batch only", || result.to_string())?;
        let is_first = id.is_some_and(|id| seen.insert(id));
        require(is_first, "one result for each record", || format!("a second one: {result}"))?;
        let has_status = id.is_some_and(|id| results.status_of(id).is_some());
        require(has_status, "the status applied, duplicate, rejected or retry", || result.to_string())?;
    }
    require(seen.len() == sent.len(), format!("{} results, one for each record", sent.len()), || {
        format!("{} results", seen.len())
    })
}

async fn the_first_response_is_no_replay(server: &TestedServer) -> PointResult {
    for _ in 0..FIRST_RESPONSES {
        let batch = server.sample_batch(1)?;
        let response = server.send_first(&KitRequest::post(&batch)).await?;
        if !is_unclear(&response) {
            let results = response.read_results(batch.id)?;
            return require(!results.is_replayed, "`\"replayed\": false`: the batch id is new", || {
                results.text.clone()
            });
        }
    }
    Err(Finding::skipped("every first response was one that says nothing, for example 504"))
}

async fn optional_fields_are_well_formed(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let first = server.submit(&batch).await?;
    let conflict = batch.followed_by(vec![batch.records[0].with_other_payload()]);
    let second = server.submit(&conflict).await?;
    let mut has_seen_any = false;
    for results in [&first, &second] {
        has_seen_any |= check_optional_fields(results)?;
    }
    if has_seen_any { Ok(()) } else { Err(Finding::skipped("the results have none of these fields")) }
}

/// Whether there was any.
fn check_optional_fields(results: &BatchResults) -> PointResult<bool> {
    let mut has_seen_any = false;
    for result in results.list() {
        let field = |name: &str| result.get(name).filter(|value| !value.is_null());
        if let Some(receipt) = field("receipt") {
            let is_usable = Receipt::parse(&receipt.to_string()).is_some();
            require(is_usable, "a receipt that is a JSON object of at most 1 KiB and 32 levels", || {
                result.to_string()
            })?;
        }
        if let Some(pointer) = field("field") {
            let is_pointer = pointer.as_str().is_some_and(|text| text.is_empty() || text.starts_with('/'));
            require(is_pointer, "a `field` that is a JSON Pointer", || result.to_string())?;
        }
        if let Some(wait) = field("retry_after_s") {
            require(wait.is_u64(), "a `retry_after_s` that is a whole number", || result.to_string())?;
        }
        for name in ["code", "message"] {
            let is_text = field(name).is_none_or(Value::is_string);
            require(is_text, format!("a `{name}` that is a string"), || result.to_string())?;
        }
        has_seen_any |= ["receipt", "field", "retry_after_s"].into_iter().any(|name| field(name).is_some());
    }
    Ok(has_seen_any)
}

/// Responses of several kinds.
async fn sample_responses(server: &TestedServer) -> PointResult<Vec<KitResponse>> {
    let batch = server.sample_batch(1)?;
    let request = KitRequest::post(&batch);
    Ok(vec![
        server.send(&request).await?,
        server.send(&KitRequest::look_up(batch.device, batch.id)).await?,
        server.send(&KitRequest::post(&batch.under_new_id()).with_body("{")).await?,
    ])
}

async fn responses_say_how_long_they_are(server: &TestedServer) -> PointResult {
    for response in sample_responses(server).await? {
        let has_length =
            [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| response.headers.contains_key(name));
        let is_bodiless = matches!(response.status.as_u16(), 204 | 304);
        require(has_length || is_bodiless, "Content-Length, or a chunked body", || {
            format!("{} with the headers {:?}", response.describe(), response.headers)
        })?;
    }
    Ok(())
}

async fn no_interim_response_comes_first(server: &TestedServer) -> PointResult {
    for response in sample_responses(server).await? {
        require(!response.has_interim, "no 1xx response, as the device did not ask for one", || {
            format!("one before {}", response.describe())
        })?;
    }
    Ok(())
}

async fn refusals_have_code_and_message(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let requests = [
        KitRequest::post(&batch).with_body("this is not JSON"),
        KitRequest::post(&batch).with_body(r#"{"records":[]}"#),
        KitRequest::post(&batch).with_encoded_body("x-conformance", "body"),
    ];
    for request in requests {
        let response = server.send(&request).await?;
        let error = serde_json::from_slice::<Value>(&response.body).unwrap_or_default();
        let has_text = |name: &str| error["error"][name].as_str().is_some_and(|text| !text.is_empty());
        let holds = response.status.is_success() || (has_text("code") && has_text("message"));
        require(holds, r#"the body {"error": {"code": "…", "message": "…"}}"#, || response.describe())?;
    }
    Ok(())
}

async fn hints_can_be_used(server: &TestedServer) -> PointResult {
    for response in sample_responses(server).await? {
        for name in [MAX_RECORDS, MAX_BYTES, MAX_IN_FLIGHT, TIME_BUDGET_MS] {
            let value = response.headers.get(name);
            let is_usable = value.is_none() || response.header(name).is_some_and(is_positive_number);
            require(is_usable, format!("`{name}` with a whole number above 0, or without it"), || {
                format!("`{value:?}`")
            })?;
        }
        let has_wait = response.headers.contains_key(RETRY_AFTER);
        let is_usable = !has_wait || parse_retry_after(&response.headers).is_some();
        require(is_usable, "`Retry-After` with seconds or an HTTP date", || {
            format!("{:?}", response.headers)
        })?;
        let holds_keys = response.header(HOLDS_KEYS);
        let is_usable = holds_keys.is_none_or(|value| ["true", "false"].contains(&value));
        require(is_usable, "`X-Sync-Holds-Keys: true`, or without it", || format!("{holds_keys:?}"))?;
        let is_list = response.headers.get_all(ACCEPT_ENCODING).iter().all(|value| value.to_str().is_ok());
        require(is_list, "`Accept-Encoding` with names of encodings", || format!("{:?}", response.headers))?;
    }
    Ok(())
}

fn is_positive_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok_and(|number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_whole_number_above_zero() {
        for (text, holds) in
            [("1", true), ("5000", true), ("0", false), ("+1", false), ("1.5", false), ("", false)]
        {
            assert_eq!(is_positive_number(text), holds, "{text}");
        }
    }

    #[test]
    fn a_receipt_that_devices_drop_is_found() {
        let results = |result: Value| BatchResults {
            is_replayed: false,
            results: Value::Array(vec![result]),
            headers: hyper::HeaderMap::new(),
            text: String::new(),
        };
        let check = |result: Value| check_optional_fields(&results(result));
        assert_eq!(check(serde_json::json!({"receipt": {"id": "1"}})), Ok(true));
        assert_eq!(check(serde_json::json!({"status": "applied", "receipt": null})), Ok(false));
        for result in [
            serde_json::json!({"receipt": "1"}),
            serde_json::json!({"receipt": {"id": "1".repeat(2000)}}),
            serde_json::json!({"field": "Amount"}),
            serde_json::json!({"retry_after_s": 1.5}),
            serde_json::json!({"code": 7}),
        ] {
            assert!(matches!(check(result), Err(Finding::Failed { .. })));
        }
    }
}
