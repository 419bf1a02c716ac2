//! What a device reports about itself to its server, and when.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn is_report(request: &Request) -> bool {
    request.path.ends_with("/status")
}

fn reports(server: &ScriptedServer) -> Vec<Request> {
    server.requests().into_iter().filter(is_report).collect()
}

/// Confirms each batch, and replies to reports as given.
fn start_server(mut report: impl FnMut() -> Reply + Send + 'static) -> ScriptedServer {
    ScriptedServer::start(move |request| if is_report(request) { report() } else { Reply::correct(request) })
}

/// A report gets 10 s for its response: these tests count reports, and none may be repeated on a busy machine.
fn settings(server: &ScriptedServer) -> Settings {
    Settings::for_server(&server.url()).with("fleet.heartbeat", "6h").with("server.request_timeout", "1m")
}

fn sync_record(daemon: &Daemon) {
    daemon.enqueue_many(1);
    daemon.wait_until_done();
}

#[test]
fn a_device_reports_its_status_at_the_end_of_a_run() {
    let server = start_server(|| Reply::text(204, "text/plain", ""));
    let daemon = Daemon::start(&settings(&server));
    daemon.enqueue_many(3);
    let synced = wait_for("a report of the end of the run", || {
        reports(&server).into_iter().find(|request| request.json()["records"]["synced"] == 3)
    });
    let status = daemon.status();
    let device = status["device_id"].as_str().unwrap();
    assert_eq!(synced.method, "POST");
    assert!(synced.path.ends_with(&format!("/crm/v2/mobile/sync/batch/devices/{device}/status")));
    assert_eq!(synced.header("x-sync-device-id"), device);
    assert_eq!(synced.header("content-type"), "application/json");
    let report = synced.json();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["records"]["pending"], 0);
    assert_eq!(report["last_success_at"], status["sync"]["last_success_at"]);
    let keys: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let allowed = [
        "version",
        "at",
        "records",
        "oldest_pending_at",
        "queue_bytes",
        "last_success_at",
        "alerts",
        "clock_offset_ms",
        "battery_percent",
        "interface",
    ];
    assert!(keys.is_subset(&allowed.into()), "{keys:?}");
    assert!(report.as_object().unwrap().values().all(|value| *value != Value::Null), "{report}");
}

#[test]
fn a_device_with_nothing_to_send_reports_with_each_heartbeat() {
    let server = start_server(|| Reply::text(200, "application/json", "{}"));
    let _daemon = Daemon::start(&settings(&server).with("fleet.heartbeat", "100ms"));
    wait_for("three heartbeats", || (reports(&server).len() >= 3).then_some(()));
    assert!(server.batches().iter().all(is_report));
}

#[test]
fn a_report_that_gets_no_reply_delays_no_batch() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = start_server(move || Reply::text(204, "text/plain", "").held_by(&held));
    let daemon = Daemon::start(&settings(&server).with("fleet.heartbeat", "1ms"));
    wait_for("a report", || reports(&server).first().cloned());
    for _ in 0..3 {
        sync_record(&daemon);
    }
    assert_eq!(reports(&server).len(), 1);
    gate.open();
}

#[test]
fn a_server_that_takes_no_reports_is_asked_once_for_each_configuration() {
    let server = start_server(|| Reply::html(404));
    let settings = settings(&server).with("fleet.heartbeat", "1ms");
    let daemon = Daemon::start(&settings);
    daemon.wait_for_log("takes no reports");
    for _ in 0..3 {
        sync_record(&daemon);
    }
    assert_eq!(reports(&server).len(), 1);
    daemon.reload(&settings.with("fleet.heartbeat", "2ms"));
    wait_for("a report after the reload", || (reports(&server).len() == 2).then_some(()));
}

#[test]
fn a_report_that_is_refused_is_not_repeated_soon_and_holds_nothing_against_the_server() {
    let server = start_server(|| Reply::error(503, "BUSY").with("retry-after", "3600"));
    let daemon = Daemon::start(&settings(&server));
    for _ in 0..3 {
        sync_record(&daemon);
        wait_for("a report", || reports(&server).first().cloned());
    }
    assert_eq!(reports(&server).len(), 1);
    assert_eq!(daemon.status()["breaker"]["consecutive_failures"], 0);
}

#[test]
fn while_sending_is_paused_nothing_is_reported() {
    let server = start_server(|| Reply::text(204, "text/plain", ""));
    let settings = settings(&server).with("fleet.heartbeat", "0s");
    let paused = Daemon::start(&settings);
    paused.post("/v1/pause", "").expect_json(200);
    let settings = settings.with("fleet.heartbeat", "100ms");
    paused.reload(&settings);
    // Another one shows that the time for reports has passed.
    let _other = Daemon::start(&settings);
    wait_for("three heartbeats", || (reports(&server).len() >= 3).then_some(()));
    let id = paused.status()["device_id"].as_str().unwrap().to_owned();
    let is_from_it = |request: &Request| request.header("x-sync-device-id") == id;
    assert!(!reports(&server).iter().any(is_from_it));
    paused.post("/v1/resume", "").expect_json(200);
    wait_for("a report after the pause", || reports(&server).into_iter().find(is_from_it));
}

#[test]
fn without_a_heartbeat_there_are_no_reports() {
    let server = start_server(|| Reply::text(204, "text/plain", ""));
    let settings = settings(&server).with("fleet.heartbeat", "0s");
    let daemon = Daemon::start(&settings);
    for _ in 0..3 {
        sync_record(&daemon);
    }
    assert!(reports(&server).is_empty());
    daemon.reload(&settings.with("fleet.heartbeat", "1ms"));
    wait_for("a report after the reload", || reports(&server).first().cloned());
}
