//! Bodies use the encodings that the server accepts, and are uncompressed until it has named them.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

/// The request with its body decoded.
fn decode_request(request: &Request) -> Request {
    let mut plain = request.clone();
    match request.header("content-encoding") {
        "zstd" => plain.body = zstd::decode_all(request.body.as_slice()).unwrap(),
        "gzip" => {
            plain.body.clear();
            std::io::copy(&mut flate2::read::GzDecoder::new(request.body.as_slice()), &mut plain.body)
                .unwrap();
        }
        other => assert_eq!(other, ""),
    }
    plain
}

/// A server that accepts every encoding, and names one preference in each response, in this order.
fn preferring<const N: usize>(words: [Option<&'static str>; N]) -> ScriptedServer {
    let mut batches = 0;
    ScriptedServer::start(move |request| {
        let reply = Reply::correct(&decode_request(request));
        let word = words.get(batches).copied().flatten();
        batches += usize::from(request.is_batch());
        match word.filter(|_| request.is_batch()) {
            Some(word) => reply.with("accept-encoding", word),
            None => reply,
        }
    })
}

fn settings(server: &ScriptedServer) -> Settings {
    Settings::for_server(&server.url()).with("server.compression", "auto")
}

fn encodings(batches: &[Request]) -> Vec<&str> {
    batches.iter().map(|batch| batch.header("content-encoding")).collect()
}

/// Sends one batch after the other.
fn send(daemon: &Daemon, batches: u64) {
    let before = daemon.counts().synced;
    for nth in 1..=batches {
        daemon.enqueue_many(1);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(before + nth));
    }
}

#[test]
fn the_first_batch_is_uncompressed_and_later_ones_use_accepted_encodings() {
    for (says, expected) in [
        ("zstd, gzip", "zstd"),
        ("gzip;q=1.0, zstd;q=0.1", "zstd"),
        ("gzip", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("X-GZIP", "gzip"),
        ("*", "zstd"),
        ("br, identity", ""),
        ("zstd;q=0", ""),
    ] {
        let server = preferring([Some(says)]);
        let daemon = Daemon::start(&settings(&server));
        send(&daemon, 2);
        assert_eq!(encodings(&server.batches()), ["", expected], "{says}");
    }
}

#[test]
fn a_compressed_body_decodes_to_the_plain_one() {
    let server = preferring([Some("zstd"), Some("gzip")]);
    let daemon = Daemon::start(&settings(&server));
    let payload = json!({"text": "Besuch in Köln ".repeat(500), "n": 1.50});
    for synced in 1..=3 {
        daemon.enqueue(&[json!({"type": "Visits", "key": "account-17", "payload": payload})]);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(synced));
    }
    let batches = server.batches();
    assert_eq!(encodings(&batches), ["", "zstd", "gzip"]);
    for batch in &batches {
        assert_eq!(batch.header("content-type"), "application/json");
        let plain = decode_request(batch);
        assert_eq!(plain.json()["batch_id"], batch.batch_id());
        let record = &plain.records()[0];
        assert_eq!((&record["key"], &record["payload"]), (&json!("account-17"), &payload));
        if batch.body != plain.body {
            assert!(batch.body.len() * 10 < plain.body.len(), "{} bytes", batch.body.len());
        }
    }
}

#[test]
fn accepted_encodings_apply_until_the_server_changes_them() {
    let server = preferring([Some("zstd"), None, Some("gzip"), Some("identity")]);
    let daemon = Daemon::start(&settings(&server));
    send(&daemon, 5);
    assert_eq!(encodings(&server.batches()), ["", "zstd", "zstd", "gzip", ""]);
}

#[test]
fn after_a_restart_the_accepted_encodings_are_learned_again() {
    let server = preferring([Some("zstd"), None, Some("zstd")]);
    let daemon = Daemon::start(&settings(&server));
    send(&daemon, 2);
    let daemon = daemon.restart();
    send(&daemon, 2);
    assert_eq!(encodings(&server.batches()), ["", "zstd", "", "zstd"]);
}

#[test]
fn an_encoding_that_is_advertised_and_then_refused_is_dropped_for_the_same_batch() {
    let server = ScriptedServer::start(|request| {
        let reply = match request.header("content-encoding") {
            "" => Reply::correct(request),
            _ => Reply::error(415, "ENCODING"),
        };
        reply.with("accept-encoding", "zstd, gzip")
    });
    let daemon = Daemon::start(&settings(&server));
    send(&daemon, 4);
    let batches = server.batches();
    assert_eq!(encodings(&batches), ["", "zstd", "", "", ""], "what was refused once is not tried again");
    let (refused, again) = (&batches[1], &batches[2]);
    assert_eq!(refused.batch_id(), again.batch_id());
    assert_eq!(decode_request(refused).body, again.body);
    assert_eq!(again.attempt(), 2);
}

