//! Readable in sunlight, usable with gloves and with a screen reader.

use std::fs;

use serde_json::json;

use super::{LANDSCAPE, PORTRAIT};
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::Daemon;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, rejecting, with_code};

const CONTRAST: &str = include_str!("../../../web/contrast.js");
const SYMBOL: &str = include_str!("../../../web/symbol.js");
const TARGETS: &str = include_str!("../../../web/targets.js");
const AXE: &str = include_str!("../../../web/axe.js");

/// The tablet, the tablet at 200 % zoom, and the narrowest supported screen.
const SIZES: [(u32, u32); 4] = [LANDSCAPE, PORTRAIT, (512, 300), (320, 640)];
const PREFERENCES: [(&str, &str); 5] = [
    ("prefers-color-scheme", "light"),
    ("prefers-color-scheme", "dark"),
    ("prefers-contrast", "more"),
    ("forced-colors", "active"),
    ("prefers-reduced-motion", "reduce"),
];

/// A page with all of its parts: all lists with long words, an alert, the buttons, the field for the code.
fn with_full_page(language: &str, look: impl FnOnce(&Tab<'_>, &Daemon)) {
    let server = ScriptedServer::start(Reply::correct);
    let more = [("telemetry.alert_disk_free", "1000000TiB"), ("web.reading", "token")];
    let daemon = with_code(&Settings::for_server(&server.url()), &more);
    let long = json!({"type": "W".repeat(128), "key": "K".repeat(200), "payload": {}});
    daemon.enqueue(&[long.clone(), json!({"type": "Visits", "payload": {}})]);
    daemon.wait_until_done();
    server.set_script(rejecting(&"Donaudampfschiffahrt".repeat(20)));
    daemon.enqueue(&[
        json!({"type": "W".repeat(128), "payload": {}}),
        json!({"type": "Visits", "key": "a", "payload": {}}),
        json!({"type": "Visits", "key": "b", "payload": {}}),
    ]);
    daemon.wait_until("records under review", |status| status["records"]["quarantined"] == 3);
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    daemon.enqueue(&[long, json!({"type": "Visits", "key": "a", "payload": {}})]);
    let browser = Browser::start();
    let url = format!("{}#token={CODE}", Page::of(&daemon).url());
    let tab = browser.open_in(language, &url, LANDSCAPE);
    tab.wait("the rows", "document.querySelectorAll('#records li').length === 3");
    tab.wait("the alert", "document.querySelectorAll('#alerts li').length === 1");
    tab.wait("what waits", "document.querySelectorAll('#waiting li').length === 2");
    tab.wait("what was sent", "document.querySelectorAll('#sent li').length === 2");
    tab.tap("#forget");
    tab.tap("#records li:first-child button");
    tab.wait("the field for the code", "document.activeElement.id === 'code'");
    look(&tab, &daemon);
}

#[test]
#[ignore = "needs chromium"]
fn nothing_is_cut_off_sideways_and_every_target_is_large_enough_for_a_glove() {
    for language in ["en", "de", "es"] {
        with_full_page(language, |tab, _| {
            for (width, height) in SIZES {
                tab.resize(width, height);
                tab.wait("the size", &format!("innerWidth === {width}"));
                let wide = tab.eval("document.documentElement.scrollWidth");
                assert!(wide.as_u64().unwrap() <= u64::from(width), "{language}: {wide} of {width}");
                assert_eq!(tab.eval(TARGETS), json!([]), "{language} {width}");
            }
        });
    }
}

#[test]
#[ignore = "needs chromium"]
fn every_text_has_a_contrast_of_seven_whatever_people_prefer() {
    with_full_page("en", |tab, daemon| {
        for preference in PREFERENCES {
            tab.prefer(&[preference]);
            assert_eq!(tab.eval(CONTRAST), json!([]), "{preference:?}");
            for tone in ["well", "working", "waiting", "stuck"] {
                tab.eval(&format!("document.body.dataset.tone = '{tone}'; null"));
                assert_eq!(tab.eval(SYMBOL), tone, "{preference:?}");
            }
        }
        tab.emulate_print();
        assert_eq!(tab.eval(CONTRAST), json!([]), "on paper");
        assert_eq!(tab.eval("document.querySelector('#records button').checkVisibility()"), false);
        // Including the message that the daemon does not respond.
        tab.prefer(&[]);
        daemon.signal("KILL");
        tab.wait("the page to say so", "!document.querySelector('#away').hidden");
        assert_eq!(tab.eval(CONTRAST), json!([]));
    });
}

#[test]
#[ignore = "needs chromium"]
fn nothing_moves_and_screen_readers_can_navigate() {
    with_full_page("en", |tab, _| {
        assert_eq!(tab.eval("document.getAnimations().length"), 0);
        let names =
            "[...document.querySelectorAll('#records button')].map(node => node.getAttribute('aria-label'))";
        let names: Vec<String> = serde_json::from_value(tab.eval(names)).unwrap();
        assert!(
            names.iter().all(|name| name.starts_with("Retry ") && name.contains(", id ending in ")),
            "{names:?}"
        );
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert_eq!(tab.eval("document.documentElement.lang"), "en");
        assert_eq!(tab.texts("h1").len(), 1);
        assert_eq!(tab.texts("main").len(), 1);
    });
}

#[test]
#[ignore = "needs chromium, and axe-core where FIELDSYNC_AXE says"]
fn axe_core_finds_nothing() {
    let Some(script) = std::env::var_os("FIELDSYNC_AXE") else {
        println!("skipped: FIELDSYNC_AXE does not name axe.min.js");
        return;
    };
    let script = fs::read_to_string(script).unwrap();
    for language in ["en", "de", "es"] {
        with_full_page(language, |tab, _| {
            tab.eval(&format!("{script}; null"));
            for (scheme, size) in
                ["light", "dark"].into_iter().flat_map(|scheme| SIZES.map(|size| (scheme, size)))
            {
                tab.prefer(&[("prefers-color-scheme", scheme)]);
                tab.resize(size.0, size.1);
                assert_eq!(tab.eval(AXE), json!([]), "{language} {scheme} {size:?}");
            }
        });
    }
}
