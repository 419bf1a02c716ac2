//! What is pushed, and when.

use fieldsync::clock::wall_ms;
use serde_json::json;

use super::messages::{AnyValue, LogsRequest, MetricsRequest, Resource};
use super::{decoded_json, pushed_to, settings, start_collector, sync_batches, wait_for_push};
use crate::support::daemon::Daemon;
use crate::support::ports::free_address;
use crate::support::reply::Gate;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn read_metrics(request: &Request) -> MetricsRequest {
    let read: MetricsRequest = serde_json::from_value(decoded_json(request)).unwrap();
    read.check();
    read
}

fn attribute<'r>(resource: &'r Resource, key: &str) -> &'r str {
    let found = resource.attributes.iter().find(|attribute| attribute.key == key);
    match &found.unwrap_or_else(|| panic!("{key} is missing")).value {
        AnyValue::StringValue(text) => text,
        AnyValue::BoolValue(_) => panic!("{key} is no text"),
    }
}

fn count_of(metrics: &MetricsRequest, name: &str, label: Option<&str>) -> u64 {
    let points = &metrics.find(name).sum.as_ref().unwrap().data_points;
    let is_meant = |value: &AnyValue| label.is_none_or(|label| *value == AnyValue::StringValue(label.into()));
    let point = points.iter().find(|point| point.attributes.iter().all(|pair| is_meant(&pair.value)));
    point.unwrap().as_int.unwrap()
}

#[test]
fn metrics_are_pushed_after_a_response_of_the_server_with_what_identifies_the_device() {
    let (server, collector) = (ScriptedServer::start(Reply::correct), start_collector());
    let daemon = Daemon::start(&settings(&server, &collector).with("device.name", "Van 12"));
    let first = read_metrics(&wait_for_push(&daemon, &collector, "/v1/metrics"));
    let status = daemon.status();
    let resource = &first.resource_metrics[0].resource;
    for (key, expected) in [
        ("service.name", "fieldsync"),
        ("service.version", status["version"].as_str().unwrap()),
        ("service.instance.id", status["device_id"].as_str().unwrap()),
        ("host.name", "Van 12"),
    ] {
        assert_eq!(attribute(resource, key), expected);
    }
    assert!(first.metrics().len() >= 50, "{} families", first.metrics().len());
    let answered = count_of(&first, "fieldsync_batches", Some("answered"));
    assert!((1..=server.batches().len() as u64).contains(&answered), "{answered}");
    assert_eq!(first.find("fieldsync_online").gauge.as_ref().unwrap().data_points[0].as_int, Some(1));
    assert!(first.find("fieldsync_batch_records").histogram.as_ref().unwrap().data_points[0].count >= 1);

    // Values are cumulative since the start of the daemon: they start over with it.
    sync_batches(&daemon, 5);
    let start = |metrics: &MetricsRequest| {
        metrics.find("fieldsync_contacts").sum.as_ref().unwrap().data_points[0].start_time_unix_nano
    };
    let daemon = daemon.restart();
    let later = wait_for("a push of the second run", || {
        sync_batches(&daemon, 1);
        let last = read_metrics(&pushed_to(&collector.requests(), "/v1/metrics").last()?.clone());
        (start(&last) > start(&first)).then_some(last)
    });
    let since_restart = count_of(&later, "fieldsync_records_synced", None);
    assert!(since_restart < server.batches().len() as u64, "{since_restart}");
}

/// A server that rejects what is poison.
fn start_rejecting_server() -> ScriptedServer {
    ScriptedServer::start(|request| {
        let rejects = request.text().contains("\"poison\"");
        let result = if rejects { json!({"status": "rejected"}) } else { json!({"status": "applied"}) };
        Reply::results(request.batch_id(), &request.ids(), |_| Some(result.clone()))
    })
}

fn start_alert(daemon: &Daemon) {
    daemon.enqueue(&[json!({"type": "Visits", "payload": {"poison": true}})]);
    daemon.wait_until("the alert", |status| status["alerts"][0]["alert"] == "needs_review");
}

fn read(request: &Request) -> LogsRequest {
    serde_json::from_value(decoded_json(request)).unwrap()
}

#[test]
fn an_alert_that_is_active_at_the_start_is_pushed() {
    let (server, collector) = (start_rejecting_server(), start_collector());
    let without = Settings::for_server(&server.url());
    let daemon = Daemon::start(&without);
    start_alert(&daemon);
    let expect_start = |request: &Request| {
        let records = &read(request).resource_logs[0].scope_logs[0].log_records;
        assert_eq!((records.len(), records[0].event_name.as_str()), (1, "fieldsync.alert.started"));
    };
    daemon.reload(&settings(&server, &collector));
    expect_start(&wait_for_push(&daemon, &collector, "/v1/logs"));
    let before = pushed_to(&collector.requests(), "/v1/logs").count();
    let daemon = daemon.restart();
    expect_start(&wait_for("a push after the restart", || {
        sync_batches(&daemon, 1);
        pushed_to(&collector.requests(), "/v1/logs").nth(before).cloned()
    }));
}

