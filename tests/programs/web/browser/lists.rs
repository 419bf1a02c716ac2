//! The three lists, what to do, and the buttons.

use serde_json::json;

use super::LANDSCAPE;
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, rejecting, with_code, with_page};

const SENTENCE: &str = "#sentence";
const TIME: &str = "/^\\d\\d:\\d\\d$/";

fn open<'b>(browser: &'b Browser, daemon: &Daemon) -> Tab<'b> {
    browser.open(&Page::of(daemon).url(), LANDSCAPE.0, LANDSCAPE.1)
}

fn visit(n: usize) -> serde_json::Value {
    json!({"type": format!("Visit{n}"), "key": format!("account-{n}"), "payload": {}})
}

#[track_caller]
fn assert_counts(tab: &Tab<'_>, [needs, waiting, sent]: [&str; 3]) {
    for (id, count) in [("needs", needs), ("waiting", waiting), ("sent", sent)] {
        tab.wait_for_text(&format!("#{id}-count"), count);
    }
}

#[test]
#[ignore = "needs chromium"]
fn each_list_shows_type_and_time_and_with_the_code_the_key_and_how_many_more_there_are() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let browser = Browser::start();
    let tab = open(&browser, &daemon);
    assert_counts(&tab, ["0", "0", "0"]);
    for (list, text) in
        [("needs", "Nothing."), ("waiting", "Nothing waits."), ("sent", "Nothing was sent today.")]
    {
        tab.wait_for_text(&format!("#{list} .none"), text);
    }
    daemon.enqueue(&(0..12).map(visit).collect::<Vec<_>>());
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(12));
    assert_counts(&tab, ["0", "0", "12"]);
    tab.wait_for_text("#sent .more", "and 2 more");
    assert_eq!(tab.texts("#sent .type")[..2], ["Visit11", "Visit10"]);
    let times = |list: &str| {
        format!("[...document.querySelectorAll('#{list} time')].every((at) => {TIME}.test(at.textContent))")
    };
    assert_eq!(tab.eval(&times("sent")), true);
    assert_eq!(tab.texts("#sent .key"), [""; 10]);

    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue(&[visit(20), visit(21)]);
    assert_counts(&tab, ["0", "2", "12"]);
    tab.wait("what waits", "document.querySelectorAll('#waiting li').length === 2");
    assert_eq!(tab.texts("#waiting .type"), ["Visit21", "Visit20"]);
    assert_eq!(tab.eval(&times("waiting")), true);

    tab.tap("#unlock");
    tab.enter("wrong-code");
    tab.wait_for_text("#why-code", "That was not the right code.");
    tab.enter(CODE);
    tab.wait_for_text("#waiting li .key", "account-21");
    tab.wait_for_text("#sent li .key", "account-11");
    tab.tap("#forget");
    tab.wait(
        "the keys to go",
        "[...document.querySelectorAll('.lines .key')].every((key) => !key.textContent)",
    );
}

#[test]
#[ignore = "needs chromium"]
fn a_wrong_code_in_the_address_hides_nothing_that_all_may_read() {
    let daemon = with_code(&Settings::for_server("http://127.0.0.1:1"), &[]);
    let browser = Browser::start();
    let url = format!("{}#token=wrong-code", Page::of(&daemon).url());
    let tab = browser.open(&url, LANDSCAPE.0, LANDSCAPE.1);
    tab.wait_for_text("#why-code", "That was not the right code.");
    tab.wait_for_text(SENTENCE, "Nothing to sync");
    tab.tap("#cancel");
    tab.wait("the button", "document.querySelector('#unlock').checkVisibility()");
}

#[test]
#[ignore = "needs chromium"]
fn no_two_counts_contradict_each_other() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url()).batches_of(1)));
    let rejected = daemon.enqueue(&[visit(0)]).remove(0);
    daemon.wait_until_done();
    let mut first = rejecting("no");
    let mut batches = 0;
    server.set_script(move |request| {
        batches += usize::from(request.is_batch());
        if batches == 1 { first(request) } else { Reply::correct(request) }
    });
    daemon.paused(|daemon| daemon.enqueue(&(1..5).map(visit).collect::<Vec<_>>()));
    assert_eq!(daemon.wait_until_done(), Counts::settled(4, 1));
    assert_eq!(daemon.record(&rejected)["state"], "SYNCED");
    let browser = Browser::start();
    let tab = open(&browser, &daemon);
    tab.wait_for_text(SENTENCE, "1 record needs review, and nothing else waits");
    assert_counts(&tab, ["1", "0", "4"]);
    let shown = tab.eval("document.querySelector('main').innerText").to_string();
    assert!(!shown.contains(" of "), "{shown}");
    assert_eq!(tab.eval("document.querySelector('#run').hidden"), true);
}

#[test]
#[ignore = "needs chromium"]
fn the_buttons_continue_and_try_now_with_the_code() {
    let server = ScriptedServer::start(|request| {
        let busy = Reply::error(503, "BUSY").with("retry-after", "600");
        if request.is_batch() { busy } else { Reply::unknown_batch() }
    });
    let settings = Settings::for_server(&server.url()).with("retry.max_retry_after", "1h");
    let daemon = with_code(&settings, &[]);
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue_many(1);
    let browser = Browser::start();
    let tab = open(&browser, &daemon);
    tab.wait(
        "the pause",
        "/^Paused by .+: 1 record waiting$/.test(document.querySelector('#sentence').textContent)",
    );
    tab.wait_for_text("#remedy", "to send again: “Continue”");
    tab.wait_for_text("#see-above", "See “To do” at the top.");
    assert_eq!(tab.eval("document.querySelector('#try-now').checkVisibility()"), false);
    tab.tap("#continue");
    tab.enter(CODE);
    tab.wait_for_text("#outcome", "Sending continues.");
    tab.wait_for_text(SENTENCE, "The server is busy (HTTP 503): 1 record waiting");
    assert_eq!(tab.eval("document.querySelector('#continue').checkVisibility()"), false);
    assert_eq!(tab.eval("document.body.dataset.tone"), "waiting");
    server.set_script(Reply::correct);
    tab.tap("#try-now");
    tab.wait_for_text("#outcome", "The daemon tries now.");
    tab.wait_for_text(SENTENCE, "1 record synced");
    assert_eq!(tab.eval("document.body.dataset.tone"), "well");
    assert_eq!(tab.eval("document.querySelector('#to-do').checkVisibility()"), false);
    assert_eq!(daemon.counts(), Counts::all_synced(1));
    assert_eq!(tab.browser_errors(), Vec::<serde_json::Value>::new());
}

#[test]
#[ignore = "needs chromium"]
fn without_a_code_the_remedy_names_the_command() {
    let daemon = Daemon::start(&with_page(&Settings::for_server("http://127.0.0.1:1")));
    daemon.enqueue_many(3);
    let browser = Browser::start();
    let tab = open(&browser, &daemon);
    tab.wait_for_text(
        SENTENCE,
        "The server cannot be reached: 3 records waiting. The network is there; nothing listens at 127.0.0.1:1.",
    );
    tab.wait_for_text("#remedy", "start the server, or correct server.url; then sending continues by itself");
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    tab.wait_for_text("#remedy", "to send again, in a terminal: fieldsync resume");
    assert_eq!(tab.eval("document.querySelector('#actions').checkVisibility()"), false);
}
