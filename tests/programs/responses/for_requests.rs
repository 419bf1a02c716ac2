//! Responses about the request as a whole.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

fn distinct(batches: &[Request]) -> HashSet<&str> {
    batches.iter().map(Request::batch_id).collect()
}

#[test]
fn a_body_that_is_too_large_is_split_without_counting_an_attempt_and_the_limit_is_learned() {
    let server = ScriptedServer::start(|request| {
        let too_large = request.is_batch() && request.body.len() > 20_000;
        if too_large { Reply::html(413) } else { Reply::correct(request) }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let text = "x".repeat(1000);
    let records: Vec<Value> = (0..90).map(|_| json!({"type": "T", "payload": {"text": text}})).collect();
    let ids = daemon.enqueue(&records);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(90));
    for id in &ids {
        assert_eq!(daemon.record(id)["attempts"], 1);
    }
    let sizes = server.sizes();
    assert_eq!(sizes[..2], [50, 25], "{sizes:?}");
    // The learned limit applies to new records.
    assert!(sizes.iter().rev().take(2).all(|size| *size <= 13), "{sizes:?}");
}

#[test]
fn a_record_that_is_too_large_alone_is_quarantined() {
    let server = ScriptedServer::start(|request| {
        let too_large = request.is_batch() && request.body.len() > 20_000;
        if too_large { Reply::html(413) } else { Reply::correct(request) }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let large = json!({"type": "T", "payload": {"text": "x".repeat(30_000)}});
    let small = json!({"type": "T", "payload": {}});
    let ids = daemon.enqueue(&[small.clone(), small.clone(), large, small]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(3, 1));
    let entry = daemon.record(&ids[2]);
    assert_eq!(entry["state"], "QUARANTINED");
    let error = &entry["last_error"];
    assert_eq!((&error["class"], &error["http_status"]), (&json!("too_large"), &json!(413)));
}

#[test]
fn a_batch_that_is_still_being_processed_is_looked_up_and_not_sent_again() {
    let server = ScriptedServer::start(Reply::correct);
    let (mut ids, mut asked) = (Vec::new(), 0);
    server.set_script(move |request| {
        if request.is_batch() {
            ids = request.ids();
            return Reply::error(409, "PROCESSING").with("retry-after", "0");
        }
        asked += 1;
        if asked == 1 {
            return Reply::json(202, &json!({"batch_id": request.batch_id(), "state": "processing"}));
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "duplicate"})))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "8s"));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let batches = server.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(server.count_outcome_queries(batches[0].batch_id()), 2);
}

