//! The interface to the service manager: inherited sockets and notifications.

use std::os::unix::net::UnixListener;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::notify::NotifySocket;
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

#[test]
fn readiness_status_and_stopping_are_notified() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    notified.wait_for("READY=1");
    notified.wait_for("STATUS=Nothing to sync");
    daemon.enqueue_many(3);
    notified.wait_for("STATUS=Syncing 0 of 3 records");
    gate.open();
    notified.wait_for("STATUS=All 3 records synced");
    daemon.signal("HUP");
    notified.wait_for("RELOADING=1");
    daemon.wait_for_log("the configuration was read again");
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    notified.wait_for("STOPPING=1");
    let lines = notified.received_lines();
    let place = |line: &str| lines.iter().rposition(|received| received == line).unwrap();
    assert!(lines.iter().any(|line| line.starts_with("MONOTONIC_USEC=")));
    assert!(place("RELOADING=1") < place("READY=1"), "the reload has an end: {lines:?}");
    assert!(place("READY=1") < place("STOPPING=1"));
    assert!(!lines.iter().any(|line| line == "WATCHDOG=1"), "it was not configured");
}

#[test]
fn its_status_line_is_the_sentence_of_the_status_in_every_phase() {
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    let mut check_phase = |phase: &str| {
        let status = daemon.wait_for_phase(phase);
        let sentence = format!("STATUS={}", status["sync"]["text"].as_str().unwrap());
        wait_for(&sentence, || {
            let last = notified.received_lines().iter().rev().find(|line| line.starts_with("STATUS="));
            last.is_some_and(|last| last.starts_with(&sentence)).then_some(())
        });
    };
    check_phase("idle");
    daemon.enqueue_many(3);
    check_phase("auth_required");
    daemon.post("/v1/pause", "").expect_json(200);
    check_phase("paused");
    daemon.home.configure(&Settings::default());
    daemon.signal("HUP");
    daemon.post("/v1/resume", "").expect_json(200);
    check_phase("misconfigured");
    daemon.home.configure(&Settings::for_server("http://127.0.0.1:1").with("connectivity.watch", "poll"));
    daemon.signal("HUP");
    check_phase("offline");
    server.set_script(Reply::correct);
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    check_phase("idle");
}

#[test]
fn the_watchdog_is_notified_only_if_it_is_configured() {
    let home = Home::new(&Settings::default());
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let _daemon = home.start_by(command);
    wait_for("the watchdog to be fed again and again", || {
        let fed = notified.received_lines().iter().filter(|line| *line == "WATCHDOG=1").count();
        (fed >= 4).then_some(())
    });
}

#[test]
fn a_start_after_a_crash_reports_the_progress_of_the_repair_and_extends_the_timeout() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(500);
    let home = daemon.kill9();
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    notified.wait_for("READY=1");
    let lines = notified.received_lines();
    let place = |start: &str| lines.iter().position(|lines| lines.starts_with(start));
    for line in ["STATUS=Repairing the store after a crash: ", "EXTEND_TIMEOUT_USEC="] {
        assert!(place(line).is_some_and(|at| Some(at) < place("READY=1")), "{lines:?}");
    }
    assert_eq!(daemon.counts().pending, 500);
}

#[test]
fn an_inherited_socket_is_used_and_stays() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let listener = UnixListener::bind(home.socket()).unwrap();
    let command = home.activated_by(listener);
    let daemon = home.start_by(command);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(home.socket().exists(), "it belongs to its creator");
}
