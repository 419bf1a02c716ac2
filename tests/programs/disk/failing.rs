//! A disk that fails while the daemon runs: the daemon accepts nothing, reports it, and does not busy-loop.

use std::fs;
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;

use super::{AbsentServer, OfferedRecords, settings, status_sentence};
use crate::support::daemon::Daemon;
use crate::support::loop_disk::LoopDisk;

/// How long the daemon is observed.
const WATCHED: Duration = Duration::from_secs(2);
/// Of the hundredths of a second in that time. A busy loop would use nearly all of them.
const AT_REST: u64 = 40;

/// CPU time until now, in ticks.
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.child.0.id())).unwrap();
    // The name in parentheses may contain spaces; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn ticks_while_watched(daemon: &Daemon) -> u64 {
    let (clock, before) = (Clock::start(), cpu_ticks(daemon));
    while let Some(left) = WATCHED.checked_sub(clock.now()) {
        thread::park_timeout(left);
    }
    cpu_ticks(daemon) - before
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_failing_disk_is_reported() {
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    let daemon = Daemon::start(&settings(&disk, &server.url()));
    for _ in 0..20 {
        offered.hand_over(&daemon, 10, 1000).expect_json(201);
    }
    disk.shutdown();
    let refusal = offered.hand_over(&daemon, 10, 1000);
    assert_eq!((refusal.status, refusal.code().as_str()), (503, "disk_failing"), "{}", refusal.text());
    let status = daemon.wait_until("failing", |status| status["queue"]["disk"] == "failing");
    assert!(
        status_sentence(&status).contains("disk") && status_sentence(&status).contains("taken"),
        "{}",
        status_sentence(&status)
    );
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("disk")), "{log}");

    // There are records, and a server to send them to, but the disk does not work.
    let gateway = server.appear();
    let used = ticks_while_watched(&daemon);
    assert!(used < AT_REST, "{used} ticks of CPU time in {WATCHED:?}: {}", daemon.log());
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(74), "{}", home.log());

    disk.remount();
    let daemon = home.start();
    offered.hand_over(&daemon, 10, 1000).expect_json(201);
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}
