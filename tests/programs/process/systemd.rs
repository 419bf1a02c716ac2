//! What a service manager gives and hears.

use std::os::unix::net::UnixListener;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::notify::NotifySocket;
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

#[test]
fn it_says_when_it_is_ready_what_it_does_and_when_it_stops() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| Reply::sound(request).held_by(&held));
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
    let heard = notified.heard();
    let place = |line: &str| heard.iter().rposition(|heard| heard == line).unwrap();
    assert!(heard.iter().any(|line| line.starts_with("MONOTONIC_USEC=")));
    assert!(place("RELOADING=1") < place("READY=1"), "the reload has an end: {heard:?}");
    assert!(place("READY=1") < place("STOPPING=1"));
    assert!(!heard.iter().any(|line| line == "WATCHDOG=1"), "nobody asked for it");
}

#[test]
fn its_status_line_is_the_sentence_of_the_status_in_every_phase() {
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    let mut told = |phase: &str| {
        let status = daemon.wait_for_phase(phase);
        let sentence = format!("STATUS={}", status["sync"]["text"].as_str().unwrap());
        wait_for(&sentence, || {
            let last = notified.heard().iter().rev().find(|line| line.starts_with("STATUS="));
            (last == Some(&sentence)).then_some(())
        });
    };
    told("idle");
    daemon.enqueue_many(3);
    told("auth_required");
    daemon.post("/v1/pause", "").good(200);
    told("paused");
    daemon.home.configure(&Settings::default());
    daemon.signal("HUP");
    daemon.post("/v1/resume", "").good(200);
    told("misconfigured");
    daemon.home.configure(&Settings::for_server("http://127.0.0.1:1").with("connectivity.watch", "poll"));
    daemon.signal("HUP");
    told("offline");
    server.now(Reply::sound);
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    told("idle");
}

#[test]
fn the_watchdog_is_fed_when_it_is_wanted() {
    let home = Home::new(&Settings::default());
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let _daemon = home.start_by(command);
    wait_for("the watchdog to be fed again and again", || {
        let fed = notified.heard().iter().filter(|line| *line == "WATCHDOG=1").count();
        (fed >= 4).then_some(())
    });
}

#[test]
fn a_start_after_a_crash_tells_how_far_the_repair_has_come_and_asks_for_time() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(500);
    let home = daemon.kill9();
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    notified.wait_for("READY=1");
    let heard = notified.heard();
    let place = |start: &str| heard.iter().position(|heard| heard.starts_with(start));
    for told in ["STATUS=Repairing the store after a crash: ", "EXTEND_TIMEOUT_USEC="] {
        assert!(place(told).is_some_and(|told| Some(told) < place("READY=1")), "{heard:?}");
    }
    assert_eq!(daemon.counts().pending, 500);
}

#[test]
fn a_socket_that_was_handed_over_is_used_and_stays() {
    let server = ScriptedServer::start(Reply::sound);
    let home = Home::new(&Settings::for_server(&server.url()));
    let listener = UnixListener::bind(home.socket()).unwrap();
    let command = home.activated_by(listener);
    let daemon = home.start_by(command);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(home.socket().exists(), "it belongs to whoever made it");
}
