//! The lines on standard error, and their number.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// Lines of an outage besides those of its attempts: its start, its end, and the alerts.
const FRAME: usize = 12;

#[test]
fn an_outage_logs_at_most_one_line_for_each_attempted_batch() {
    const TRIES: usize = 40;
    let server = ScriptedServer::start(|_| Reply::error(503, "DOWN"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("log.level", "info"));
    daemon.enqueue_many(60);
    let tried = || server.requests().len();
    wait_for("an outage that lasts", || (tried() >= TRIES).then_some(()));
    let (lines, batches) = (daemon.log().lines().count(), server.batches().len());
    assert!(lines <= batches + FRAME, "{lines} lines for {batches} batches:\n{}", daemon.log());
    server.set_script(Reply::correct);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
}

#[test]
fn an_unreachable_server_is_logged_once() {
    // Lines about other links of the machine are ignored.
    let settings = Settings::for_server("http://127.0.0.1:1").with("connectivity.watch", "poll");
    let daemon = Daemon::start(&settings.with("log.level", "info"));
    daemon.enqueue_many(3);
    daemon.wait_for_log("unreachable after");
    daemon.wait_for_log("connectivity: offline");
    let lines = daemon.log().lines().count();
    // Probes continue and records are enqueued, without a line in the log.
    for more in 1..=20 {
        daemon.enqueue_many(1);
        daemon.wait_until("them to be kept", |status| status["records"]["pending"] == 3 + more);
    }
    let reported = daemon.log();
    assert_eq!(reported.lines().count(), lines, "{reported}");
    assert_eq!(reported.matches("connectivity: offline").count(), 1, "{reported}");
}

#[test]
fn an_unread_standard_error_blocks_nothing() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()).with("log.level", "trace"));
    let mut command = home.command();
    // A pipe that is never read, and stays open.
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
    daemon.wait_for_log("<4>No server is set");
    let lines = daemon.log();
    assert!(lines.contains("<6>fieldsyncd "), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with('<')), "{lines}");
}
