//! The resources of one user are limited, so that other users, and above all root, are always served.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::settings::Settings;
use crate::support::user::{User, can_be_others, open_to_all};
use crate::support::wait::wait_for;

const MEMBER: User = User::without_groups(54_331);
const OTHER: User = User::without_groups(54_332);
const THIRD: User = User::without_groups(54_333);
const RECORD: &str = r#"{"type":"T","payload":{}}"#;
const SLOW_BODY: &[u8] =
    b"POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"type\":\"T\"";
const READ_EVENTS: &[u8] = b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n";

fn daemon(settings: &[(&str, &str)]) -> Daemon {
    let settings = settings.iter().fold(Settings::default(), |all, (key, value)| all.with(key, value));
    let daemon = Daemon::start(&settings);
    open_to_all(&daemon);
    daemon
}

/// A connection of a user that has sent these bytes, and waits.
fn open(daemon: &Daemon, user: User, bytes: &[u8]) -> UnixStream {
    let mut stream = user.connect(&daemon.home.socket()).unwrap();
    // It may be rejected before it has sent this.
    drop(stream.write_all(bytes));
    stream
}

fn open_many(daemon: &Daemon, user: User, bytes: &[u8], count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| open(daemon, user, bytes)).collect()
}

/// All bytes until the daemon closes the connection.
#[track_caller]
fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("the daemon to hang up");
    String::from_utf8(text).unwrap()
}

#[track_caller]
fn is_turned_away(stream: UnixStream) {
    let response = rest(stream);
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("application/json"), "{response}");
    assert!(head.contains("\r\nretry-after: 2\r\n"), "{response}");
    let error = serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].take();
    assert_eq!(error["code"], "busy");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("nothing was stored") && message.contains("repeat this"), "{message}");
}

#[track_caller]
fn gets_through(daemon: &Daemon, user: User) {
    user.get(daemon, "/v1/status").expect_json(200);
    user.post(daemon, "/v1/records", RECORD).expect_json(201);
}

#[test]
fn a_member_that_takes_all_the_connections_it_can_keeps_neither_root_nor_others_out() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_connections", "16")]);
    let held = open_many(&daemon, MEMBER, SLOW_BODY, 8);
    is_turned_away(open(&daemon, MEMBER, SLOW_BODY));
    let excess = open_many(&daemon, MEMBER, SLOW_BODY, 200);
    gets_through(&daemon, User::ROOT);
    gets_through(&daemon, OTHER);
    User::ROOT.post(&daemon, "/v1/pause", "").expect_json(200);
    User::ROOT.post(&daemon, "/v1/resume", "").expect_json(200);
    assert_eq!(daemon.counts().pending, 2);
    drop((held, excess));
    wait_for("the member's own calls to get through again", || {
        (MEMBER.get(&daemon, "/v1/status").status == 200).then_some(())
    });
}

#[test]
fn all_members_together_leave_an_eighth_of_the_connections_to_root() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_connections", "16")]);
    let held = [open_many(&daemon, MEMBER, SLOW_BODY, 8), open_many(&daemon, OTHER, SLOW_BODY, 6)];
    is_turned_away(open(&daemon, OTHER, SLOW_BODY));
    is_turned_away(open(&daemon, THIRD, SLOW_BODY));
    let roots = open_many(&daemon, User::ROOT, SLOW_BODY, 1);
    gets_through(&daemon, User::ROOT);
    drop((held, roots));
}

#[test]
fn roots_own_connections_beyond_the_total_wait_until_there_is_room() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_connections", "4")]);
    let held = open_many(&daemon, User::ROOT, SLOW_BODY, 4);
    let waiting =
        open(&daemon, User::ROOT, b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    drop(held);
    let response = rest(waiting);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn a_rejected_caller_can_read_the_reason_however_much_it_sends() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_connections", "4")]);
    let held = open_many(&daemon, MEMBER, SLOW_BODY, 2);
    let large = json!({"type": "T", "payload": {"text": "x".repeat(1 << 20)}}).to_string();
    let refused = MEMBER.post(&daemon, "/v1/records", &large);
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    let ran = MEMBER.call(&daemon, &["status"], "");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("at most half of ipc.max_connections"), "{}", ran.stderr);
    drop(held);
}

#[test]
fn a_flood_of_connections_does_not_block_other_users() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_connections", "8")]);
    let held = open_many(&daemon, MEMBER, SLOW_BODY, 4);
    // Of many that send nothing, some have a grace period, and the others are dropped at once.
    let mut silent = open_many(&daemon, MEMBER, b"", 100);
    assert_eq!(rest(silent.pop().unwrap()), "");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // A full accept queue of the kernel counts as a rejection.
                    drop(MEMBER.connect(&daemon.home.socket()));
                }
            });
        }
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                gets_through(&daemon, User::ROOT);
                gets_through(&daemon, OTHER);
                let ran = daemon.cli(&["status"]);
                assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        served.unwrap();
    });
    drop(held);
}

#[test]
fn a_member_has_at_most_half_of_the_event_streams() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_event_streams", "8")]);
    let mut held = open_many(&daemon, MEMBER, READ_EVENTS, 4);
    let mut first = [0; 12];
    for stream in &mut held {
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    assert_eq!(MEMBER.get(&daemon, "/v1/events").code(), "too_many_streams");
    for user in [OTHER, User::ROOT] {
        let mut stream = open(&daemon, user, READ_EVENTS);
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200", "{user:?}");
    }
}

#[test]
fn a_member_has_at_most_half_of_the_memory_for_large_bodies() {
    if !can_be_others() {
        return;
    }
    let daemon = daemon(&[("ipc.max_request_bytes", "200KiB"), ("queue.max_record_bytes", "190KiB")]);
    let body = json!({"type": "T", "payload": {"text": "x".repeat(180 << 10)}}).to_string();
    let length = body.len();
    let request = format!("POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let most = &request.as_bytes()[..request.len() - 1];
    // One of them may arrive while another body is complete, and may be refused itself.
    let mut held = Vec::new();
    wait_for("the member's half to be taken", || {
        held.push(open(&daemon, MEMBER, most));
        let response = MEMBER.post(&daemon, "/v1/records", &body);
        (response.status == 503).then(|| assert_eq!(response.code(), "busy"))
    });
    for user in [User::ROOT, OTHER] {
        user.post(&daemon, "/v1/records", &body).expect_json(201);
    }
    MEMBER.post(&daemon, "/v1/records", RECORD).expect_json(201);
    drop(held);
}
