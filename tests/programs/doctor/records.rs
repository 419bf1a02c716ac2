//! Findings from the daemon's status.

use serde_json::json;

use super::DoctorRun;
use crate::support::daemon::{Daemon, Home};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

#[test]
fn records_that_wait_for_a_person_are_reported() {
    let server = ScriptedServer::start(|request| {
        let bad = json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"});
        if request.is_batch() {
            Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
        } else {
            Reply::unknown_batch()
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let keyed = |n: u32| json!({"type": "Visits", "key": "sesame street", "payload": {"n": n}});
    let ids = daemon.enqueue(&[keyed(1)]);
    daemon.wait_until("the review", |status| status["records"]["quarantined"] == 1);
    daemon.enqueue(&[keyed(2)]);
    daemon.post("/v1/pause", "").expect_json(200);
    let visit = DoctorRun::to(&daemon.home);
    visit.found("records", "warning", &["1 record needs review", "fieldsync quarantine list"]);
    visit.found("records", "warning", &["blocks 1 record of its key", &format!("fieldsync show {}", ids[0])]);
    visit.found("records", "warning", &["Paused", "fieldsync resume"]);
    visit.problems(&[]);
}

#[test]
fn a_daemon_that_waits_for_another_token_is_a_problem() {
    let server = ScriptedServer::start(|_| Reply::error(401, "OLD_TOKEN"));
    let home = Home::new(&Settings::default());
    place(&home.path("token"), "sesame-open", 0o600);
    let token = home.path("token");
    let settings = Settings::for_server(&server.url()).with("server.token_file", token.to_str().unwrap());
    // The doctor does not come in the middle of the next attempt.
    home.configure(&settings.with("retry.max_backoff", "1h"));
    let daemon = home.start();
    daemon.enqueue_many(1);
    daemon.wait_for_phase("auth_required");
    let visit = DoctorRun::to(&daemon.home);
    visit.found("records", "problem", &["OLD_TOKEN, says the server", "uses a new token at once"]);
    visit.problems(&["server", "records"]);
}

#[test]
fn a_captive_portal_that_the_daemon_met_is_reported() {
    let server = ScriptedServer::start(|_| Reply::html(200));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_until("the portal", |status| status["connectivity"]["state"] == "captive_portal");
    let visit = DoctorRun::to(&daemon.home);
    visit.found("connectivity", "problem", &["login page of a Wi-Fi", "log in to the network"]);
    visit.found("server", "problem", &["login page of a Wi-Fi"]);
}

#[test]
fn a_server_that_fails_only_at_batches_is_reported() {
    let server = ScriptedServer::start(|request| {
        if request.is_batch() { Reply::error(500, "OOPS") } else { Reply::unknown_batch() }
    });
    let settings = Settings::for_server(&server.url())
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(1);
    daemon.wait_until("a failure", |status| status["sync"]["last_error"]["http_status"] == 500);
    let visit = DoctorRun::to(&daemon.home);
    let parts = ["the last send failed", "HTTP 500", "none has succeeded yet", "administrator"];
    visit.found("records", "warning", &parts);
    visit.found("server", "warning", &["without records", "last send failed", "HTTP 500"]);
}

#[test]
fn a_server_that_refuses_only_batches_is_not_in_order() {
    for (status, remedy) in [(403, "whether a firewall refuses"), (404, "correct server.url and server.path")]
    {
        let server = ScriptedServer::start(move |request| {
            if request.is_batch() { Reply::html(status) } else { Reply::unknown_batch() }
        });
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        daemon.enqueue_many(1);
        let is_seen = |state: &serde_json::Value| state["sync"]["last_error"]["http_status"] == status;
        daemon.wait_until("the refusal", is_seen);
        let visit = DoctorRun::to(&daemon.home);
        visit.found("server", "problem", &["last send failed", &format!("HTTP {status}"), remedy]);
    }
}
