//! Every status of the protocol's table that has no test of its own represents its class.

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// The state of the records while the server responds like this, and whether all are synced afterwards.
fn answered_with(status: u16, settles: impl Fn(&Value) -> bool, attempts: (u64, u64)) -> Value {
    let server = ScriptedServer::start(move |request| {
        let processing = || json!({"batch_id": request.batch_id(), "state": "processing"});
        if request.is_batch() { Reply::error(status, "SO") } else { Reply::json(202, &processing()) }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("breaker.open_max", "50ms"));
    let ids = daemon.enqueue_many(3);
    let seen = daemon.wait_until(&format!("the effect of {status}"), settles);
    for id in &ids {
        assert_eq!(daemon.record(id)["attempts"], attempts.0, "{status}");
    }
    let ledger = Ledger::default();
    let books = ledger.clone();
    server.set_script(move |request| books.respond(request));
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{status}");
    for id in &ids {
        assert_eq!(daemon.record(id)["attempts"], attempts.1, "{status}");
    }
    ledger.assert_holds(&ids);
    seen
}

#[test]
fn an_ambiguous_batch_fails_at_once_and_its_outcome_is_queried() {
    for (status, class) in [
        (408, "timeout"),
        (504, "timeout"),
        (500, "server_error"),
        (502, "server_error"),
        (505, "server_error"),
        (520, "server_error"),
    ] {
        let failed =
            |status: &Value| status["records"]["failed"] == 3 && status["sync"]["last_error"].is_object();
        let seen = answered_with(status, failed, (1, 2));
        let error = &seen["sync"]["last_error"];
        assert_eq!((&error["class"], &error["http_status"]), (&json!(class), &json!(status)));
    }
}

#[test]
fn a_denied_device_stops_without_counting_an_attempt() {
    for status in [401, 403] {
        answered_with(status, |status| status["sync"]["phase"] == "auth_required", (0, 1));
    }
}

#[test]
fn a_wrong_endpoint_stops_sending_without_counting_an_attempt() {
    // 415 for a body that is not encoded is one of them.
    for status in [404, 405, 410, 415, 501] {
        answered_with(status, |status| status["sync"]["phase"] == "misconfigured", (0, 1));
    }
}

#[test]
fn redirects_are_a_captive_portal_whatever_their_kind() {
    for status in [300, 301, 303, 307, 308] {
        answered_with(status, |status| status["connectivity"]["state"] == "captive_portal", (0, 1));
    }
}

#[test]
fn any_rejection_is_split_down_to_the_faulty_record() {
    for status in [400, 402, 406, 418, 451] {
        let server = ScriptedServer::start(move |request| {
            let refused = request.is_batch() && request.text().contains("\"bad\"");
            if refused { Reply::error(status, "NO") } else { Reply::correct(request) }
        });
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        let record = |text: &str| json!({"type": "T", "payload": {"text": text}});
        let ids = daemon.enqueue(&["good", "good", "bad", "good"].map(record));
        assert_eq!(daemon.wait_until_done(), Counts::settled(3, 1), "{status}");
        let entry = daemon.record(&ids[2]);
        let error = &entry["last_error"];
        assert_eq!((&entry["state"], &error["code"]), (&json!("QUARANTINED"), &json!("NO")), "{status}");
        assert_eq!(error["http_status"], status);
    }
}

#[test]
fn a_tls_handshake_that_fails_is_offline_and_costs_no_attempt() {
    // It does not speak TLS.
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url().replace("http:", "https:")));
    let daemon = home.start();
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "offline");
    assert!(ids.iter().all(|id| daemon.record(id)["attempts"] == 0));
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert!(ids.iter().all(|id| daemon.record(id)["attempts"] == 1));
}
