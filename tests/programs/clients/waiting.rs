//! Waiting for the end of a record, through everything that may happen meanwhile.

use serde_json::{Value, json};
use uuid::Uuid;

use super::adapter::{Adapter, Language, TIME_LIMIT_MS, enqueue, ids, visits, wait};
use super::relay::{Passage, Relay};
use super::scripted_socket::{Act, EVENT_STREAM_HEAD, ScriptedSocket};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

/// A receipt for each record, except for those of the types `Refused` and `Locked`.
fn respond(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::unknown_batch();
    }
    let records = request.records();
    Reply::results(request.batch_id(), &request.ids(), |id| {
        let record = records.iter().find(|record| record["id"] == id).unwrap();
        Some(match record["type"].as_str().unwrap() {
            "Refused" => {
                json!({"status": "rejected", "code": "INVALID_DATA", "message": "no such account", "field": "/Account"})
            }
            "Locked" => json!({"status": "retry", "code": "LOCKED", "retry_after_s": 600}),
            _ => json!({"status": "applied", "receipt": receipt(id)}),
        })
    })
}

fn receipt(id: &str) -> Value {
    json!({"module": "Visits", "id": format!("crm-{id}")})
}

fn start(language: Language) -> (ScriptedServer, Daemon, Adapter) {
    let server = ScriptedServer::start(respond);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let client = Adapter::start(language, &daemon.home.socket());
    (server, daemon, client)
}

/// Enqueues one record of this type.
fn enqueue_one(client: &mut Adapter, kind: &str) -> String {
    let record = json!({"type": kind, "payload": {"Subject": "Site visit"}});
    ids(&client.enqueue(&[record])).remove(0)
}

/// Enqueues while sending is paused, so that the wait begins before the record is sent.
fn enqueue_paused(daemon: &Daemon, client: &mut Adapter, kind: &str) -> String {
    daemon.post("/v1/pause", "").expect_json(200);
    enqueue_one(client, kind)
}

fn a_synced_record_comes_with_its_receipt(language: Language) {
    let (_server, daemon, mut client) = start(language);
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    client.send(&wait(&id));
    daemon.post("/v1/resume", "").expect_json(200);
    let entry = client.receive_ok()["entry"].clone();
    assert_eq!((&entry["state"], &entry["receipt"]), (&json!("SYNCED"), &receipt(&id)));
    assert_eq!(entry, daemon.detail(&id));
    // It is known already.
    assert_eq!(client.wait(&id), entry);
}

fn a_record_that_the_gateway_applied_is_synced(language: Language) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let mut client = Adapter::start(language, &daemon.home.socket());
    let id = enqueue_one(&mut client, "Visits");
    assert_eq!(client.wait(&id)["state"], "SYNCED");
    assert_eq!(gateway.applied_ids().len(), 1);
}

fn a_refused_record_comes_with_the_reason(language: Language) {
    let (_server, daemon, mut client) = start(language);
    let id = enqueue_paused(&daemon, &mut client, "Refused");
    client.send(&wait(&id));
    daemon.post("/v1/resume", "").expect_json(200);
    let entry = client.receive_ok()["entry"].clone();
    assert_eq!(entry["state"], "QUARANTINED");
    assert_eq!(
        (&entry["last_error"]["code"], &entry["last_error"]["field"]),
        (&json!("INVALID_DATA"), &json!("/Account"))
    );

    // Until a person discards it.
    client.send(&json!({"do": "wait", "id": id, "states": ["SYNCED", "DISCARDED"], "time_limit_ms": 30_000}));
    daemon.post("/v1/quarantine/discard", json!({"ids": [id]}).to_string()).expect_json(200);
    assert_eq!(client.receive_ok()["entry"]["state"], "DISCARDED");
}

fn a_wait_for_another_state_reads_the_entry_after_each_batch(language: Language) {
    let (_server, daemon, _) = start(language);
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Forward);
    let mut client = Adapter::start(language, &relay.path());
    let id = enqueue_paused(&daemon, &mut client, "Locked");
    client.send(
        &json!({"do": "wait", "id": id, "states": ["SYNCED", "FAILED"], "time_limit_ms": TIME_LIMIT_MS}),
    );
    // It reads the entry after it opened the events.
    relay.wait_for_requests(3);
    daemon.post("/v1/resume", "").expect_json(200);
    assert_eq!(client.receive_ok()["entry"]["last_error"]["code"], "LOCKED");
}

fn a_wait_ends_at_its_time_limit_with_the_last_entry(language: Language) {
    let (_server, daemon, mut client) = start(language);
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    let error = client.fail(&json!({"do": "wait", "id": id, "states": null, "time_limit_ms": 5000}));
    assert_eq!(error.kind(), "time_limit");
    assert_eq!((&error.entry()["id"], &error.entry()["state"]), (&json!(id), &json!("PENDING")));
}

