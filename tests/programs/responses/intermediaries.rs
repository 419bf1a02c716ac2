//! Hints of intermediaries are ignored. Hints of the server are followed as long as it sends them.

use fieldsync::clock::wall_ms;
use serde_json::json;

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

const HINT: &str = "x-sync-max-records";

#[test]
fn a_limit_from_an_intermediary_is_ignored() {
    for stranger in [
        Reply::html(200),
        Reply::html(504),
        Reply::html(503),
        Reply::html(403),
        Reply::text(502, "text/plain", "upstream connect error"),
        Reply::json(200, &json!({"status": "ok"})),
    ] {
        let server = ScriptedServer::at_first(1, move |_| stranger.clone().with(HINT, "1"));
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        daemon.paused(|daemon| daemon.enqueue_many(60));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
        daemon.paused(|daemon| daemon.enqueue_many(20));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(80));
        let sizes = server.sizes();
        assert!(sizes.iter().all(|size| *size > 1), "{sizes:?}");
    }
}

#[test]
fn a_limit_from_the_server_applies_until_a_response_omits_it() {
    let mut responses = 0;
    let server = ScriptedServer::start(move |request| {
        responses += u32::from(request.is_batch());
        let response = Reply::correct(request);
        if responses <= 2 { response.with(HINT, "7") } else { response }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(20));
    daemon.paused(|daemon| daemon.enqueue_many(74));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(74));
    assert_eq!(server.sizes(), [20, 7, 7, 20, 20]);
}

#[test]
fn a_limit_from_the_server_does_not_survive_a_restart() {
    let server = ScriptedServer::start(|request| Reply::correct(request).with(HINT, "7"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(20));
    daemon.paused(|daemon| daemon.enqueue_many(27));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(27));
    let daemon = daemon.restart();
    daemon.paused(|daemon| daemon.enqueue_many(27));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(54));
    assert_eq!(server.sizes(), [20, 7, 20, 7]);
}

#[test]
fn a_long_retry_after_from_an_intermediary_is_shortened() {
    for stranger in [
        Reply::html(503),
        Reply::html(429),
        Reply::text(503, "text/plain", ""),
        Reply::json(503, &json!({"status": "down"})),
    ] {
        let server = ScriptedServer::at_first(1, move |_| stranger.clone().with("retry-after", "86400"));
        let daemon = Daemon::start(&Settings::for_server(&server.url()).with("retry.max_backoff", "300ms"));
        let ids = daemon.paused(|daemon| daemon.enqueue_many(3));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
        assert!(ids.iter().all(|id| daemon.record(id)["attempts"] == 1));
    }
}

#[test]
fn a_long_retry_after_from_the_server_is_respected_beyond_max_backoff() {
    let server = ScriptedServer::start(|request| {
        if request.is_batch() {
            Reply::error(503, "MAINTENANCE").with("retry-after", "86400")
        } else {
            Reply::unknown_batch()
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("retry.max_backoff", "300ms"));
    daemon.paused(|daemon| daemon.enqueue_many(3));
    let status = daemon.wait_until("the wait", |status| {
        status["sync"]["phase"] == "waiting" && status["sync"]["next_attempt_at"].is_string()
    });
    let at = status["sync"]["next_attempt_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(u64::try_from(at.as_millisecond()).unwrap() > wall_ms() + 10 * 60_000, "{at}");
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn a_server_is_never_sent_a_record_that_only_another_one_confirmed() {
    for reply in [
        Reply::error(400, "NO"),
        Reply::error(401, "WHO"),
        Reply::html(403),
        Reply::html(504),
        Reply::html(503),
    ] {
        let first = ScriptedServer::start(Reply::correct);
        let response = reply.clone();
        let second =
            ScriptedServer::start(
                move |request| {
                    if request.is_batch() { response.clone() } else { Reply::unknown_batch() }
                },
            );
        let daemon = Daemon::start(&Settings::for_server(&first.url()));
        let confirmed = daemon.paused(|daemon| daemon.enqueue_many(3));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
        daemon.home.configure(&Settings::for_server(&second.url()));
        daemon.signal("HUP");
        daemon.wait_for_log("the configuration was read again");
        daemon.paused(|daemon| daemon.enqueue_many(3));
        second.wait_for_batches(6);
        second.set_script(Reply::correct);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
        let foreign = |batch: &Request| batch.ids().iter().any(|id| confirmed.contains(id));
        assert!(!second.batches().iter().any(foreign), "{:?}", second.sizes());
    }
}
