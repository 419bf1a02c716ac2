//! The data of the page: the status and the records that need review, and nothing that it must not show.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, without_disk};
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
    daemon.wait_until("the alert", |status| status["alerts"] != json!([]));
    let mut status = daemon.status();
    assert!(
        status.as_object_mut().unwrap().remove("caller").is_some(),
        "on the page, no caller is identified"
    );
    let mut shown = page.get("/v1/status").expect_json(200);
    let details = shown.as_object_mut().unwrap().remove("page").unwrap();
    assert_eq!(without_disk(shown), without_disk(status));
    assert_eq!((&details["knows_code"], &details["may_change"]), (&json!(false), &json!(false)));
    let review = page.get("/v1/review").expect_json(200);
    let entry = daemon.record(&id);
    let shown = json!({
        "id": id, "type": "Visits", "created_at": entry["created_at"], "attempts": 1, "holds": 0,
        "since": entry["updated_at"], "waiting_for": daemon.detail(&id)["waiting_for"], "last_error": without_message(&entry["last_error"]),
    });
    assert_eq!(review, json!({"records": [shown], "more": false, "retry": false}));
}

fn without_message(error: &Value) -> Value {
    let mut error = error.clone();
    assert!(error.as_object_mut().unwrap().remove("message").is_some(), "{error}");
    error
}

#[test]
fn without_the_code_neither_keys_nor_payloads_are_shown() {
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
    let waiting = follower.next("waiting");
    let asked = page.get("/v1/status").text() + &page.get("/v1/review").text() + &page.get("/").text();
    let shown = format!("{status}{review}{last}{waiting}{asked}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn people_who_have_entered_the_code_see_keys_and_the_messages_of_the_server() {
    for reading in ["open", "token"] {
        let server = ScriptedServer::start(|request| {
            let result = json!({"status": "rejected", "code": "NO_SUCH_ACCOUNT", "message": "the account is closed",
                "field": "/Account"});
            let ids = if request.is_batch() { request.ids() } else { Vec::new() };
            Reply::results(request.batch_id(), &ids, |_| Some(result.clone()))
        });
        let daemon = with_code(&Settings::for_server(&server.url()), &[("web.reading", reading)]);
        daemon.enqueue(&[json!({"type": "Visits", "key": "account-17", "payload": {}})]);
        daemon.wait_until_done();
        let ask = |code: &str| {
            let code = format!("Bearer {code}");
            Page::of(&daemon).request(Method::GET, "/v1/review", &[("authorization", &code)], "")
        };
        let entry = ask(CODE).expect_json(200)["records"][0].clone();
        let error = &entry["last_error"];
        assert_eq!(
            (&error["code"], &error["message"], &error["field"], &entry["key"]),
            (
                &json!("NO_SUCH_ACCOUNT"),
                &json!("the account is closed"),
                &json!("/Account"),
                &json!("account-17")
            )
        );
        assert_eq!(ask("guessed").code(), "wrong_code", "{reading}: a guess is answered as one");
        // Where reading needs no code, no guesses of others keep its owner from reading.
        for _ in 0..6 {
            ask("guessed");
        }
        let limited = ask(CODE);
        if reading == "open" {
            assert_eq!(limited.expect_json(200)["records"][0]["key"], Value::Null);
        } else {
            assert_eq!(limited.code(), "too_many_wrong_codes");
        }
    }
}

#[test]
fn what_waits_and_what_was_sent_today_is_listed_with_the_newest_first() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = with_code(&Settings::for_server(&server.url()), &[("web.reading", "token")]);
    let record = |n: u32| json!({"type": "Visits", "key": format!("account-{n}"), "payload": {}});
    let keys = |list: &Value| -> Vec<String> {
        let records = list["records"].as_array().unwrap().iter();
        records.map(|record| record["key"].as_str().unwrap().to_owned()).collect()
    };
    let newest = |to: u32| (0..to).rev().take(10).map(|n| format!("account-{n}")).collect::<Vec<_>>();
    let mut follower = Page::of(&daemon).follow_with(CODE, "");
    assert_eq!(follower.next("waiting"), json!({"records": []}));
    assert_eq!(follower.next("sent"), json!({"records": [], "count": 0, "is_partial": false}));
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue(&(0..12).map(record).collect::<Vec<_>>());
    let waiting = follower.read_until("waiting", |list| list["records"].as_array().unwrap().len() == 10);
    assert_eq!(keys(&waiting), newest(12));
    let first = &waiting["records"][0];
    let entry = daemon.record(first["id"].as_str().unwrap());
    assert_eq!(
        *first,
        json!({"id": entry["id"], "type": "Visits", "key": "account-11", "created_at": entry["created_at"],
            "state": "PENDING", "is_held": false})
    );
    assert_eq!(daemon.cli(&["resume"]).code, Some(0));
    let sent = follower.read_until("sent", |list| list["count"] == 12);
    assert_eq!(keys(&sent), newest(12));
    let entry = daemon.record(first["id"].as_str().unwrap());
    assert_eq!(sent["records"][0]["sent_at"], entry["updated_at"]);
    // The day of the viewer begins later.
    let mut follower = Page::of(&daemon).follow_with(CODE, "?since=9000000000000");
    assert_eq!(follower.next("waiting"), json!({"records": []}));
    assert_eq!(follower.next("sent"), json!({"records": [], "count": 0, "is_partial": false}));
}

#[test]
fn a_record_that_needs_review_is_found_among_many_that_wait() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    let ids = daemon.enqueue_many(2);
    daemon.wait_until_done();
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue_many(3000);
    let review = Page::of(&daemon).get("/v1/review").expect_json(200);
    let listed: Vec<&Value> =
        review["records"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
    assert_eq!(listed, [ids[1].as_str(), &ids[0]]);
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
