//! Records that changed since a cursor, also over restarts.

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// The present cursor.
fn now(daemon: &Daemon) -> String {
    let page = changed_after(daemon, "now");
    assert_eq!(page["records"], json!([]));
    next(&page)
}

fn changed_after(daemon: &Daemon, cursor: &str) -> Value {
    daemon.get(&format!("/v1/records?changed_after={cursor}")).expect_json(200)
}

fn next(page: &Value) -> String {
    page["next"].as_str().unwrap().to_owned()
}

fn ids(page: &Value) -> Vec<&str> {
    page["records"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[test]
fn a_reader_continues_where_it_stopped_whatever_happens_to_the_daemon() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(2));
    let start = now(&daemon);
    let first = daemon.paused(|daemon| {
        let first = daemon.enqueue_many(5);
        assert_eq!(changed_after(daemon, &start)["records"], json!([]), "new records did not change");
        first
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    let page = changed_after(&daemon, &start);
    assert_eq!(ids(&page), first);
    assert!(page["records"].as_array().unwrap().iter().all(|record| record["state"] == "SYNCED"));
    assert_eq!(page["records"][0], daemon.record(&first[0]));
    let cursor = next(&page);
    assert_eq!(changed_after(&daemon, &cursor), json!({"records": [], "next": cursor}));

    let daemon = daemon.kill9().start();
    assert_eq!(changed_after(&daemon, &cursor), json!({"records": [], "next": cursor}));
    assert_eq!(ids(&changed_after(&daemon, &start)), first, "an older cursor is still valid");
    let second = daemon.enqueue_many(1);
    daemon.wait_until_done();
    let page = changed_after(&daemon, &cursor);
    assert_eq!(ids(&page), second);

    // Page by page.
    let (mut cursor, mut seen) = (start, Vec::new());
    loop {
        let page = daemon.get(&format!("/v1/records?limit=2&changed_after={cursor}")).expect_json(200);
        assert!(ids(&page).len() <= 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        if next(&page) == cursor {
            break;
        }
        cursor = next(&page);
    }
    assert_eq!(seen, [first, second].concat());
}

#[test]
fn every_kind_of_change_is_listed_once_with_the_present_state() {
    let server = ScriptedServer::start(|request| {
        let ids = if request.is_batch() { request.ids() } else { Vec::new() };
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "rejected", "code": "BAD"})))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let start = now(&daemon);
    let records = daemon.enqueue_many(3);
    daemon.wait_until("the review", |status| status["records"]["quarantined"] == 3);
    let page = changed_after(&daemon, &start);
    assert_eq!(ids(&page).len(), 3);
    let cursor = next(&page);
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.post("/v1/quarantine/retry", json!({"ids": [records[1]]}).to_string()).expect_json(200);
    daemon.put(&format!("/v1/records/{}/payload", records[0]), "{}").expect_json(200);
    daemon.post("/v1/quarantine/discard", json!({"ids": [records[2]]}).to_string()).expect_json(200);
    let page = changed_after(&daemon, &cursor);
    assert_eq!(ids(&page), [&records[1], &records[0], &records[2]]);
    let states: Vec<&Value> =
        page["records"].as_array().unwrap().iter().map(|record| &record["state"]).collect();
    assert_eq!(states, ["PENDING", "PENDING", "DISCARDED"]);
    assert_eq!(page.get("unknown"), None);
    daemon.post("/v1/quarantine/add", json!({"ids": [records[1]]}).to_string()).expect_json(200);
    let page = changed_after(&daemon, &cursor);
    assert_eq!(ids(&page), [&records[0], &records[2], &records[1]], "each in the place of its last change");
    assert_eq!(page["records"][2]["state"], "QUARANTINED");
    let filtered = daemon.get(&format!("/v1/records?state=PENDING&changed_after={cursor}")).expect_json(200);
    assert_eq!(ids(&filtered), [&records[0]]);
}

#[test]
fn a_cursor_that_is_not_of_this_store_is_refused_with_what_to_do() {
    let daemon = Daemon::start(&Settings::default());
    let other = now(&Daemon::start(&Settings::default()));
    let expired = daemon.get(&format!("/v1/records?changed_after={other}"));
    assert_eq!((expired.status, expired.code().as_str()), (410, "cursor_expired"));
    assert!(expired.error().1.contains("changed_after=now"), "{:?}", expired.error());
    let mine = now(&daemon);
    let (history, _) = mine.split_once('.').unwrap();
    assert_eq!(daemon.get(&format!("/v1/records?changed_after={history}.99")).status, 410, "of the future");
    for (query, part) in [
        ("changed_after=x".to_owned(), "`changed_after` must be `now`"),
        ("changed_after=".to_owned(), "`changed_after` must be `now`"),
        (format!("changed_after={mine}&after=7"), "exclude each other"),
        ("changed=x".to_owned(), "`changed` is not known here; known are state, type, limit, after"),
    ] {
        let refused = daemon.get(&format!("/v1/records?{query}"));
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_query"));
        assert!(refused.error().1.contains(part), "{:?}", refused.error());
    }
}
