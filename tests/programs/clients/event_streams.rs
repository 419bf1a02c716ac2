//! Streams of events in every form that the standard for Server-Sent Events allows, and what reconnecting sends.

use serde_json::{Value, json};

use super::adapter::{Adapter, Language, TIME_LIMIT_MS, events};
use super::scripted_socket::{Act, EVENT_STREAM_HEAD, RawRequest, ScriptedSocket};

const END: &[u8] = b"event: end\ndata: {}\n\n";

/// A stream, its events, and the id that the client has after it. `retry` makes the client reconnect soon.
type Parsed<'a> = (&'a [u8], Vec<Value>, Option<&'a str>);

/// The events up to the end.
#[track_caller]
fn read_to_end(client: &mut Adapter) -> Vec<Value> {
    client.send(&events(None, "end", 1));
    let mut seen = Vec::new();
    loop {
        let line = client.receive();
        let event = line.get("event").unwrap_or_else(|| panic!("{line}")).clone();
        if event["event"] == "end" {
            client.receive_ok();
            return seen;
        }
        seen.push(event);
    }
}

/// Sends each stream at once and byte by byte, and the end on the connection after it.
#[track_caller]
fn assert_parsed(language: Language, streams: &[Parsed<'_>]) {
    let act = |(stream, ..): &Parsed<'_>| {
        let bytes = [EVENT_STREAM_HEAD, stream].concat();
        [Act::Send(bytes.clone()), Act::events(END), Act::Drip(bytes), Act::events(END)]
    };
    let socket = ScriptedSocket::play(streams.iter().flat_map(act).collect());
    let mut client = Adapter::start(language, &socket.path());
    for (stream, expected, last_event_id) in streams.iter().flat_map(|stream| [stream, stream]) {
        let text = String::from_utf8_lossy(stream);
        assert_eq!(&read_to_end(&mut client), expected, "{text}");
        let requests: Vec<RawRequest> = socket.requests();
        let [.., first, second] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(first.header("last-event-id"), None);
        assert_eq!(second.header("last-event-id"), *last_event_id, "{text}");
    }
}

fn event(id: &str, name: &str, data: &Value) -> Value {
    json!({"id": id, "event": name, "data": data})
}

fn the_stream_is_parsed_by_the_standard(language: Language) {
    let two = vec![event("a-1", "record", &json!({"n": 1})), event("a-2", "message", &json!([2]))];
    let streams = [
        &b"retry: 100\nid: a-1\nevent: record\ndata: {\"n\": 1}\n\nid: a-2\ndata: [2]\n\n"[..],
        b"retry: 100\r\nid: a-1\r\nevent: record\r\ndata: {\"n\": 1}\r\n\r\nid: a-2\r\ndata: [2]\r\n\r\n",
        b"retry: 100\rid: a-1\revent: record\rdata: {\"n\": 1}\r\rid: a-2\rdata: [2]\r\r",
        b"\xef\xbb\xbfid:a-1\nevent:record\r\nretry:100\r\ndata:{\"n\":\rdata: 1\ndata:}\r\r\n\n\ndata: [2]\nid: a-2\n\n",
        b": comment\n:\nretry: 100\nid: a-1\nevent: other\nevent: record\nunknown: x\ndata: {\"n\": 1}\n\n: more\n\nid: a-2\ndata: [2]\n\n",
        b"retry: 100\nid: a-1\nevent: record\ndata: {\"n\": 1}\n\nretry: 1x\nretry: -5\nretry\nid: a-2\ndata\ndata: [2]\n\n",
        // Without data, and without an end.
        b"retry: 100\nevent: none\n\nid: a-1\nevent: record\ndata: {\"n\": 1}\n\nid: a-2\ndata: [2]\n\nid: a-3\ndata: [3]\n",
    ];
    assert_parsed(language, &streams.map(|stream| (stream, two.clone(), Some("a-2"))));
}

fn ids_follow_the_standard(language: Language) {
    let message = |id: &str, data: i32| event(id, "message", &json!(data));
    let (one, both) = (vec![message("a-1", 1)], vec![message("a-1", 1), message("a-1", 2)]);
    let reset = vec![message("a-1", 1), message("", 2)];
    let unicode = "retry: 100\nid: ä-1\ndata: \"Größe 🦀\"\n\n".as_bytes();
    assert_parsed(
        language,
        &[
            (b"retry: 100\nid: a-1\ndata: 1\n\nid: a\0b\ndata: 2\n\n", both.clone(), Some("a-1")),
            (b"retry: 100\nid: a-1\ndata: 1\n\ndata: 2\n\n", both, Some("a-1")),
            (b"retry: 100\nid: a-1\ndata: 1\n\nid\ndata: 2\n\n", reset, None),
            (b"retry: 100\nid: a-1\ndata: 1\n\nid: a-2\n\n", one, Some("a-2")),
            (unicode, vec![event("ä-1", "message", &json!("Größe 🦀"))], Some("ä-1")),
        ],
    );
}

fn an_event_is_delivered_as_soon_as_its_end_is_there(language: Language) {
    let mut acts = Vec::new();
    for stream in ["data: 1\n\n", "data: 1\r\n\r\n", "data: 1\r\r", "data: 1\n\r"] {
        let chunk = format!("{:x}\r\n{stream}\r\n", stream.len());
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n";
        acts.push(Act::Stall([EVENT_STREAM_HEAD, stream.as_bytes()].concat()));
        acts.push(Act::Stall(format!("{head}{chunk}").into()));
    }
    let count = acts.len();
    let socket = ScriptedSocket::play(acts);
    let mut client = Adapter::start(language, &socket.path());
    for _ in 0..count {
        client.send(&events(None, "message", 1));
        assert_eq!(client.receive()["event"], event("", "message", &json!(1)));
        client.receive_ok();
    }
}

