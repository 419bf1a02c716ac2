//! Alerts: each condition starts and ends one, and what is told about it.

mod channels;
mod command;
mod credentials;
mod device;
mod server;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// More than any disk has: the alert about free space starts at once.
const ALL_OF_ANY_DISK: &str = "1000000TiB";

fn find<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["alerts"].as_array().unwrap().iter().find(|alert| alert["alert"] == name)
}

/// Waits for the start of an alert, and returns it.
#[track_caller]
fn wait_for_start(daemon: &Daemon, name: &str) -> Value {
    let status = daemon.wait_until(name, |status| find(status, name).is_some());
    let alert = find(&status, name).unwrap().clone();
    for text in ["message", "remedy", "severity", "since"] {
        assert!(!alert[text].as_str().unwrap().is_empty(), "{alert:#}");
    }
    alert
}

#[track_caller]
fn wait_for_end(daemon: &Daemon, name: &str) {
    daemon.wait_until(&format!("the end of {name}"), |status| find(status, name).is_none());
}

/// A daemon whose server replies like this, with records that wait.
fn with_records(
    reply: impl Fn(&Request) -> Reply + Send + 'static,
    settings: impl FnOnce(Settings) -> Settings,
    records: usize,
) -> (ScriptedServer, Daemon) {
    let server = ScriptedServer::start(reply);
    let daemon = Daemon::start(&settings(Settings::for_server(&server.url())));
    daemon.enqueue_many(records);
    (server, daemon)
}
