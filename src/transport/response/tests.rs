//! Responses of every kind, valid and hostile: none does harm, and only what the server said settles records.

mod digest;
mod fields;
mod generated;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use self::digest::{assert_modest, decoded, digest, judged};
use self::fields::fields;
use self::generated::{any_json, batch_response};
use super::reference_decoder::decode_batch;
use super::*;
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::verdict::Verdict;

const BATCH: Uuid = Uuid::from_u128(0x0b0f_0000_0000_4000_8000_0000_0000_0001);
const OTHER: Uuid = Uuid::from_u128(0x0b0f_0000_0000_4000_8000_0000_0000_0002);
fn body_of(status: u16, body: impl AsRef<[u8]>) -> ResponseBody {
    decoded(status, &Vec::new(), body.as_ref()).response.body
}

/// The decoded results of a response with these results.
fn results_of(results: &Value) -> Vec<RecordResult> {
    let body = json!({"batch_id": BATCH, "results": results}).to_string();
    match body_of(200, &body) {
        ResponseBody::Batch(batch) => batch.results,
        other => panic!("{body}: {other:?}"),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_with_any_status_and_fields_settle_nothing_and_do_no_harm(
        status in 0u16..=999, fields in fields(), body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (verdict, found) = digest(status, &fields, &body);
        prop_assert!(!matches!(verdict, Verdict::Completed(_)));
        prop_assert!(!matches!(found, OutcomeReply::Completed(_)));
    }

    #[test]
    fn a_response_to_the_batch_settles_what_it_says_and_nothing_else(
        status in prop_oneof![Just(200u16), Just(207), Just(202), 100u16..600],
        fields in fields(), response in batch_response(), has_mark: bool,
    ) {
        let body = format!("{}{response}\n", if has_mark { "\u{feff}" } else { "" });
        let (verdict, found) = digest(status, &fields, body.as_bytes());
        let expected = decode_batch(body.as_bytes()).filter(|(id, _)| *id == BATCH && matches!(status, 200 | 207));
        let settled = |results: &[RecordResult]| json!(results);
        let settled_results = if let Verdict::Completed(results) = &verdict { Some(settled(results)) } else { None };
        let completed = if let OutcomeReply::Completed(results) = &found { Some(settled(results)) } else { None };
        let expected = expected.map(|(_, results)| Value::from(results));
        prop_assert_eq!((&settled_results, &completed), (&expected, &expected));
    }

    #[test]
    fn a_corrupted_response_settles_nothing_that_it_does_not_say(
        status in prop_oneof![Just(200u16), Just(207), 100u16..600],
        response in batch_response(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..5), 1..5),
    ) {
        let mut body = response.to_string().into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(body.len() + 1);
            match edit {
                0 => body.insert(at, byte),
                1 => body.truncate(at),
                2 => body.extend_from_within(at..),
                3 => body.insert(at, b"{}[]\",:\\"[usize::from(byte) % 8]),
                _ => if let Some(old) = body.get_mut(at) { *old ^= 1 << (byte % 8) },
            }
        }
        digest(status, &Vec::new(), &body);
    }

    #[test]
    fn an_error_keeps_its_code_whatever_else_it_holds(
        status in 300u16..600, code in ".{0,20}", message in any_json(), more in any_json(),
    ) {
        let body = json!({"error": {"code": code, "message": message, "position": more}, "trace": more});
        let ResponseBody::Error(detail) = body_of(status, body.to_string()) else { panic!("{body}") };
        prop_assert_eq!((detail.code, detail.message), (code, message.as_str().unwrap_or_default().to_owned()));
        digest(status, &Vec::new(), body.to_string().as_bytes());
    }
}

#[test]
fn only_200_and_207_that_name_the_batch_settle_it() {
    let naming = |id: Uuid| json!({"batch_id": id, "results": []}).to_string();
    for status in 100..=599 {
        let settles = matches!(status, 200 | 207);
        for (body, is_ours) in [
            (naming(BATCH), true),
            (naming(OTHER), false),
            (json!([BATCH, false, []]).to_string(), false),
            (json!({"batch_id": BATCH}).to_string(), false),
            (json!({"batch_id": BATCH, "results": {}}).to_string(), false),
            (json!({"batch_id": BATCH, "state": "processing"}).to_string(), false),
            (json!({"error": {"code": "UNKNOWN_BATCH"}}).to_string(), false),
            (naming(BATCH).replacen('{', "{\"batch_id\":\"0b0f\",", 1), false),
            ("<html><h1>Welcome</h1></html>".into(), false),
            (" \r\n".into(), false),
        ] {
            let (verdict, found) = judged(status, &Vec::new(), body.as_bytes());
            assert_eq!(matches!(verdict, Verdict::Completed(_)), settles && is_ours, "{status}: {body}");
            assert_eq!(matches!(found, OutcomeReply::Completed(_)), settles && is_ours, "{status}: {body}");
        }
    }
}

