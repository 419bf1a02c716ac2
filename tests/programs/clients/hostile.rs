//! Responses in every form that HTTP allows, and those that no daemon sends: they cost neither memory nor time beyond
//! the limits, and are never taken for something else.

use serde_json::{Value, json};

use super::adapter::{Adapter, Language, enqueue, visits};
use super::scripted_socket::{Act, ScriptedSocket, response};

/// The time limit of calls that must end by it.
const SHORT_MS: u64 = 700;

fn status() -> Value {
    json!({"do": "status"})
}

fn brief_status() -> Value {
    json!({"do": "status", "time_limit_ms": SHORT_MS})
}

fn always(act: Act) -> ScriptedSocket {
    ScriptedSocket::start(move |_, _| act.clone())
}

#[track_caller]
fn assert_reads(language: Language, act: Act, expected: &Value) {
    let socket = always(act);
    let found = Adapter::start(language, &socket.path()).call(&status());
    assert_eq!(&found, expected);
}

#[track_caller]
fn assert_fails(language: Language, act: Act, kind: &str) {
    let socket = always(act);
    let error = Adapter::start(language, &socket.path()).fail(&status());
    assert_eq!(error.kind(), kind, "{error:?}");
}

fn every_form_of_a_response_is_read(language: Language) {
    let expected = json!({"version": "ünï"});
    for form in [
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:20\r\nX-Empty:\r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.1 200\r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.0 200 OK\r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.0 200 OK\r\ncontent-length: \t20 \r\n\r\n{\"version\": \"ünï\"}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n14\r\n{\"version\": \"ünï\"}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
         00F;name=\"v\"\r\n{\"version\": \"\u{fc}\r\n5;x\r\nnï\"}\r\n000\r\nx-trailer: y\r\nz: 1\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-length: 9\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"version\": \"ünï\"}",
    ] {
        assert_reads(language, Act::Send(form.into()), &expected);
        assert_reads(language, Act::Drip(form.into()), &expected);
    }
}

fn a_response_of_almost_the_largest_size_is_read(language: Language) {
    let text = "x".repeat(30 << 20);
    let body = json!({"text": text});
    let found = {
        let socket = always(Act::Send(response(200, &format!("x: {}\r\n", "y".repeat(60_000)), &body)));
        Adapter::start(language, &socket.path()).call(&status())
    };
    assert!(found == body, "the body is complete");
}

fn heads_that_are_not_http_or_too_large_are_refused(language: Language) {
    let line = |text: &str| Act::Send(format!("{text}\r\ncontent-length: 2\r\n\r\n{{}}").into());
    for wrong in
        ["SSH-2.0-OpenSSH_9.2", "HTTP/2 200 OK", "HTTP/1.1 OK", "HTTP/1.1 99 Low", "HTTP/1.1 20x No", "{}"]
    {
        assert_fails(language, line(wrong), "protocol");
    }
    for headers in [
        "content-length: 2 2",
        "content-length: -2",
        "content-length: +2",
        "content-length: 18446744073709551618",
        "content-length: 2\r\ncontent-length: 3",
        "no colon",
        "transfer-encoding: gzip",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{{}}");
        assert_fails(language, Act::Send(bytes.into()), "protocol");
    }
    let begin = b"HTTP/1.1 200 OK\r\n".to_vec();
    assert_fails(language, Act::Endless(begin.clone(), b"x: y\r\n".to_vec()), "protocol");
    assert_fails(language, Act::Endless(begin.clone(), b"xxxxxxxx".to_vec()), "protocol");
    assert_fails(language, Act::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), "protocol");
    let large = format!("x: {}\r\n", "y".repeat(70_000));
    assert_fails(language, Act::Send(response(200, &large, &json!({}))), "protocol");
}

fn bodies_that_are_too_large_are_refused(language: Language) {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n".to_vec();
    assert_fails(language, Act::Stall(announced), "protocol");
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
    assert_fails(language, Act::Endless(chunked.clone(), chunk), "protocol");
    assert_fails(
        language,
        Act::Endless([chunked, b"0\r\n".to_vec()].concat(), b"x: y\r\n".to_vec()),
        "protocol",
    );
    let to_the_end = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    assert_fails(language, Act::Endless(to_the_end, vec![b' '; 1 << 16]), "protocol");
}

fn chunks_that_are_malformed_are_refused(language: Language) {
    for chunks in [
        "x\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_fails(language, Act::Send(bytes.into()), "protocol");
    }
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;".to_vec();
    assert_fails(language, Act::Endless(endless, b"xxxxxxxx".to_vec()), "protocol");
}

fn a_body_that_is_not_the_json_of_its_call_is_refused(language: Language) {
    let with_body = |status: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Send([head.as_bytes(), body].concat())
    };
    let deep = "[".repeat(100_000);
    for body in [
        &b""[..],
        b"{",
        b"{\"a\":1,}",
        b"{\"a\":01}",
        b"{\"a\":NaN}",
        b"{'a':1}",
        b"{\"a\":\"\x01\"}",
        b"<html>",
        b"{} {}",
        b"[]",
        b"null",
        b"\"\xff\"",
        b"{\"a\":\"\xc3\"}",
        deep.as_bytes(),
    ] {
        assert_fails(language, with_body("200 OK", body), "protocol");
    }
    assert_fails(language, with_body("302 Found", b"{}"), "protocol");
    for body in [
        "{}",
        "[]",
        "{\"accepted\": 1, \"duplicates\": 0}",
        "{\"accepted\": \"1\", \"duplicates\": 0, \"ids\": []}",
    ] {
        let socket = always(with_body("201 Created", body.as_bytes()));
        let error = Adapter::start(language, &socket.path()).fail(&enqueue(&visits(1)));
        assert_eq!((error.kind(), error.ids()), ("protocol", socket.requests()[0].ids()), "{body}");
        assert_eq!(socket.requests().len(), 1);
    }
}

fn a_response_that_does_not_end_ends_the_call_at_its_time_limit(language: Language) {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let slow = format!("{head}{}", " ".repeat(10_000));
    for act in [
        Act::Stall(Vec::new()),
        Act::Stall(b"HTTP/1.1 200 OK\r\ncont".to_vec()),
        Act::Stall([head.as_bytes(), b"{"].concat()),
        // Each byte arrives in time, but not all of them do.
        Act::Drip(slow.into()),
    ] {
        let socket = always(act);
        let error = Adapter::start(language, &socket.path()).fail(&brief_status());
        assert_eq!(error.kind(), "time_limit", "{error:?}");
    }
}

fn a_response_that_ends_early_is_a_failed_connection(language: Language) {
    for early in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
    ] {
        assert_fails(language, Act::Send(early.into()), "connection_failed");
    }
}

for_each_client! {
    every_form_of_a_response_is_read,
    a_response_of_almost_the_largest_size_is_read,
    heads_that_are_not_http_or_too_large_are_refused,
    bodies_that_are_too_large_are_refused,
    chunks_that_are_malformed_are_refused,
    a_body_that_is_not_the_json_of_its_call_is_refused,
    a_response_that_does_not_end_ends_the_call_at_its_time_limit,
    a_response_that_ends_early_is_a_failed_connection,
}