#[test]
fn a_batch_id_that_the_server_knows_with_another_body_is_replaced() {
    let server = ScriptedServer::at_first(1, |_| Reply::error(422, "BATCH_ID_REUSED"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let batches = server.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(distinct(&batches).len(), 2);
    assert_eq!((batches[0].ids(), batches[1].ids()), (ids.clone(), ids));
    assert_eq!(batches[1].attempt(), 1);
    assert_eq!(batches[1].json()["batch_id"], batches[1].batch_id());
}

#[test]
fn a_rejected_request_is_split_down_to_the_faulty_record_and_only_that_is_quarantined() {
    let server = ScriptedServer::start(|request| {
        let refused = request.is_batch() && request.text().contains("\"bad\"");
        if refused { Reply::error(422, "INVALID_DATA") } else { Reply::correct(request) }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let records: Vec<Value> = (0..60)
        .map(|n| json!({"type": "T", "payload": {"text": if n == 33 { "bad" } else { "good" }}}))
        .collect();
    let ids = daemon.enqueue(&records);
    assert_eq!(daemon.wait_until_done(), Counts::settled(59, 1));
    let entry = daemon.record(&ids[33]);
    let error = &entry["last_error"];
    assert_eq!(entry["state"], "QUARANTINED");
    assert_eq!((&error["code"], &error["http_status"]), (&json!("INVALID_DATA"), &json!(422)));
    assert_eq!(error["message"], "INVALID_DATA, says the server");
}

#[test]
fn a_server_that_rejects_everything_quarantines_nothing() {
    let server = ScriptedServer::start(|_| Reply::error(400, "NO"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    server.wait_for_batches(12);
    assert_eq!(daemon.counts().quarantined, 0);
    server.set_script(Reply::correct);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
}

#[test]
fn an_unsupported_encoding_is_dropped_and_the_same_batch_is_sent_uncompressed() {
    let server = ScriptedServer::start(|request| {
        if request.header("content-encoding").is_empty() {
            Reply::correct(request)
        } else {
            Reply::error(415, "ENCODING")
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.compression", "zstd"));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    let batches = server.batches();
    assert_eq!(batches.len(), 3, "what was refused once is not tried again");
    assert_eq!(batches[0].header("content-encoding"), "zstd");
    assert_eq!(batches[0].batch_id(), batches[1].batch_id());
    assert_eq!(zstd::decode_all(batches[0].body.as_slice()).unwrap(), batches[1].body);
}

#[test]
fn after_a_lost_connection_the_outcome_query_settles_the_batch() {
    let server = ScriptedServer::start(Reply::correct);
    let mut ids = Vec::new();
    server.set_script(move |request| {
        if request.is_batch() {
            ids = request.ids();
            return Reply::Close;
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(server.sizes(), [3]);
}

#[test]
fn after_a_lost_connection_a_batch_unknown_to_the_server_is_resent_unchanged() {
    let server = ScriptedServer::at_first(1, |_| Reply::Close);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "8s"));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let batches = server.batches();
    assert_eq!(server.count_outcome_queries(batches[0].batch_id()), 1);
    assert_eq!((batches.len(), distinct(&batches).len()), (2, 1));
    assert_eq!((&batches[1].body, batches[1].attempt()), (&batches[0].body, 2));
}

#[test]
fn a_connection_that_ends_before_the_body_was_read_loses_nothing() {
    let server = ScriptedServer::start(Reply::correct);
    server.cut_unread(1);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let text = "x".repeat(500_000);
    daemon.enqueue(&[json!({"type": "T", "payload": {"text": text}}), json!({"type": "T", "payload": {}})]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    assert_eq!(server.batches().last().unwrap().attempt(), 2);
}

#[test]
fn the_outcome_is_queried_after_the_time_limit_when_the_server_does_not_respond() {
    let server = ScriptedServer::start(Reply::correct);
    let mut ids = Vec::new();
    server.set_script(move |request| {
        if request.is_batch() {
            ids = request.ids();
            return Reply::Hang;
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    // The outcome query has as long as that, too.
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "4s"));
    daemon.enqueue_many(3);
    let status =
        daemon.wait_until("the time limit to pass", |status| status["sync"]["last_error"].is_object());
    assert_eq!(status["sync"]["last_error"]["class"], "timeout");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(server.sizes(), [3]);
}

#[test]
fn without_outcome_queries_an_ambiguous_batch_is_split_under_new_ids() {
    let server = ScriptedServer::start(Reply::correct);
    let mut first = true;
    server.set_script(move |request| {
        let fails = request.is_batch() && first;
        first &= !request.is_batch();
        match (request.is_batch(), fails) {
            (true, true) => Reply::html(504),
            (true, false) => Reply::applied(request),
            (false, _) => Reply::text(404, "text/plain", "Not Found\n"),
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(20);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(20));
    assert_eq!(server.sizes(), [20, 10, 10]);
    let batches = server.batches();
    assert_eq!(distinct(&batches).len(), 3);
    assert_eq!([batches[1].ids(), batches[2].ids()].concat(), ids);
    let reports = daemon.get("/v1/batches").expect_json(200);
    assert_eq!(reports["batches"][0]["parent"], batches[0].batch_id());
}

#[test]
fn a_limit_from_the_server_is_respected_from_then_on() {
    let server = ScriptedServer::start(|request| Reply::correct(request).with("x-sync-max-records", "7"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(60);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
    assert_eq!(server.sizes(), [50, 7, 3]);
    assert_eq!(daemon.get("/v1/batches").expect_json(200)["batches"][0]["rule"], "server_hint");
}
