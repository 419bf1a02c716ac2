//! The effects of signals.

use std::collections::HashSet;
use std::fs::File;
use std::process::Command;

use serde_json::json;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::process::{Guard, run, signal};
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

#[test]
fn sigterm_and_sigint_end_an_idle_daemon_with_0() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&Settings::default());
        daemon.signal(signal);
        assert_eq!(daemon.child.wait().code(), Some(0));
    }
}

#[test]
fn a_batch_in_flight_is_settled_before_the_daemon_ends() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let daemon = Daemon::start(
        &Settings::for_server(&server.url()).batches_of(3).with("server.request_timeout", "1m"),
    );
    daemon.enqueue_many(5);
    server.wait_for_batches(1);
    daemon.signal("TERM");
    daemon.wait_for_log("the batch in flight may finish");
    gate.open();
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(server.sizes(), [3], "no other batch is begun");
    server.set_script(Reply::correct);
    let daemon = home.start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert_eq!(server.sizes(), [3, 2]);
    assert!(server.requests().iter().all(Request::is_batch), "no outcome query is needed");
}

#[test]
fn a_hanging_batch_does_not_delay_shutdown_and_its_outcome_is_queried_at_the_next_start() {
    let server = ScriptedServer::start(|_| Reply::Hang);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "1m"));
    daemon.enqueue_many(3);
    let first = server.wait_for_batches(1).remove(0);
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(home.log().contains("its outcome is looked up at the next start"));
    let ids = first.ids();
    server.set_script(move |request| {
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    let daemon = home.start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!((server.count_outcome_queries(first.batch_id()), server.batches().len()), (1, 1));
}

#[test]
fn a_good_configuration_takes_effect_on_reload_and_a_bad_one_is_refused() {
    let (old, new) = (ScriptedServer::start(Reply::correct), ScriptedServer::start(Reply::correct));
    let daemon = Daemon::start(&Settings::for_server(&old.url()));
    daemon.enqueue_many(1);
    daemon.wait_until_done();

    daemon.home.configure(&Settings::for_server(&new.url()).with("batch.micro_batch", "0"));
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was not changed");
    assert!(daemon.log().contains("batch.micro_batch: must be at least 1"), "{}", daemon.log());
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    assert_eq!((old.batches().len(), new.batches().len()), (2, 0));

    daemon.home.configure(&Settings::for_server(&new.url()).with("ipc.max_connections", "10"));
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    daemon.wait_for_log("ipc.max_connections changed and takes effect at the next start");
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!((old.batches().len(), new.batches().len()), (2, 1));
}

#[test]
fn a_reload_loses_nothing_that_is_in_flight_and_ends_a_stop() {
    let gate = Gate::default();
    let held = gate.clone();
    let old = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let new = ScriptedServer::start(Reply::correct);
    let daemon =
        Daemon::start(&Settings::for_server(&old.url()).batches_of(3).with("server.request_timeout", "1m"));
    daemon.enqueue_many(5);
    old.wait_for_batches(1);
    daemon.home.configure(&Settings::for_server(&new.url()).batches_of(3));
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    gate.open();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert_eq!((old.sizes(), new.sizes()), (vec![3], vec![2]));

    new.set_script(|_| Reply::error(404, "GONE"));
    daemon.home.configure(&Settings::for_server(&new.url()).with("retry.max_backoff", "10m"));
    daemon.signal("HUP");
    daemon.enqueue_many(1);
    daemon.wait_for_phase("misconfigured");
    let newest = ScriptedServer::start(Reply::correct);
    daemon.home.configure(&Settings::for_server(&newest.url()));
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
}

#[test]
fn sigusr1_ends_a_wait() {
    let server = ScriptedServer::at_first(1, |_| Reply::error(503, "BUSY").with("retry-after", "600"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(2);
    daemon.wait_for_phase("waiting");
    daemon.signal("USR1");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn a_reload_requested_during_the_start_happens_after_it() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(500);
    let home = daemon.kill9();
    let daemon = Guard(home.command().spawn().unwrap());
    wait_for("the repair to begin", || home.log().contains("the store is being repaired").then_some(()));
    signal(daemon.0.id(), "HUP");
    wait_for("the reload", || home.log().contains("the configuration was read again").then_some(()));
}

/// A daemon with this file size limit.
pub(crate) fn limited_to(home: &Home, file_bytes: u64) -> Command {
    let command = home.command();
    let log = File::options().append(true).open(home.path("log")).unwrap();
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--fsize={file_bytes}"))
        .arg(command.get_program())
        .args(command.get_args())
        .stderr(log);
    limited
}

#[test]
fn a_file_size_limit_counts_as_a_full_disk_and_does_not_end_the_daemon() {
    const LIMIT_BYTES: u64 = 32 << 20;
    const RECORD_BYTES: usize = 100_000;
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server("http://127.0.0.1:1"));
    let command = limited_to(&home, LIMIT_BYTES);
    let daemon = home.start_by(command);
    let record = json!({"type": "T", "payload": {"text": "x".repeat(RECORD_BYTES)}}).to_string();
    let mut taken = 0;
    let refusal = loop {
        let response = daemon.post("/v1/records", &record);
        if response.status != 201 {
            break response;
        }
        taken += 1;
        assert!(taken * (RECORD_BYTES as u64) < LIMIT_BYTES, "more was taken than fits");
    };
    assert_eq!((refusal.status, refusal.code().as_str()), (507, "disk_full"), "{}", refusal.text());
    assert!(taken > 50, "only {taken} records found room");
    // Waiting records are sent, which frees space.
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    // Receipts are deleted, too, so only the server's ledger has all records.
    let arrived = || server.batches().iter().flat_map(Request::ids).collect::<HashSet<_>>().len() as u64;
    daemon.wait_until_done();
    assert_eq!(arrived(), taken);
    wait_for("room", || (daemon.post("/v1/records", &record).status == 201).then_some(()));
    daemon.wait_until_done();
    assert_eq!(arrived(), taken + 1);
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_file_size_limit_too_small_for_a_queue_is_reported_at_the_start() {
    let home = Home::new(&Settings::default());
    let ran = run(&mut limited_to(&home, 8 << 20), b"");
    assert_eq!(ran.code, Some(74), "{}", ran.stderr);
    assert!(ran.stderr.contains("files may have at most 8388608 bytes"), "{}", ran.stderr);
}