#[test]
fn a_push_shows_the_end_of_the_run_and_its_alert() {
    let (server, collector) = (start_rejecting_server(), start_collector());
    let settings = settings(&server, &collector)
        .with("telemetry.otlp_interval", "1h")
        .with("batch.max_batch_records", "10")
        .with("batch.max_in_flight", "1");
    let daemon = Daemon::start(&settings);
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.enqueue_many(100);
    daemon.enqueue(&[json!({"type": "Visits", "payload": {"poison": true}})]);
    daemon.post("/v1/resume", "").expect_json(200);
    let metrics = wait_for("the only push of metrics", || {
        pushed_to(&collector.requests(), "/v1/metrics").next().cloned()
    });
    let metrics = read_metrics(&metrics);
    // The server rejects all records of the last batch.
    let settled = count_of(&metrics, "fieldsync_records_synced", None)
        + count_of(&metrics, "fieldsync_records_quarantined", None);
    assert_eq!(settled, 101);
    assert_eq!(count_of(&metrics, "fieldsync_alerts_started", Some("needs_review")), 1);
    let pushed =
        wait_for("the push of the alert", || pushed_to(&collector.requests(), "/v1/logs").next().cloned());
    assert_eq!(read(&pushed).resource_logs[0].scope_logs[0].log_records.len(), 1);
    assert_eq!(pushed_to(&collector.requests(), "/v1/metrics").count(), 1);
}

#[test]
fn an_alert_is_pushed_when_it_starts_and_when_it_ends() {
    let (server, collector) = (start_rejecting_server(), start_collector());
    let daemon = Daemon::start(&settings(&server, &collector));
    start_alert(&daemon);
    let started = read(&wait_for_push(&daemon, &collector, "/v1/logs"));
    let records = &started.resource_logs[0].scope_logs[0].log_records;
    assert_eq!(attribute(&started.resource_logs[0].resource, "service.name"), "fieldsync");
    assert_eq!((records.len(), records[0].severity_number), (1, 13));
    assert_eq!(
        (records[0].severity_text.as_str(), records[0].event_name.as_str()),
        ("WARN", "fieldsync.alert.started")
    );
    assert!(records[0].time_unix_nano > 1_600_000_000_000_000_000);
    let AnyValue::StringValue(body) = &records[0].body else { panic!("{records:?}") };
    assert!(body.starts_with("alert needs_review started: 1 record needs"), "{body}");

    daemon.post("/v1/quarantine/discard", json!({"all": true, "confirm": true}).to_string()).expect_json(200);
    daemon.wait_until("the end of the alert", |status| status["alerts"] == json!([]));
    let ended = wait_for("the second push of alerts", || {
        sync_batches(&daemon, 1);
        pushed_to(&collector.requests(), "/v1/logs").nth(1).cloned()
    });
    let ended = read(&ended);
    let record = &ended.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.event_name.as_str()), (9, "fieldsync.alert.ended"));
    let is_active = record.attributes.iter().find(|pair| pair.key == "fieldsync.alert.active").unwrap();
    assert_eq!(is_active.value, AnyValue::BoolValue(false));
}

#[test]
fn nothing_is_pushed_without_contact() {
    let collector = start_collector();
    let nobody = format!("http://{}", free_address());
    let settings = Settings::for_server(&nobody)
        .with("telemetry.otlp_url", &collector.url())
        .with("telemetry.otlp_interval", "1ms");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(5);
    daemon.wait_for_phase("offline");
    // Several probes fail meanwhile.
    wait_for("failed probes", || (daemon.log().matches("cannot connect").count() > 3).then_some(()));
    assert_eq!(collector.connections(), 0, "{}", daemon.log());

    let server = ScriptedServer::start(Reply::correct);
    daemon.reload(&settings.with("server.url", &server.url()));
    daemon.wait_until_done();
    wait_for_push(&daemon, &collector, "/v1/metrics");
}

#[test]
fn nothing_is_pushed_while_sending_is_paused() {
    let (server, collector, gate) =
        (ScriptedServer::start(Reply::correct), start_collector(), Gate::default());
    let held = gate.clone();
    server.set_script(move |request| Reply::correct(request).held_by(&held));
    let daemon = Daemon::start(&settings(&server, &collector).with("server.request_timeout", "1m"));
    daemon.enqueue_many(1);
    server.wait_for_batches(1);
    daemon.post("/v1/pause", "").expect_json(200);
    gate.open();
    daemon.wait_until_done();
    daemon.wait_for_phase("paused");
    assert_eq!(collector.connections(), 0);
    daemon.post("/v1/resume", "").expect_json(200);
    wait_for_push(&daemon, &collector, "/v1/metrics");
}

#[test]
fn pushes_are_not_closer_than_the_interval() {
    let (server, collector) = (ScriptedServer::start(Reply::correct), start_collector());
    let daemon = Daemon::start(&settings(&server, &collector).with("telemetry.otlp_interval", "1h"));
    wait_for_push(&daemon, &collector, "/v1/metrics");
    sync_batches(&daemon, 10);
    assert_eq!(collector.requests().len(), 1);
}

#[test]
fn a_reload_turns_pushes_on_and_off() {
    let (server, collector) = (ScriptedServer::start(Reply::correct), start_collector());
    let (with, without) = (settings(&server, &collector), Settings::for_server(&server.url()));
    let daemon = Daemon::start(&without);
    sync_batches(&daemon, 3);
    assert_eq!(collector.connections(), 0);
    daemon.reload(&with);
    wait_for_push(&daemon, &collector, "/v1/metrics");
    daemon.reload(&without);
    let reloaded = wall_ms() * 1_000_000;
    sync_batches(&daemon, 6);
    // A push that was under way may still arrive, but none was made afterwards.
    let requests = collector.requests();
    for push in pushed_to(&requests, "/v1/metrics") {
        let made =
            read_metrics(push).find("fieldsync_contacts").sum.as_ref().unwrap().data_points[0].time_unix_nano;
        assert!(made <= reloaded, "{made} is later than {reloaded}");
    }
}
