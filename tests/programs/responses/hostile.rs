//! Responses that are broken, absurd or endless: the daemon survives, uses none of them, and continues.
//!
//! Each is sent to batches and to outcome queries, until the daemon has received it more than once.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const RECORDS: usize = 3;
/// `server.max_answer_bytes`
const LARGEST: usize = 1 << 20;
/// A response has been processed when the next request arrives. So the daemon processed at least this many.
const MET: usize = 3;
const JSON: &str = "content-type: application/json\r\n";

/// The possible effect of a response.
#[derive(Clone, Copy, PartialEq)]
enum ExpectedEffect {
    /// It is unusual, but states the outcome of the batch clearly.
    Settled,
    /// Nothing in it can be trusted.
    Nothing,
    /// Its relevant part is complete and correct, although a strict reader would reject it.
    Either,
}
use ExpectedEffect::{Either, Nothing, Settled};

/// Builds a response to a batch of these records.
type ResponseBuilder = fn(&str, &[String]) -> Reply;

/// The daemon gets each of them for new records, and works normally afterwards.
fn assert_effects(responses: &[(&str, ExpectedEffect, ResponseBuilder)]) {
    let ledger = Ledger::default();
    let server = ScriptedServer::start(Reply::correct);
    let settings = Settings::for_server(&server.url())
        .with("server.max_answer_bytes", &LARGEST.to_string())
        .with("server.connect_timeout", "1s")
        .with("server.request_timeout", "1s")
        .with("server.answer_timeout", "1s");
    let mut daemon = Daemon::start(&settings);
    let mut all = Vec::new();
    for (name, effect, build_response) in responses {
        let (build_response, ledger_of_server, is_true) =
            (*build_response, ledger.clone(), *effect != Nothing);
        let mut ids = Vec::new();
        server.set_script(move |request| {
            if request.is_batch() {
                ids = request.ids();
                if is_true {
                    drop(ledger_of_server.respond(request));
                }
            }
            build_response(request.batch_id(), &ids)
        });
        let (before, met) = (daemon.counts(), server.requests().len());
        all.extend(daemon.enqueue_many(RECORDS));
        let wait_for_requests = |count: usize| (server.requests().len() >= met + count).then_some(());
        match effect {
            Settled => {
                daemon.wait_until_done();
                assert_eq!(server.requests().len(), met + 1, "{name}: it was not used\n{}", daemon.log());
            }
            Nothing => {
                wait_for(name, || wait_for_requests(MET));
                let now = daemon.counts();
                assert_eq!((now.synced, now.quarantined), (before.synced, 0), "{name}\n{}", daemon.log());
            }
            Either => wait_for(name, || wait_for_requests(1)),
        }
        let ledger_of_server = ledger.clone();
        server.set_script(move |request| ledger_of_server.respond(request));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(all.len() as u64), "{name}");
        ledger.assert_holds(&all);
    }
    assert!(daemon.child.is_running());
}

/// The results of a batch that was applied.
fn results(ids: &[String]) -> Value {
    ids.iter().map(|id| json!({"id": id, "status": "applied"})).collect()
}

/// The body that a correct server would send.
fn sound(batch: &str, ids: &[String]) -> String {
    json!({"batch_id": batch, "replayed": false, "results": results(ids)}).to_string()
}

fn json_text(body: impl Into<Vec<u8>>) -> Reply {
    Reply::Response {
        status: 200,
        headers: vec![("content-type", "application/json".into())],
        body: body.into(),
    }
}

/// A response with these results for the batch.
fn with_results(batch: &str, results: &Value) -> Reply {
    Reply::json(200, &json!({"batch_id": batch, "replayed": false, "results": results}))
}

/// Each record's result is that of a correct server, with one field replaced.
fn with_each(batch: &str, ids: &[String], name: &str, value: &Value) -> Reply {
    let mut results = results(ids);
    for result in results.as_array_mut().unwrap() {
        result[name] = value.clone();
    }
    with_results(batch, &results)
}

/// A head with these lines, and the body of a correct server.
fn under_head(lines: &str, batch: &str, ids: &[String]) -> Reply {
    raw(&format!("HTTP/1.1 200 OK\r\n{JSON}{lines}\r\n{}", sound(batch, ids)))
}

fn with_length(length: impl Fn(usize) -> usize, batch: &str, ids: &[String]) -> Reply {
    let length = length(sound(batch, ids).len());
    under_head(&format!("content-length: {length}\r\n"), batch, ids)
}

fn raw(text: &str) -> Reply {
    Reply::Raw(text.into())
}

