//! Effects of keys that no other test covers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// 0600, as a TOML integer.
const OWNER_ALONE: &str = "384";

#[test]
fn the_socket_has_the_configured_permissions() {
    let daemon = Daemon::start(&Settings::default().with("ipc.socket_mode", OWNER_ALONE));
    let mode = fs::metadata(daemon.home.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn batches_are_sent_to_the_configured_path() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.path", "/elsewhere/batch"));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    assert_eq!(server.requests()[0].path, "/elsewhere/batch");
}

#[test]
fn a_receipt_is_kept_for_the_configured_time() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("queue.keep_synced", "1h"));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    assert_eq!(daemon.record(&id)["state"], "SYNCED");

    daemon.home.configure(&Settings::for_server(&server.url()).with("queue.keep_synced", "1ms"));
    let daemon = daemon.restart();
    let path = format!("/v1/records/{id}");
    wait_for("the receipt to go", || {
        daemon.enqueue_many(1);
        (daemon.get(&path).status == 404).then_some(())
    });
}

#[test]
fn no_batch_exceeds_the_configured_bytes() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("batch.max_batch_bytes", "10KiB"));
    let payload = |bytes: usize| json!({"type": "T", "payload": {"text": "x".repeat(bytes - 11)}});
    daemon.paused(|daemon| {
        daemon.enqueue(&vec![payload(1024); 25]);
        // A larger record is sent nevertheless, alone.
        daemon.enqueue(&[payload(20_000), payload(1024)]);
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(27));
    let reports = daemon.get("/v1/batches").expect_json(200);
    let batches = reports["batches"].as_array().unwrap().iter().rev();
    let reported: Vec<(u64, u64)> =
        batches.map(|batch| (batch["records"].as_u64().unwrap(), batch["bytes"].as_u64().unwrap())).collect();
    assert_eq!(reported, [(10, 10_240), (10, 10_240), (5, 5120), (1, 20_000), (1, 1024)]);
}

#[test]
fn a_batch_is_sized_for_the_time_limit_less_the_margin() {
    for (margin, budget) in [("0.25", 45_000), ("0.5", 30_000)] {
        let settings =
            Settings::default().with("server.request_timeout", "1m").with("batch.safety_margin", margin);
        let batching = Daemon::start(&settings).status()["batching"].clone();
        assert_eq!(
            (&batching["time_limit_ms"], &batching["time_budget_ms"]),
            (&json!(60_000), &json!(budget))
        );
    }
}

#[test]
fn alerts_start_at_the_configured_thresholds() {
    let server = ScriptedServer::start(|request| {
        let bad = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
    });
    let settings = Settings::for_server(&server.url())
        .with("telemetry.alert_quarantined", "2")
        .with("telemetry.alert_queue_percent", "50")
        .with("telemetry.alert_oldest_pending", "1ms")
        .with("queue.max_bytes", "2000B")
        .with("queue.max_record_bytes", "2000B");
    let daemon = Daemon::start(&settings);
    let names = |status: &Value| -> Vec<String> {
        let alerts = status["alerts"].as_array().unwrap().iter();
        alerts.map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
    };
    let payload = |bytes: usize| json!({"type": "T", "payload": {"text": "x".repeat(bytes - 11)}});
    daemon.enqueue(&[payload(500)]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    daemon.wait_until("no alert", |status| names(status).is_empty());
    daemon.enqueue(&[payload(500)]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 2));
    daemon.wait_until("both alerts", |status| names(status) == ["needs_review", "queue_filling"]);
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.enqueue_many(1);
    daemon.wait_until("the last alert", |status| names(status).contains(&"records_wait".to_owned()));
}

#[test]
fn without_a_watch_only_traffic_shows_the_state_of_the_link() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("connectivity.watch", "none"));
    assert_eq!(daemon.status()["connectivity"]["state"], "unknown");
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    daemon.wait_until("the link to be known", |status| status["connectivity"]["state"] == "online");
}