#[test]
fn an_invalid_result_is_skipped_and_the_others_count() {
    let valid = json!({"id": OTHER, "status": "applied"});
    let expected = results_of(&json!([valid]));
    assert_eq!(expected.len(), 1);
    for invalid in [
        json!({"id": BATCH, "status": "queued"}),
        json!({"id": BATCH, "status": "Applied"}),
        json!({"id": BATCH, "status": {"applied": null}}),
        json!({"id": BATCH, "status": null}),
        json!({"id": BATCH}),
        json!({"id": "0b0f", "status": "applied"}),
        json!({"id": 7, "status": "applied"}),
        json!({"status": "applied"}),
        json!([BATCH, "applied", null, null]),
        json!([valid]),
        json!("applied"),
        json!(null),
    ] {
        assert_eq!(results_of(&json!([invalid, valid, invalid])), expected, "{invalid}");
    }
    let twice = format!(
        r#"{{"batch_id":"{BATCH}","results":[{{"id":"{OTHER}","status":"retry","status":"applied"}}]}}"#
    );
    assert!(matches!(body_of(200, twice), ResponseBody::Batch(batch) if batch.results.is_empty()));
}

#[test]
fn fields_that_settle_nothing_may_have_any_type() {
    let result = json!({"id": OTHER, "status": "rejected", "code": 17, "message": ["no"], "at": {"x": 1},
        "receipt": [1], "field": 3, "retry_after_s": "soon"});
    let results = results_of(&json!([result]));
    let expected = RecordResult::new(RecordId(OTHER), RecordStatus::Rejected);
    assert_eq!(results, [expected]);
    let body = json!({"batch_id": BATCH, "replayed": "yes", "results": [], "took_ms": 12}).to_string();
    assert!(matches!(body_of(200, body), ResponseBody::Batch(batch) if !batch.replayed));
}

#[test]
fn no_nesting_exhausts_the_stack() {
    const DEPTH: usize = 100_000;
    let nested = |open: &str, close: &str| (open.repeat(DEPTH), close.repeat(DEPTH));
    for (open, close) in [nested("[", "]"), nested("{\"a\":", "}")] {
        let whole = format!("{open}1{close}");
        assert_eq!(body_of(200, &open), ResponseBody::NotJson);
        for status in [200, 422] {
            for body in [
                whole.clone(),
                format!(r#"{{"error":{whole}}}"#),
                format!(r#"{{"error":{{"code":"X","message":{whole}}}}}"#),
                format!(r#"{{"batch_id":"{BATCH}","results":[{open}"#),
                format!(r#"{{"batch_id":{whole},"results":[]}}"#),
                format!(r#"{{"batch_id":"{BATCH}","results":[{whole}]}}"#),
                format!(r#"{{"batch_id":"{BATCH}","replayed":{whole},"more":{whole},"results":[]}}"#),
                format!(
                    r#"{{"batch_id":"{BATCH}","results":[{{"id":"{OTHER}","status":"retry","code":{whole}}}]}}"#
                ),
            ] {
                judged(status, &Vec::new(), body.as_bytes());
            }
        }
        let body =
            format!(r#"{{"batch_id":"{BATCH}","results":[{whole},{{"id":"{OTHER}","status":"retry"}}]}}"#);
        assert!(matches!(body_of(200, body), ResponseBody::Batch(batch) if batch.results.len() == 1));
    }
}

#[test]
fn megabytes_take_no_more_than_a_small_multiple_of_memory() {
    const SIZE: usize = 1 << 20;
    let results = |one: &str| {
        let many = format!("{one},").repeat(SIZE / (one.len() + 1));
        format!(r#"{{"batch_id":"{BATCH}","results":[{}]}}"#, many.trim_end_matches(','))
    };
    let simple = OTHER.simple();
    for body in [
        results("0"),
        results("{}"),
        results(&format!(r#"{{"id":"{simple}","status":"retry"}}"#)),
        results(&format!(r#"{{"id":"{simple}","status":"retry","code":"","message":"a"}}"#)),
        results(&format!(r#"{{"id":"{simple}","status":"retry","message":"{}"}}"#, "\\u0800".repeat(10_000))),
        format!(r#"{{"error":{{"code":"{0}","message":"{0}"}}}}"#, "ä".repeat(SIZE / 4)),
        "7".repeat(SIZE),
        "\"".repeat(SIZE),
        " ".repeat(SIZE),
    ] {
        for status in [200, 422] {
            assert_modest(&body_of(status, &body), body.len());
        }
    }
}
