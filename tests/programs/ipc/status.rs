//! The status while records are sent.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::events::EventReader;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// Rejects records whose payload says "bad", once the gate is open.
fn reject_bad(request: &Request) -> Reply {
    let records = request.records();
    Reply::results(request.batch_id(), &request.ids(), |id| {
        let record = records.iter().find(|record| record["id"] == id)?;
        let bad = record["payload"]["text"] == "bad";
        Some(json!({"status": if bad { "rejected" } else { "applied" }, "code": "C", "message": "M"}))
    })
}

#[test]
fn the_status_has_the_batch_in_flight_and_the_waiting_records() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let daemon = Daemon::start(
        &Settings::for_server(&server.url()).batches_of(2).with("server.request_timeout", "1m"),
    );
    let ids = daemon.paused(|daemon| daemon.enqueue_many(3));
    let sent = server.wait_for_batches(1).remove(0);
    let status = daemon.wait_until("the batch to be reported", |status| status["sync"]["batch"].is_object());
    let sequence = sent.header("x-batch-sequence");
    let batch = &status["sync"]["batch"];
    let sent_at = &batch["sent_at"];
    assert!(sent_at.as_str() > status["started_at"].as_str(), "{status:#}");
    assert_eq!(
        *batch,
        json!({"id": sent.batch_id(), "sequence": sequence, "records": 2, "attempt": 1, "sent_at": sent_at})
    );
    assert_eq!(status["sync"]["batches"], json!([batch]));
    assert_eq!(status["sync"]["text"], "Syncing 0 of 3 records");
    let records = json!({"pending": 1, "syncing": 2, "failed": 0, "synced": 0, "quarantined": 0});
    assert_eq!(status["records"], records);
    assert_eq!(daemon.in_state("SYNCING"), ids[..2].iter().cloned().collect());
    let entries: Vec<Value> = ids.iter().map(|id| daemon.record(id)).collect();
    let bytes: u64 = entries.iter().map(|entry| entry["payload_bytes"].as_u64().unwrap()).sum();
    assert_eq!(status["queue"]["bytes"], bytes);
    assert_eq!(status["queue"]["oldest_pending_at"], entries[0]["created_at"]);
    assert_eq!(entries[0]["batch_id"], sent.batch_id());

    gate.open();
    daemon.wait_until_done();
    let status = daemon.wait_for_phase("idle");
    assert_eq!((&status["queue"]["bytes"], &status["queue"]["oldest_pending_at"]), (&json!(0), &Value::Null));
    assert_eq!(status["sync"]["batch"], Value::Null);
}

#[test]
fn neither_done_nor_total_falls_in_a_run_and_each_step_has_its_sentence() {
    // Changes within 50 ms are one event: each batch waits until the event of the previous one.
    let gates = [(); 12].map(|()| Gate::default());
    let mut held = gates.clone().into_iter();
    let server = ScriptedServer::start(move |request| {
        reject_bad(request).held_by(&held.next().expect("twelve batches"))
    });
    let daemon = Daemon::start(
        &Settings::for_server(&server.url()).batches_of(5).with("server.request_timeout", "1m"),
    );
    let mut events = EventReader::open(&daemon.home.socket(), None);
    let records: Vec<Value> = (0..40)
        .map(|n| json!({"type": "T", "payload": {"text": if n == 3 || n == 17 { "bad" } else { "good" }}}))
        .collect();
    daemon.enqueue(&records);
    server.wait_for_batches(1);
    // More records arrive during the run.
    daemon.enqueue_many(20);
    let mut seen = Vec::new();
    for (gate, done) in gates.iter().zip((5..).step_by(5)) {
        gate.open();
        seen.extend(events.read_until(|seen| seen.event == "progress" && seen.data["sync"]["done"] == done));
    }
    let progress = seen.iter().filter(|seen| seen.event == "progress").map(|seen| &seen.data["sync"]);
    let (mut before, mut steps, mut estimates) = ((0, 0), 0, 0);
    for sync in progress {
        let number = |name: &str| sync[name].as_u64().unwrap();
        let now = (number("done"), number("total"));
        assert!(now.0 >= before.0 && now.1 >= before.1, "{before:?} and then {sync:#}");
        let review = match number("needs_review") {
            0 => String::new(),
            1 => " (1 needs review)".to_owned(),
            more => format!(" ({more} need review)"),
        };
        if sync["phase"] == "syncing" {
            assert_eq!(sync["text"], format!("Syncing {} of {} records{review}", now.0, now.1));
        }
        steps += usize::from(now.0 > before.0);
        estimates += usize::from(sync["eta_s"].is_u64());
        before = now;
    }
    assert_eq!(before, (60, 60));
    assert!(steps == 12 && estimates > 0, "{steps} steps, {estimates} with an estimate");
    assert_eq!(daemon.status()["sync"]["text"], "58 of 60 records synced (2 need review)");
}

#[test]
fn a_record_that_was_retried_and_then_discarded_is_neither_synced_nor_in_the_total() {
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let of_key = |text: &str| json!({"type": "T", "key": "k", "payload": {"text": text}});
    let ids = daemon.enqueue(&[of_key("bad"), of_key("good")]);
    let wait_for_rejection = |sends: u64| {
        daemon.wait_until("the rejection", |_| {
            let record = daemon.record(&ids[0]);
            record["state"] == "QUARANTINED" && record["sends"] == sends
        })
    };
    wait_for_rejection(1);
    let selection = json!({"ids": [ids[0]]}).to_string();
    daemon.post("/v1/quarantine/retry", &selection).expect_json(200);
    let status = wait_for_rejection(2);
    assert_eq!((&status["sync"]["done"], &status["sync"]["total"]), (&json!(1), &json!(2)), "{status:#}");
    daemon.post("/v1/quarantine/discard", &selection).expect_json(200);
    daemon.wait_until_done();
    let sync = daemon.wait_for_phase("idle")["sync"].clone();
    assert_eq!(
        (&sync["text"], &sync["done"], &sync["total"]),
        (&json!("1 record synced"), &json!(1), &json!(1))
    );
}

#[test]
fn an_outage_and_the_last_success_keep_their_times_over_a_restart() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let success = daemon.status()["sync"]["last_success_at"].clone();
    assert!(success.is_string(), "{success}");
    server.set_script(|_| Reply::error(503, "BUSY"));
    daemon.enqueue_many(1);
    let is_settled =
        |status: &Value| status["sync"]["since"].is_string() && status["sync"]["last_error"].is_object();
    let status = daemon.wait_until("the outage", is_settled);
    let since = status["sync"]["since"].clone();
    assert_eq!(status["sync"]["eta_s"], Value::Null, "when an outage ends cannot be estimated");
    let daemon = daemon.kill9().start();
    let status = daemon.wait_until("the outage", |status| status["sync"]["since"].is_string());
    assert_eq!((&status["sync"]["since"], &status["sync"]["last_success_at"]), (&since, &success));
}
