//! The proof that a page requests from its daemon, and requests that it signs instead of sending the code.

use hyper::Method;
use serde_json::json;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::ports::free_address;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, PageKey, rejecting, with_code};

const CHALLENGE: &str = "00112233445566778899aabbccddeeff";
const RETRY: (&str, &str) = ("POST", "/v1/quarantine/retry");
const ALL: &str = r#"{"all":true}"#;

fn key_of(page: Page) -> PageKey {
    PageKey::of(&page.get("/").text())
}

/// A ticket, if the page's own daemon responds.
fn ticket(page: Page, key: &PageKey) -> Option<String> {
    key.ticket_of(CHALLENGE, &page.get(&key.proof_path(CHALLENGE)).expect_json(200))
}

/// The error code, if the page is refused.
fn signed(page: Page, authorization: &str, body: &str) -> (u16, String) {
    let headers = [("authorization", authorization), ("content-type", "application/json")];
    let response = page.request(Method::POST, RETRY.1, &headers, body);
    (response.status, if response.status == 200 { String::new() } else { response.code() })
}

#[test]
fn a_daemon_proves_that_it_served_a_page_after_a_restart_and_no_other_daemon_can() {
    let address = free_address();
    let settings = Settings::default().with("web.listen", &address.to_string());
    let daemon = Home::new(&settings).start();
    let page = Page::of(&daemon);
    let [first, second] = [key_of(page), key_of(page)];
    assert!(ticket(page, &first).is_some() && ticket(page, &second).is_some());
    let others = page.get(&first.proof_path(CHALLENGE)).expect_json(200);
    assert_eq!(second.ticket_of(CHALLENGE, &others), None, "each page has a key of its own");
    let home = daemon.kill9();
    let other = Daemon::start(&settings);
    assert_eq!(ticket(Page::of(&other), &first), None);
    drop(other);
    let daemon = home.start();
    assert!(ticket(Page::of(&daemon), &first).is_some());
    let by_name = page.request_as(
        &format!("localhost:{}", address.port()),
        Method::GET,
        &first.proof_path(CHALLENGE),
        &[],
        "",
    );
    assert_eq!(first.ticket_of(CHALLENGE, &by_name.json()), None, "the key is of the address that was asked");
}

#[test]
fn a_proof_takes_no_code_and_is_given_to_pages_of_this_device_alone() {
    let daemon = with_code(&Settings::default(), &[("web.reading", "token")]);
    let page = Page::of(&daemon);
    let key = key_of(page);
    assert!(ticket(page, &key).is_some());
    let question = key.proof_path(CHALLENGE);
    let other_site = [("sec-fetch-site", "cross-site")];
    assert_eq!(page.request(Method::GET, &question, &other_site, "").code(), "other_site");
    assert_eq!(page.request_as("rebound.example", Method::GET, &question, &[], "").code(), "wrong_host");
    for malformed in
        ["/v1/proof", "/v1/proof?page=&challenge=", &question[1..].replace("v1", "/v1")[..question.len() - 1]]
    {
        assert_eq!(page.get(malformed).code(), "invalid_query", "{malformed}");
    }
}

#[test]
fn a_page_that_signs_with_the_code_retries_and_nothing_that_it_did_not_sign_is_done() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let page = Page::of(&daemon);
    let ids = daemon.enqueue_many(2);
    daemon.wait_until_done();
    let key = key_of(page);
    let ticket = ticket(page, &key).unwrap();
    let one = json!({"ids": [ids[0]]}).to_string();
    let for_one = key.authorization(&ticket, RETRY, &one, CODE);
    assert_eq!(signed(page, &for_one, ALL), (400, "altered_request".into()));
    let wrong = key.authorization(&ticket, RETRY, &one, "open-barley");
    assert_eq!(signed(page, &wrong, &one), (401, "wrong_code".into()));
    let elsewhere = key.authorization(&ticket, ("GET", "/v1/events"), &one, CODE);
    assert_eq!(signed(page, &elsewhere, &one), (401, "wrong_code".into()));
    let forged = key.authorization("1-00", RETRY, &one, CODE);
    assert_eq!(signed(page, &forged, &one), (401, "proof_expired".into()));
    assert_eq!(daemon.counts(), Counts::settled(0, 2));
    server.set_script(Reply::correct);
    assert_eq!(signed(page, &for_one, &one), (200, String::new()));
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 1));
    assert!(!daemon.log().contains(&ticket), "{}", daemon.log());
}

#[test]
fn signing_with_wrong_codes_is_limited_like_sending_them() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let key = key_of(page);
    let ticket = ticket(page, &key).unwrap();
    let guess = |code: &str| signed(page, &key.authorization(&ticket, RETRY, ALL, code), ALL);
    for n in 0..5 {
        assert_eq!(guess(&format!("guess-{n}")).1, "wrong_code");
    }
    assert_eq!(guess(CODE).1, "too_many_wrong_codes");
}

#[test]
fn a_signed_request_is_of_no_use_after_a_restart() {
    let address = free_address();
    let daemon = with_code(&Settings::default().with("web.listen", &address.to_string()), &[]);
    let page = Page::of(&daemon);
    let key = key_of(page);
    let authorization = key.authorization(&ticket(page, &key).unwrap(), RETRY, ALL, CODE);
    assert_eq!(signed(page, &authorization, ALL).0, 200);
    let daemon = daemon.restart();
    assert_eq!(signed(Page::of(&daemon), &authorization, ALL), (401, "proof_expired".into()));
}
