//! The page in each language.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::LANDSCAPE;
use super::failing_daemon::{lasting, no_change, start_failing_server_in};
use crate::support::chromium::Browser;
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, rejecting, with_code};

const LANGUAGES: [&str; 3] = ["en", "de", "es"];

/// Reasons with their tone and their variants.
const SITUATIONS: [(&str, &str, &[&str]); 26] = [
    ("nothing_to_send", "well", &["all", "some"]),
    ("needs_review", "stuck", &[]),
    ("sending", "working", &[]),
    ("awaiting_response", "working", &[]),
    ("server_down", "waiting", &["refused", "no_response"]),
    ("name_unknown", "stuck", &[]),
    ("no_route", "waiting", &[]),
    ("no_network", "waiting", &[]),
    ("tls", "stuck", &["expired", "untrusted"]),
    ("clock_wrong", "stuck", &[]),
    ("proxy", "stuck", &[]),
    ("login_page", "stuck", &["wifi", "other_site"]),
    ("server_busy", "waiting", &["processing"]),
    ("server_failed", "waiting", &[]),
    ("no_response", "waiting", &[]),
    ("connection_lost", "waiting", &["too_slow"]),
    ("retry", "waiting", &[]),
    ("held", "stuck", &[]),
    ("paused", "stuck", &["by", "until", "by_until"]),
    ("metered", "waiting", &[]),
    ("battery", "waiting", &[]),
    ("auth_required", "stuck", &["local"]),
    ("no_server", "stuck", &["idle"]),
    ("misconfigured", "stuck", &["local"]),
    ("disk_full", "stuck", &[]),
    ("disk_failing", "stuck", &[]),
];

/// A status in each situation, each with other numbers, and its tone.
fn statuses(base: &Value) -> Vec<(Value, &'static str)> {
    let mut statuses = Vec::new();
    for (reason, tone, variants) in SITUATIONS {
        for variant in [Value::Null].into_iter().chain(variants.iter().map(|variant| json!(variant))) {
            let mut status = base.clone();
            let remedy = !["nothing_to_send", "sending"].contains(&reason);
            status["sync"]["reason"] = reason.into();
            status["sync"]["remedy"] = if remedy { json!("to do, in English") } else { Value::Null };
            (status["sync"]["total"], status["sync"]["done"]) = (20.into(), 4.into());
            status["sync"]["needs_review"] = 1.into();
            status["records"]["pending"] = 3.into();
            status["page"]["situation"] = json!({
                "variant": variant, "host": "crm.example.com", "address": "crm.example.com:443",
                "url": "https://crm.example.com", "http_status": 503, "synced": 5, "sent_at": null, "limit_s": 60,
                "paused_by": "alice", "paused_until": "2030-01-01T12:00:00.000Z",
                "config_path": "/etc/fieldsync/config.toml",
            });
            statuses.push((status, tone));
        }
    }
    statuses
}

#[test]
#[ignore = "needs chromium"]
fn every_situation_is_said_in_every_language_with_its_remedy_and_its_tone() {
    for language in LANGUAGES {
        let gate = Gate::default();
        let held = gate.clone();
        let server = start_failing_server_in(
            language,
            move |base| {
                let statuses = statuses(base);
                let events: Vec<_> = statuses.iter().map(|(status, _)| ("status", status)).collect();
                lasting(&events).held_by(&held)
            },
            no_change,
        );
        let browser = Browser::start();
        let tab = browser.open_in(language, &server.url(), LANDSCAPE);
        tab.eval(
            "window.said = [];
             const note = (list) => list.forEach(({target, addedNodes: [added]}) => {
                 if (added !== undefined) said.push([target.id, added.data]);
             });
             for (const id of ['sentence', 'remedy']) {
                 new MutationObserver(note).observe(document.getElementById(id), {childList: true});
             }
             // It has the sign of the tone.
             new MutationObserver(note).observe(document.querySelector('title'), {childList: true}); null",
        );
        let expected = statuses(&json!({"sync": {}, "records": {}, "page": {}}));
        gate.open();
        tab.wait("the last sentence", "document.body.dataset.tone === 'stuck' && said.length > 60");
        let said: Vec<(String, String)> = serde_json::from_value(tab.eval("said")).unwrap();
        let of = |id: &str| -> Vec<&str> {
            said.iter().filter(|(of, _)| of == id).map(|(_, text)| text.as_str()).collect()
        };
        let sentences = of("sentence");
        let signs: Vec<&str> = of("").iter().map(|title| title.split(' ').next().unwrap()).collect();
        let sign = |tone: &str| match tone {
            "well" => "✓",
            "working" => "↑",
            "waiting" => "…",
            _ => "!",
        };
        assert_eq!(signs, expected.iter().map(|(_, tone)| sign(tone)).collect::<Vec<_>>(), "{sentences:#?}");
        assert_eq!(sentences.len(), expected.len(), "{language}: {sentences:#?}");
        assert_eq!(sentences.iter().collect::<HashSet<_>>().len(), sentences.len(), "{sentences:#?}");
        for text in sentences.iter().chain(&of("remedy")) {
            for wrong in ["{", "}", "undefined", "null", "NaN", "to do, in English"] {
                assert!(!text.contains(wrong), "{language}: {text}");
            }
        }
        for ((status, _), sentence) in expected.iter().zip(sentences) {
            let reason = &status["sync"]["reason"];
            if ["server_down", "name_unknown", "no_network", "metered"].iter().any(|of| reason == of) {
                assert!(sentence.contains('3'), "the number of records: {sentence}");
            }
        }
    }
}

#[test]
#[ignore = "needs chromium"]
fn a_german_page_is_german_throughout_and_counts_rightly() {
    let server = ScriptedServer::start(rejecting("no"));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let browser = Browser::start();
    let url = format!("{}#token={CODE}", Page::of(&daemon).url());
    let tab = browser.open_in("de-AT", &url, LANDSCAPE);
    assert_eq!(tab.eval("document.documentElement.lang"), "de");
    tab.wait_for_text("#sentence", "1 Datensatz muss geprüft werden, sonst wartet nichts");
    tab.wait_for_text("#remedy", "über jeden Datensatz unter „Hier sind Sie gefragt“ entscheiden");
    tab.wait_for_text("#records .why", "Der Server lehnt ihn ab.");
    assert_eq!(tab.texts("#records button"), ["Erneut senden"]);
    daemon.enqueue_many(1);
    tab.wait_for_text("#sentence", "2 Datensätze müssen geprüft werden, sonst wartet nichts");
    server.set_script(Reply::correct);
    tab.tap("#retry-all");
    tab.wait_for_text("#outcome", "2 Datensätze werden erneut gesendet.");
    tab.wait_for_text("#sentence", "Alle 2 Datensätze gesendet");
    tab.wait(
        "the time",
        "/^Zuletzt gesendet: \\d\\d:\\d\\d$/.test(document.querySelector('#last-sent').textContent)",
    );
    assert_eq!(tab.browser_errors(), Vec::<Value>::new());
}
