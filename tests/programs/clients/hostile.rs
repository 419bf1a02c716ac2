//! Responses in every form that HTTP allows, and those that no daemon sends: they cost neither memory nor time beyond
//! the limits, and are never taken for something else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::adapter::{Adapter, Language, TIME_LIMIT_MS, enqueue, enqueue_within, events, visits};
use super::scripted_socket::{Act, ScriptedSocket, response};
use crate::support::wait::directory;

/// The time limit of calls that must end by it.
const SHORT_MS: u64 = 700;

fn status() -> Value {
    json!({"do": "status"})
}

fn brief_status() -> Value {
    json!({"do": "status", "time_limit_ms": SHORT_MS})
}

/// Each response makes a call fail in this way.
#[track_caller]
fn assert_fail(language: Language, acts: Vec<Act>, kind: &str) {
    let count = acts.len();
    let socket = ScriptedSocket::play(acts);
    let mut client = Adapter::start(language, &socket.path());
    for number in 0..count {
        let error = client.fail(&status());
        assert_eq!((number, error.kind()), (number, kind), "{error:?}");
    }
    assert_eq!(socket.requests().len(), count);
}

fn every_form_of_a_response_is_read(language: Language) {
    let expected = json!({"version": "ünï"});
    let forms = [
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
    ];
    let acts = forms.iter().flat_map(|form| [Act::Send((*form).into()), Act::Drip((*form).into())]);
    let socket = ScriptedSocket::play(acts.collect());
    let mut client = Adapter::start(language, &socket.path());
    for form in forms {
        assert_eq!(client.call(&status()), expected, "{form}");
        assert_eq!(client.call(&status()), expected, "in pieces: {form}");
    }
}

fn a_response_of_almost_the_largest_size_is_read(language: Language) {
    let text = "x".repeat(30 << 20);
    let body = json!({"text": text});
    let found = {
        let large = response(200, &format!("x: {}\r\n", "y".repeat(60_000)), &body);
        let socket = ScriptedSocket::play(vec![Act::Send(large)]);
        Adapter::start(language, &socket.path()).call(&status())
    };
    assert!(found == body, "the body is complete");
}

