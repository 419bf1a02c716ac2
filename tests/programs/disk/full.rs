//! A full disk: new records are refused, waiting ones are sent, and free space is noticed.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{AbsentServer, OfferedRecords, settings, status_sentence};
use crate::support::daemon::Daemon;
use crate::support::http::HttpResponse;
use crate::support::loop_disk::LoopDisk;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::wait_for;

const WAITING: usize = 2000;

/// A daemon without its server, with waiting records.
fn waiting(disk: &LoopDisk, server: &AbsentServer, offered: &mut OfferedRecords) -> Daemon {
    let daemon = Daemon::start(&settings(disk, &server.url()));
    while offered.acknowledged.len() < WAITING {
        offered.hand_over(&daemon, 100, 1000).expect_json(201);
    }
    daemon
}

#[track_caller]
fn assert_no_room(refusal: &HttpResponse) {
    assert_eq!((refusal.status, refusal.code().as_str()), (507, "disk_full"), "{}", refusal.text());
}

#[track_caller]
fn wait_for_disk(daemon: &Daemon, state: &str) {
    let is_consistent = |status: &Value| status_sentence(status).contains("disk") == (state != "ok");
    daemon.wait_until(state, |status| status["queue"]["disk"] == state && is_consistent(status));
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_full_disk_refuses_records_and_continues_sending() {
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    let daemon = waiting(&disk, &server, &mut offered);
    wait_for_disk(&daemon, "ok");
    disk.fill(0);
    assert_no_room(&offered.hand_over_until_refused(&daemon, 20, 1000));
    wait_for_disk(&daemon, "full");
    let ran = daemon.cli_with(&["enqueue"], b"{\"type\":\"Visits\",\"payload\":{}}\n");
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("disk") && ran.stderr.contains("Nothing was stored."), "{}", ran.stderr);

    // The other program keeps its space. Waiting records are sent nevertheless.
    let gateway = server.appear();
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);

    disk.make_room();
    offered.hand_over_until_taken(&daemon, 20, 1000);
    wait_for_disk(&daemon, "ok");
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_daemon_that_fills_its_disk_sends_its_records_and_accepts_more() {
    // The queue may grow to 2 GiB, which is more than the disk has.
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    let daemon = Daemon::start(&settings(&disk, &server.url()));
    assert_no_room(&offered.hand_over_until_refused(&daemon, 4, 100_000));
    wait_for_disk(&daemon, "full");
    let took = offered.acknowledged.len();
    assert!(took >= 200, "only {took} records of 100 kB found room on 64 MiB");
    let gateway = server.appear();
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);

    // Sent records have freed space, and the daemon notices it without a request.
    offered.hand_over_until_taken(&daemon, 4, 100_000);
    wait_for_disk(&daemon, "ok");
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_disk_that_is_full_at_the_start() {
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    // Not closed, so it must be repaired, for which there is no space either.
    let home = waiting(&disk, &server, &mut offered).kill9();
    disk.fill(0);
    let daemon = home.start();
    let gateway = server.appear();
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_crash_on_a_full_disk_loses_nothing() {
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    let mut daemon = waiting(&disk, &server, &mut offered);
    disk.fill(0);
    for _ in 0..3 {
        // At the next start, the reserve is already in use.
        assert_no_room(&offered.hand_over_until_refused(&daemon, 20, 1000));
        daemon = daemon.kill9().start();
    }
    let gateway = server.appear();
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn receipts_never_fill_a_small_disk() {
    let (disk, server, mut offered) = (LoopDisk::new(24), AbsentServer::new(), OfferedRecords::default());
    let gateway = server.appear();
    let daemon = Daemon::start(&settings(&disk, &server.url()).batches_of(500));
    for _ in 0..120 {
        offered.hand_over(&daemon, 500, 10).expect_json(201);
        daemon.wait_until_done();
    }
    wait_for_disk(&daemon, "ok");
    let receipts = daemon.counts().synced;
    assert!((1000..60_000).contains(&receipts), "{receipts} receipts");
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn receipts_are_deleted_when_other_programs_fill_the_disk() {
    const RECEIPTS: u64 = 30_000;
    let (disk, server, mut offered) = (LoopDisk::new(24), AbsentServer::new(), OfferedRecords::default());
    let gateway = server.appear();
    let daemon = Daemon::start(&settings(&disk, &server.url()).batches_of(500));
    for _ in 0..RECEIPTS / 500 {
        offered.hand_over(&daemon, 500, 10).expect_json(201);
        daemon.wait_until_done();
    }
    assert_eq!(daemon.counts().synced, RECEIPTS);
    disk.fill(2 << 20);
    assert_no_room(&offered.hand_over_until_refused(&daemon, 20, 1000));
    offered.hand_over_until_taken(&daemon, 20, 1000);
    assert!(daemon.counts().synced < RECEIPTS);
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn after_sending_the_disk_accepts_more_although_a_record_waits_behind_one_under_review() {
    let (disk, mut offered) = (LoopDisk::new(64), OfferedRecords::default());
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let keyed: HashSet<String> = request
            .records()
            .iter()
            .filter(|record| record["key"].is_string())
            .map(|record| record["id"].as_str().unwrap().to_owned())
            .collect();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let status = if keyed.contains(id) { "rejected" } else { "applied" };
            Some(json!({"status": status}))
        })
    });
    let daemon = Daemon::start(&settings(&disk, &server.url()));
    let keyed = || [json!({"type": "Visits", "key": "account", "payload": {}})];
    daemon.enqueue(&keyed());
    daemon.wait_until("a record under review", |status| status["records"]["quarantined"] == 1);
    daemon.enqueue(&keyed());
    daemon.paused(|daemon| {
        assert_no_room(&offered.hand_over_until_refused(daemon, 4, 100_000));
    });
    daemon.wait_until("the others to be sent", |status| {
        status["records"]["pending"] == 1 && status["records"]["syncing"] == 0
    });
    offered.hand_over_until_taken(&daemon, 4, 100_000);
    wait_for_disk(&daemon, "ok");
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_disk_without_room_even_to_send_is_the_reason_why_a_record_waits() {
    let (disk, server, mut offered) = (LoopDisk::new(64), AbsentServer::new(), OfferedRecords::default());
    // Without a reserve, the other program also takes the space that a settlement needs.
    let daemon = Daemon::start(&settings(&disk, &server.url()).with("queue.disk_reserve", "0B"));
    while offered.acknowledged.len() < WAITING {
        offered.hand_over(&daemon, 100, 1000).expect_json(201);
    }
    disk.fill(0);
    let gateway = server.appear();
    let path = format!("/v1/records/{}", offered.acknowledged.iter().next().unwrap());
    let waiting = wait_for("the disk as the reason", || {
        // The store is reopened after each attempt, and cannot be read meanwhile.
        let response = daemon.get(&path);
        let waiting = (response.status == 200).then(|| response.json()["waiting_for"].clone());
        waiting.filter(|waiting| waiting["reason"] == "disk")
    });
    let text = "The disk under the queue is full: nothing is sent until an admin makes room on it.";
    assert_eq!(waiting["text"], text);
    disk.make_room();
    daemon.wait_until_done();
    offered.assert_kept_by(&gateway);
}
