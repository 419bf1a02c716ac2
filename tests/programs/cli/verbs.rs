//! The text output for people, and details of the commands.

use serde_json::{Value, json};
use uuid::Uuid;

use super::rejecting;
use crate::support::daemon::Daemon;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

#[test]
fn text_output_has_sentences_and_tables() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    for (verb, parts) in [
        (&["status"][..], &["0 of 1 record synced (1 needs review)\nTo do: ", "online"][..]),
        (&["status", "--verbose"], &["50 records (standard", "Breaker"]),
        (&["list"], &[&id, "needs review", "BAD_DATE"]),
        (&["show", &id], &["Needs review:", "no such day", "1 record (standard: 1), try 1: answered after "]),
        (&["quarantine", "show", &id], &["Needs review:"]),
        (&["batches"], &["1/1", "standard: 1"]),
        (&["telemetry"], &["Visits"]),
        (&["completions", "bash"], &["fieldsync"]),
    ] {
        let ran = daemon.cli(verb);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{verb:?}");
        for part in parts {
            assert!(ran.stdout.contains(part), "{verb:?}: {} lacks {part}", ran.stdout);
        }
        assert!(!ran.stdout.contains('\u{1b}'), "colours are for terminals");
    }
    let manifest = daemon.cli(&["manifest", "export"]);
    assert_eq!(manifest.stdout, daemon.get("/v1/manifest").text());
}

#[test]
fn bare_payloads_are_enqueued_with_type_and_key() {
    let daemon = Daemon::start(&Settings::default());
    let input = b"{\"account\": \"A-1\", \"n\": 1}\n{\"account\": 17, \"n\": 2}\n{\"account\": null}\n";
    let ran = daemon.cli_with(&["enqueue", "--type", "Visits", "--key-field", "account"], input);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("\nEnqueued 3 records (0 duplicates)\n"), "{ran:?}");
    let listed = serde_json::from_str::<Value>(&daemon.cli(&["list", "--json"]).stdout).unwrap();
    let reported: Vec<(Option<&str>, Option<&str>)> = listed["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["type"].as_str(), record["key"].as_str()))
        .collect();
    let visits = Some("Visits");
    assert_eq!(reported, [(visits, Some("A-1")), (visits, Some("17")), (visits, None)]);
    let ran = daemon.cli_with(&["enqueue", "--type", "Visits", "--key-field", "acount"], input);
    assert_eq!(ran.code, Some(8));
    assert!(ran.stderr.contains("standard input:1: the payload has no field `acount`"), "{}", ran.stderr);
}

#[test]
fn show_says_why_a_record_waits_and_what_can_be_done() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.post("/v1/pause", "").expect_json(200);
    let id = daemon.enqueue_many(1).remove(0);
    let shown = daemon.cli(&["show", &id]).stdout;
    let reported = " UTC.\nTo do: to send again: fieldsync resume\n";
    assert!(shown.starts_with("Waits to be sent. Paused by ") && shown.contains(reported), "{shown}");
    daemon.post("/v1/resume", "").expect_json(200);
    daemon.wait_until_done();
    let shown = daemon.cli(&["show", &id]).stdout;
    assert!(shown.starts_with("Done: the server confirmed it."), "{shown}");
    let attempt = shown.lines().last().unwrap();
    for part in
        ["Z (", " ago)  batch ", ", 1 record (standard: 1), try 1: answered after ", " (HTTP 200), 1 synced"]
    {
        assert!(attempt.replace("just now", "0 s ago").contains(part), "{attempt}");
    }
}

#[test]
fn show_names_the_blocking_record_and_the_attempts_no_longer_listed() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let record = json!({"type": "T", "key": "K", "payload": {}});
    let first = &daemon.enqueue(std::slice::from_ref(&record)).remove(0);
    daemon.wait_until_done();
    let second = &daemon.enqueue(&[record]).remove(0);
    let shown = daemon.cli(&["show", second]).stdout;
    let reported = format!(
        "Waits to be sent. An earlier record of its key, {first}, needs review and goes first: its submitter or an \
         admin must decide about it.\nTo do: decide about that record: fieldsync show {first}\n"
    );
    assert!(shown.starts_with(&reported), "{shown}");
    // After a manual retry, it is in a batch that does not descend from the previous one.
    let attempts = daemon.record(first)["attempts"].as_u64().unwrap();
    assert_eq!(daemon.cli(&["quarantine", "retry", first]).code, Some(0));
    daemon.wait_until("the record to be quarantined again", |_| {
        let record = daemon.record(first);
        record["state"] == "QUARANTINED" && record["attempts"].as_u64() > Some(attempts)
    });
    let shown = daemon.cli(&["show", first]).stdout;
    let earlier = format!("How it was sent:\n  {attempts} earlier attempt");
    assert!(shown.contains(&earlier) && shown.contains("no longer listed.\n"), "{shown}");
}

#[test]
fn ids_that_are_not_under_review_are_reported() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let ran = daemon.cli(&["quarantine", "retry", &id, &Uuid::new_v4().to_string()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1 record queued again.\n"));
    assert_eq!(ran.stderr, "1 record does not need review, and did not change.\n");
}
