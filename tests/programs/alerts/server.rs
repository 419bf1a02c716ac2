//! A server that fails, denies, or is not reached; and records that wait meanwhile.

use serde_json::json;

use super::{wait_for_end, wait_for_start, with_records};
use crate::support::server::{Reply, Request};

fn rejected(request: &Request) -> Reply {
    let bad = json!({"status": "rejected", "code": "C", "message": "M"});
    Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
}

#[test]
fn a_record_that_waits_too_long_is_an_alert_until_it_is_sent() {
    let (server, daemon) =
        with_records(|_| Reply::Close, |settings| settings.with("telemetry.alert_oldest_pending", "50ms"), 1);
    let alert = wait_for_start(&daemon, "records_wait");
    assert!(alert["message"].as_str().unwrap().contains("the oldest record has been waiting since"));
    assert_eq!(alert["severity"], "warning");
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "records_wait");
}

#[test]
fn records_under_review_are_an_alert_until_a_person_decided() {
    let (_server, daemon) = with_records(rejected, |settings| settings, 2);
    let alert = wait_for_start(&daemon, "needs_review");
    assert_eq!(alert["remedy"], "fieldsync quarantine list");
    daemon.wait_until_done();
    daemon.post("/v1/quarantine/discard", r#"{"all": true, "confirm": true}"#).expect_json(200);
    wait_for_end(&daemon, "needs_review");
}

#[test]
fn a_breaker_that_stays_open_is_an_alert_until_batches_succeed() {
    let (server, daemon) = with_records(
        |request| if request.is_batch() { Reply::error(500, "DOWN") } else { Reply::unknown_batch() },
        |settings| {
            settings
                .with("telemetry.alert_breaker_open", "100ms")
                .with("server.outcome_lookup", "off")
                .batches_of(1)
        },
        8,
    );
    wait_for_start(&daemon, "breaker_open");
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "breaker_open");
    daemon.wait_until_done();
}

#[test]
fn many_ambiguous_responses_are_an_alert_until_most_are_clear() {
    let (server, daemon) = with_records(
        |request| if request.is_batch() { Reply::error(504, "TIMEOUT") } else { Reply::unknown_batch() },
        |settings| settings.with("breaker.micro_after", "1000").batches_of(1),
        1,
    );
    let alert = wait_for_start(&daemon, "ambiguous_answers");
    assert!(alert["message"].as_str().unwrap().contains("had no clear outcome"), "{alert:#}");
    server.set_script(Reply::correct);
    daemon.wait_until_done();
    let sends = server.requests().iter().filter(|request| request.is_batch()).count();
    daemon.enqueue_many(sends * 11);
    wait_for_end(&daemon, "ambiguous_answers");
}

#[test]
fn a_server_that_does_not_respond_is_an_alert_until_it_does() {
    let (server, daemon) =
        with_records(|_| Reply::Close, |settings| settings.with("telemetry.alert_no_contact", "100ms"), 1);
    let alert = wait_for_start(&daemon, "no_contact");
    assert!(alert["message"].as_str().unwrap().contains("no response is known"), "{alert:#}");
    let status = daemon.cli(&["status", "--check"]);
    assert_eq!(status.code, Some(2), "{status:?}");
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "no_contact");
}

#[test]
fn denials_of_everything_are_an_alert_until_a_batch_is_accepted() {
    let (server, daemon) = with_records(|_| Reply::error(403, "NOT_YOU"), |settings| settings, 3);
    let alert = wait_for_start(&daemon, "sending_denied");
    assert_eq!(alert["severity"], "critical");
    assert!(alert["message"].as_str().unwrap().contains("3 records wait"), "{alert:#}");
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "sending_denied");
    daemon.wait_until_done();
}

#[test]
fn a_login_page_is_an_alert_until_it_is_gone() {
    let (server, daemon) = with_records(|_| Reply::html(200), |settings| settings, 1);
    let alert = wait_for_start(&daemon, "sending_denied");
    assert!(alert["message"].as_str().unwrap().contains("a login page"), "{alert:#}");
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "sending_denied");
}
