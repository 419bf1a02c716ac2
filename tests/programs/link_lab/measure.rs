//! Measures how long a returning link takes to be used, and what its absence costs. The results are printed.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use fieldsync::clock::Clock;

use super::{all_synced, settings, start, wait_for_link};
use crate::support::daemon::Daemon;
use crate::support::netns::{Lab, SERVER};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::{DEADLINE, pace};

const TRIALS: usize = 20;

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn how_soon_a_record_arrives_after_the_link_came_back() {
    let lab = Lab::new();
    let clock = Clock::start();
    let (arrived, arrivals) = mpsc::channel();
    let _listens = ScriptedServer::start_at(SERVER.parse().unwrap(), move |request| {
        if request.is_batch() {
            arrived.send(clock.now()).unwrap();
        }
        Reply::correct(request)
    });
    // As in the field, except for the random delay.
    let daemon = start(&lab, &settings().with("log.level", "info"));
    let mut times = Vec::new();
    for trial in 1..=TRIALS {
        lab.down();
        wait_for_link(&daemon, "offline");
        daemon.enqueue_many(1);
        daemon.wait_for_phase("offline");
        // Duplicates are the subject of another test.
        while arrivals.try_recv().is_ok() {}
        let before = clock.now();
        lab.up();
        let up = clock.now();
        let arrival = arrivals.recv_timeout(DEADLINE).expect("the record arrives");
        times.push((arrival.saturating_sub(before), arrival.saturating_sub(up)));
        assert_eq!(daemon.wait_until_done().synced, trial as u64);
    }
    let figures = |mut times: Vec<Duration>| {
        times.sort_unstable();
        format!("median {} ms, worst {} ms", times[TRIALS / 2].as_millis(), times[TRIALS - 1].as_millis())
    };
    let (from_before, from_up) = times.into_iter().unzip();
    println!("link up to the first request at the server, {TRIALS} trials, no jitter:");
    println!("  from before the link is switched on:    {}", figures(from_before));
    println!("  from when link, address and route are: {}", figures(from_up));
}

/// What the daemon has used so far.
#[derive(Clone, Copy)]
struct Work {
    cpu_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

impl Work {
    fn of(daemon: &Daemon) -> Self {
        let mut work = Self { cpu_ns: 0, voluntary: 0, involuntary: 0 };
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.0.id())).unwrap();
        for task in tasks {
            let path = task.unwrap().path();
            let read = |file: &str| fs::read_to_string(path.join(file)).unwrap();
            work.cpu_ns += read("schedstat").split(' ').next().unwrap().parse::<u64>().unwrap();
            let status = read("status");
            let switches = |name: &str| -> u64 {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().parse().unwrap()
            };
            work.voluntary += switches("voluntary_ctxt_switches:");
            work.involuntary += switches("nonvoluntary_ctxt_switches:");
        }
        work
    }
}

/// Set `FIELDSYNC_IDLE_SECONDS=60` to measure a minute, in which nothing may wake the daemon.
#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn what_a_daemon_without_a_link_costs() {
    let asked_for = std::env::var("FIELDSYNC_IDLE_SECONDS").ok();
    let seconds = asked_for.as_ref().map_or(2, |seconds| seconds.parse().unwrap());
    let lab = Lab::new();
    let server = ScriptedServer::start_at(SERVER.parse().unwrap(), Reply::correct);
    lab.down();
    let daemon = start(&lab, &settings());
    let ids = daemon.enqueue_many(100);
    daemon.wait_for_phase("offline");
    // Work left by earlier requests: after a while, the store makes its idle commit.
    pace(Duration::from_secs(if asked_for.is_some() { 10 } else { 1 }));
    let before = Work::of(&daemon);
    pace(Duration::from_secs(seconds));
    let after = Work::of(&daemon);
    assert_eq!(server.connections(), 0);
    println!(
        "offline for {seconds} s with {} records waiting: {} µs of CPU time, {} voluntary and {} involuntary switches",
        ids.len(),
        (after.cpu_ns - before.cpu_ns) / 1000,
        after.voluntary - before.voluntary,
        after.involuntary - before.involuntary
    );
    if asked_for.is_some() {
        assert_eq!(after.voluntary, before.voluntary, "something woke it");
    }
    lab.up();
    all_synced(&daemon, &[&ids]);
}
