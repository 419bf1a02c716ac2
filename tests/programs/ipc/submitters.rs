//! Users of one device are isolated from each other. These tests call as several users, so they need root.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::process::ProgramOutput;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{User, can_play, open_to_all};

const NOT_PERMITTED: Option<i32> = Some(5);
const FULL: Option<i32> = Some(7);
const DONE: Option<i32> = Some(0);
/// User ids that exist on no machine.
const ONE: u32 = 54_331;
const OTHER: u32 = 54_332;

fn one() -> User {
    User::without_groups(ONE)
}

fn other() -> User {
    User::without_groups(OTHER)
}

/// Rejects records whose payload says "bad".
fn reject_bad(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::correct(request);
    }
    let records = request.records();
    Reply::results(request.batch_id(), &request.ids(), |id| {
        let record = records.iter().find(|record| record["id"] == id)?;
        let is_bad = record["payload"]["text"] == "bad";
        let rejected = json!({"status": "rejected", "code": "BAD", "message": "no"});
        Some(if is_bad { rejected } else { json!({"status": "applied"}) })
    })
}

fn enqueue(user: User, daemon: &Daemon, records: &[Value]) -> ProgramOutput {
    user.call(daemon, &["enqueue"], &json!(records).to_string())
}

/// Enqueues one record and returns its id.
fn enqueued(user: User, daemon: &Daemon, key: &str, text: &str) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    let record = json!({"id": id, "type": "T", "key": key, "payload": {"text": text}});
    let ran = enqueue(user, daemon, &[record]);
    assert_eq!(ran.code, DONE, "{}", ran.stderr);
    id
}

