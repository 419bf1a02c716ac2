//! A disk that fails while the daemon runs: it takes nothing more, says so, and does not spin.

use std::fs;
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;

use super::{AbsentServer, Books, said, settings};
use crate::support::daemon::Daemon;
use crate::support::loop_disk::LoopDisk;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(2);
/// Of the hundredths of a second in that time. Who spins has nearly all of them.
const AT_REST: u64 = 40;

/// CPU time until now, in ticks.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.child.0.id())).unwrap();
    // The name in parentheses may have blanks; user and system time are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn ticks_while_watched(daemon: &Daemon) -> u64 {
    let (clock, before) = (Clock::start(), ticks(daemon));
    while let Some(left) = WATCHED.checked_sub(clock.now()) {
        thread::park_timeout(left);
    }
    ticks(daemon) - before
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_failing_disk_is_said_aloud() {
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    let daemon = Daemon::start(&settings(&disk, &server.url()));
    for _ in 0..20 {
        books.hand_over(&daemon, 10, 1000).good(201);
    }
    disk.shutdown();
    let refusal = books.hand_over(&daemon, 10, 1000);
    assert_eq!((refusal.status, refusal.code().as_str()), (503, "disk_failing"), "{}", refusal.text());
    let status = daemon.wait_until("failing", |status| status["queue"]["disk"] == "failing");
    assert!(said(&status).contains("disk") && said(&status).contains("taken"), "{}", said(&status));
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("disk")), "{log}");

    // There is work, and somebody to send it to, but no disk to do it with.
    let gateway = server.appear();
    let used = ticks_while_watched(&daemon);
    assert!(used < AT_REST, "{used} ticks of CPU time in {WATCHED:?}: {}", daemon.log());
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(74), "{}", home.log());

    disk.remount();
    let daemon = home.start();
    books.hand_over(&daemon, 10, 1000).good(201);
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}
