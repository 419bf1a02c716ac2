//! Why a record is not sent yet: each reason, in the API and in `fieldsync show`.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// Waits until a record waits for this reason, and the command line prints the same text.
#[track_caller]
pub(crate) fn wait_for_reason(daemon: &Daemon, id: &str, reason: &str) -> Value {
    let waiting = wait_for(reason, || {
        let waiting = daemon.detail(id)["waiting_for"].clone();
        (waiting["reason"] == reason).then_some(waiting)
    });
    wait_for("the command line to say it", || {
        let text = daemon.detail(id)["waiting_for"]["text"].as_str()?.to_owned();
        daemon.cli(&["show", id]).stdout.contains(&text).then_some(())
    });
    waiting
}

#[track_caller]
fn assert_says(waiting: &Value, part: &str) {
    let text = waiting["text"].as_str().unwrap();
    assert!(text.contains(part), "{text}");
}

/// Responds with this status for each record of a batch.
fn respond_with_status(request: &Request, status: &str) -> Reply {
    if !request.is_batch() {
        return Reply::correct(request);
    }
    Reply::results(request.batch_id(), &request.ids(), |_| Some(json!({"status": status})))
}

/// In milliseconds. The same moment of the monotonic clock may be another millisecond of the wall clock.
fn time(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn keyed() -> Value {
    json!({"type": "Visits", "key": "account-17", "payload": {}})
}

#[test]
fn one_record_is_in_a_batch_and_another_waits_for_the_next() {
    let (gate, server) = (Gate::default(), ScriptedServer::start(Reply::correct));
    let held = gate.clone();
    server.set_script(move |request| Reply::correct(request).held_by(&held));
    let daemon = Daemon::start(
        &Settings::for_server(&server.url()).batches_of(1).with("server.request_timeout", "1m"),
    );
    let ids = daemon.enqueue_many(2);
    let waiting = wait_for_reason(&daemon, &ids[0], "in_batch");
    let text = "In a batch that is being sent to the server.";
    let expected = json!({"reason": "in_batch", "until": null, "held_by": null, "text": text});
    assert_eq!(waiting, expected);
    let waiting = wait_for_reason(&daemon, &ids[1], "next_batch");
    assert_says(&waiting, "Waiting for the next batch.");
    gate.open();
    daemon.wait_until_done();
    assert_eq!(daemon.detail(&ids[0]).get("waiting_for"), None, "a synced record waits for nothing");
}

#[test]
fn a_record_whose_batch_got_no_clear_response_waits_for_the_outcome() {
    let (gate, server) = (Gate::default(), ScriptedServer::start(Reply::correct));
    let held = gate.clone();
    server.set_script(
        move |request| {
            if request.is_batch() { Reply::html(504) } else { Reply::Close.held_by(&held) }
        },
    );
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "10s"));
    let id = daemon.enqueue_many(1).remove(0);
    let waiting = wait_for_reason(&daemon, &id, "outcome");
    assert_says(&waiting, "the daemon asks the server for the outcome");
    // The server has stopped, so the outcome query gets no response.
    drop(server);
    gate.open();
    daemon.wait_for_phase("offline");
    let waiting = wait_for_reason(&daemon, &id, "outcome");
    assert_says(&waiting, "The server cannot be reached.");
}

#[test]
fn a_batch_that_an_earlier_run_sent_is_in_doubt_and_is_not_being_sent() {
    let server = ScriptedServer::start(|_| Reply::Hang);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "10s"));
    let id = daemon.enqueue_many(1).remove(0);
    wait_for_reason(&daemon, &id, "in_batch");
    let daemon = daemon.kill9().start();
    assert_eq!(daemon.record(&id)["state"], "SYNCING");
    wait_for_reason(&daemon, &id, "outcome");
}

#[test]
fn a_failed_record_waits_for_its_next_attempt_and_blocks_those_behind_it() {
    let server = ScriptedServer::start(|request| respond_with_status(request, "retry"));
    let settings = Settings::for_server(&server.url())
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let first = daemon.enqueue(&[keyed()]).remove(0);
    let waiting = wait_for_reason(&daemon, &first, "backoff");
    let record = daemon.detail(&first);
    assert_eq!(record["waiting_for"]["until"], record["next_attempt_at"]);
    assert_says(&waiting, "The last attempt failed; the next one is at ");
    let second = daemon.enqueue(&[keyed()]).remove(0);
    let behind = wait_for_reason(&daemon, &second, "key");
    assert_eq!(behind["held_by"], first.as_str());
    assert!(time(&behind["until"]).abs_diff(time(&waiting["until"])) < 1000, "{behind} and {waiting}");
    assert_says(&behind, &format!("An earlier record of its key, {first}, failed and is retried at "));
}

