//! `fieldsync status --check` and the gauges beside it: which of many devices needs attention.

use serde_json::Value;

use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

#[track_caller]
fn assert_check(daemon: &Daemon, code: i32, words: &[&str]) {
    let ran = daemon.cli(&["status", "--check"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(code), 1), "{ran:?}");
    for word in words {
        assert!(ran.stdout.contains(word), "{} lacks {word}", ran.stdout);
    }
    let json: Value = serde_json::from_str(&daemon.cli(&["status", "--check", "--json"]).stdout).unwrap();
    let expected = ["well", "person_must_act", "waits_too_long"][usize::try_from(code).unwrap()];
    assert_eq!(json["check"], expected);
}

#[track_caller]
fn assert_metric(daemon: &Daemon, line: &str) {
    let metrics = daemon.get("/metrics").text();
    assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
}

#[test]
fn the_exit_code_says_whether_a_device_needs_attention() {
    let server = ScriptedServer::start(Reply::correct);
    let good = Settings::for_server(&server.url());
    let daemon = Daemon::start(&good);
    assert_metric(&daemon, "fieldsync_last_success_timestamp_seconds 0");
    daemon.enqueue_many(3);
    daemon.wait_until_done();
    assert_check(&daemon, 0, &["Well: All 3 records synced"]);
    assert_metric(&daemon, "fieldsync_phase{name=\"idle\"} 1");
    assert_metric(&daemon, "fieldsync_phase{name=\"paused\"} 0");
    assert_metric(&daemon, "fieldsync_alert{name=\"records_wait\"} 0");
    assert_metric(&daemon, "fieldsync_oldest_pending_age_seconds 0");
    let metrics = daemon.get("/metrics").text();
    assert!(!metrics.contains("last_success_timestamp_seconds 0"), "{metrics}");

    server.set_script(|_| Reply::error(503, "BUSY"));
    daemon.home.configure(&good.with("telemetry.alert_oldest_pending", "1ms"));
    daemon.signal("HUP");
    daemon.enqueue_many(1);
    daemon.wait_until("the alert", |status| status["alerts"][0]["alert"] == "records_wait");
    assert_check(&daemon, 2, &["Records wait too long: the oldest record has been waiting"]);
    assert_metric(&daemon, "fieldsync_alert{name=\"records_wait\"} 1");

    daemon.post("/v1/pause", "").expect_json(200);
    assert_check(&daemon, 1, &["A person must act: Paused"]);
    assert_metric(&daemon, "fieldsync_phase{name=\"paused\"} 1");

    let (_, home) = daemon.terminate();
    let ran = run(&mut cli_command(home.socket(), &["status", "--check"]), b"");
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[test]
fn a_device_that_is_not_set_up_needs_a_person() {
    let daemon = Daemon::start(&Settings::default());
    daemon.wait_for_phase("misconfigured");
    assert_check(
        &daemon,
        1,
        &[
            "A person must act: No server is set. To do: sudo fieldsync setup --url https://… (or set server.url in ",
        ],
    );
}
