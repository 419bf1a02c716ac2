//! The page shows changes live, and says when it has no current data.

use serde_json::json;

use super::LANDSCAPE;
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::{Daemon, Home};
use crate::support::ports::free_address;
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, with_code, with_page};

const SENTENCE: &str = "#sentence";

fn open(browser: &Browser, page: Page) -> Tab<'_> {
    browser.open(&page.url(), LANDSCAPE.0, LANDSCAPE.1)
}

#[test]
#[ignore = "needs chromium"]
fn a_run_is_shown_live_by_sentence_bar_counts_and_the_time_of_the_last_success() {
    let gates = [Gate::default(), Gate::default()];
    let (held, mut batches) = (gates.clone(), 0);
    let server = ScriptedServer::start(move |request| {
        let reply = Reply::correct(request);
        batches += usize::from(request.is_batch());
        if batches < 2 { reply } else { reply.held_by(&held[batches % 2]) }
    });
    // The responses wait until the page has shown the progress.
    let settings = Settings::for_server(&server.url()).batches_of(5).with("server.request_timeout", "1m");
    let daemon = Daemon::start(&with_page(&settings));
    let browser = Browser::start();
    let tab = open(&browser, Page::of(&daemon));
    tab.wait_for_text(SENTENCE, "Nothing to sync");
    tab.eval(
        "window.spoken = 0; window.since = performance.now();
         new MutationObserver(() => { window.spoken += 1; })
             .observe(document.querySelector('#spoken'), {childList: true}); null",
    );
    daemon.paused(|daemon| daemon.enqueue_many(15));
    let bar = || tab.eval("(bar => [bar.value, bar.max])(document.querySelector('#bar'))");
    let counts = |waiting: &str, sent: &str| {
        tab.wait_for_text("#waiting-count", waiting);
        tab.wait_for_text("#sent-count", sent);
        assert_eq!(tab.texts("#needs-count"), ["0"]);
    };
    tab.wait_for_text(SENTENCE, "Syncing 5 of 15 records");
    assert_eq!(bar(), json!([5, 15]));
    counts("10", "5");
    gates[0].open();
    tab.wait_for_text(SENTENCE, "Syncing 10 of 15 records");
    counts("5", "10");
    gates[1].open();
    tab.wait_for_text(SENTENCE, "All 15 records synced");
    counts("0", "15");
    assert_eq!(tab.eval("document.querySelector('#run').hidden"), true);
    let status = daemon.status();
    let device = status["device_name"].as_str().unwrap();
    assert_eq!(tab.eval("document.title"), format!("✓ All 15 records synced · {device}"));
    assert_eq!(tab.texts("#device"), [device]);
    tab.wait(
        "the time",
        "/^Last sent \\d\\d:\\d\\d$/.test(document.querySelector('#last-sent').textContent)",
    );
    let at_most = "window.spoken <= 1 + (performance.now() - window.since) / 10000";
    assert_eq!(tab.eval(at_most), true, "it is not spoken with every batch");
    assert_eq!(tab.browser_errors(), Vec::<serde_json::Value>::new());
}

#[test]
#[ignore = "needs chromium"]
fn a_stopped_daemon_is_reported_and_followed_again_after_its_return() {
    let address = free_address();
    let daemon = Home::new(&Settings::default().with("web.listen", &address.to_string())).start();
    let browser = Browser::start();
    let tab = open(&browser, Page(address));
    daemon.enqueue_many(2);
    tab.wait_for_text(SENTENCE, "No server is set: 2 records waiting");
    let home = daemon.kill9();
    tab.wait(
        "the page to say so",
        "/^The daemon has not responded since \\d\\d:\\d\\d\\./.test(document.querySelector('#away').innerText)",
    );
    assert_eq!(tab.texts(SENTENCE), ["No server is set: 2 records waiting"]);
    let daemon = home.start();
    tab.wait("the page to follow again", "document.querySelector('#away').hidden");
    daemon.enqueue_many(1);
    tab.wait_for_text(SENTENCE, "No server is set: 3 records waiting");
}

