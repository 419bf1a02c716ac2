//! `GET /metrics`: its formats, and what it shows after known traffic.

use std::collections::BTreeMap;

use hyper::Method;
use tokio::net::UnixStream;

use crate::support::daemon::Daemon;
use crate::support::http::{HttpResponse, exchange, request};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// As Prometheus 2 sends it.
const SCRAPER_ACCEPT: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const FAMILIES_MIN: usize = 50;

fn scrape(daemon: &Daemon, accept: &str) -> HttpResponse {
    let request = request(Method::GET, "/metrics", "localhost", &[("accept", accept)], Vec::new());
    exchange(UnixStream::connect(daemon.home.socket()), request).unwrap()
}

/// The samples of a text, by name and labels as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_scraper_gets_the_format_that_it_names_and_the_same_families_in_each() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    daemon.wait_until_done();
    let (plain, open) = (scrape(&daemon, "*/*"), scrape(&daemon, SCRAPER_ACCEPT));
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let (plain, open) = (plain.text(), open.text());
    assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"), "{open}");
    let names =
        |text: &str| samples(text).into_keys().filter(|name| !name.contains("le=")).collect::<Vec<_>>();
    assert_eq!(names(&plain), names(&open));
    for text in [&plain, &open] {
        let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        let explained = text.lines().filter(|line| line.starts_with("# HELP ")).count();
        assert!(families >= FAMILIES_MIN && families == explained, "{families} families: {text}");
    }
}

#[test]
fn counters_show_known_traffic_and_start_over_with_the_daemon() {
    let server = ScriptedServer::at_first(2, |_| Reply::error(503, "BUSY"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(10));
    daemon.enqueue_many(30);
    daemon.wait_until_done();
    let read = |daemon: &Daemon| samples(&scrape(daemon, "*/*").text());
    let found = read(&daemon);
    let sent = server.batches();
    let bytes: usize = sent.iter().map(|batch| batch.body.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let (sent, bytes, requests) = (sent.len() as f64, bytes as f64, server.requests().len() as f64);
    for (sample, expected) in [
        ("fieldsync_records_accepted_total", 30.0),
        ("fieldsync_records_synced_total", 30.0),
        ("fieldsync_record_latency_seconds_count", 30.0),
        ("fieldsync_batches_total{outcome=\"throttled\"}", 2.0),
        ("fieldsync_batches_total{outcome=\"answered\"}", sent - 2.0),
        ("fieldsync_batch_duration_seconds_count{result=\"failed\"}", 2.0),
        ("fieldsync_batch_records_count", sent),
        ("fieldsync_contacts_total", requests),
        ("fieldsync_sent_bytes_total", bytes),
        ("fieldsync_request_body_bytes_sum", bytes),
        ("fieldsync_in_flight_batches", 0.0),
        ("fieldsync_in_flight_limit", 1.0),
        ("fieldsync_breaker_mode{name=\"normal\"}", 1.0),
        ("fieldsync_link_state{name=\"online\"}", 1.0),
    ] {
        let value = found.get(sample).unwrap_or_else(|| panic!("{sample} is missing: {found:#?}"));
        assert!((value - expected).abs() < 1e-6, "{sample}: {value}, not {expected}");
    }
    assert!(found["fieldsync_last_contact_timestamp_seconds"] > 1e9);
    assert!(found["process_resident_memory_bytes"] > 1e6 && found["process_open_fds"] > 3.0);
    assert!(found["fieldsync_store_commit_duration_seconds_count"] > 1.0);

    let found = read(&daemon.restart());
    assert!(found["fieldsync_records_synced_total"].abs() < 0.5, "counters count since the start");
    assert!((found["fieldsync_records{name=\"synced\"}"] - 30.0).abs() < 0.5, "gauges are as they are");
}
