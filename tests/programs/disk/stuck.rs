//! A disk that never completes an operation: the daemon stops notifying the watchdog, and is restarted.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fieldsync::clock::Clock;
use nix::libc::SIGABRT;

use super::settings;
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::loop_disk::LoopDisk;
use crate::support::notify::NotifySocket;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::wait::{pace, wait_for};

/// As `WatchdogSec=` sets it.
const WATCHDOG: Duration = Duration::from_secs(1);

/// A slow disk: it is stuck for longer than the other actors have for stopping, works for a moment, and is stuck
/// again.
const STANDS_STILL: Duration = Duration::from_millis(1500);
const MOVES: Duration = Duration::from_millis(5);

/// A daemon under a watchdog.
fn watched(home: Home, systemd: &NotifySocket) -> Daemon {
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &systemd.path).env_remove("WATCHDOG_PID");
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    home.start_by(command)
}

fn fed(systemd: &mut NotifySocket) -> usize {
    systemd.received_lines().iter().filter(|line| *line == "WATCHDOG=1").count()
}

/// As systemd does: waits until the watchdog was not notified within its limit.
fn wait_until_it_runs_out(systemd: &mut NotifySocket) {
    let clock = Clock::start();
    let mut last = (fed(systemd), clock.now());
    wait_for("the watchdog to run out", || {
        let now = (fed(systemd), clock.now());
        if now.0 != last.0 {
            last = now;
        }
        (now.1.saturating_sub(last.1) >= WATCHDOG).then_some(())
    });
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_stuck_daemon_skips_the_watchdog_names_the_stuck_actor_and_loses_nothing_on_restart() {
    let (disk, server) = (LoopDisk::new(64), ScriptedServer::start(Reply::correct));
    let home = Home::new(&settings(&disk, &server.url()));
    let mut systemd = NotifySocket::new(&home.path(""));
    let mut daemon = watched(home, &systemd);
    daemon.post("/v1/pause", "").expect_json(200);
    let accepted: HashSet<String> = daemon.enqueue_many(20).into_iter().collect();
    wait_for("the watchdog to be fed", || (fed(&mut systemd) >= 2).then_some(()));

    // On a busy machine, it may have been slow before.
    let reports = || daemon.log().matches("the queue store actor does not respond").count();
    let before = reports();
    let frozen = disk.freeze();
    // This record must not be acknowledged.
    let mut unanswered = UnixStream::connect(daemon.home.socket()).unwrap();
    let record = r#"{"type":"Visits","payload":{}}"#;
    let head = format!(
        "POST /v1/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        record.len()
    );
    unanswered.write_all(format!("{head}{record}").as_bytes()).unwrap();
    wait_for("the stuck actor to be reported", || (reports() > before).then_some(()));
    wait_until_it_runs_out(&mut systemd);
    assert_eq!(reports(), before + 1, "{}", daemon.log());
    assert_eq!(daemon.status()["records"]["pending"], 20, "the others go on");

    daemon.signal("ABRT");
    drop(frozen);
    assert_eq!(daemon.child.wait().signal(), Some(SIGABRT));
    let daemon = watched(daemon.home, &systemd);
    daemon.post("/v1/resume", "").expect_json(200);
    let counts = daemon.wait_until_done();
    assert!([20, 21].map(Counts::all_synced).contains(&counts), "{counts:?}");
    let sent: Vec<String> = server.batches().iter().flat_map(Request::ids).collect();
    assert!(accepted.iter().all(|id| sent.iter().filter(|sent| *sent == id).count() == 1), "{sent:?}");
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_disk_that_recovers_in_time_causes_no_restart() {
    let (disk, server) = (LoopDisk::new(64), ScriptedServer::start(Reply::correct));
    let home = Home::new(&settings(&disk, &server.url()));
    let mut systemd = NotifySocket::new(&home.path(""));
    let daemon = watched(home, &systemd);
    let frozen = disk.freeze();
    // The response arrives when the disk works again.
    let enqueued = std::thread::scope(|scope| {
        let enqueued = scope.spawn(|| daemon.enqueue_many(1));
        daemon.wait_for_log("the queue store actor does not respond");
        drop(frozen);
        enqueued.join().unwrap()
    });
    daemon.wait_for_log("the queue store actor responds again");
    let before = fed(&mut systemd);
    wait_for("the watchdog to be fed", || (fed(&mut systemd) > before).then_some(()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(enqueued.len() as u64));
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_daemon_that_stops_on_a_slow_disk_still_closes_its_store() {
    let (disk, server) = (LoopDisk::new(64), ScriptedServer::start(Reply::correct));
    let mut daemon = Daemon::start(&settings(&disk, &server.url()));
    daemon.enqueue_many(500);
    daemon.wait_until_done();
    let (is_over, mut frozen) = (AtomicBool::new(false), disk.freeze());
    daemon.signal("TERM");
    let status = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                pace(STANDS_STILL);
                drop(frozen);
                pace(MOVES);
                frozen = disk.freeze();
            }
        });
        let status = daemon.child.wait();
        is_over.store(true, Ordering::Relaxed);
        status
    });
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("the store did not drain in time"), "{}", daemon.log());
    let daemon = daemon.home.start();
    assert!(!daemon.log().contains("the store is being repaired"), "{}", daemon.log());
    assert_eq!(daemon.counts(), Counts::all_synced(500));
}
