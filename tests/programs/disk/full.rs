//! A disk without room: nothing new is taken, what waits is sent, and room that returns is noticed.

use std::collections::HashSet;

use serde_json::json;

use super::{AbsentServer, Books, said, settings};
use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::loop_disk::LoopDisk;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::wait_for;

const WAITING: usize = 2000;

/// A daemon whose server is away, with records that wait.
fn waiting(disk: &LoopDisk, server: &AbsentServer, books: &mut Books) -> Daemon {
    let daemon = Daemon::start(&settings(disk, &server.url()));
    while books.acknowledged.len() < WAITING {
        books.hand_over(&daemon, 100, 1000).good(201);
    }
    daemon
}

#[track_caller]
fn assert_no_room(refusal: &Answer) {
    assert_eq!((refusal.status, refusal.code().as_str()), (507, "disk_full"), "{}", refusal.text());
}

#[track_caller]
fn wait_for_disk(daemon: &Daemon, state: &str) {
    let status = daemon.wait_until(state, |status| status["queue"]["disk"] == state);
    assert_eq!(said(&status).contains("disk"), state != "ok", "{}", said(&status));
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_full_disk_refuses_records_and_goes_on_sending() {
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    let daemon = waiting(&disk, &server, &mut books);
    wait_for_disk(&daemon, "ok");
    disk.fill(0);
    assert_no_room(&books.hand_over_until_refused(&daemon, 20, 1000));
    wait_for_disk(&daemon, "full");
    let ran = daemon.cli_with(&["enqueue"], b"{\"type\":\"Visits\",\"payload\":{}}\n");
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("disk") && ran.stderr.contains("Nothing was stored."), "{}", ran.stderr);

    // The other program keeps its room: what waits is sent all the same.
    let gateway = server.appear();
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);

    disk.make_room();
    books.hand_over_until_taken(&daemon, 20, 1000);
    wait_for_disk(&daemon, "ok");
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_daemon_that_fills_its_disk_sends_what_it_took_and_takes_more() {
    // The queue may grow to 2 GiB, which is more than there is.
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    let daemon = Daemon::start(&settings(&disk, &server.url()));
    assert_no_room(&books.hand_over_until_refused(&daemon, 4, 100_000));
    wait_for_disk(&daemon, "full");
    let took = books.acknowledged.len();
    assert!(took >= 200, "only {took} records of 100 kB found room on 64 MiB");
    let gateway = server.appear();
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);

    // What was sent has left room, and nobody has to come and say so.
    books.hand_over_until_taken(&daemon, 4, 100_000);
    wait_for_disk(&daemon, "ok");
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_disk_that_is_full_at_the_start() {
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    // Not closed, so that it has to be repaired, for which there is no room either.
    let home = waiting(&disk, &server, &mut books).kill9();
    disk.fill(0);
    let daemon = home.start();
    let gateway = server.appear();
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_crash_on_a_full_disk_loses_nothing() {
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    let mut daemon = waiting(&disk, &server, &mut books);
    disk.fill(0);
    for _ in 0..3 {
        // What was held back for this moment is in use already at the next start.
        assert_no_room(&books.hand_over_until_refused(&daemon, 20, 1000));
        daemon = daemon.kill9().start();
    }
    let gateway = server.appear();
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn receipts_never_fill_a_small_disk() {
    let (disk, server, mut books) = (LoopDisk::new(24), AbsentServer::new(), Books::default());
    let gateway = server.appear();
    let daemon = Daemon::start(&settings(&disk, &server.url()).batches_of(500));
    for _ in 0..120 {
        books.hand_over(&daemon, 500, 10).good(201);
        daemon.wait_until_done();
    }
    wait_for_disk(&daemon, "ok");
    let receipts = daemon.counts().synced;
    assert!((1000..60_000).contains(&receipts), "{receipts} receipts");
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn receipts_give_way_when_others_fill_the_disk() {
    const RECEIPTS: u64 = 30_000;
    let (disk, server, mut books) = (LoopDisk::new(24), AbsentServer::new(), Books::default());
    let gateway = server.appear();
    let daemon = Daemon::start(&settings(&disk, &server.url()).batches_of(500));
    for _ in 0..RECEIPTS / 500 {
        books.hand_over(&daemon, 500, 10).good(201);
        daemon.wait_until_done();
    }
    assert_eq!(daemon.counts().synced, RECEIPTS);
    disk.fill(2 << 20);
    assert_no_room(&books.hand_over_until_refused(&daemon, 20, 1000));
    books.hand_over_until_taken(&daemon, 20, 1000);
    assert!(daemon.counts().synced < RECEIPTS);
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_drained_disk_takes_more_although_a_record_waits_behind_one_under_review() {
    let (disk, mut books) = (LoopDisk::new(64), Books::default());
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::sound(request);
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
        assert_no_room(&books.hand_over_until_refused(daemon, 4, 100_000));
    });
    daemon.wait_until("the others to be sent", |status| {
        status["records"]["pending"] == 1 && status["records"]["syncing"] == 0
    });
    books.hand_over_until_taken(&daemon, 4, 100_000);
    wait_for_disk(&daemon, "ok");
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_disk_without_room_even_to_send_is_the_reason_why_a_record_waits() {
    let (disk, server, mut books) = (LoopDisk::new(64), AbsentServer::new(), Books::default());
    // Without a reserve, the other program takes the room that a settlement needs, too.
    let daemon = Daemon::start(&settings(&disk, &server.url()).with("queue.disk_reserve", "0B"));
    while books.acknowledged.len() < WAITING {
        books.hand_over(&daemon, 100, 1000).good(201);
    }
    disk.fill(0);
    let gateway = server.appear();
    let path = format!("/v1/records/{}", books.acknowledged.iter().next().unwrap());
    let waiting = wait_for("the disk as the reason", || {
        // The file is opened again after each try, and cannot be read meanwhile.
        let answer = daemon.get(&path);
        let waiting = (answer.status == 200).then(|| answer.json()["waiting_for"].clone());
        waiting.filter(|waiting| waiting["reason"] == "disk")
    });
    let text = "The disk under the queue is full: nothing is sent until an admin makes room on it.";
    assert_eq!(waiting["text"], text);
    disk.make_room();
    daemon.wait_until_done();
    books.assert_kept_by(&gateway);
}