fn a_wait_sends_nothing_while_the_stream_is_healthy(language: Language) {
    let server = ScriptedServer::start(respond);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(1));
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Forward);
    let mut client = Adapter::start(language, &relay.path());
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    client.send(&wait(&id));
    let paths = |relay: &Relay| -> Vec<String> {
        relay.requests().iter().skip(1).map(|request| request.path().to_owned()).collect()
    };
    relay.wait_for_requests(3);
    let entry = format!("/v1/records/{id}");
    assert_eq!(paths(&relay), ["/v1/events", entry.as_str()], "the stream is opened first");
    // Events of other records, which are sent first, one by one.
    let others: Vec<Value> =
        (0..3).map(|n| json!({"type": "Visits", "priority": 9, "payload": {"n": n}})).collect();
    daemon.enqueue(&others);
    daemon.post("/v1/resume", "").expect_json(200);
    assert_eq!(client.receive_ok()["entry"]["state"], "SYNCED");
    assert_eq!(paths(&relay), ["/v1/events", entry.as_str(), entry.as_str()]);
}

fn a_wait_continues_through_a_crash_of_the_daemon(language: Language) {
    let (_server, daemon, mut client) = start(language);
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    client.send(&wait(&id));
    let daemon = daemon.kill9().start();
    let daemon = daemon.kill9().start();
    daemon.post("/v1/resume", "").expect_json(200);
    let entry = client.receive_ok()["entry"].clone();
    assert_eq!((&entry["state"], &entry["receipt"]), (&json!("SYNCED"), &receipt(&id)));
}

fn a_wait_may_begin_before_the_daemon(language: Language) {
    let server = ScriptedServer::start(respond);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut client = Adapter::start(language, &daemon.home.socket());
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    let home: Home = daemon.kill9();
    client.send(&wait(&id));
    let daemon = home.start();
    daemon.post("/v1/resume", "").expect_json(200);
    assert_eq!(client.receive_ok()["entry"]["state"], "SYNCED");
}

fn a_wait_that_missed_the_event_reads_the_entry_after_the_gap(language: Language) {
    const OTHERS: usize = 1300;
    let server = ScriptedServer::start(respond);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(100));
    let (cut, gate) = (Gate::default(), Gate::default());
    let (first, second) = (Passage::ForwardUntil(cut.clone()), Passage::LoseRequest(gate.clone()));
    // The next connection takes as long as the records need.
    let relay = Relay::start(&daemon.home.socket(), move |number, _| match number {
        1 => first.clone(),
        3 => second.clone(),
        _ => Passage::Forward,
    });
    let mut client = Adapter::start(language, &relay.path());
    let id = enqueue_paused(&daemon, &mut client, "Visits");
    client.send(&wait(&id));
    relay.wait_for_requests(3);
    cut.open();
    relay.wait_for_requests(4);
    daemon.enqueue_many(OTHERS);
    daemon.post("/v1/resume", "").expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(OTHERS as u64 + 1));
    gate.open();
    assert_eq!(client.receive_ok()["entry"]["receipt"], receipt(&id));
}

fn a_gap_within_a_stream_is_a_reason_to_read_the_entry(language: Language) {
    let id = Uuid::now_v7().to_string();
    let entry = |state: &str| Act::json(200, &json!({"id": id, "state": state}));
    let stream = b"id: a-1\nevent: status\ndata: {}\n\nid: a-2\nevent: gap\ndata: {}\n\n";
    let events = Act::Stall([EVENT_STREAM_HEAD, stream].concat());
    let socket = ScriptedSocket::play(vec![events, entry("PENDING"), entry("SYNCED")]);
    let mut client = Adapter::start(language, &socket.path());
    assert_eq!(client.wait(&id)["state"], "SYNCED");
    assert_eq!(socket.requests().len(), 3);
}

fn an_entry_that_cannot_be_read_for_a_moment_is_read_again(language: Language) {
    let server = ScriptedServer::start(respond);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let gate = Gate::default();
    gate.open();
    // The stream stays, and the first reading of the entry gets no response.
    let relay = Relay::start(&daemon.home.socket(), move |number, _| {
        if number == 2 { Passage::LoseRequest(gate.clone()) } else { Passage::Forward }
    });
    let mut client = Adapter::start(language, &relay.path());
    let id = enqueue_one(&mut client, "Visits");
    wait_for("the record to be synced", || (daemon.counts().synced == 1).then_some(()));
    assert_eq!(client.wait(&id)["state"], "SYNCED");
}

fn several_records_in_one_process(language: Language) {
    let (_server, daemon, mut client) = start(language);
    daemon.post("/v1/pause", "").expect_json(200);
    let all = ids(&client.call(&enqueue(&visits(3))));
    daemon.post("/v1/resume", "").expect_json(200);
    for id in all {
        assert_eq!(client.wait(&id)["receipt"], receipt(&id));
    }
}

for_each_client! {
    a_synced_record_comes_with_its_receipt,
    a_record_that_the_gateway_applied_is_synced,
    a_refused_record_comes_with_the_reason,
    a_wait_for_another_state_reads_the_entry_after_each_batch,
    a_wait_ends_at_its_time_limit_with_the_last_entry,
    a_wait_sends_nothing_while_the_stream_is_healthy,
    a_wait_continues_through_a_crash_of_the_daemon,
    a_wait_may_begin_before_the_daemon,
    a_wait_that_missed_the_event_reads_the_entry_after_the_gap,
    a_gap_within_a_stream_is_a_reason_to_read_the_entry,
    an_entry_that_cannot_be_read_for_a_moment_is_read_again,
    several_records_in_one_process,
}
