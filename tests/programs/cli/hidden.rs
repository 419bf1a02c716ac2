//! Characters in untrusted text that control a terminal or change the text direction.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, cli_command};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::terminal::Terminal;

/// C1 control characters, DEL, direction controls, and characters without width.
const HIDDEN: [char; 10] = [
    '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200e}', '\u{61c}', '\u{200b}', '\u{200d}', '\u{2060}',
    '\u{feff}',
];

fn hidden() -> String {
    HIDDEN.iter().flat_map(|character| ['a', *character]).collect()
}

/// Characters that JSON on a terminal must not contain.
#[track_caller]
fn assert_visible(what: &str, text: &str) {
    for character in HIDDEN {
        assert!(!text.contains(character), "{what} has {character:?}: {text:?}");
    }
}

/// A daemon with a record under review. The record, its type and the server's message contain all that are allowed.
fn with_hidden() -> (ScriptedServer, Daemon, String) {
    let rejected = json!({"status": "rejected", "code": "BAD\u{202e}\u{9b}", "message": hidden()});
    let server = ScriptedServer::start(move |request: &Request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon
        .enqueue(&[json!({"type": "Vis\u{202e}its", "key": "a\u{200b}b", "payload": {"text": hidden()}})])
        .remove(0);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    (server, daemon, id)
}

#[test]
fn tables_json_exports_and_the_log_show_no_hidden_characters() {
    let (_server, daemon, id) = with_hidden();
    for verb in [
        &["list"][..],
        &["show", &id],
        &["batches"],
        &["telemetry"],
        &["telemetry", "report", "--html", "-"],
        &["status", "--json"],
        &["list", "--json"],
        &["show", "--json", "--payload", &id],
        &["batches", "--json"],
        &["telemetry", "--json"],
        &["manifest", "export"],
        &["quarantine", "export"],
    ] {
        let ran = daemon.cli(verb);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_visible(&format!("{verb:?}"), &(ran.stdout + &ran.stderr));
        let (_, text) = Terminal::run(cli_command(daemon.home.socket(), verb), 80);
        assert_visible(&format!("{verb:?} on a terminal"), &text);
    }
    let (_, text) = Terminal::run(cli_command(daemon.home.socket(), &["show", "--payload", &id]), 80);
    assert_visible("a payload on a terminal", &text);
    for verb in ["manifest", "quarantine"] {
        let file = daemon.home.path(verb);
        assert_eq!(daemon.cli(&[verb, "export", file.to_str().unwrap()]).code, Some(0));
        assert_visible(verb, &fs::read_to_string(file).unwrap());
    }
    assert!(daemon.log().contains("BAD"), "{}", daemon.log());
    assert_visible("the log", &daemon.log());
}

#[test]
fn json_without_hidden_characters_has_the_same_values() {
    let (_server, daemon, id) = with_hidden();
    let shown = daemon.cli(&["show", "--json", "--payload", &id]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["payload"]["text"], hidden().as_str());
    assert_eq!(shown["type"], "Vis\u{202e}its");
    let exported = daemon.cli(&["quarantine", "export"]);
    let exported: Value = serde_json::from_str(&exported.stdout).unwrap();
    assert_eq!((&exported["payload"]["text"], &exported["key"]), (&json!(hidden()), &json!("a\u{200b}b")));
}
