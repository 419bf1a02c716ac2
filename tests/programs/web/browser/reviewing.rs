//! Records that need review: shown unchanged, and retried with the code.

use serde_json::{Value, json};

use super::PORTRAIT;
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, rejecting, with_code, with_page};

const RETRY: &str = "#records li:first-child button";
const FOCUS: &str = "document.activeElement.getAttribute('aria-label')";

fn open<'b>(browser: &'b Browser, url: &str) -> Tab<'b> {
    browser.open(url, PORTRAIT.0, PORTRAIT.1)
}

fn visits(daemon: &Daemon, count: usize) -> Vec<String> {
    let ids = daemon.enqueue_many(count);
    daemon.wait_until_done();
    ids
}

fn name(id: &str) -> String {
    format!("Retry Visits, id ending in {}", &id[id.len() - 4..])
}

#[test]
#[ignore = "needs chromium"]
fn a_record_is_retried_with_the_code_and_the_focus_moves_to_the_next() {
    let server = ScriptedServer::start(rejecting("the account is closed"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let browser = Browser::start();
    let tab = open(&browser, &Page::of(&daemon).url());
    let ids = visits(&daemon, 3);
    tab.wait_for_text("#records li:first-child .said", "NO_SUCH_ACCOUNT");
    assert_eq!(tab.texts("#records .why"), ["The server rejects it."; 3]);
    // The newest first.
    assert_eq!(tab.texts("#records .id")[0], format!("Id {}", ids[2]));
    assert_eq!(tab.texts("#needs-count"), ["3"]);

    tab.tap(RETRY);
    tab.wait("the field for the code", "document.activeElement.id === 'code'");
    tab.enter("wrong-code");
    tab.wait_for_text("#why-code", "That was not the right code.");
    assert_eq!(daemon.counts(), Counts::settled(0, 3));
    server.set_script(Reply::correct);
    tab.enter(CODE);
    tab.wait_for_text("#outcome", "1 record queued again.");
    tab.wait("the row to go", "document.querySelectorAll('#records li').length === 2");
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 2));
    assert_eq!(daemon.record(&ids[2])["state"], "SYNCED");
    // A user who has entered the code sees what the server says.
    tab.wait_for_text("#records li:first-child .said", "NO_SUCH_ACCOUNT: the account is closed");
    tab.wait("the focus", &format!("{FOCUS} === {}", json!(name(&ids[1]))));

    // It keeps its position while others are added.
    server.set_script(rejecting("no"));
    visits(&daemon, 1);
    tab.wait("a third row", "document.querySelectorAll('#records li').length === 3");
    assert_eq!(tab.eval(FOCUS), name(&ids[1]));

    // The code is asked for once, and again after a reload of the page: nothing is stored in the browser.
    tab.tap(RETRY);
    tab.wait_for_text("#outcome", "1 record queued again.");
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 3));
    server.set_script(Reply::correct);
    tab.eval("window.isOld = true; location.reload(); null");
    tab.wait("the page again", "!window.isOld && document.querySelectorAll('#records li').length === 3");
    tab.tap("#retry-all");
    tab.wait("the field for the code", "document.activeElement.id === 'code'");
    tab.enter(CODE);
    tab.wait_for_text("#none", "Nothing.");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    tab.wait("the focus on something that is there", "document.activeElement !== document.body");
    tab.tap("#forget");
    assert_eq!(tab.eval("sessionStorage.length + localStorage.length + document.cookie"), "0");
    // A wrong code is not an error of the page, but the browser logs it.
    let others: Vec<Value> =
        tab.browser_errors().into_iter().filter(|complaint| !complaint.to_string().contains("401")).collect();
    assert_eq!(others, Vec::<Value>::new());
}

#[test]
#[ignore = "needs chromium"]
fn a_code_in_the_address_is_taken_from_there_at_once() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    visits(&daemon, 1);
    let browser = Browser::start();
    let url = Page::of(&daemon).url();
    let tab = open(&browser, &format!("{url}#token={CODE}"));
    tab.wait("the row", "document.querySelectorAll('#records li').length === 1");
    assert_eq!(tab.eval("location.href"), url.as_str());
    assert_eq!(tab.eval("history.length"), 2, "going back does not show it: {url}");
    server.set_script(Reply::correct);
    tab.tap(RETRY);
    tab.wait_for_text("#none", "Nothing.");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
}

#[test]
#[ignore = "needs chromium"]
fn without_a_code_in_the_configuration_there_is_no_button_and_the_page_names_the_command() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = Daemon::start(&with_page(&Settings::for_server(&server.url())));
    visits(&daemon, 2);
    let browser = Browser::start();
    let tab = open(&browser, &Page::of(&daemon).url());
    tab.wait("the rows", "document.querySelectorAll('#records li').length === 2");
    let shown =
        "[...document.querySelectorAll('button, input')].filter(node => node.checkVisibility()).length";
    assert_eq!(tab.eval(shown), 0);
    let how = "This page is read-only. To queue records again, in a terminal: fieldsync quarantine retry";
    tab.wait_for_text("#only-shows", how);
}

#[test]
#[ignore = "needs chromium"]
fn foreign_text_is_shown_as_text_and_does_nothing() {
    const MARKUP: &str =
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
    let odd =
        format!("{MARKUP} \u{202e}turned\u{7} \u{200f}\u{200e}\u{61c} {{{{script}}}} javascript:alert(1)");
    let server = ScriptedServer::start(rejecting(&odd));
    let daemon = with_code(&Settings::for_server(&server.url()), &[("web.reading", "token")]);
    let record = json!({"type": MARKUP, "key": MARKUP, "payload": {"html": MARKUP}});
    daemon.enqueue(&[record]);
    daemon.wait_until_done();
    let browser = Browser::start();
    let tab = open(&browser, &format!("{}#token={CODE}", Page::of(&daemon).url()));
    tab.wait("the row", "document.querySelectorAll('#records li').length === 1");
    assert_eq!(tab.texts("#records .type"), [MARKUP]);
    assert_eq!(tab.texts("#records .key"), [MARKUP]);
    let shown = odd.replace(['\u{202e}', '\u{7}', '\u{200f}', '\u{200e}', '\u{61c}'], "\u{fffd}");
    assert_eq!(tab.texts("#records .said"), [format!("NO_SUCH_ACCOUNT: {shown}")]);
    assert_eq!(tab.eval("document.images.length + document.querySelectorAll('#records script').length"), 0);
    assert_ne!(tab.eval("document.title"), "owned");
    // Even as part of the page it could do nothing, because the Content-Security-Policy forbids it.
    let tried = "(() => { try { document.body.innerHTML = '<p>owned</p>'; return 'done'; } catch { return 'refused'; } })()";
    assert_eq!(tab.eval(tried), "refused");
    assert!(tab.browser_errors().iter().all(|complaint| complaint.to_string().contains("TrustedHTML")));
}