#[test]
fn a_record_under_review_waits_for_a_decision_and_blocks_those_behind_it() {
    let server = ScriptedServer::start(|request| respond_with_status(request, "rejected"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let first = daemon.enqueue(&[keyed()]).remove(0);
    let waiting = wait_for_reason(&daemon, &first, "review");
    assert_eq!((&waiting["until"], &waiting["held_by"]), (&Value::Null, &Value::Null));
    let second = daemon.enqueue(&[keyed()]).remove(0);
    let behind = wait_for_reason(&daemon, &second, "key");
    assert_eq!((&behind["held_by"], &behind["until"]), (&json!(first), &Value::Null));
    assert_says(&behind, "needs review and goes first");
}

#[test]
fn a_pause_that_the_server_asks_for_is_the_reason_until_it_is_over() {
    let server = ScriptedServer::start(|_| Reply::error(429, "LATER").with("retry-after", "600"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(2);
    daemon.wait_for_phase("waiting");
    // One record that was sent, and one that was enqueued later.
    let later = daemon.enqueue_many(1).remove(0);
    for id in [&ids[0], &later] {
        let waiting = wait_for_reason(&daemon, id, "server_wait");
        assert!(waiting["until"].is_string(), "{waiting}");
        assert_says(&waiting, "The server asked to wait until ");
    }
}

#[test]
fn an_open_breaker_is_the_reason_until_the_next_attempt() {
    let server = ScriptedServer::start(|request| {
        if request.is_batch() { Reply::html(504) } else { Reply::text(404, "text/plain", "Not Found\n") }
    });
    let settings =
        Settings::for_server(&server.url()).with("breaker.open_min", "10m").with("breaker.open_max", "20m");
    let daemon = Daemon::start(&settings);
    let ids = daemon.enqueue_many(300);
    daemon.wait_until("the breaker to open", |status| status["breaker"]["mode"] == "open");
    daemon.wait_for_phase("waiting");
    for id in [&ids[0], &ids[299]] {
        let waiting = wait_for_reason(&daemon, id, "breaker");
        assert!(waiting["until"].is_string(), "{waiting}");
        assert_says(&waiting, "The server failed several times in a row; the next attempt is at ");
    }
}

#[test]
fn without_a_connection_being_offline_is_the_reason() {
    let daemon = Daemon::start(&Settings::for_server("http://127.0.0.1:1"));
    let id = daemon.enqueue_many(1).remove(0);
    let waiting = wait_for_reason(&daemon, &id, "offline");
    assert_eq!(
        (&waiting["until"], &waiting["text"]),
        (
            &Value::Null,
            &json!("The server cannot be reached. The network is there; nothing listens at 127.0.0.1:1.")
        )
    );
}

#[test]
fn a_captive_portal_is_named() {
    let server = ScriptedServer::start(|_| Reply::html(200));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_for_phase("offline");
    assert_says(
        &wait_for_reason(&daemon, &id, "offline"),
        "The login page of the network responds in place of the server.",
    );
}

#[test]
fn a_pause_takes_precedence_over_other_reasons() {
    let daemon = Daemon::start(&Settings::for_server("http://127.0.0.1:1"));
    let id = daemon.enqueue_many(1).remove(0);
    wait_for_reason(&daemon, &id, "offline");
    daemon.post("/v1/pause", "").expect_json(200);
    assert_says(&wait_for_reason(&daemon, &id, "paused"), "Paused by ");
}

#[test]
fn a_credential_that_is_not_accepted_is_the_reason() {
    let server = ScriptedServer::start(|_| Reply::error(401, "UNAUTHORIZED"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("retry.max_backoff", "10m"));
    let id = daemon.enqueue_many(1).remove(0);
    let waiting = wait_for_reason(&daemon, &id, "auth_required");
    assert!(waiting["until"].is_string(), "{waiting}");
    assert_says(&waiting, "The server wants a token, and none is set.");
}

#[test]
fn a_wrong_or_missing_address_is_the_reason() {
    let server = ScriptedServer::start(|_| Reply::html(404));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("retry.max_backoff", "10m"));
    let id = daemon.enqueue_many(1).remove(0);
    let waiting = wait_for_reason(&daemon, &id, "misconfigured");
    assert_says(&waiting, "Nothing takes records at the server's address");
    let daemon = Daemon::start(&Settings::default());
    let id = daemon.enqueue_many(1).remove(0);
    let waiting = wait_for_reason(&daemon, &id, "misconfigured");
    assert_eq!(waiting["until"], Value::Null);
    assert_says(&waiting, "No server is set.");
}
