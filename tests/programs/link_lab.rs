//! A device whose link is pulled, rerouted and silenced, between network namespaces: no record is lost, duplicated
//! or quarantined, only the ambiguous batch counts an attempt, and the reported state of the link is right.
//!
//! Needs root, so these tests are ignored unless requested.

mod flapping;
mod measure;
mod named;
mod pulled;
mod rerouted;
mod silent;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::ledger::Ledger;
use crate::support::netns::{Lab, SERVER};
use crate::support::server::{Gate, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

/// Only the kernel's events can show changes of the link: timeouts and probes would come much later.
fn settings() -> Settings {
    Settings::for_server(&format!("http://{SERVER}"))
        .with("connectivity.watch", "netlink")
        .with("connectivity.return_jitter", "0s")
        .with("connectivity.probe_interval", "10m")
        .with("server.request_timeout", "1m")
}

/// No event shows that a silence ends, so the daemon probes periodically; the silences here are short.
fn settings_for_silence() -> Settings {
    settings()
        .with("connectivity.probe_interval", "500ms")
        .with("server.connect_timeout", "2s")
        .with("server.stall_timeout", "2s")
        .with("server.request_timeout", "3s")
        .with("server.answer_timeout", "2s")
}

fn start(lab: &Lab, settings: &Settings) -> Daemon {
    lab.start(Home::new(settings))
}

/// A server that holds back its responses to batches, but not to outcome queries.
fn holding_server(ledger: &Ledger, gate: &Gate) -> ScriptedServer {
    let (books, gate) = (ledger.clone(), gate.clone());
    ScriptedServer::start_at(SERVER.parse().unwrap(), move |request| {
        let response = books.respond(request);
        if request.is_batch() { response.held_by(&gate) } else { response }
    })
}

/// Records whose batch takes some seconds on a link with 800 kbit/s.
fn enqueue_large(daemon: &Daemon) -> Vec<String> {
    let text = "x".repeat(40_000);
    let records: Vec<Value> = (0..10).map(|_| json!({"type": "Photos", "payload": {"text": text}})).collect();
    daemon.enqueue(&records)
}

#[track_caller]
fn wait_for_link(daemon: &Daemon, state: &str) {
    daemon.wait_until(state, |status| status["connectivity"]["state"] == state);
}

/// No attempt was made with them.
#[track_caller]
fn assert_untouched(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        let entry = daemon.record(id);
        assert_eq!((&entry["state"], &entry["attempts"]), (&json!("PENDING"), &json!(0)), "{entry}");
        assert_eq!(entry["last_error"], Value::Null, "{entry}");
    }
}

#[track_caller]
fn assert_attempts(daemon: &Daemon, ids: &[String], attempts: u64) {
    for id in ids {
        let entry = daemon.record(id);
        assert_eq!(entry["attempts"], attempts, "{entry}\n{}", daemon.log());
    }
}

/// A device that starts without a working link waits, attempts nothing, and sends once the link is restored.
fn offline_until(settings: &Settings, breaks: fn(&Lab), restore: fn(&Lab)) {
    let (lab, directory) = (Lab::new(), directory());
    let gateway = Gateway::start_at(directory.path(), SERVER, &[]);
    breaks(&lab);
    let daemon = start(&lab, settings);
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "offline");
    assert_untouched(&daemon, &ids);
    restore(&lab);
    all_synced(&daemon, &[&ids]);
    assert_attempts(&daemon, &ids, 1);
    assert_eq!(gateway.ledger().len(), ids.len());
}

/// Waits until these, and no others, are synced.
#[track_caller]
fn all_synced(daemon: &Daemon, ids: &[&[String]]) -> Vec<String> {
    let ids = ids.concat();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64), "{}", daemon.log());
    ids
}
