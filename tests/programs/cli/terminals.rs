//! Terminals of several widths: nothing is wider, ids are complete, words are not broken.

use console::measure_text_width;
use serde_json::json;

use super::rejecting;
use crate::support::daemon::{Daemon, cli_command};
use crate::support::settings::Settings;
use crate::support::terminal::Terminal;

const WIDTHS: [u16; 4] = [40, 80, 120, 200];

/// A daemon with records under review that have long names, and their ids.
fn with_long_names(daemon: &Daemon) -> Vec<String> {
    let records: Vec<_> = (0..3)
        .map(|n| {
            json!({"type": "PriceSurveyOfTheYearAndTheSeason", "payload": {},
                   "key": format!("account {n} of the customer with the very long name")})
        })
        .collect();
    let ids = daemon.enqueue(&records);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    ids
}

#[test]
fn nothing_is_wider_than_the_terminal_and_ids_are_as_long_as_they_need_to_be() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = with_long_names(&daemon);
    let ends: Vec<String> = ids.iter().map(|id| id[28..].to_owned()).collect();
    let id = ids[0].as_str();
    for width in WIDTHS {
        for (verb, whole) in [
            (&["status"][..], &[][..]),
            (&["list"], &ends[..]),
            (&["list", "--no-trunc"], &ids),
            (&["quarantine", "list"], &ends),
            (&["show", id], &ids[..1]),
            (&["batches"], &[]),
            (&["telemetry"], &[]),
            (&["sync"], &[]),
        ] {
            let (code, text) = Terminal::run(cli_command(daemon.home.socket(), verb), width);
            assert_eq!(code, Some(0), "{verb:?} {text}");
            for line in text.lines() {
                assert!(measure_text_width(line) <= usize::from(width), "{width} {verb:?}: {line}");
            }
            for id in whole {
                assert!(text.contains(id.as_str()), "{width} {verb:?}: {text}");
            }
            // Where a record is described, its last error is shown as the server sent it.
            if !whole.is_empty() {
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words.contains("BAD_DATE: no such day"), "{width} {verb:?}: {text}");
            }
        }
    }
}

#[test]
fn at_80_columns_a_record_is_a_row_with_its_error_beneath() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = with_long_names(&daemon);
    let (_, text) = Terminal::run(cli_command(daemon.home.socket(), &["list"]), 80);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * ids.len(), "{text}");
    assert!(lines[0].starts_with("ID  ") && lines[0].contains("  STATE  "), "{text}");
    for (id, pair) in ids.iter().rev().zip(lines[1..].chunks(2)) {
        assert!(pair[0].starts_with(&format!("{}  needs review  ", &id[28..])), "{text}");
        assert!(pair[1].starts_with("  ") && pair[1].contains("BAD_DATE"), "{text}");
    }
}

#[test]
fn colours_are_used_on_terminals_unless_turned_off() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    with_long_names(&daemon);
    let red = "\u{1b}[31mneeds review";
    let list = || cli_command(daemon.home.socket(), &["list"]);
    let coloured = |without: Option<&str>| {
        let mut shell = std::process::Command::new("sh");
        // The environment of the terminal does not contain NO_COLOR.
        let set = without.map_or(String::new(), |value| format!("NO_COLOR={value} "));
        shell.arg("-c").arg(format!(
            "{set}exec '{}' --socket '{}' list",
            env!("CARGO_BIN_EXE_fieldsync"),
            daemon.home.socket().display()
        ));
        let terminal = Terminal::start(shell, 200);
        terminal.wait_for("no such day");
        terminal.written().contains(red)
    };
    assert!(coloured(None));
    assert!(!coloured(Some("1")));
    let mut piped = list();
    assert!(!crate::support::process::run(piped.env_remove("NO_COLOR"), b"").stdout.contains('\u{1b}'));
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_lines() {
    let daemon = Daemon::start(&Settings::default());
    let text = daemon.status()["sync"]["text"].as_str().unwrap().to_owned();
    for terminal in ["TERM=dumb", "-u TERM"] {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!(
            "exec env {terminal} '{}' --socket '{}' status --watch",
            env!("CARGO_BIN_EXE_fieldsync"),
            daemon.home.socket().display()
        ));
        let terminal = Terminal::start(shell, 80);
        terminal.wait_for(&text);
        assert!(!terminal.written().contains('\u{1b}'), "{:?}", terminal.written());
        terminal.signal("INT");
        terminal.end();
    }
}
