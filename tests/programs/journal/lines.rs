//! Lines on standard error, and how many there are.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// What an outage may write besides what is tried in it: its beginning, its end, and the alerts.
const FRAME: usize = 12;

#[test]
fn an_outage_writes_no_more_than_a_line_for_each_batch_that_is_tried() {
    const TRIES: usize = 40;
    let server = ScriptedServer::start(|_| Reply::error(503, "DOWN"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("log.level", "info"));
    daemon.enqueue_many(60);
    let tried = || server.requests().len();
    wait_for("an outage that lasts", || (tried() >= TRIES).then_some(()));
    let (lines, batches) = (daemon.log().lines().count(), server.batches().len());
    assert!(lines <= batches + FRAME, "{lines} lines for {batches} batches:\n{}", daemon.log());
    server.now(Reply::sound);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
}

#[test]
fn a_server_that_is_not_there_is_told_of_once() {
    // Other links of the machine come and go, and are not what this is about.
    let settings = Settings::for_server("http://127.0.0.1:1").with("connectivity.watch", "poll");
    let daemon = Daemon::start(&settings.with("log.level", "info"));
    daemon.enqueue_many(3);
    daemon.wait_for_log("unreachable after");
    daemon.wait_for_log("connectivity: offline");
    let lines = daemon.log().lines().count();
    // Probes go on, and records come in, and nobody has to hear of it.
    for more in 1..=20 {
        daemon.enqueue_many(1);
        daemon.wait_until("them to be kept", |status| status["records"]["pending"] == 3 + more);
    }
    let told = daemon.log();
    assert_eq!(told.lines().count(), lines, "{told}");
    assert_eq!(told.matches("connectivity: offline").count(), 1, "{told}");
}

#[test]
fn nobody_waits_for_a_reader_of_standard_error() {
    let server = ScriptedServer::start(Reply::sound);
    let home = Home::new(&Settings::for_server(&server.url()).with("log.level", "trace"));
    let mut command = home.command();
    // A pipe that nobody reads, and that stays open.
    command.stderr(Stdio::piped());
    let daemon = home.start_by(command);
    daemon.enqueue_many(1000);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1000));
}

#[test]
fn lines_that_systemd_collects_for_the_journal_have_their_priority() {
    let home = Home::new(&Settings::default().with("log.level", "info"));
    let mut command = home.command();
    let log = std::fs::metadata(home.path("log")).unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()));
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    daemon.wait_for_log("<4>The server address");
    let lines = daemon.log();
    assert!(lines.contains("<6>fieldsyncd "), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with('<')), "{lines}");
}
