//! The file of the queue is deleted or moved while the daemon runs.

use std::fs;

use serde_json::json;

use crate::support::daemon::{Daemon, daemon_command};
use crate::support::process::run;
use crate::support::settings::Settings;

#[track_caller]
fn assert_nothing_is_taken(daemon: &Daemon) {
    let refusal = daemon.post("/v1/records", json!({"type": "Visits", "payload": {}}).to_string());
    assert_eq!((refusal.status, refusal.code().as_str()), (503, "disk_failing"), "{}", refusal.text());
    daemon.wait_until("failing", |status| status["queue"]["disk"] == "failing");
    daemon.wait_for_log("was deleted, moved or replaced");
}

#[test]
fn nothing_is_acknowledged_into_a_deleted_file_and_the_daemon_says_what_to_do() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(3);
    fs::remove_file(daemon.home.path("state/queue.redb")).unwrap();
    assert_nothing_is_taken(&daemon);
    assert!(!daemon.home.path("state/queue.redb").exists(), "no other file takes its place");
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(74), "{}", home.log());
    assert!(home.log().contains("put it back, or restart the daemon"), "{}", home.log());
    home.start().enqueue_many(1);
}

#[test]
fn a_directory_that_is_moved_away_stops_the_daemon_and_comes_back_with_its_records() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(3);
    let (state, elsewhere) = (daemon.home.path("state"), daemon.home.path("elsewhere"));
    fs::rename(&state, &elsewhere).unwrap();
    assert_nothing_is_taken(&daemon);
    fs::rename(&elsewhere, &state).unwrap();
    daemon.wait_until("the disk to be well again", |status| status["queue"]["disk"] == "ok");
    assert!(daemon.status()["records"]["pending"].as_u64() >= Some(3));
    daemon.enqueue_many(1);
}

#[test]
fn a_daemon_whose_lock_file_was_deleted_still_keeps_a_second_one_out() {
    let daemon = Daemon::start(&Settings::default());
    fs::remove_file(daemon.home.path("state/lock")).unwrap();
    let mut command = daemon_command();
    command.arg("--config").arg(daemon.home.path("config.toml"));
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    daemon.enqueue_many(1);
}
