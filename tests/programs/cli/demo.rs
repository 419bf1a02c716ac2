//! The demo, as programs and as people see it. It leaves no processes and no files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::crm_stand_in::{CrmKind, StandIn};
use crate::support::process::run;
use crate::support::terminal::Terminal;
use crate::support::wait::directory;

/// With a temporary directory of its own, and without installation or configuration.
fn demo(room: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
    command.arg("demo").args(arguments).current_dir(room).env("TMPDIR", room);
    command
}

fn left_in(room: &Path) -> usize {
    fs::read_dir(room).unwrap().count()
}

#[test]
fn json_output_is_one_line_with_the_counts_of_the_server() {
    let room = directory();
    let ran = run(&mut demo(room.path(), &["--json"]), b"");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
    let keys: Vec<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 8, "{summary}");
    for (key, value) in
        [("records", 150), ("synced", 149), ("quarantined", 1), ("lost", 0), ("duplicates", 0)]
    {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    let responses = summary["answers"].as_object().unwrap();
    assert!(responses["504"].as_u64() > Some(0) && responses["200"].as_u64() > Some(0), "{summary}");
    let all: u64 = responses.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(summary["requests"], all);
    assert!(summary["seconds"].as_f64() > Some(0.0));
    assert_eq!(left_in(room.path()), 0);
}

#[test]
fn text_output_has_a_progress_bar_and_a_summary_of_the_given_records() {
    let room = directory();
    let mine: Vec<String> =
        (0..40).map(|n| json!({"type": "Notes", "payload": {"n": n}}).to_string()).collect();
    fs::write(room.path().join("mine.ndjson"), mine.join("\n")).unwrap();
    let terminal = Terminal::start(demo(room.path(), &["--input", "mine.ndjson"]), 80);
    terminal.wait_for("41 records are on disk.");
    terminal.wait_for("/41");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Syncing ",
        "What happened, in ",
        "504s ",
        "A look-up showed that the server had none of them",
        "makes the server hang",
        "has 40 of 41 records: 0 lost, 0 duplicated",
        "Next ",
        "sudo fieldsync setup --url https://YOUR-SERVER --token-file FILE",
    ] {
        assert!(words.contains(part), "{text} lacks {part:?}");
    }
    assert_eq!(left_in(room.path()), 1, "the input alone");
}

#[test]
fn a_missing_input_file_starts_nothing() {
    let room = directory();
    let ran = run(&mut demo(room.path(), &["--input", "nowhere.ndjson"]), b"");
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("nowhere.ndjson") && ran.stderr.contains("Nothing was started."), "{ran:?}");
    assert_eq!(left_in(room.path()), 0);
}

#[test]
fn without_the_gateway_the_error_says_what_to_install() {
    let (room, alone) = (directory(), directory());
    let program = alone.path().join("fieldsync");
    fs::copy(env!("CARGO_BIN_EXE_fieldsync"), &program).unwrap();
    let mut command = Command::new(program);
    command.arg("demo").current_dir(room.path()).env("TMPDIR", room.path()).env("PATH", "");
    let ran = run(&mut command, b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    for part in ["needs fieldsync-gateway", "apt install fieldsync-gateway", "cargo build"] {
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    assert_eq!(left_in(room.path()), 0);
}

/// What the demo with a CRM says as JSON.
#[track_caller]
fn crm_demo(arguments: &[&str]) -> Value {
    let room = directory();
    let ran = run(&mut demo(room.path(), &[&["--json"], arguments].concat()), b"");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    assert_eq!(left_in(room.path()), 0);
    let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
    for (key, value) in [
        ("records", 150),
        ("synced", 147),
        ("receipts", 147),
        ("quarantined", 3),
        ("lost", 0),
        ("duplicates", 0),
        ("merges", 0),
    ] {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    summary
}

#[test]
fn a_crm_behind_the_gateway_has_every_record_once_or_refuses_it() {
    for (arguments, crm) in [(&["--crm"][..], "zoho"), (&["--crm", "salesforce"], "salesforce")] {
        let summary = crm_demo(arguments);
        assert_eq!(summary["crm"], crm);
        assert!(summary["answers"]["504"].as_u64() > Some(0), "{summary}");
    }
}

#[test]
fn a_stand_in_that_runs_already_is_used() {
    let crm = StandIn::start(CrmKind::Salesforce, &[]);
    for _ in 0..2 {
        assert_eq!(crm_demo(&["--crm", &crm.url()])["crm"], "salesforce");
    }
    crm.assert_clean();
    assert_eq!(crm.stored().len(), 2 * 147);
}

#[test]
fn text_output_has_receipts_and_the_words_of_the_crm() {
    let room = directory();
    let terminal = Terminal::start(demo(room.path(), &["--crm", "zoho"]), 80);
    terminal.wait_for("150 records are on disk, some of which Zoho refuses.");
    terminal.wait_for("/150");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "What happened, in ",
        "147 records have a receipt",
        "module Deals",
        "with the words of Zoho: INVALID_DATA at /stage:",
        "Zoho has 147 of 150 records: 0 lost, 0 duplicates, 0 merged",
    ] {
        assert!(words.contains(part), "{text} lacks {part:?}");
    }
    assert_eq!(left_in(room.path()), 0);
}

#[test]
fn without_the_stand_in_the_error_says_how_to_get_it() {
    let (room, alone) = (directory(), directory());
    let program = alone.path().join("fieldsync");
    fs::copy(env!("CARGO_BIN_EXE_fieldsync"), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["demo", "--crm"]).current_dir(room.path()).env("TMPDIR", room.path()).env("PATH", "");
    let ran = run(&mut command, b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    for part in ["needs fieldsync-crm-stand-in", "in no package", "cargo build"] {
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    assert_eq!(left_in(room.path()), 0);
}
