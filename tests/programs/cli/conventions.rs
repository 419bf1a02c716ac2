//! What people expect of a command line: `-o json`, `ls`, help without arguments, colours, short ids.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::rejecting;
use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::run;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::terminal::Terminal;

#[test]
fn a_command_without_its_subcommand_prints_its_help() {
    for (arguments, part) in [
        (&[][..], "fieldsync status --watch"),
        (&["quarantine"], "fieldsync quarantine edit"),
        (&["manifest"], "Usage: fieldsync manifest"),
        (&["store"], "Usage: fieldsync store"),
    ] {
        for socket in [None, Some("/nowhere")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
            command.args(arguments).env_remove("FIELDSYNC_SOCKET");
            if let Some(socket) = socket {
                command.env("FIELDSYNC_SOCKET", socket);
            }
            let ran = run(&mut command, b"");
            assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?} {ran:?}");
            assert!(ran.stdout.contains(part), "{arguments:?} {ran:?}");
        }
    }
    let ran = run(&mut cli_command(PathBuf::from("/nowhere"), &["--json"]), b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "a program made a mistake");
}

#[test]
fn the_format_is_chosen_by_o_as_by_json() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(2);
    let output = |arguments: &[&str]| daemon.cli(arguments).stdout;
    let listed = output(&["list", "--json"]);
    for arguments in [&["list", "-o", "json"][..], &["-o", "json", "list"], &["ls", "-ojson"]] {
        assert_eq!(output(arguments), listed, "{arguments:?}");
    }
    // The width of a column depends on the age.
    let head = |arguments: &[&str]| {
        let output = output(arguments);
        output.lines().next().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for arguments in [&["list", "-o", "table"][..], &["list", "-o", "text"], &["ls"]] {
        assert_eq!(head(arguments), head(&["list"]), "{arguments:?}");
    }
    for arguments in [&["list", "-o", "json", "--json"][..], &["list", "-o", "yaml"]] {
        assert_eq!(daemon.cli(arguments).code, Some(2), "{arguments:?}");
    }
    for arguments in [&["show", "12", "-o", "json"][..], &["show", "12", "-ojson"], &["show", "-o=json"]] {
        let ran = daemon.cli(arguments);
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!((ran.code, &error["error"]["code"]), (Some(2), &json!("usage")), "{arguments:?}");
    }
}

#[test]
fn colours_follow_the_option_before_the_variable_and_the_terminal() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    let red = "\u{1b}[31mneeds review";
    let piped = |arguments: &[&str]| daemon.cli(arguments).stdout;
    assert!(piped(&["list", "--color", "always"]).contains(red));
    assert!(!piped(&["list"]).contains('\u{1b}'));
    assert!(!piped(&["list", "--json", "--color", "always"]).contains('\u{1b}'));
    assert!(piped(&["status", "--color=always"]).starts_with("\u{1b}[3"), "the sentence");
    let colourless = cli_command(daemon.home.socket(), &["list", "--color", "never"]);
    let terminal = Terminal::start(colourless, 200);
    terminal.wait_for("no such day");
    assert!(!terminal.written().contains(red));
}

#[test]
fn states_have_words_for_people_and_both_names_are_accepted() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let reviewed = daemon.enqueue_many(1);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let waiting = daemon.enqueue_many(1);
    let ids = |state: &str| daemon.cli(&["list", "-q", "--state", state]).stdout;
    for state in ["needs-review", "needs review", "QUARANTINED", "Needs-Review"] {
        assert_eq!(ids(state), format!("{}\n", reviewed[0]), "{state}");
    }
    for state in ["waiting", "PENDING"] {
        assert_eq!(ids(state), format!("{}\n", waiting[0]), "{state}");
    }
    let table = daemon.cli(&["list"]).stdout;
    assert!(table.contains("  waiting  ") && table.contains("  needs review  "), "{table}");
    assert!(daemon.cli(&["show", &reviewed[0]]).stdout.contains("\nState         needs review\n"));
    assert!(
        daemon.cli(&["status"]).stdout.contains("1 waiting, 0 sending, 0 failed, 0 synced, 1 needs review")
    );
    assert_eq!(daemon.cli(&["quarantine", "ls", "-q", "--since", "1h"]).stdout, ids("needs-review"));
    assert_eq!(daemon.cli(&["quarantine", "list", "-n", "1", "--key", "other", "-q"]).stdout, "");
}

