//! Responses about the connection to the server, and not about any record.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use fieldsync::clock::wall_ms;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::secrets::place;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// No record was settled, and no record was blamed.
#[track_caller]
fn assert_unsettled(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        let entry = daemon.record(id);
        assert_eq!(entry["attempts"], 0, "{entry}");
        assert_eq!(entry["last_error"], Value::Null, "{entry}");
    }
    let records = daemon.counts();
    assert_eq!((records.synced, records.quarantined, records.failed), (0, 0, 0));
}

/// One attempt for each record: the one with a response.
#[track_caller]
fn all_sync_at_the_first_attempt(daemon: &Daemon, ids: &[String]) {
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    for id in ids {
        assert_eq!(daemon.record(id)["attempts"], 1);
    }
}

fn captive_portal(response: impl Fn(&Request) -> Reply + Send + 'static) {
    let server = ScriptedServer::start(response);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "captive_portal");
    assert_unsettled(&daemon, &ids);
    server.set_script(Reply::correct);
    all_sync_at_the_first_attempt(&daemon, &ids);
    assert_eq!(daemon.status()["connectivity"]["state"], "online");
}

#[test]
fn html_with_status_200_is_a_captive_portal() {
    captive_portal(|_| Reply::html(200));
}

#[test]
fn json_for_another_batch_is_a_captive_portal() {
    captive_portal(|_| {
        Reply::json(200, &json!({"batch_id": uuid::Uuid::new_v4(), "replayed": false, "results": []}))
    });
}

#[test]
fn status_511_is_a_captive_portal() {
    captive_portal(|_| Reply::html(511));
}

#[test]
fn a_redirect_is_a_captive_portal_and_never_followed() {
    let elsewhere = ScriptedServer::start(Reply::correct);
    let location = format!("{}/crm/v2/mobile/sync/batch", elsewhere.url());
    captive_portal(move |_| Reply::html(302).with("location", location.clone()));
    assert_eq!((elsewhere.connections(), elsewhere.requests().len()), (0, 0));
}

#[test]
fn a_refused_connection_is_offline_and_ends_when_the_server_appears() {
    // No other process listens at this address, so a port that is free for a moment stays free.
    let address = ScriptedServer::start_at("127.77.0.2:0".parse().unwrap(), Reply::correct).address;
    let daemon = Daemon::start(&Settings::for_server(&format!("http://{address}")));
    let ids = daemon.enqueue_many(3);
    // The link is reported as down a moment before the batch that failed because of it is settled.
    let status = daemon.wait_for_phase("offline");
    assert_eq!(status["connectivity"]["state"], "offline");
    let cause = format!("The network is there; nothing listens at {address}.");
    assert_eq!(status["sync"]["text"], format!("The server cannot be reached: 3 records waiting. {cause}"));
    assert_unsettled(&daemon, &ids);
    let server = ScriptedServer::start_at(address, Reply::correct);
    all_sync_at_the_first_attempt(&daemon, &ids);
    assert_eq!(server.sizes(), [3]);
}

#[test]
fn a_token_that_is_not_accepted_stops_sending_until_it_is_replaced() {
    let server = ScriptedServer::start(|request| {
        if request.header("authorization") == "Bearer new" {
            Reply::correct(request)
        } else {
            Reply::error(401, "UNAUTHORIZED")
        }
    });
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "old\n", 0o600);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("retry.max_backoff", "10m"),
    );
    let daemon = home.start();
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("auth_required");
    assert_eq!(
        status["sync"]["text"],
        "The server does not accept the token: 3 records waiting. It responds with HTTP 401."
    );
    assert_eq!(status["sync"]["last_error"]["http_status"], 401);
    assert_unsettled(&daemon, &ids);
    assert_eq!(server.batches()[0].header("authorization"), "Bearer old");
    fs::write(&token, "new\n").unwrap();
    assert_eq!(daemon.cli(&["sync"]).code, Some(0));
    all_sync_at_the_first_attempt(&daemon, &ids);
    let batches = server.batches();
    assert_eq!(batches[0].batch_id(), batches.last().unwrap().batch_id());
    assert_eq!(batches[0].body, batches.last().unwrap().body);
}

#[test]
fn a_wrong_address_stops_sending_until_the_configuration_changes() {
    let server = ScriptedServer::start(|_| Reply::text(404, "text/html", "<h1>Not Found</h1>"));
    let settings = Settings::for_server(&server.url()).with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("misconfigured");
    assert_eq!(status["sync"]["last_error"]["class"], "misconfigured");
    assert_unsettled(&daemon, &ids);
    assert_eq!(server.batches().len(), 1, "no request is repeated at once");
    server.set_script(Reply::correct);
    daemon.post("/v1/sync", "").expect_json(202);
    all_sync_at_the_first_attempt(&daemon, &ids);
}

fn throttled(status_code: u16, retry_after: &str) {
    let retry_after = retry_after.to_owned();
    let server = ScriptedServer::at_first(1, move |_| {
        Reply::error(status_code, "LATER").with("retry-after", &*retry_after)
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("waiting");
    // The daemon's own back-off would end in a moment.
    let at = status["sync"]["next_attempt_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(u64::try_from(at.as_millisecond()).unwrap() > wall_ms() + 60_000, "{at}");
    let text = status["sync"]["text"].as_str().unwrap();
    let cause = format!(" s to retry: 3 records waiting. The server is busy (HTTP {status_code}).");
    assert!(text.starts_with("Waiting ") && text.ends_with(&cause), "{text}");
    assert_unsettled(&daemon, &ids);
    assert_eq!(server.batches().len(), 1);
    daemon.post("/v1/sync", "").expect_json(202);
    all_sync_at_the_first_attempt(&daemon, &ids);
    let batches = server.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].batch_id(), batches[1].batch_id());
    assert_eq!(batches[1].attempt(), 2);
}

#[test]
fn a_retry_after_in_seconds_is_respected() {
    throttled(429, "600");
}

#[test]
fn a_retry_after_with_a_date_is_respected() {
    let date = UNIX_EPOCH + Duration::from_millis(wall_ms()) + Duration::from_mins(10);
    throttled(503, &httpdate::fmt_http_date(date));
}

#[test]
fn a_retry_after_beyond_the_maximum_is_shortened_to_it() {
    let server = ScriptedServer::at_first(1, |_| Reply::error(429, "LATER").with("retry-after", "86400"));
    let settings = Settings::for_server(&server.url()).with("retry.max_retry_after", "300ms");
    let daemon = Daemon::start(&settings);
    let ids = daemon.enqueue_many(3);
    all_sync_at_the_first_attempt(&daemon, &ids);
    assert_eq!(server.batches().len(), 2);
}