fn heads_that_are_not_http_or_too_large_are_refused(language: Language) {
    let lines =
        ["SSH-2.0-OpenSSH_9.2", "HTTP/2 200 OK", "HTTP/1.1 OK", "HTTP/1.1 99 Low", "HTTP/1.1 20x No", "{}"];
    let mut wrong: Vec<String> = lines.map(|line| format!("{line}\r\ncontent-length: 2\r\n\r\n{{}}")).into();
    for headers in [
        "content-length: 2 2",
        "content-length: -2",
        "content-length: +2",
        "content-length: 18446744073709551618",
        "content-length: 2\r\ncontent-length: 3",
        "no colon",
        "transfer-encoding: gzip",
    ] {
        wrong.push(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{{}}"));
    }
    let mut acts: Vec<Act> = wrong.into_iter().map(|text| Act::Send(text.into())).collect();
    let begin = b"HTTP/1.1 200 OK\r\n".to_vec();
    acts.push(Act::Endless(begin.clone(), b"x: y\r\n".to_vec()));
    acts.push(Act::Endless(begin, b"xxxxxxxx".to_vec()));
    acts.push(Act::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
    acts.push(Act::Send(response(200, &format!("x: {}\r\n", "y".repeat(70_000)), &json!({}))));
    assert_fail(language, acts, "protocol");
}

fn bodies_that_are_too_large_are_refused(language: Language) {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
    let trailers = [chunked.as_slice(), b"0\r\n"].concat();
    let to_the_end = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let acts = vec![
        Act::Stall(announced),
        Act::Endless(chunked, chunk),
        Act::Endless(trailers, b"x: y\r\n".to_vec()),
        Act::Endless(to_the_end, vec![b' '; 1 << 16]),
    ];
    assert_fail(language, acts, "protocol");
}

fn chunks_that_are_malformed_are_refused(language: Language) {
    let chunks = [
        "x\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ];
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut acts: Vec<Act> = chunks.map(|chunks| Act::Send(format!("{head}{chunks}").into())).into();
    acts.push(Act::Endless(format!("{head}2;").into(), b"xxxxxxxx".to_vec()));
    assert_fail(language, acts, "protocol");
}

fn a_body_that_is_not_the_json_of_its_call_is_refused(language: Language) {
    let with_body = |status: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Send([head.as_bytes(), body].concat())
    };
    let deep = "[".repeat(100_000);
    let bodies = [
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
    ];
    let mut acts: Vec<Act> = bodies.iter().map(|body| with_body("200 OK", body)).collect();
    acts.push(with_body("302 Found", b"{}"));
    assert_fail(language, acts, "protocol");
    let bodies = [
        "{}",
        "[]",
        "{\"accepted\": 1, \"duplicates\": 0}",
        "{\"accepted\": \"1\", \"duplicates\": 0, \"ids\": [\"a\"]}",
        "{\"accepted\": 1, \"duplicates\": 0, \"ids\": []}",
        "{\"accepted\": 1, \"duplicates\": 0, \"ids\": [\"a\", \"b\"]}",
        "{\"accepted\": 1, \"duplicates\": 0, \"ids\": \"a\"}",
        "{\"accepted\": 1, \"duplicates\": 1, \"ids\": [\"a\"]}",
        "{\"accepted\": 0, \"duplicates\": 0, \"ids\": [\"a\"]}",
        "{\"accepted\": 2, \"duplicates\": -1, \"ids\": [\"a\"]}",
        "{\"accepted\": true, \"duplicates\": 0, \"ids\": [\"a\"]}",
    ];
    let acts = bodies.map(|body| with_body("201 Created", body.as_bytes()));
    let socket = ScriptedSocket::play(acts.into());
    let mut client = Adapter::start(language, &socket.path());
    for (number, body) in bodies.iter().enumerate() {
        let error = client.fail(&enqueue(&visits(1)));
        assert_eq!((error.kind(), error.ids()), ("protocol", socket.requests()[number].ids()), "{body}");
    }
    assert_eq!(socket.requests().len(), bodies.len());
}

fn a_response_that_does_not_end_ends_the_call_at_its_time_limit(language: Language) {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let slow = format!("{head}{}", " ".repeat(10_000));
    let acts = vec![
        Act::Stall(Vec::new()),
        Act::Stall(b"HTTP/1.1 200 OK\r\ncont".to_vec()),
        Act::Stall([head.as_bytes(), b"{"].concat()),
        // Each byte arrives in time, but not all of them do.
        Act::Drip(slow.into()),
    ];
    let count = acts.len();
    let socket = ScriptedSocket::play(acts);
    let mut client = Adapter::start(language, &socket.path());
    for _ in 0..count {
        let error = client.fail(&brief_status());
        assert_eq!(error.kind(), "time_limit", "{error:?}");
    }
}

/// Within a limit of its own, so that the call can be repeated: also a body that begins in time.
fn a_response_that_stalls_is_given_up_after_a_minute(language: Language) {
    let stall = |status: u16| {
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 100\r\n\r\n{{");
        Act::Stall(head.into())
    };
    let record = ScriptedSocket::start(
        move |number, request| {
            if number == 0 { stall(201) } else { Act::accepted(request) }
        },
    );
    let stream = ScriptedSocket::play(vec![stall(503), Act::events(b"event: end\ndata: {}\n\n")]);
    let mut enqueuing = Adapter::start(language, &record.path());
    let mut following = Adapter::start(language, &stream.path());
    enqueuing.send(&enqueue_within(&visits(1), 4 * TIME_LIMIT_MS));
    let mut command = events(None, "end", 1);
    command["time_limit_ms"] = (4 * TIME_LIMIT_MS).into();
    following.send(&command);
    for client in [&enqueuing, &following] {
        let line = client.receive_within(Duration::from_millis(3 * TIME_LIMIT_MS));
        assert!(line.get("error").is_none(), "{line}");
    }
    assert_eq!((record.requests().len(), stream.requests().len()), (2, 2));
}

/// A server that responds to the head of a request, and then reads no more.
fn a_response_to_a_request_that_is_not_read_is_not_lost(language: Language) {
    let directory = directory();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::with_capacity(64, &stream);
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|bytes| bytes > 0) {}
            let error = json!({"error": {"code": "request_too_large", "message": "a reason"}});
            stream.write_all(&response(413, "connection: close\r\n", &error)).unwrap();
        }
    });
    let mut client = Adapter::start(language, &path);
    let record = json!({"type": "Pictures", "payload": {"picture": "x".repeat(1 << 20)}});
    for _ in 0..10 {
        let error = client.fail(&enqueue_within(std::slice::from_ref(&record), 5000));
        error.assert_response("invalid_request", 413, "request_too_large");
    }
    // None was repeated.
    assert_eq!(connections.load(Ordering::Relaxed), 10);
}

fn the_longest_time_limits_work(language: Language) {
    let socket = ScriptedSocket::start(|_, request| match request.path() {
        "/v1/records" => Act::accepted(request),
        "/v1/events" => Act::events(b"event: end\ndata: {}\n\n"),
        _ => Act::json(200, &json!({})),
    });
    let mut client = Adapter::start(language, &socket.path());
    for time_limit_ms in [10_000_000_000_u64, 10_000_000_000_000] {
        client.call(&json!({"do": "status", "time_limit_ms": time_limit_ms}));
        client.call(&enqueue_within(&visits(1), time_limit_ms));
        let mut command = events(None, "end", 1);
        command["time_limit_ms"] = time_limit_ms.into();
        client.send(&command);
        assert_eq!(client.receive()["event"]["event"], "end");
        client.receive_ok();
    }
}

fn a_response_that_ends_early_is_a_failed_connection(language: Language) {
    let early = [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
    ];
    assert_fail(language, early.map(|bytes| Act::Send(bytes.into())).into(), "connection_failed");
}

for_each_client! {
    every_form_of_a_response_is_read,
    a_response_of_almost_the_largest_size_is_read,
    heads_that_are_not_http_or_too_large_are_refused,
    bodies_that_are_too_large_are_refused,
    chunks_that_are_malformed_are_refused,
    a_body_that_is_not_the_json_of_its_call_is_refused,
    a_response_that_does_not_end_ends_the_call_at_its_time_limit,
    a_response_that_stalls_is_given_up_after_a_minute,
    a_response_to_a_request_that_is_not_read_is_not_lost,
    the_longest_time_limits_work,
    a_response_that_ends_early_is_a_failed_connection,
}