#[test]
fn enqueue_prints_the_first_ten_ids() {
    let daemon = Daemon::start(&Settings::default());
    let line = "{\"type\": \"T\", \"payload\": {}}\n";
    let ran = daemon.cli_with(&["enqueue"], line.repeat(2).as_bytes());
    let printed: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((printed.len(), printed[2]), (3, "Enqueued 2 records (0 duplicates)"), "{ran:?}");
    assert_eq!(daemon.record(printed[0])["state"], "PENDING");
    let ran = daemon.cli_with(&["enqueue"], line.repeat(12).as_bytes());
    assert_eq!((ran.stdout.lines().count(), ran.stdout.lines().nth(10)), (12, Some("and 2 more")), "{ran:?}");
}

#[test]
fn a_mistake_in_the_input_is_named_in_words_of_this_program() {
    let daemon = Daemon::start(&Settings::default());
    for (line, words) in [
        ("{\"id\": \"17\", \"type\": \"T\", \"payload\": {}}", "standard input:1: `id` must be a UUID"),
        ("{\"type\": \"T\"}", "standard input:1: `payload` is missing"),
        ("{\"type\": 3, \"payload\": {}}", "standard input:1: a value has the wrong type"),
        ("nonsense", "standard input:1: a record must be a JSON object"),
    ] {
        let ran = daemon.cli_with(&["enqueue"], line.as_bytes());
        assert_eq!(ran.code, Some(8), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn one_batch_is_shown_with_its_records_and_the_reason_for_its_size() {
    let server = ScriptedServer::start(|request: &Request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let bad = json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"});
        let first = request.ids()[0].clone();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            Some(if id == first { bad.clone() } else { json!({"status": "applied"}) })
        })
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(3));
    daemon.wait_until_done();
    let listed = daemon.cli(&["batches", "-q"]);
    let batch = listed.stdout.lines().next().unwrap().to_owned();
    assert_eq!(daemon.cli(&["batches", "--since", "1h", "-n", "5", "-q"]).stdout, listed.stdout);
    for id in [&batch[..8], &batch[28..], &batch] {
        let shown = daemon.cli(&["batches", id]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        for part in
            ["Records       3 records", "Size          ", "Outcome       2 of 3 synced", "How it was sent:"]
        {
            assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
        }
        assert!(ids.iter().all(|id| shown.stdout.contains(id.as_str())), "{}", shown.stdout);
        assert!(
            shown.stdout.contains("  needs review  ") && shown.stdout.contains("BAD_DATE"),
            "{}",
            shown.stdout
        );
    }
    let detail: Value = serde_json::from_str(&daemon.cli(&["batches", &batch, "-o", "json"]).stdout).unwrap();
    assert_eq!(detail, daemon.get(&format!("/v1/batches/{batch}")).expect_json(200));
    assert_eq!((detail["id"].as_str(), detail["records"].as_array().unwrap().len()), (Some(&*batch), 3));
    let unknown = daemon.cli(&["batches", "0123456789"]);
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    assert!(unknown.stderr.contains("no such batch"), "{unknown:?}");
}

#[test]
fn events_end_after_as_many_as_were_asked_for() {
    let daemon = Daemon::start(&Settings::default());
    let ran = daemon.cli(&["events", "-n", "1", "--json"]);
    let event: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &event["event"]), (Some(0), &json!("status")), "{ran:?}");
}
