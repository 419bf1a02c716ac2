//! `--json`: one document on each line, with stable keys; errors and notes are JSON on standard error.

use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use super::rejecting;
use crate::support::daemon::{Daemon, cli_command, without_disk};
use crate::support::process::{ProgramOutput, run};
use crate::support::settings::Settings;
use crate::support::terminal::Terminal;

/// On one line.
#[track_caller]
fn parse_output(ran: &ProgramOutput) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn json_output_has_the_shapes_of_the_api() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let line = b"{\"type\":\"T\",\"payload\":{\"n\": 1.50}}\n";
    let enqueued = parse_output(&daemon.cli_with(&["--json", "enqueue"], line));
    let id = enqueued["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(enqueued, json!({"accepted": 1, "duplicates": 0, "ids": [id]}));
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    daemon.wait_until("the alert", |status| status["alerts"] != json!([]));
    let printed = parse_output(&daemon.cli(&["status", "--json"]));
    assert_eq!(without_disk(printed), without_disk(daemon.status()));
    let listed = parse_output(&daemon.cli(&["list", "--json", "--state", "quarantined"]));
    assert_eq!(listed, json!({"records": [daemon.record(&id)], "next": null}));
    assert_eq!(parse_output(&daemon.cli(&["quarantine", "list", "--json"])), listed);
    assert_eq!(parse_output(&daemon.cli(&["show", "--json", &id])), daemon.record_with_lineage(&id));
    let shown = daemon.cli(&["show", "--json", "--payload", &id]);
    assert_eq!(parse_output(&shown)["payload"], json!({"n": 1.5}));
    assert!(shown.stdout.contains("1.50"), "numbers keep their digits: {}", shown.stdout);
    assert_eq!(parse_output(&daemon.cli(&["batches", "--json"])), daemon.get("/v1/batches").json());
    let document = daemon.get("/v1/telemetry").json();
    let mut printed = parse_output(&daemon.cli(&["telemetry", "--json"]));
    // They are requested one after the other.
    assert!(printed["to"].as_str() >= document["to"].as_str(), "{printed}");
    printed["to"] = document["to"].clone();
    assert_eq!(printed, document);
    assert_eq!(parse_output(&daemon.cli(&["pause", "--json"])), json!({"paused": true}));
    assert_eq!(parse_output(&daemon.cli(&["quarantine", "retry", "--json", &id])), json!({"changed": 1}));
    assert_eq!(parse_output(&daemon.cli(&["resume", "--json"])), json!({"paused": false}));
}

const ENTRY: &str = "attempts batch_id created_at id key last_error next_attempt_at payload_bytes priority sends seq state \
                     submitter type updated_at";

fn keys(document: &Value) -> String {
    let mut keys: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

#[test]
fn every_verb_has_its_keys() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    let status = "alerts batching breaker caller connectivity device_id device_name queue records started_at sync version";
    let with = |more: &str| {
        let mut keys: Vec<&str> = ENTRY.split(' ').chain(more.split(' ')).collect();
        keys.sort_unstable();
        keys.join(" ")
    };
    let file = daemon.home.path("export.ndjson");
    let file = file.to_str().unwrap();
    let [first, second, third] = [0, 1, 2].map(|n| ids[n].as_str());
    for (verb, expected) in [
        (&["status"][..], status),
        (&["sync"], status),
        (&["list"], "next records"),
        (&["quarantine", "list"], "next records"),
        (&["show", first], &with("lineage receipt waiting_for")),
        (&["show", first, "--payload"], &with("lineage payload receipt waiting_for")),
        (&["quarantine", "show", first], &with("lineage receipt waiting_for")),
        (
            &["telemetry"],
            "batch_overhead_ms by_batch_size by_in_flight by_type days failures from hours per_record to window_s",
        ),
        (&["batches"], "batches"),
        (&["manifest", "export", file], "file records"),
        (&["quarantine", "export", file], "file records"),
        (&["pause"], "paused"),
        (&["enqueue"], "accepted duplicates ids"),
        (&["quarantine", "add", first], "changed"),
        (&["quarantine", "edit", first], &with("receipt waiting_for")),
        (&["quarantine", "retry", first], "changed"),
        (&["quarantine", "discard", second], "changed"),
        (&["quarantine", "retry", "--all"], "changed"),
        (&["resume"], "paused"),
        (&["store", "acknowledge"], "acknowledged"),
    ] {
        let mut command = cli_command(daemon.home.socket(), verb);
        let ran = run(command.arg("--json").env("EDITOR", "true"), b"");
        assert_eq!(keys(&parse_output(&ran)), expected, "{verb:?}");
    }
    let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", third, "--json"]);
    let ran = run(command.env("EDITOR", "false"), b"");
    let document: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((ran.code, &document["error"]["code"]), (Some(1), &json!("editor_failed")), "{document}");
    let exported = daemon.cli(&["manifest", "export", "--json"]);
    let exported: Vec<String> =
        exported.stdout.lines().map(|line| keys(&serde_json::from_str(line).unwrap())).collect();
    assert_eq!(exported, [ENTRY, with("discarded_by").as_str(), ENTRY], "the second one was discarded");
    let waited = daemon.cli(&["sync", "--wait", "--json"]);
    assert_eq!((waited.code, waited.stdout.lines().count()), (Some(6), 1), "{waited:?}");
    // It comes from the event stream, which is not a response to one caller.
    assert_eq!(keys(&serde_json::from_str(&waited.stdout).unwrap()), status.replace("caller ", ""));
}