fn state(daemon: &Daemon, id: &str) -> String {
    daemon.record(id)["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_guess_of_another_users_payload_is_refused_the_same_whether_it_is_right_or_wrong() {
    if !can_play() {
        return;
    }
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    open_to_all(&daemon);
    let id = uuid::Uuid::now_v7().to_string();
    let guess = |pin: u32| json!({"id": id, "type": "T", "payload": {"pin": pin}});
    daemon.post("/v1/pause", "").expect_json(200);
    assert_eq!(enqueue(one(), &daemon, &[guess(4711)]).code, DONE);
    for sent in [false, true] {
        if sent {
            daemon.post("/v1/resume", "").expect_json(200);
            daemon.wait_until_done();
        }
        let (right, wrong) =
            (enqueue(other(), &daemon, &[guess(4711)]), enqueue(other(), &daemon, &[guess(4712)]));
        assert_eq!((right.code, &right.stderr), (wrong.code, &wrong.stderr));
        assert_ne!(right.code, DONE);
        assert!(right.stderr.contains("is taken by a record of another user"), "{}", right.stderr);
        // Its own user may repeat it.
        assert_eq!(enqueue(one(), &daemon, &[guess(4711)]).code, DONE);
        for pin in [4711, 4712] {
            let response = daemon.post("/v1/records", guess(pin).to_string());
            assert_eq!(
                (response.status, response.code().as_str()),
                (409, "id_conflict"),
                "{}",
                response.text()
            );
        }
    }
}

#[test]
fn a_rejected_record_does_not_block_other_users_records_of_its_key() {
    if !can_play() {
        return;
    }
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    open_to_all(&daemon);
    let bad = enqueued(one(), &daemon, "account", "bad");
    daemon.wait_until("the rejection", |status| status["records"]["quarantined"] == 1);
    let own = enqueued(one(), &daemon, "account", "good");
    let others = enqueued(other(), &daemon, "account", "good");
    daemon.wait_until("the other user's record", |status| status["records"]["synced"] == 1);
    assert_eq!((state(&daemon, &own), state(&daemon, &others)), ("PENDING".into(), "SYNCED".into()));
    assert_eq!(daemon.record(&own)["held_by"], bad.as_str());
    let holder = daemon.status()["queue"]["holding"][0].clone();
    assert_eq!((&holder["id"], &holder["submitter"]), (&json!(bad), &json!(ONE)));
}

#[test]
fn with_shared_keys_a_rejected_record_blocks_other_users_records_and_is_named() {
    if !can_play() {
        return;
    }
    let server = ScriptedServer::start(reject_bad);
    let settings = Settings::for_server(&server.url()).with("queue.shared_keys", "true");
    let daemon = Daemon::start(&settings);
    open_to_all(&daemon);
    let bad = enqueued(one(), &daemon, "account", "bad");
    daemon.wait_until("the rejection", |status| status["records"]["quarantined"] == 1);
    let others = enqueued(other(), &daemon, "account", "good");
    let free = enqueued(other(), &daemon, "another account", "good");
    daemon.wait_until("what is free to go", |status| status["records"]["synced"] == 1);
    assert_eq!((state(&daemon, &others), state(&daemon, &free)), ("PENDING".into(), "SYNCED".into()));
    let entry = daemon.record(&others);
    assert_eq!((&entry["held_by"], &entry["submitter"]), (&json!(bad), &json!(OTHER)));
    let holder = daemon.status()["queue"]["holding"][0].clone();
    assert_eq!((&holder["id"], &holder["submitter"]), (&json!(bad), &json!(ONE)));

    // The existing file is migrated to one key space for each user.
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    daemon.wait_for_log("queue.shared_keys changed and takes effect at the next start");
    assert_eq!(state(&daemon, &others), "PENDING");
    let daemon = daemon.restart();
    daemon.wait_until("the other user's record", |status| status["records"]["synced"] == 2);
    assert_eq!(state(&daemon, &others), "SYNCED");
}

#[test]
fn a_user_who_is_not_an_admin_retries_only_its_own_records() {
    if !can_play() {
        return;
    }
    let server = ScriptedServer::start(reject_bad);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    open_to_all(&daemon);
    let (mine, foreign) = (enqueued(one(), &daemon, "a", "bad"), enqueued(other(), &daemon, "b", "bad"));
    let second = enqueued(one(), &daemon, "c", "bad");
    daemon.wait_until("the rejections", |status| status["records"]["quarantined"] == 3);
    daemon.post("/v1/pause", "").expect_json(200);
    let (own, others) = (mine.as_str(), foreign.as_str());
    for ids in [vec![others], vec![own, others], vec![others, own]] {
        let call = [vec!["quarantine", "retry"], ids].concat();
        let ran = one().call(&daemon, &call, "");
        assert_eq!(ran.code, NOT_PERMITTED, "{}", ran.stderr);
        assert!(ran.stderr.contains(&foreign) && !ran.stderr.contains(&mine), "{}", ran.stderr);
        assert_eq!(daemon.counts().quarantined, 3, "nothing is changed");
    }
    let ran = one().call(&daemon, &["quarantine", "retry", &mine], "");
    assert_eq!((ran.code, daemon.counts().quarantined), (DONE, 2), "{}", ran.stderr);
    let ran = one().call(&daemon, &["quarantine", "retry", "--all"], "");
    assert_eq!((ran.code, daemon.counts().quarantined), (DONE, 1), "{}", ran.stderr);
    assert_eq!((state(&daemon, &second), state(&daemon, &foreign)), ("PENDING".into(), "QUARANTINED".into()));
    // A user without own records changes nothing; root may retry all of them.
    assert_eq!(one().call(&daemon, &["quarantine", "retry", "--all"], "").code, DONE);
    assert_eq!(daemon.counts().quarantined, 1);
    let response = daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).expect_json(200);
    assert_eq!((&response["changed"], daemon.counts().quarantined), (&json!(1), 0));
}