#[test]
#[ignore = "needs chromium"]
fn a_hidden_page_sends_no_requests() {
    let daemon = Daemon::start(&with_page(&Settings::default()).with("web.max_connections", "2"));
    let page = Page::of(&daemon);
    let browser = Browser::start();
    let tab = open(&browser, page);
    tab.wait("the status", "!document.querySelector('#lists').hidden");
    assert_eq!(page.get("/v1/events").code(), "too_many_pages", "it is the one that follows");
    let hide = |hidden: bool| {
        tab.eval(&format!(
            "Object.defineProperty(document, 'hidden', {{get: () => {hidden}, configurable: true}});
             document.dispatchEvent(new Event('visibilitychange')); null"
        ));
    };
    hide(true);
    // Only one page may follow, and this one does.
    let mut follower = crate::support::wait::wait_for("a place", || {
        let mut follower = page.follow();
        let mut first = [0; 13];
        std::io::Read::read_exact(&mut follower.stream, &mut first).ok()?;
        (first == *b"HTTP/1.1 200 ").then_some(follower)
    });
    follower.next("status");
    assert_eq!(tab.eval("document.querySelector('#away').hidden"), true);
    drop(follower);
    hide(false);
    daemon.enqueue_many(1);
    tab.wait_for_text("#waiting-count", "1");
}

#[test]
#[ignore = "needs chromium"]
fn a_wait_counts_down_while_it_is_shown() {
    let server = ScriptedServer::start(|request| {
        let busy = Reply::error(503, "BUSY").with("retry-after", "50");
        if request.is_batch() { busy } else { Reply::unknown_batch() }
    });
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    let browser = Browser::start();
    let tab = open(&browser, Page::of(&daemon));
    daemon.enqueue_many(1);
    tab.wait_for_text(SENTENCE, "The server is busy (HTTP 503): 1 record waiting");
    tab.eval("window.left = () => Number(timing.textContent.match(/Next try in (\\d+) sec/)?.[1]); null");
    tab.wait("a wait", "(window.first = left()) > 0");
    tab.wait("another number", "left() < window.first");
}

#[test]
#[ignore = "needs chromium"]
fn if_reading_needs_the_code_the_page_asks_for_it_first() {
    let daemon = with_code(&Settings::for_server("http://127.0.0.1:1"), &[("web.reading", "token")]);
    let browser = Browser::start();
    let tab = open(&browser, Page::of(&daemon));
    tab.wait_for_text("#why-code", "This device shows its records only with the code.");
    assert_eq!(tab.eval("document.activeElement.id"), "code");
    assert_eq!(
        tab.eval("document.querySelector('#cancel').checkVisibility()"),
        false,
        "there is nothing else"
    );
    tab.enter("wrong-code");
    tab.wait_for_text("#why-code", "That was not the right code.");
    assert_eq!(tab.eval("document.querySelector('#lists').hidden"), true);
    tab.enter(CODE);
    tab.wait_for_text(SENTENCE, "Nothing to sync");
    assert_eq!(tab.eval("document.querySelector('#entry').hidden"), true);
    assert_eq!(tab.eval("sessionStorage.length + ' ' + localStorage.length + document.cookie"), json!("0 0"));
}

#[test]
#[ignore = "needs chromium"]
fn a_code_that_no_header_can_carry_is_refused_and_asked_for_again() {
    const NO_CODE: &str = "This is not a code: codes have no spaces, and only the letters, digits and signs of an English keyboard.";
    for reading in ["open", "token"] {
        let daemon = with_code(&Settings::for_server("http://127.0.0.1:1"), &[("web.reading", reading)]);
        let url = Page::of(&daemon).url();
        let browser = Browser::start();
        let tab = browser.open(&format!("{url}#token=%E2%82%AC"), LANDSCAPE.0, LANDSCAPE.1);
        tab.wait_for_text("#why-code", NO_CODE);
        assert_eq!(tab.eval("location.href"), url.as_str());
        tab.enter("€");
        tab.wait_for_text("#why-code", NO_CODE);
        if reading == "token" {
            tab.enter(CODE);
        }
        tab.wait_for_text(SENTENCE, "Nothing to sync");
        assert_eq!(tab.eval("document.querySelector('#away').hidden"), true);
    }
}
