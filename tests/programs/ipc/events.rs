//! Events: resumed exactly where a reader stopped, with a report of missed ones, and never at the cost of others.

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::events::{EventReader, ReceivedEvent};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn reader(daemon: &Daemon, last_seen: Option<&str>) -> EventReader {
    EventReader::open(&daemon.home.socket(), last_seen)
}

fn is_paused(seen: &ReceivedEvent) -> bool {
    seen.event == "progress" && seen.data["sync"]["phase"] == "paused"
}

#[test]
fn a_reader_that_reconnects_gets_exactly_the_events_that_it_missed() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(2));
    let mut steady = reader(&daemon, None);
    let mut fickle = reader(&daemon, None);
    let first = daemon.enqueue_many(1).remove(0);
    let seen = fickle.read_until(|seen| seen.event == "record" && seen.data["id"] == first.as_str());
    assert!(seen.iter().all(|seen| !seen.id.is_empty()), "every event has an id: {seen:?}");
    let last_seen = seen.last().unwrap().id.clone();
    drop(fickle);
    daemon.enqueue_many(7);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let all = steady.read_until(is_paused);
    let missed: Vec<ReceivedEvent> =
        all.into_iter().skip_while(|seen| seen.id != last_seen).skip(1).collect();
    assert!(missed.iter().filter(|seen| seen.event == "record").count() == 7);
    let query = format!("GET /v1/events?last_event_id={last_seen} HTTP/1.1\r\nhost: x\r\n\r\n");
    for mut back in
        [reader(&daemon, Some(&last_seen)), EventReader::with_request(&daemon.home.socket(), &query)]
    {
        let first = back.next().unwrap();
        assert_eq!((first.event.as_str(), first.id), ("status", last_seen.clone()));
        assert_eq!(first.data["sync"]["phase"], "paused", "the first event is the present status");
        assert_eq!(back.read_until(is_paused), missed);
    }
    // No event was missed, and none is repeated.
    let mut back = reader(&daemon, Some(&missed.last().unwrap().id));
    back.next().unwrap();
    daemon.post("/v1/resume", "").expect_json(200);
    assert_ne!(back.next().unwrap().event, "gap");
}

#[test]
fn a_reader_that_reconnects_too_late_gets_the_number_of_missed_events() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(100));
    let mut early = reader(&daemon, None);
    let seen = early.next().unwrap();
    daemon.enqueue_many(1300);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1300));
    daemon.post("/v1/pause", "").expect_json(200);
    let all = early.read_until(is_paused);
    let mut late = reader(&daemon, Some(&seen.id));
    assert_eq!(late.next().unwrap().event, "status");
    let gap = late.next().unwrap();
    assert_eq!((gap.event.as_str(), &gap.data["reason"]), ("gap", &json!("not_kept")));
    let rest = late.read_until(is_paused);
    assert_eq!(gap.data["missed"], all.len() - rest.len(), "{gap:?}");
    assert_eq!(rest[..], all[all.len() - rest.len()..]);
    assert_eq!(gap.number() + 1, rest[0].number(), "a reader that reconnects at the gap continues after it");
}

#[test]
fn after_a_restart_a_gap_event_reports_missing_events() {
    let daemon = Daemon::start(&Settings::default());
    let seen = reader(&daemon, None).next().unwrap();
    let daemon = daemon.restart();
    for (id, reason) in [(seen.id.as_str(), "daemon_restarted"), ("yesterday", "unknown_id")] {
        let mut back = reader(&daemon, Some(id));
        assert_eq!(back.next().unwrap().event, "status");
        let gap = back.next().unwrap();
        assert_eq!((gap.event.as_str(), &gap.data), ("gap", &json!({"missed": null, "reason": reason})));
        assert_ne!(gap.id, seen.id);
    }
}

#[test]
fn readers_that_never_read_use_neither_memory_nor_calls_and_are_disconnected() {
    const READERS: usize = 60;
    let server = ScriptedServer::start(Reply::correct);
    let settings = Settings::for_server(&server.url())
        .batches_of(100)
        .with("log.level", "warn")
        .with("ipc.max_connections", "80")
        .with("ipc.max_event_streams", "60")
        .with("ipc.stall_timeout", "1s");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(1000);
    daemon.wait_until_done();
    let before = daemon.resident_kib();
    let deaf: Vec<EventReader> = (0..READERS).map(|_| reader(&daemon, None)).collect();
    let refused = || reader(&daemon, None).status();
    wait_for("all places to be taken", || (refused() == 503).then_some(()));
    assert_eq!(daemon.get("/v1/events").code(), "too_many_streams");
    // More than the kernel buffers for them, and more than the ring holds.
    for _ in 0..8 {
        daemon.enqueue_many(500);
        daemon.wait_until_done();
    }
    let grown = daemon.resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more for {READERS} readers");
    wait_for("a place to be free again", || (refused() == 200).then_some(()));
    drop(deaf);
    assert_eq!(daemon.counts(), Counts::all_synced(5000));
}

#[test]
fn readers_cannot_take_the_connections_that_calls_need() {
    let settings = Settings::default().with("ipc.max_connections", "8").with("ipc.max_event_streams", "100");
    let daemon = Daemon::start(&settings);
    let readers: Vec<EventReader> = (0..6).map(|_| reader(&daemon, None)).collect();
    wait_for("the last place to be taken", || {
        let mut one = reader(&daemon, None);
        (one.status() == 503).then_some(())
    });
    daemon.enqueue_many(1);
    assert_eq!(daemon.status()["records"]["pending"], 1);
    drop(readers);
    wait_for("a place to be free again", || (reader(&daemon, None).status() == 200).then_some(()));
}

#[test]
fn review_actions_are_reported_as_events() {
    let server = ScriptedServer::start(|request| {
        let status = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(status.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mut events = reader(&daemon, None);
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.post("/v1/quarantine/discard", json!({"ids": [id]}).to_string()).expect_json(200);
    let of_record = |seen: &&ReceivedEvent| seen.event == "record";
    let seen = events.read_until(|seen| seen.data["change"] == "discarded");
    let reported: Vec<&Value> = seen.iter().filter(of_record).map(|seen| &seen.data).collect();
    assert_eq!(
        (reported[0]["state"].as_str(), reported[0]["id"].as_str()),
        (Some("QUARANTINED"), Some(id.as_str()))
    );
    let (state, by) = ("DISCARDED", &daemon.detail(&id)["discarded_by"]);
    let expected = json!({"id": id, "state": state, "change": "discarded", "discarded_by": by});
    assert_eq!(reported[1], &expected);
}
