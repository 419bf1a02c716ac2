//! Commands that follow the daemon: bars in terminals, lines elsewhere; restarts; Ctrl-C.

use crate::support::daemon::{Daemon, cli_command};
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::terminal::{Terminal, was_interrupted};

#[test]
fn a_watched_status_survives_a_restart_and_a_resize_and_leaves_a_clean_line() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let watch = Terminal::start(cli_command(daemon.home.socket(), &["status", "--watch"]), 80);
    watch.wait_for("Nothing to sync");
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.enqueue_many(3);
    watch.wait_for("Paused by ");
    watch.wait_for(": 3 records waiting");
    watch.wait_for("To do: to send again: fieldsync resume");
    watch.wait_for(" 0/3");
    watch.resize(40);
    let daemon = daemon.restart();
    watch.wait_for("The connection to the daemon was lost; waiting for it to come back.");
    watch.wait_for("The daemon is back.");
    daemon.post("/v1/resume", "").expect_json(200);
    watch.wait_for("All 3 records synced");
    watch.signal("INT");
    let (status, text) = watch.end();
    assert_eq!(status.code(), Some(0), "{text}");
    // The bar is removed, and the sentence is on a line of its own.
    let last = text.rsplit(['\n', '\r']).find(|line| !line.trim().is_empty()).unwrap();
    assert_eq!(last, "All 3 records synced", "{text:?}");
    assert!(text.ends_with("All 3 records synced\n"), "{text:?}");
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_syncing() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "30s"));
    daemon.enqueue_many(3);
    let wait = Terminal::start(cli_command(daemon.home.socket(), &["sync", "--wait"]), 80);
    wait.wait_for("Syncing 0 of 3 records");
    wait.signal("INT");
    let (status, text) = wait.end();
    assert!(was_interrupted(status), "{status} {text}");
    let end = "\nfieldsync: the wait was interrupted. The daemon continues by itself: fieldsync status\n";
    assert!(text.ends_with(end), "{text:?}");
    gate.open();
    daemon.wait_until_done();
}

#[test]
fn without_a_terminal_each_change_of_the_sentence_is_a_line() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(5));
    daemon.paused(|daemon| daemon.enqueue_many(40));
    let ran = daemon.cli(&["sync", "--wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{lines:?}");
    assert_eq!(lines.last(), Some(&"All 40 records synced"));
    assert!(!ran.stdout.contains(['\u{1b}', '\r']), "{}", ran.stdout);
}

#[test]
fn a_wait_survives_a_restart() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.enqueue_many(2);
    let wait = Terminal::start(cli_command(daemon.home.socket(), &["sync", "--wait"]), 80);
    wait.wait_for("Syncing is paused, and the wait continues");
    let daemon = daemon.restart();
    wait.wait_for("The daemon is back.");
    daemon.post("/v1/resume", "").expect_json(200);
    let (status, text) = wait.end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.ends_with("All 2 records synced\n"), "{text}");
}

#[test]
fn ctrl_c_ends_the_command_events_cleanly() {
    let daemon = Daemon::start(&Settings::default());
    let watch = Terminal::start(cli_command(daemon.home.socket(), &["events"]), 80);
    watch.wait_for("No server is set");
    watch.signal("INT");
    assert_eq!(watch.end().0.code(), Some(0));
}
