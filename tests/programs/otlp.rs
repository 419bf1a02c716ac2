//! Pushes to an OTLP collector: when, what, and what a bad collector cannot do.

mod bad_collectors;
mod headers;
mod messages;
mod official_receiver;
mod pushes;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// A collector that accepts everything.
fn start_collector() -> ScriptedServer {
    ScriptedServer::start(|_| Reply::text(200, "application/json", "{}"))
}

/// Each response of the server may be followed by a push.
fn settings(server: &ScriptedServer, collector: &ScriptedServer) -> Settings {
    Settings::for_server(&server.url())
        .with("telemetry.otlp_url", &collector.url())
        .with("telemetry.otlp_interval", "1ms")
}

fn pushed_to<'r>(requests: &'r [Request], path: &str) -> impl Iterator<Item = &'r Request> {
    let path = path.to_owned();
    requests.iter().filter(move |request| request.path == path)
}

/// Waits for a request to a path; each attempt causes contact.
#[track_caller]
fn wait_for_push(daemon: &Daemon, collector: &ScriptedServer, path: &str) -> Request {
    wait_for("a push", || {
        daemon.enqueue_many(1);
        daemon.wait_until_done();
        pushed_to(&collector.requests(), path).last().cloned()
    })
}

/// The JSON of a request, after its encoding was undone.
fn decoded_json(request: &Request) -> Value {
    use std::io::Read;
    assert_eq!(request.header("content-encoding"), "gzip");
    assert_eq!(request.header("content-type"), "application/json");
    let mut text = String::new();
    flate2::read::GzDecoder::new(request.body.as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Syncs this many records, one batch after the other.
fn sync_batches(daemon: &Daemon, batches: usize) {
    for _ in 0..batches {
        daemon.enqueue_many(1);
        daemon.wait_until_done();
    }
}

/// The value of a sample of `GET /metrics`.
fn metric(daemon: &Daemon, sample: &str) -> f64 {
    let text = daemon.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is missing: {text}")).parse().unwrap()
}