#[test]
fn an_uncompressed_body_refused_for_its_encoding_needs_a_person() {
    let server = ScriptedServer::start(|_| Reply::error(415, "ENCODING"));
    let daemon = Daemon::start(&settings(&server));
    let ids = daemon.enqueue_many(1);
    daemon.wait_for_phase("misconfigured");
    assert_eq!(daemon.record(&ids[0])["attempts"], 0);
    server.set_script(Reply::correct);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert!(encodings(&server.batches()).iter().all(|encoding| encoding.is_empty()));
}

#[test]
fn the_gateway_advertises_encodings_and_gets_them() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    // A proxy in between that records the requests.
    let between = ScriptedServer::start(move |request| {
        let names =
            ["x-sync-batch-id", "x-batch-sequence", "x-sync-device-id", "x-sync-attempt", "content-encoding"];
        let headers: Vec<_> = names
            .map(|name| (name, request.header(name)))
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let response =
            gateway.send(request.method.parse().unwrap(), &request.path, &headers, request.body.clone());
        let reply = Reply::text(response.status, "application/json", &response.text());
        reply.with("accept-encoding", response.header("accept-encoding"))
    });
    let daemon = Daemon::start(&settings(&between));
    send(&daemon, 3);
    assert_eq!(encodings(&between.batches()), ["", "zstd", "zstd"]);
}

/// A response that an intermediary has encoded although no encoding was requested.
fn encoded(reply: Reply, encoding: &'static str) -> Reply {
    let Reply::Response { status, mut headers, body } = reply else {
        panic!("only a response can be encoded")
    };
    headers.push(("content-encoding", encoding.into()));
    let body = match encoding {
        "gzip" => gzip(&body),
        "zstd" => zstd::encode_all(body.as_slice(), 3).unwrap(),
        _ => body.iter().map(|byte| !byte).collect(),
    };
    Reply::Response { status, headers, body }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The error of the first batch. Only that one gets this response.
fn first_error(settings: impl Fn(Settings) -> Settings, reply: fn(&Request) -> Reply) -> Value {
    let server = ScriptedServer::at_first(1, reply);
    let daemon = Daemon::start(&settings(Settings::for_server(&server.url())));
    let ids = daemon.enqueue_many(3);
    let error = wait_for("the batch to fail", || {
        Some(daemon.status()["sync"]["last_error"].clone()).filter(Value::is_object)
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
    assert!(!daemon.log().contains("captive_portal") || error["class"] == "interfered", "{}", daemon.log());
    // No record is lost, and none was applied twice.
    assert_eq!(daemon.in_state("SYNCED").len(), ids.len());
    error
}

#[test]
fn a_response_encoded_by_an_intermediary_is_decoded() {
    for encoding in ["gzip", "zstd"] {
        let server = ScriptedServer::start(move |request| encoded(Reply::correct(request), encoding));
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        let ids = daemon.enqueue_many(3);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
        let entry = daemon.record(&ids[0]);
        assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(1), &Value::Null), "{entry}");
        assert_eq!(server.batches().len(), 1);
    }
}

#[test]
fn an_unknown_response_encoding_is_named_and_not_taken_for_a_captive_portal() {
    let error = first_error(|settings| settings, |request| encoded(Reply::correct(request), "br"));
    assert_eq!((&error["class"], &error["http_status"]), (&json!("connection_lost"), &json!(200)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("\"br\""), "{error}");
}

#[test]
fn a_response_is_decoded_only_up_to_the_allowed_size() {
    let bomb = |request: &Request| {
        let Reply::Response { status, headers, mut body } = Reply::correct(request) else {
            panic!("a response")
        };
        body.resize(4 << 20, b' ');
        encoded(Reply::Response { status, headers, body }, "gzip")
    };
    // The server compresses the response while the daemon waits for it.
    let settings = |settings: Settings| {
        settings.with("server.max_answer_bytes", "1MiB").with("server.request_timeout", "15s")
    };
    let error = first_error(settings, bomb);
    assert_eq!(error["message"], "the response is larger than server.max_answer_bytes");
}

#[test]
fn an_encoded_page_of_a_captive_portal_is_recognized() {
    let error = first_error(|settings| settings, |_| encoded(Reply::html(200), "gzip"));
    assert_eq!(error["class"], "interfered");
}
