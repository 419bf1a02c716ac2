//! Collectors that hang, fail, refuse or redirect: syncing does not notice them, and they are not asked again at once.

use serde_json::json;

use super::{metric, pushed_to, settings, start_collector, sync_batches, wait_for_push};
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::wait_for;

#[test]
fn a_collector_that_hangs_delays_neither_batches_nor_the_end_of_the_daemon() {
    let (server, collector) = (ScriptedServer::start(Reply::correct), ScriptedServer::start(|_| Reply::Hang));
    let daemon = Daemon::start(&settings(&server, &collector).with("batch.max_in_flight", "1"));
    sync_batches(&daemon, 1);
    wait_for("the push that hangs", || collector.requests().pop());
    // The only slot of batches is free: all this is sent while the push is under way.
    daemon.enqueue_many(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(201));
    assert_eq!(collector.requests().len(), 1, "one request at a time");
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!home.log().contains("did not drain in time"), "{}", home.log());
}

#[test]
fn a_collector_that_asks_to_wait_is_left_alone_for_as_long() {
    let server = ScriptedServer::start(Reply::correct);
    for status in [429, 503] {
        let collector = ScriptedServer::start(move |_| Reply::html(status).with("retry-after", "3600"));
        let daemon = Daemon::start(&settings(&server, &collector));
        wait_for_push(&daemon, &collector, "/v1/metrics");
        daemon.wait_for_log(&format!("the collector responded with HTTP {status}"));
        let failed = || metric(&daemon, "fieldsync_otlp_pushes_total{result=\"failed\"}") > 0.5;
        wait_for("the push to be counted", || failed().then_some(()));
        sync_batches(&daemon, 10);
        assert_eq!(collector.requests().len(), 1);
    }
}

#[test]
fn a_push_that_fails_is_repeated_after_later_responses_until_it_works() {
    let server = ScriptedServer::start(Reply::correct);
    let mut left = 2;
    let collector = ScriptedServer::start(move |_| {
        left -= 1;
        if left >= 0 { Reply::html(502) } else { Reply::text(200, "application/json", "{}") }
    });
    let daemon = Daemon::start(&settings(&server, &collector));
    wait_for("an accepted push", || {
        sync_batches(&daemon, 1);
        (metric(&daemon, "fieldsync_otlp_pushes_total{result=\"accepted\"}") > 0.5).then_some(())
    });
    daemon.wait_for_log("metrics are pushed to the collector again");
    let log = daemon.log();
    let failures = log.lines().filter(|line| line.contains("could not be pushed to the collector"));
    let warnings = failures.filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "only the first failure is a warning: {log}");
}

#[test]
fn a_redirect_is_not_followed_and_a_partial_success_is_logged() {
    let (server, other) = (ScriptedServer::start(Reply::correct), start_collector());
    let location = format!("{}/v1/metrics", other.url());
    let collector = ScriptedServer::start(move |_| Reply::html(307).with("location", location.clone()));
    let daemon = Daemon::start(&settings(&server, &collector));
    wait_for_push(&daemon, &collector, "/v1/metrics");
    daemon.wait_for_log("the collector responded with HTTP 307");
    assert_eq!(other.connections(), 0);

    let partial = r#"{"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "too old"}}"#;
    other.set_script(move |_| Reply::text(200, "application/json", partial));
    daemon.reload(&settings(&server, &other));
    wait_for_push(&daemon, &other, "/v1/metrics");
    daemon.wait_for_log("the collector rejected 2 items: too old");
    wait_for("more pushes", || {
        sync_batches(&daemon, 1);
        (pushed_to(&other.requests(), "/v1/metrics").count() >= 4).then_some(())
    });
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("rejected 2 items"));
    assert_eq!(warnings.count(), 1, "the same notice is a warning only once: {log}");
}

#[test]
fn a_collector_without_logs_gets_metrics_all_the_same() {
    let server = ScriptedServer::start(|request| {
        let rejects = request.text().contains("\"poison\"");
        let result = if rejects { json!({"status": "rejected"}) } else { json!({"status": "applied"}) };
        Reply::results(request.batch_id(), &request.ids(), |_| Some(result.clone()))
    });
    let collector = ScriptedServer::start(|request| {
        if request.path == "/v1/logs" { Reply::html(404) } else { Reply::text(200, "application/json", "{}") }
    });
    let settings = settings(&server, &collector).with("telemetry.otlp_interval", "30m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue(&[json!({"type": "Visits", "payload": {"poison": true}})]);
    // One run: alerts fail, and metrics are pushed nevertheless.
    daemon.wait_for_log("alerts could not be pushed to the collector: the collector responded with HTTP 404");
    wait_for("the push of metrics", || pushed_to(&collector.requests(), "/v1/metrics").next().cloned());
    wait_for("its result", || {
        (metric(&daemon, "fieldsync_otlp_pushes_total{result=\"accepted\"}") > 0.5).then_some(())
    });
    assert!(!daemon.log().contains("metrics could not be pushed"), "{}", daemon.log());
}

#[test]
fn a_reload_ends_the_wait_after_a_failure() {
    let server = ScriptedServer::start(Reply::correct);
    let collector = ScriptedServer::start(|_| Reply::html(503).with("retry-after", "3600"));
    let settings = settings(&server, &collector);
    let daemon = Daemon::start(&settings);
    wait_for_push(&daemon, &collector, "/v1/metrics");
    daemon.wait_for_log("the collector responded with HTTP 503");
    collector.set_script(|_| Reply::text(200, "application/json", "{}"));
    sync_batches(&daemon, 3);
    assert_eq!(collector.requests().len(), 1);
    daemon.reload(&settings);
    wait_for("a push after the reload", || {
        sync_batches(&daemon, 1);
        (collector.requests().len() > 1).then_some(())
    });
}