fn data_that_is_not_json_is_an_error(language: Language) {
    let streams = ["data: {\n\n", "data: \n\n", "data: \u{0}\n\n"];
    let socket = ScriptedSocket::play(streams.map(|stream| Act::events(stream.as_bytes())).into());
    let mut client = Adapter::start(language, &socket.path());
    for stream in streams {
        assert_eq!(client.fail(&events(None, "end", 1)).kind(), "protocol", "{stream}");
    }
}

fn an_event_without_an_end_is_an_error(language: Language) {
    let begin = [EVENT_STREAM_HEAD, b"data: \""].concat();
    for endless in [
        vec![b'x'; 1 << 16],
        b"\ndata: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec(),
    ] {
        let act = Act::Endless(begin.clone(), endless);
        let socket = ScriptedSocket::start(move |_, _| act.clone());
        let error = Adapter::start(language, &socket.path()).fail(&events(None, "end", 1));
        assert_eq!(error.kind(), "protocol");
    }
}

fn events_continue_after_failures_that_pass(language: Language) {
    let failures = [
        Act::events(b"retry: 100\nid: a-1\nevent: record\ndata: {}\n\n"),
        Act::error(503, "stopping", "retry-after: 1\r\n"),
        Act::Send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Act::Send(Vec::new()),
        Act::events(b"id: a-2\nevent: record\ndata: {}\n\n"),
    ];
    let socket = ScriptedSocket::start(move |number, _| {
        failures.get(number).cloned().unwrap_or_else(|| Act::events(END))
    });
    let mut client = Adapter::start(language, &socket.path());
    client.send(&events(Some("a-0"), "end", 1));
    let seen: Vec<Value> = (0..3).map(|_| client.receive()["event"]["id"].clone()).collect();
    assert_eq!(seen, ["a-1", "a-2", "a-2"]);
    assert_eq!(client.receive_ok()["last_event_id"], "a-2");
    let sent: Vec<Option<String>> =
        socket.requests().iter().map(|request| request.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(sent.iter().flatten().collect::<Vec<_>>(), ["a-0", "a-1", "a-1", "a-1", "a-1", "a-2"]);
}

fn reconnecting_is_never_a_tight_loop(language: Language) {
    let acts = [
        Act::events(b"retry: 0\nid: a-1\nevent: record\ndata: {}\n\n"),
        Act::error(503, "stopping", "retry-after: 0\r\n"),
    ];
    for act in acts {
        let socket = ScriptedSocket::start(move |_, _| act.clone());
        let mut client = Adapter::start(language, &socket.path());
        let mut command = events(None, "end", 1);
        command["time_limit_ms"] = 5000.into();
        client.send(&command);
        while client.receive().get("event").is_some() {}
        let connections = socket.requests().len();
        // One every 100 ms.
        assert!((2..=51).contains(&connections), "{connections} connections");
    }
}

fn other_errors_end_the_events(language: Language) {
    let (acts, kinds): (Vec<Act>, Vec<&str>) = [
        (Act::error(403, "not_permitted", ""), "not_permitted"),
        (Act::error(400, "invalid_query", ""), "invalid_request"),
        (Act::error(404, "not_found", ""), "invalid_request"),
        (Act::json(200, &json!({})), "protocol"),
        (Act::Send(b"SSH-2.0\r\n\r\n".to_vec()), "protocol"),
    ]
    .into_iter()
    .unzip();
    let socket = ScriptedSocket::play(acts);
    let mut client = Adapter::start(language, &socket.path());
    for (number, kind) in kinds.into_iter().enumerate() {
        let error = client.fail(&events(None, "end", 1));
        assert_eq!((error.kind(), socket.requests().len()), (kind, number + 1));
    }
}

fn events_end_at_the_time_limit(language: Language) {
    let quiet = Act::Stall([EVENT_STREAM_HEAD, b"id: a-1\ndata: 1\n\n"].concat());
    let busy = Act::Endless(EVENT_STREAM_HEAD.to_vec(), b"id: a-1\ndata: 1\n\n".to_vec());
    for act in [quiet, busy] {
        let socket = ScriptedSocket::start(move |_, _| act.clone());
        let mut client = Adapter::start(language, &socket.path());
        let mut command = events(None, "end", 1);
        assert_eq!(command["time_limit_ms"], TIME_LIMIT_MS);
        command["time_limit_ms"] = 700.into();
        client.send(&command);
        let end = loop {
            let line = client.receive();
            if line.get("event").is_none() {
                break line;
            }
        };
        assert_eq!(end["error"]["kind"], "time_limit");
    }
}

for_each_client! {
    the_stream_is_parsed_by_the_standard,
    ids_follow_the_standard,
    an_event_is_delivered_as_soon_as_its_end_is_there,
    data_that_is_not_json_is_an_error,
    an_event_without_an_end_is_an_error,
    events_continue_after_failures_that_pass,
    reconnecting_is_never_a_tight_loop,
    other_errors_end_the_events,
    events_end_at_the_time_limit,
}
