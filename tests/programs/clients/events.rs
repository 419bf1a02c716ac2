//! Events of the daemon: nothing is lost and nothing comes twice, however often the connection or the daemon goes away.

use std::sync::mpsc::Receiver;

use serde_json::{Value, json};

use super::adapter::{Adapter, Language, events};
use super::relay::{Passage, Relay};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::events::{EventReader, ReceivedEvent};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::DEADLINE;

fn start() -> (ScriptedServer, Daemon) {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(5));
    (server, daemon)
}

/// All lines of events up to the result, which must be a success.
#[track_caller]
fn read_to_result(client: &Adapter) -> (Vec<Value>, String) {
    let mut seen = Vec::new();
    loop {
        let line = client.receive();
        match line.get("event") {
            Some(event) => seen.push(event.clone()),
            None => return (seen, line["ok"]["last_event_id"].as_str().expect("a success").to_owned()),
        }
    }
}

/// Those that are in the stream of every reader: each connection begins with a status of its own.
fn without_status(events: &[Value]) -> Vec<Value> {
    events.iter().filter(|event| event["event"] != "status").cloned().collect()
}

fn to_json(event: &ReceivedEvent) -> Value {
    json!({"id": event.id, "event": event.event, "data": event.data})
}

/// A reader on the daemon's own socket that never loses its connection.
fn open_steady(daemon: &Daemon) -> Receiver<ReceivedEvent> {
    EventReader::open(&daemon.home.socket(), None).read_in_background()
}

fn number(id: &Value) -> u64 {
    id.as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap()
}

/// What the steady reader sees after one event and up to another.
#[track_caller]
fn read_steadily(steady: &Receiver<ReceivedEvent>, after: &Value, last: &Value) -> Vec<Value> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["id"] != *last || event["event"] == "status") {
        seen.push(to_json(&steady.recv_timeout(DEADLINE).expect("the event before the end")));
    }
    without_status(&seen).into_iter().filter(|event| number(&event["id"]) > number(after)).collect()
}

fn events_arrive_with_the_present_status_first(language: Language) {
    let (_server, daemon) = start();
    let mut client = Adapter::start(language, &daemon.home.socket());
    client.send(&events(None, "record", 3));
    let first = client.receive()["event"].clone();
    assert_eq!((&first["event"], &first["data"]["sync"]["phase"]), (&json!("status"), &json!("idle")));
    let ids = daemon.enqueue_many(3);
    let (seen, last) = read_to_result(&client);
    let records: Vec<&Value> = seen.iter().filter(|event| event["event"] == "record").collect();
    let synced: Vec<&str> = records.iter().map(|event| event["data"]["id"].as_str().unwrap()).collect();
    assert_eq!(synced, ids);
    assert!(records.iter().all(|event| event["data"]["state"] == "SYNCED"));
    assert_eq!(records[2]["id"], last.as_str());
}

fn a_later_call_continues_after_the_last_event(language: Language) {
    let (_server, daemon) = start();
    let steady = open_steady(&daemon);
    let mut client = Adapter::start(language, &daemon.home.socket());
    client.send(&events(None, "record", 2));
    let first = client.receive()["event"].clone();
    daemon.enqueue_many(12);
    daemon.wait_until_done();
    let (mut seen, mut last) = read_to_result(&client);
    for count in [1, 4, 5] {
        client.send(&events(Some(&last), "record", count));
        let (more, next) = read_to_result(&client);
        seen.extend(more);
        last = next;
    }
    assert_eq!(without_status(&seen), read_steadily(&steady, &first["id"], &json!(last)));
}

fn connections_that_are_cut_anywhere_lose_and_duplicate_nothing(language: Language) {
    const RECORDS: usize = 60;
    // In the head of the response, in the first status, and anywhere in the events.
    const CUTS: [usize; 6] = [0, 60, 190, 3500, 6001, 9002];
    let (_server, daemon) = start();
    let steady = open_steady(&daemon);
    let relay = Relay::start(&daemon.home.socket(), |number, _| {
        CUTS.get(number).map_or(Passage::Forward, |bytes| Passage::CutAfter(*bytes))
    });
    let mut client = Adapter::start(language, &relay.path());
    client.send(&events(None, "record", RECORDS));
    let first = client.receive()["event"].clone();
    daemon.enqueue_many(RECORDS);
    daemon.wait_until_done();
    let (seen, last) = read_to_result(&client);
    assert_eq!(without_status(&seen), read_steadily(&steady, &first["id"], &json!(last)));
    let connections = relay.requests().len();
    assert!(connections > 4, "only {connections} connections");
}

fn after_a_crash_of_the_daemon_a_gap_is_delivered_and_events_continue(language: Language) {
    let (_server, daemon) = start();
    let mut client = Adapter::start(language, &daemon.home.socket());
    client.send(&events(None, "record", 3));
    client.receive();
    daemon.enqueue_many(1);
    let before = loop {
        let event = client.receive()["event"].clone();
        if event["event"] == "record" {
            break event;
        }
    };
    let daemon = daemon.kill9().start();
    let gap = loop {
        let event = client.receive()["event"].clone();
        assert_ne!(event["event"], "record");
        if event["event"] == "gap" {
            break event;
        }
    };
    assert_eq!(gap["data"]["reason"], "daemon_restarted");
    assert_ne!(gap["id"], before["id"]);
    let ids = daemon.enqueue_many(2);
    let (seen, _) = read_to_result(&client);
    let synced: Vec<&Value> =
        seen.iter().filter(|event| event["event"] == "record").map(|event| &event["data"]["id"]).collect();
    assert_eq!(synced, ids.iter().map(String::as_str).collect::<Vec<_>>());
}

fn events_that_are_no_longer_kept_are_a_gap(language: Language) {
    const RECORDS: usize = 1300;
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(100));
    let mut client = Adapter::start(language, &daemon.home.socket());
    client.send(&events(None, "status", 1));
    let (_, last) = read_to_result(&client);
    let steady = open_steady(&daemon);
    daemon.enqueue_many(RECORDS);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    client.send(&events(Some(&last), "record", 100));
    let (seen, last) = read_to_result(&client);
    let seen = without_status(&seen);
    let (gap, rest) = seen.split_first().unwrap();
    assert_eq!((&gap["event"], &gap["data"]["reason"]), (&json!("gap"), &json!("not_kept")));
    // The id of the gap is that of the last event that is missing.
    assert_eq!(rest, read_steadily(&steady, &gap["id"], &json!(last)));
}

fn a_daemon_that_appears_later_is_waited_for(language: Language) {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut client = Adapter::start(language, &home.socket());
    assert_eq!(client.fail(&json!({"do": "status"})).kind(), "connection_failed");
    client.send(&events(None, "status", 1));
    let _daemon = home.start();
    let (seen, _) = read_to_result(&client);
    assert_eq!((seen.len(), &seen[0]["data"]["sync"]["phase"]), (1, &json!("idle")));
}

for_each_client! {
    events_arrive_with_the_present_status_first,
    a_later_call_continues_after_the_last_event,
    connections_that_are_cut_anywhere_lose_and_duplicate_nothing,
    after_a_crash_of_the_daemon_a_gap_is_delivered_and_events_continue,
    events_that_are_no_longer_kept_are_a_gap,
    a_daemon_that_appears_later_is_waited_for,
}
