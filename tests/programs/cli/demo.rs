//! The demo, as programs and as people see it. It leaves no processes and no files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

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
