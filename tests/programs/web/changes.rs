//! Retrying on the page: only with the code, and with a limited number of guesses.

use hyper::Method;
use serde_json::json;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;
use crate::support::web::{CODE, Page, rejecting, with_code, with_page};

const READING: [&str; 3] = ["/v1/status", "/v1/review", "/v1/events"];

#[test]
fn without_a_code_in_the_configuration_nothing_can_be_changed() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    let page = Page::of(&daemon);
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    for code in ["", "guessed", "null"] {
        let response = page.retry(code, &json!({"all": true}));
        assert_eq!((response.status, response.code().as_str()), (403, "read_only"));
    }
    assert_eq!(page.get("/v1/review").expect_json(200)["retry"], false);
    assert_eq!(daemon.counts(), Counts::settled(0, 1));
}

#[test]
fn the_code_retries_one_record_or_all_and_errors_are_those_of_the_socket() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let page = Page::of(&daemon);
    let ids = daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 3));
    assert_eq!(page.get("/v1/review").expect_json(200)["retry"], true);
    let response =
        page.request(Method::POST, "/v1/quarantine/retry", &[("content-type", "application/json")], "{}");
    assert_eq!(
        (response.status, response.header("www-authenticate")),
        (401, "Bearer"),
        "{}",
        response.text()
    );
    assert_eq!(page.retry("open-sesam", &json!({"all": true})).code(), "wrong_code");
    assert_eq!(daemon.counts(), Counts::settled(0, 3));

    server.set_script(Reply::correct);
    assert_eq!(page.retry(CODE, &json!({"ids": [ids[0]]})).expect_json(200), json!({"changed": 1}));
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 2));
    assert_eq!(page.retry(CODE, &json!({"ids": [ids[0]]})).code(), "not_quarantined");
    assert_eq!(page.retry(CODE, &json!({"ids": "all"})).code(), "invalid_selection");
    assert_eq!(page.retry(CODE, &json!({"all": true})).expect_json(200), json!({"changed": 2}));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
}

#[test]
fn the_code_tries_now_and_ends_a_pause_and_the_journal_says_so() {
    let server = ScriptedServer::start(|request| {
        let busy = Reply::error(503, "BUSY").with("retry-after", "600");
        if request.is_batch() { busy } else { Reply::unknown_batch() }
    });
    let settings = Settings::for_server(&server.url()).with("retry.max_retry_after", "1h");
    let daemon = with_code(&settings, &[]);
    let page = Page::of(&daemon);
    daemon.enqueue_many(2);
    daemon.wait_until("the wait", |status| status["sync"]["reason"] == "server_busy");
    server.set_script(Reply::correct);
    for path in ["/v1/sync", "/v1/resume"] {
        assert_eq!(page.change(path, "guessed").code(), "wrong_code", "{path}");
    }
    assert_eq!(page.change("/v1/sync", CODE).status, 202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));

    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue_many(1);
    assert_eq!(page.change("/v1/sync", CODE).status, 202);
    assert_eq!(daemon.status()["sync"]["phase"], "paused", "a pause ends only on request");
    assert_eq!(page.change("/v1/resume", CODE).expect_json(200)["paused"], false);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    daemon.wait_for_log("resumed on request of the page");
    let locked = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    for path in ["/v1/sync", "/v1/resume"] {
        assert_eq!(Page::of(&locked).change(path, CODE).code(), "read_only", "{path}");
    }
}

#[test]
fn after_some_wrong_codes_none_is_accepted_for_a_while_not_even_the_right_one() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    for _ in 0..20 {
        let asked = page.request(Method::POST, "/v1/quarantine/retry", &[], "{}");
        assert_eq!(asked.code(), "wrong_code", "who sends none has not guessed");
    }
    assert_eq!(page.retry(CODE, &json!({"all": true})).status, 200);
    for guess in 0..5 {
        assert_eq!(page.retry(&format!("guess-{guess}"), &json!({"all": true})).code(), "wrong_code");
    }
    for code in ["guess-5", CODE] {
        let response = page.retry(code, &json!({"all": true}));
        assert_eq!((response.status, response.code().as_str()), (429, "too_many_wrong_codes"));
        let wait: u64 = response.header("retry-after").parse().unwrap();
        assert!((1..=13).contains(&wait), "{wait}");
    }
    page.get("/v1/status").expect_json(200);
    let log = daemon.log();
    assert_eq!(log.matches("a wrong code was entered on the page").count(), 5, "{log}");
    assert!(!log.contains("guess-") && !log.contains(CODE), "{log}");
}