#[test]
fn editing_does_not_reveal_what_the_server_has_under_an_id() {
    if !can_play() {
        return;
    }
    let server = ScriptedServer::start(|request| {
        let conflict =
            json!({"status": "rejected", "code": "ID_CONFLICT", "message": "known with other content"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(conflict.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    open_to_all(&daemon);
    let id = enqueued(one(), &daemon, "key", "a guess");
    daemon.wait_until("the rejection", |status| status["records"]["quarantined"] == 1);
    let path = format!("/v1/records/{id}/payload");
    let response = one().try_request(&daemon, Method::PUT, &path, r#"{"text":"another"}"#).unwrap();
    assert_eq!((response.status, response.code().as_str()), (409, "id_conflict"), "{}", response.text());
    assert_eq!(daemon.record(&id)["state"], "QUARANTINED");
    daemon.put(&path, r#"{"text":"an admin may"}"#).expect_json(200);
}

fn simple_records(records: usize) -> Vec<Value> {
    (0..records).map(|n| json!({"type": "T", "payload": {"n": n}})).collect()
}

#[test]
fn a_user_that_fills_its_share_leaves_room_for_root_and_other_users() {
    if !can_play() {
        return;
    }
    for (key, limit) in [("queue.max_records", "20"), ("queue.max_bytes", "140B")] {
        // {"n":0} has 7 bytes.
        let settings = Settings::default().with(key, limit).with("queue.max_record_bytes", "100B");
        let daemon = Daemon::start(&settings);
        open_to_all(&daemon);
        for _ in 0..3 {
            assert_eq!(enqueue(one(), &daemon, &simple_records(5)).code, DONE);
        }
        let ran = enqueue(one(), &daemon, &simple_records(1));
        assert_eq!(ran.code, FULL, "{}", ran.stderr);
        for part in [key, "queue.max_user_share", "nothing was stored"] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        assert_eq!(enqueue(other(), &daemon, &simple_records(2)).code, DONE);
        daemon.enqueue(&simple_records(3));
        let response = daemon.post("/v1/records", simple_records(1)[0].to_string());
        assert_eq!((response.status, response.code().as_str()), (507, "queue_full"), "{}", response.text());
        assert!(!response.text().contains("max_user_share"), "the whole queue is full: {}", response.text());
        assert_eq!(daemon.counts().pending, 20);
    }
}

#[test]
fn long_types_and_keys_count_towards_the_disk_limit_of_the_queue() {
    if !can_play() {
        return;
    }
    let settings =
        Settings::default().with("queue.max_disk_bytes", "1MiB").with("telemetry.alert_queue_percent", "50");
    let daemon = Daemon::start(&settings);
    open_to_all(&daemon);
    let long = |n: usize| {
        let key = format!("{n:0>512}");
        json!({"type": "T".repeat(128), "key": key, "payload": {}})
    };
    let before = daemon.status()["queue"]["file_bytes"].as_u64().unwrap();
    let records: Vec<Value> = (0..50).map(long).collect();
    let mut taken = 0;
    let refused = loop {
        let ran = enqueue(one(), &daemon, &records);
        if ran.code != DONE {
            break ran;
        }
        taken += records.len();
        assert!(taken < 1000, "they are never too many");
    };
    assert_eq!(refused.code, FULL, "{}", refused.stderr);
    assert!(refused.stderr.contains("queue.max_user_share of queue.max_disk_bytes"), "{}", refused.stderr);
    let status = daemon.status();
    let queue = |name: &str| status["queue"][name].as_u64().unwrap();
    assert_eq!((queue("max_disk_bytes"), queue("bytes")), (1 << 20, 2 * taken as u64));
    assert!(queue("disk_bytes") <= 3 << 18, "{status:#}");
    assert!(queue("file_bytes") - before < 2 << 20, "{status:#}");
    let alerts = status["alerts"].as_array().unwrap();
    assert!(alerts.iter().any(|alert| alert["alert"] == "queue_filling"), "{status:#}");
    assert_eq!(enqueue(other(), &daemon, &simple_records(5)).code, DONE);
    daemon.enqueue_many(5);
    // Root may fill all of it, and the message has the total.
    let reported = loop {
        let response = daemon.post("/v1/records", json!(records).to_string());
        if response.status != 201 {
            break response;
        }
    };
    assert_eq!((reported.status, reported.code().as_str()), (507, "queue_full"));
    assert!(reported.text().contains("the queue is full (queue.max_disk_bytes)"), "{}", reported.text());
}
