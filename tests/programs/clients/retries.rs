//! When an enqueue is repeated, and when it is not.

use std::time::Duration;

use serde_json::json;

use super::adapter::{Adapter, Language, counts, enqueue, enqueue_within, ids, visits};
use super::scripted_socket::{Act, RawRequest, ScriptedSocket};

/// A wait of a second must not be shorter than this; the clocks of the two programs start at different times.
const SECOND_AT_LEAST: Duration = Duration::from_millis(950);
/// One every 100 ms.
const MOST_IN_FOUR_SECONDS: usize = 41;

/// A daemon that is well, except for its first responses.
fn at_first(acts: Vec<Act>) -> ScriptedSocket {
    ScriptedSocket::start(move |number, request| {
        acts.get(number).cloned().unwrap_or_else(|| Act::accepted(request))
    })
}

/// The ids were the same in each request.
#[track_caller]
fn assert_same(requests: &[RawRequest]) {
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body), "{requests:?}");
}

/// Enqueues, and expects success after this many requests.
#[track_caller]
fn succeeds_after(language: Language, acts: Vec<Act>) -> Vec<RawRequest> {
    let count = acts.len() + 1;
    let socket = at_first(acts);
    let mut client = Adapter::start(language, &socket.path());
    let result = client.enqueue(&visits(2));
    let requests = socket.requests();
    assert_eq!((counts(&result), ids(&result)), ((2, 0), requests[0].ids()));
    assert_eq!(requests.len(), count);
    assert_same(&requests);
    requests
}

fn a_response_that_ends_early_counts_as_none(language: Language) {
    for early in [
        "HTTP/1.1 201 Created\r\ncontent-len",
        "HTTP/1.1 201 Created\r\ncontent-length: 60\r\n\r\n{\"accepted\":2,\"dup",
        "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"accepted\"",
    ] {
        succeeds_after(language, vec![Act::Send(early.into())]);
    }
}

fn a_daemon_that_stops_is_asked_again_after_its_time(language: Language) {
    let requests = succeeds_after(language, vec![Act::error(503, "stopping", "retry-after: 1\r\n")]);
    assert!(requests[1].at >= requests[0].at + SECOND_AT_LEAST, "{requests:?}");
}

fn a_timeout_of_the_request_is_no_refusal(language: Language) {
    let bare = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec();
    succeeds_after(language, vec![Act::Send(bare), Act::error(408, "request_timeout", "retry-after: 1\r\n")]);
}

fn a_store_that_failed_is_asked_again(language: Language) {
    let requests = succeeds_after(language, vec![Act::error(500, "store_failed", "")]);
    assert!(requests[1].at >= requests[0].at + SECOND_AT_LEAST * 5, "{requests:?}");
}

fn a_daemon_that_keeps_stopping_ends_at_the_time_limit(language: Language) {
    let socket = ScriptedSocket::start(|_, _| Act::error(503, "stopping", "retry-after: 1\r\n"));
    let mut client = Adapter::start(language, &socket.path());
    let error = client.fail(&enqueue_within(&visits(2), 8000));
    assert_eq!((error.kind(), error.ids()), ("time_limit", socket.requests()[0].ids()));
    let attempts = socket.requests().len();
    assert!((2..=9).contains(&attempts), "{attempts} attempts");
    assert_same(&socket.requests());
}

fn a_retry_after_of_zero_is_no_reason_to_hammer(language: Language) {
    for (status, code) in [(503, "stopping"), (507, "queue_full"), (500, "store_failed")] {
        let socket = ScriptedSocket::start(move |_, _| Act::error(status, code, "retry-after: 0\r\n"));
        let mut client = Adapter::start(language, &socket.path());
        client.fail(&enqueue_within(&visits(1), 4000));
        let attempts = socket.requests().len();
        assert!((2..=MOST_IN_FOUR_SECONDS).contains(&attempts), "{status}: {attempts} attempts");
    }
}