#[test]
fn errors_are_json_with_the_exit_code_of_their_kind() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("queue.max_records", "2"));
    let unknown = Uuid::new_v4().to_string();
    let nowhere = PathBuf::from("/nowhere/fieldsync.sock");
    let good = "{\"type\":\"T\",\"payload\":{}}\n";
    let bad = format!("{good}{{\"type\":\"T\"}}\n");
    let full = good.repeat(3);
    let error = |socket: PathBuf, verb: &[&str], input: &str| {
        let ran = run(cli_command(socket, verb).arg("--json"), input.as_bytes());
        let document: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("{ran:?}"));
        assert!(!document["error"]["message"].as_str().unwrap().is_empty(), "{document}");
        assert_eq!((ran.stderr.lines().count(), ran.stdout.as_str()), (1, ""), "{ran:?}");
        (ran.code.unwrap(), document["error"]["code"].as_str().unwrap().to_owned(), document["error"].clone())
    };
    let socket = || daemon.home.socket();
    for (socket, verb, input, code, name) in [
        (socket(), &["frobnicate"][..], "", 2, "usage"),
        (socket(), &["quarantine", "discard", "--all"], "", 2, "usage"),
        (nowhere, &["status"], "", 3, "no_daemon"),
        (socket(), &["show", &unknown], "", 4, "no_such_record"),
        (socket(), &["enqueue"], &full, 7, "queue_full"),
        (socket(), &["enqueue"], &bad, 8, "input_refused"),
    ] {
        let (exit, reported, _) = error(socket, verb, input);
        assert_eq!((exit, reported.as_str()), (code, name), "{verb:?}");
    }
    let (.., document) = error(socket(), &["enqueue"], &bad);
    assert_eq!((&document["file"], &document["line"]), (&json!("standard input"), &json!(2)));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let waited = daemon.cli(&["sync", "--wait", "--json"]);
    assert_eq!(waited.code, Some(6));
    let document: Value = serde_json::from_str(&waited.stderr).unwrap();
    assert_eq!(document["error"]["code"], "needs_review");
}

#[test]
fn events_and_notes_are_a_json_line_each() {
    let daemon = Daemon::start(&Settings::default());
    let events = Terminal::start(cli_command(daemon.home.socket(), &["events", "--json"]), 80);
    events.wait_for("\"event\":\"status\"");
    let daemon = daemon.restart();
    events.wait_for("{\"note\":\"The daemon is back.\"}");
    events.signal("INT");
    let (status, text) = events.end();
    assert_eq!(status.code(), Some(0), "{text}");
    for line in text.lines() {
        let keys = keys(&serde_json::from_str(line).unwrap());
        assert!(["data event", "note"].contains(&keys.as_str()), "{line}");
    }
    drop(daemon);
}
