//! The data of the page: the status and the records that need review, and nothing that it must not show.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, rejecting, with_code, with_page};

#[test]
fn the_status_is_that_of_the_socket_and_records_under_review_are_listed_with_the_reason() {
    let server = ScriptedServer::start(rejecting("the account is closed"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    let page = Page::of(&daemon);
    let id = daemon.enqueue(&[json!({"type": "Visits", "payload": {"n": 1}})]).remove(0);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    let mut status = daemon.status();
    assert!(
        status.as_object_mut().unwrap().remove("caller").is_some(),
        "on the page, no caller is identified"
    );
    assert_eq!(page.get("/v1/status").expect_json(200), status);
    let review = page.get("/v1/review").expect_json(200);
    let entry = daemon.record(&id);
    let shown = json!({
        "id": id, "type": "Visits", "attempts": 1, "holds": 0, "since": entry["updated_at"],
        "why": "The server rejects it.", "waiting_for": daemon.detail(&id)["waiting_for"], "last_error": without_message(&entry["last_error"]),
    });
    assert_eq!(review, json!({"records": [shown], "more": false, "retry": false}));
}

fn without_message(error: &Value) -> Value {
    let mut error = error.clone();
    assert!(error.as_object_mut().unwrap().remove("message").is_some(), "{error}");
    error
}

#[test]
fn neither_keys_nor_payloads_are_shown() {
    let server = ScriptedServer::start(rejecting("secret-key must not have secret-payload"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url()).batches_of(1)));
    let page = Page::of(&daemon);
    let mut follower = page.follow();
    let keyed = json!({"type": "T", "key": "secret-key", "payload": {"text": "secret-payload"}});
    daemon.enqueue(&[keyed.clone(), keyed]);
    daemon
        .wait_until("one that holds another", |status| status["queue"]["holding"][0]["key"] == "secret-key");
    let status = follower.read_until("status", |status| status["records"]["quarantined"] == 1);
    let review = follower.read_until("review", |review| review["records"][0]["holds"] == 1);
    // Not in a message about the whole batch either.
    server.set_script(|_| {
        let error = json!({"code": "INVALID_DATA", "message": "secret-payload is refused"});
        Reply::json(422, &json!({"error": error}))
    });
    daemon.enqueue(&[json!({"type": "T", "payload": {"text": "secret-payload"}})]);
    let last = follower.read_until("status", |status| status["sync"]["last_error"]["code"] == "INVALID_DATA");
    assert_eq!(daemon.status()["sync"]["last_error"]["message"], "secret-payload is refused");
    let asked = page.get("/v1/status").text() + &page.get("/v1/review").text() + &page.get("/").text();
    let shown = format!("{status}{review}{last}{asked}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn if_reading_needs_the_code_the_messages_of_the_server_are_shown() {
    let server = ScriptedServer::start(|request| {
        let result = json!({"status": "rejected", "code": "NO_SUCH_ACCOUNT", "message": "the account is closed",
            "field": "/Account"});
        let ids = if request.is_batch() { request.ids() } else { Vec::new() };
        Reply::results(request.batch_id(), &ids, |_| Some(result.clone()))
    });
    let daemon = with_code(&Settings::for_server(&server.url()), &[("web.reading", "token")]);
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let code = format!("Bearer {CODE}");
    let response = Page::of(&daemon).request(Method::GET, "/v1/review", &[("authorization", &code)], "");
    let error = response.expect_json(200)["records"][0]["last_error"].clone();
    assert_eq!(
        (&error["code"], &error["message"], &error["field"]),
        (&json!("NO_SUCH_ACCOUNT"), &json!("the account is closed"), &json!("/Account"))
    );
}

#[test]
fn a_follower_gets_everything_first_and_then_the_changes() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let page = Page::of(&daemon);
    let mut follower = page.follow();
    assert_eq!(follower.next("status")["records"]["pending"], 0);
    assert_eq!(follower.next("review"), json!({"records": [], "more": false, "retry": true}));
    let id = daemon.enqueue_many(1).remove(0);
    let review = follower.next("review");
    assert_eq!(review["records"][0]["id"], id);
    server.set_script(Reply::correct);
    page.retry(CODE, &json!({"ids": [id]})).expect_json(200);
    assert_eq!(follower.next("review")["records"], json!([]));
    follower.read_until("status", |status| status["sync"]["text"] == "1 record synced");
    assert_eq!(page.follow().next("status")["records"]["synced"], 1, "who comes back knows at once");
}

#[test]
fn a_record_that_takes_the_place_of_another_under_review_is_shown() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let page = Page::of(&daemon);
    let first = daemon.enqueue_many(1).remove(0);
    let mut follower = page.follow();
    follower.read_until("review", |review| review["records"][0]["id"] == first);
    // Back in its position after another attempt: the same record, and the same number of records.
    page.retry(CODE, &json!({"ids": [first]})).expect_json(200);
    follower.read_until("review", |review| review["records"][0]["attempts"] == 2);
}

#[test]
fn of_many_records_the_first_fifty_are_shown_and_that_there_are_more() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    let page = Page::of(&daemon);
    for (count, shown, more) in [(50, 50, false), (1, 50, true)] {
        daemon.enqueue_many(count);
        daemon.wait_until_done();
        let review = page.get("/v1/review").expect_json(200);
        assert_eq!(
            (review["records"].as_array().unwrap().len(), &review["more"]),
            (shown, &Value::Bool(more))
        );
    }
}