fn nested(levels: usize, open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn huge_or_deep_json_is_used_only_if_it_is_a_response_of_the_allowed_size() {
    assert_effects(&[
        ("nearly the largest response", Settled, |batch, ids| {
            let padding = "x".repeat(LARGEST - 2000);
            Reply::json(200, &json!({"padding": padding, "batch_id": batch, "results": results(ids)}))
        }),
        ("white space around the response", Settled, |batch, ids| {
            json_text(format!("{}{}\n\n", " ".repeat(100_000), sound(batch, ids)))
        }),
        ("more than the largest response", Nothing, |batch, ids| {
            let padding = "x".repeat(LARGEST);
            Reply::json(200, &json!({"padding": padding, "batch_id": batch, "results": results(ids)}))
        }),
        ("megabytes of white space after the response", Nothing, |batch, ids| {
            json_text(sound(batch, ids) + &" ".repeat(3 * LARGEST))
        }),
        ("a deep array", Nothing, |_, _| json_text(nested(100_000, "[", "]"))),
        ("a deep object", Nothing, |_, _| json_text(nested(100_000, "{\"results\":", "}"))),
        ("an array that has no end", Nothing, |_, _| json_text("[".repeat(100_000))),
        ("deep results", Nothing, |batch, _| {
            let results = nested(100_000, "[", "]");
            json_text(format!("{{\"batch_id\":\"{batch}\",\"results\":{results}}}"))
        }),
    ]);
}

#[test]
fn json_of_the_wrong_shape_settles_nothing() {
    assert_effects(&[
        ("null", Nothing, |_, _| json_text("null")),
        ("a number", Nothing, |_, _| json_text("1e999")),
        ("a text", Nothing, |_, _| json_text("\"applied\"")),
        ("a list", Nothing, |_, ids| Reply::json(200, &results(ids))),
        ("no results", Nothing, |batch, _| Reply::json(200, &json!({"batch_id": batch}))),
        ("results that are none", Nothing, |batch, _| with_results(batch, &Value::Null)),
        ("results by name", Nothing, |batch, ids| with_results(batch, &json!({&ids[0]: "applied"}))),
        ("results that are texts", Nothing, |batch, ids| with_results(batch, &json!(ids))),
        ("a batch id that is a number", Nothing, |_, ids| {
            Reply::json(200, &json!({"batch_id": 7, "results": results(ids)}))
        }),
        ("ids that are numbers", Nothing, |batch, ids| with_each(batch, ids, "id", &json!(7))),
        ("a status that is a number", Nothing, |batch, ids| with_each(batch, ids, "status", &json!(1))),
        ("an unknown status", Nothing, |batch, ids| with_each(batch, ids, "status", &json!("exploded"))),
        ("two responses in one", Nothing, |batch, ids| json_text(sound(batch, ids).repeat(2))),
        ("half a response", Nothing, |batch, ids| {
            let text = sound(batch, ids);
            json_text(&text.as_bytes()[..text.len() / 2])
        }),
        ("bytes that are no text", Nothing, |batch, ids| {
            json_text([sound(batch, ids).as_bytes(), b"\xff\xfe\x80"].concat())
        }),
        ("a text with bytes that are none", Nothing, |batch, ids| {
            let mut body = sound(batch, ids).into_bytes();
            let at = body.len() - 4;
            body[at] = 0xff;
            json_text(body)
        }),
    ]);
}

#[test]
fn only_the_first_result_for_each_record_of_the_batch_counts() {
    assert_effects(&[
        ("unknown records", Nothing, |batch, _| {
            let strangers: Vec<String> = (0..1000).map(|_| uuid::Uuid::now_v7().to_string()).collect();
            with_results(batch, &results(&strangers))
        }),
        ("strangers that are rejected", Nothing, |batch, _| {
            let id = uuid::Uuid::now_v7();
            with_results(batch, &json!([{"id": id, "status": "rejected", "code": "NO"}]))
        }),
        ("no results at all", Nothing, |batch, _| with_results(batch, &json!([]))),
        ("everybody is to come again", Nothing, |batch, ids| {
            with_each(batch, ids, "status", &json!("retry"))
        }),
        ("a code that is a list", Either, |batch, ids| with_each(batch, ids, "code", &json!(["a"]))),
        ("results for another batch", Nothing, |_, ids| {
            with_results(&uuid::Uuid::new_v4().to_string(), &results(ids))
        }),
        ("one record in many ways, applied at first", Settled, |batch, ids| {
            let mut all = results(ids).as_array().unwrap().clone();
            for (id, status) in ids.iter().zip(["rejected", "retry", "duplicate"]) {
                all.extend(vec![json!({"id": id, "status": status, "code": "ODD"}); 1000]);
            }
            with_results(batch, &json!(all))
        }),
    ]);
}

#[test]
fn a_body_with_false_framing_settles_nothing() {
    assert_effects(&[
        ("a length that is too long", Nothing, |batch, ids| with_length(|length| length + 1, batch, ids)),
        ("a length that is far too long", Nothing, |batch, ids| with_length(|_| usize::MAX, batch, ids)),
        ("a length that is too short", Nothing, |batch, ids| with_length(|length| length - 1, batch, ids)),
        ("no length where a body follows", Nothing, |batch, ids| with_length(|_| 0, batch, ids)),
        ("a length below nothing", Nothing, |batch, ids| under_head("content-length: -1\r\n", batch, ids)),
        ("a length that is no number", Nothing, |batch, ids| {
            under_head("content-length: many\r\n", batch, ids)
        }),
        ("no length at all", Nothing, |batch, ids| under_head("", batch, ids)),
        ("two lengths", Nothing, |batch, ids| {
            under_head("content-length: 2\r\ncontent-length: 20\r\n", batch, ids)
        }),
        ("chunks that are none", Nothing, |batch, ids| {
            under_head("transfer-encoding: chunked\r\n", batch, ids)
        }),
        ("a chunk larger than the world", Nothing, |batch, ids| {
            under_head("transfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n", batch, ids)
        }),
        ("a chunk that is cut off after the response", Either, |batch, ids| {
            under_head("transfer-encoding: chunked\r\n\r\nfffff\r\n", batch, ids)
        }),
        ("a response that is cut off", Nothing, |batch, ids| {
            let text = sound(batch, ids);
            let (begun, length) = (&text[..text.len() / 2], text.len());
            raw(&format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {length}\r\n\r\n{begun}"))
        }),
        ("half a gzip", Nothing, |batch, ids| {
            let body = gzipped(&sound(batch, ids));
            json_text(&body[..body.len() / 2]).with("content-encoding", "gzip")
        }),
        ("text that claims to be gzip's", Nothing, |_, _| {
            json_text("no gzip at all").with("content-encoding", "gzip")
        }),
    ]);
}

#[test]
fn an_absurd_response_head_settles_nothing() {
    assert_effects(&[
        ("no HTTP at all", Nothing, |_, _| raw("\x16\x03\x01\x02\0\u{1}\0\u{fc}\x03\r\n\r\n")),
        ("HTTP without a head", Nothing, |batch, ids| raw(&sound(batch, ids))),
        ("half a head", Nothing, |_, _| raw("HTTP/1.1 200 OK\r\ncontent-le")),
        ("HTTP of the future", Nothing, |_, _| raw("HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n")),
        ("a status that is none", Nothing, |_, _| raw("HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n")),
        ("a status out of range", Nothing, |_, _| raw("HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n")),
        ("a line without a name", Nothing, |batch, ids| under_head(": nothing\r\nno colon\r\n", batch, ids)),
        ("a nought in a field", Nothing, |batch, ids| under_head("x-odd: a\0b\r\n", batch, ids)),
        ("10,000 fields", Nothing, |batch, ids| {
            under_head(&"x-flood: and another\r\n".repeat(10_000), batch, ids)
        }),
        ("a field of a megabyte", Nothing, |batch, ids| {
            under_head(&format!("x-long: {}\r\n", "x".repeat(1 << 20)), batch, ids)
        }),
        ("10,000 times to go on", Nothing, |_, _| raw(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000))),
        ("10,000 early hints", Nothing, |_, _| {
            raw(&"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(10_000))
        }),
        ("another protocol", Nothing, |_, _| {
            raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: tls\r\nconnection: upgrade\r\n\r\n\x16\x03")
        }),
        ("a close instead of a response", Nothing, |_, _| Reply::Close),
        ("a reset instead of a response", Nothing, |_, _| Reply::Reset),
    ]);
}

#[test]
fn a_response_without_an_end_is_given_up() {
    assert_effects(&[
        ("chunks without an end", Nothing, |_, _| Reply::Endless),
        ("a body that drips", Nothing, |batch, ids| {
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 99999\r\n\r\n");
            Reply::Drip((head + &sound(batch, ids)).into_bytes(), vec![b' '; 99_000])
        }),
        ("a head that drips", Nothing, |_, _| {
            Reply::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-drip: drop\r\n".repeat(1000))
        }),
        ("a body that stops", Nothing, |batch, ids| {
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 99999\r\n\r\n");
            Reply::Drip((head + &sound(batch, ids)).into_bytes(), Vec::new())
        }),
    ]);
}

#[test]
fn absurd_hints_neither_stop_nor_harm_the_sync() {
    let ledger = Ledger::default();
    let books = ledger.clone();
    let server = ScriptedServer::start(move |request| {
        let nonsense = ["0", "-1", "1e9", "99999999999999999999999", "many", ""];
        let hints = ["x-sync-max-records", "x-sync-max-bytes", "x-sync-time-budget-ms", "retry-after"];
        let hint = |reply: Reply, name: &'static str| reply.with(name, fastrand::choice(nonsense).unwrap());
        hints.into_iter().fold(books.respond(request), hint).with("accept-encoding", "gzip;q=x, ,;;,zstd;q=-")
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(daemon.enqueue_many(RECORDS));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    }
    ledger.assert_holds(&ids);
}