#[test]
fn wrong_guesses_do_not_lock_out_the_owner_of_a_long_code() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let file = daemon.home.path("code");
    for (code, status) in [("q83vEjRWeJCrze8SNFZ4kA", 200), ("q83vEjRWeJCrze8SNFZ4k", 429)] {
        place(&file, code, 0o600);
        wait_for("the limit", || (page.retry("guess", &json!({"all": true})).status == 429).then_some(()));
        assert_eq!(page.retry(code, &json!({"all": true})).status, status, "{code}");
    }
    let guess = page.retry("guess-that-is-quite-as-long", &json!({"all": true}));
    assert_eq!(guess.code(), "too_many_wrong_codes");
}

#[test]
fn a_code_that_was_replaced_is_used_at_once() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    assert_eq!(page.retry(CODE, &json!({"all": true})).status, 200);
    place(&daemon.home.path("code"), "another-one", 0o600);
    assert_eq!(page.retry(CODE, &json!({"all": true})).code(), "wrong_code");
    assert_eq!(page.retry("another-one", &json!({"all": true})).status, 200);
}

#[test]
fn a_code_file_that_others_may_read_or_with_a_short_code_is_refused_and_logged() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let file = daemon.home.path("code");
    for (content, mode, reason) in [
        (
            CODE,
            0o644,
            "is open to others (mode 0644). The page takes no code meanwhile. To fix it: chmod o= ",
        ),
        (
            "12345",
            0o600,
            "holds a code that is too short. The page takes no code meanwhile. To fix it: put one of 6",
        ),
        ("", 0o600, "does not hold a token. The page takes no code meanwhile. To fix it: put one there"),
    ] {
        place(&file, content, mode);
        for _ in 0..3 {
            let response = page.retry(content, &json!({"all": true}));
            assert_eq!((response.status, response.code().as_str()), (503, "code_unusable"), "{reason}");
        }
        let reported = format!("web.token_file: {} {reason}", file.display());
        assert_eq!(daemon.log().matches(&reported).count(), 1, "{}", daemon.log());
    }
    place(&file, "123456", 0o600);
    assert_eq!(page.retry("123456", &json!({"all": true})).status, 200);
}

#[test]
fn if_reading_needs_the_code_nothing_is_shown_without_it() {
    let daemon = with_code(&Settings::default(), &[("web.reading", "token")]);
    let page = Page::of(&daemon);
    assert_eq!(page.get("/").status, 200, "the page asks for it");
    let known = format!("Bearer {CODE}");
    for path in READING {
        assert_eq!(page.get(path).code(), "wrong_code", "{path}");
        let guessed = page.request(Method::GET, path, &[("authorization", "Bearer guess")], "");
        assert_eq!(guessed.status, 401, "{path}");
    }
    for path in &READING[..2] {
        assert_eq!(page.request(Method::GET, path, &[("authorization", &known)], "").status, 200, "{path}");
    }
}

#[test]
fn a_missing_code_file_is_used_once_it_exists() {
    let home = Home::new(&Settings::default());
    let file = home.path("later");
    home.configure(&with_page(&Settings::default()).with("web.token_file", file.to_str().unwrap()));
    let daemon = home.start();
    let page = Page::of(&daemon);
    assert_eq!(page.retry(CODE, &json!({"all": true})).code(), "code_unusable");
    place(&file, CODE, 0o600);
    assert_eq!(page.retry(CODE, &json!({"all": true})).status, 200);
}
