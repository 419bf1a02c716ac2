//! The page while the daemon fails. The document comes from a daemon; a scripted server responds to its requests as
//! a failing daemon would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use super::LANDSCAPE;
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::Daemon;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{Page, PageKey, with_page};
use hyper::Method;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const FIRST: &str = "0191b3a0-0000-7000-8000-00000000aaaa";
const SECOND: &str = "0191b3a0-0000-7000-8000-00000000bbbb";

/// The page, and a daemon with a status.
fn start_failing_server(
    events: impl FnMut(&Value) -> Reply + Send + 'static,
    change: impl FnMut(&Request) -> Reply + Send + 'static,
) -> ScriptedServer {
    start_failing_server_in("en", events, change)
}

/// As [`start_failing_server`], with the page in a language.
pub(super) fn start_failing_server_in(
    language: &str,
    mut events: impl FnMut(&Value) -> Reply + Send + 'static,
    mut change: impl FnMut(&Request) -> Reply + Send + 'static,
) -> ScriptedServer {
    let daemon = Daemon::start(&with_page(&Settings::for_server("http://127.0.0.1:1")));
    let page = Page::of(&daemon);
    let html = page.request(Method::GET, "/", &[("accept-language", language)], "").text();
    let status = page.get("/v1/status").expect_json(200);
    let key = PageKey::of(&html);
    ScriptedServer::start(move |request| match request.path.as_str() {
        path if path.starts_with("/v1/events") => events(&status),
        "/" => Reply::text(200, "text/html; charset=utf-8", &html),
        question if question.starts_with("/v1/proof") => Reply::json(200, &key.fetch_proof(question)),
        "/v1/quarantine/retry" => change(request),
        _ => Reply::error(404, "NOT_FOUND"),
    })
}

pub(super) fn stream(events: &[(&str, &Value)]) -> Vec<u8> {
    let events = events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"));
    [HEAD.to_owned()].into_iter().chain(events).collect::<String>().into()
}

/// The page recovers, and shows no further message.
pub(super) fn lasting(events: &[(&str, &Value)]) -> Reply {
    Reply::Drip(stream(events), Vec::new())
}

fn review(ids: &[&str]) -> Value {
    let records: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({
                "id": id, "type": "Visits", "created_at": "2026-01-01T00:00:00.000Z", "attempts": 1, "holds": 0,
                "since": "2026-01-01T00:00:00.000Z", "last_error": null,
            })
        })
        .collect();
    json!({"records": records, "more": false, "retry": true})
}

fn open<'b>(browser: &'b Browser, server: &ScriptedServer) -> Tab<'b> {
    browser.open(&format!("{}/#token=open-sesame", server.url()), LANDSCAPE.0, LANDSCAPE.1)
}

pub(super) fn no_change(_: &Request) -> Reply {
    Reply::error(404, "NOT_FOUND")
}

#[test]
#[ignore = "needs chromium"]
fn where_the_records_under_review_cannot_be_read_the_page_says_so_and_shows_all_else() {
    let unreadable = json!({"unreadable": true});
    let server = start_failing_server(
        move |status| lasting(&[("status", status), ("review", &unreadable)]),
        no_change,
    );
    let browser = Browser::start();
    let tab = open(&browser, &server);
    tab.wait_for_text(
        "#needs .unreadable",
        "The records cannot be read now. If this persists, in a terminal: fieldsync doctor",
    );
    assert_eq!(tab.texts("#sentence"), ["Nothing to sync"]);
    assert_eq!(tab.eval("document.querySelector('#none').checkVisibility()"), false);
    assert_eq!(tab.eval("document.querySelector('#away').hidden"), true);
}

#[test]
#[ignore = "needs chromium"]
fn a_stream_that_ends_at_once_is_requested_less_and_less_often() {
    let server = start_failing_server(|status| Reply::Raw(stream(&[("status", status)])), no_change);
    let browser = Browser::start();
    let tab = open(&browser, &server);
    tab.eval(
        "window.waits = []; window.later = setTimeout;
         window.setTimeout = (then, wait) => { waits.push(wait); return later(then, wait); }; null",
    );
    tab.wait("longer waits", "waits.includes(4000)");
}

#[test]
#[ignore = "needs chromium"]
fn the_page_says_that_nothing_was_changed_only_if_that_is_certain() {
    let response = Arc::new(AtomicU16::default());
    let responses = Arc::clone(&response);
    let server = start_failing_server(
        |status| lasting(&[("status", status), ("review", &review(&[FIRST]))]),
        move |_| Reply::error(responses.load(Ordering::SeqCst), "TROUBLE"),
    );
    let browser = Browser::start();
    let tab = open(&browser, &server);
    let in_part = "This may be partly done: TROUBLE, says the server. \
        Look at the page before you try again.";
    let nothing = "Nothing was changed: TROUBLE, says the server.";
    // The browser itself may retry after a 408.
    for (status, outcome) in [(500, in_part), (409, nothing), (408, in_part)] {
        response.store(status, Ordering::SeqCst);
        tab.wait("the row", "document.querySelectorAll('#records li').length === 1");
        tab.tap("#records button");
        tab.wait_for_text("#outcome", outcome);
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_focus_follows_a_record_that_moves() {
    let (gate, mut streams) = (Gate::default(), 0);
    let held = gate.clone();
    let server = start_failing_server(
        move |status| {
            streams += 1;
            if streams == 1 {
                return Reply::Raw(stream(&[("status", status), ("review", &review(&[FIRST, SECOND]))]));
            }
            lasting(&[("status", status), ("review", &review(&[SECOND, FIRST]))]).held_by(&held)
        },
        no_change,
    );
    let browser = Browser::start();
    let tab = open(&browser, &server);
    tab.wait("the rows", "document.querySelectorAll('#records li').length === 2");
    tab.eval("document.querySelector('#records li:last-child button').focus(); null");
    gate.open();
    tab.wait("the other order", "document.querySelector('#records .id').textContent.endsWith('bbbb')");
    let focused = "document.activeElement.getAttribute('aria-label')";
    assert_eq!(tab.eval(focused), "Retry Visits, id ending in bbbb");
}