/// The text of the client is the same; only the response has another.
fn ids_are_returned_as_the_app_writes_them(language: Language) {
    const ID: &str = "01990B3C-4D5E-7F60-8A7B-ABCDEFABCDEF";
    let socket = ScriptedSocket::start(|number, request| {
        let ids: Vec<String> = request.ids().iter().map(|id| id.to_lowercase()).collect();
        if number == 2 {
            return Act::error(400, "invalid_record", "");
        }
        Act::json(201, &json!({"accepted": ids.len(), "duplicates": 0, "ids": ids}))
    });
    let mut client = Adapter::start(language, &socket.path());
    let mut records = visits(10_001);
    records[0]["id"] = ID.into();
    assert_eq!(ids(&client.enqueue(&records[..1])), [ID]);
    let error = client.fail(&enqueue(&records));
    let stored = error.stored();
    assert_eq!((stored.len(), stored[0].as_str(), error.ids()[0].as_str()), (10_000, ID, ID));
}

fn a_connection_that_keeps_ending_is_tried_less_and_less_often(language: Language) {
    let socket = ScriptedSocket::start(|_, _| Act::Send(Vec::new()));
    let mut client = Adapter::start(language, &socket.path());
    let error = client.fail(&enqueue_within(&visits(1), 12_000));
    assert_eq!(error.kind(), "time_limit");
    let requests = socket.requests();
    // At 0 s, perhaps soon after, after 1 s, 2 s and 4 s, and perhaps before the end.
    assert!((3..=6).contains(&requests.len()), "{} attempts", requests.len());
    assert_same(&requests);
}

fn errors_that_no_repetition_corrects_end_the_call_at_once(language: Language) {
    let errors = [
        (400, "invalid_record", "invalid_request"),
        (403, "not_permitted", "not_permitted"),
        (404, "not_found", "invalid_request"),
        (404, "no_such_record", "no_such_record"),
        (405, "method_not_allowed", "invalid_request"),
        (409, "id_conflict", "conflict"),
        (410, "cursor_expired", "cursor_expired"),
        (413, "record_too_large", "invalid_request"),
        (418, "of_a_later_version", "invalid_request"),
        (500, "metrics_failed", "unavailable"),
    ];
    let acts = errors.map(|(status, code, _)| Act::error(status, code, "retry-after: 1\r\n"));
    let socket = ScriptedSocket::play(acts.into());
    let mut client = Adapter::start(language, &socket.path());
    for (number, (status, code, kind)) in errors.into_iter().enumerate() {
        let error = client.fail(&enqueue(&visits(2)));
        error.assert_response(kind, status, code);
        assert_eq!(socket.requests().len(), number + 1, "{code}");
        assert_eq!((error.ids(), error.stored()), (socket.requests()[number].ids(), Vec::new()));
    }
}

fn an_error_without_json_has_no_code(language: Language) {
    let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n".to_vec();
    let html = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\n<html>".to_vec();
    for (bytes, kind) in [(bare, "invalid_request"), (html, "not_permitted")] {
        let socket = ScriptedSocket::start(move |_, _| Act::Send(bytes.clone()));
        let mut client = Adapter::start(language, &socket.path());
        let error = client.fail(&enqueue(&visits(1)));
        assert_eq!(error.kind(), kind);
        assert!(error.has_no_code(), "{error:?}");
    }
}

for_each_client! {
    a_response_that_ends_early_counts_as_none,
    a_daemon_that_stops_is_asked_again_after_its_time,
    a_timeout_of_the_request_is_no_refusal,
    a_store_that_failed_is_asked_again,
    a_daemon_that_keeps_stopping_ends_at_the_time_limit,
    a_retry_after_of_zero_is_no_reason_to_hammer,
    ids_are_returned_as_the_app_writes_them,
    a_connection_that_keeps_ending_is_tried_less_and_less_often,
    errors_that_no_repetition_corrects_end_the_call_at_once,
    an_error_without_json_has_no_code,
}
