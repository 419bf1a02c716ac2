//! The command line: exit codes, JSON, and what people read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon, cli_command};
use crate::support::process::{Ran, run};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

fn rejecting() -> ScriptedServer {
    ScriptedServer::start(|request: &Request| {
        if !request.is_batch() {
            return Reply::sound(request);
        }
        let bad = json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
    })
}

/// On one line.
#[track_caller]
fn answer(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn wrong_usage_is_2_and_a_missing_daemon_3() {
    let nowhere = PathBuf::from("/nowhere/fieldsync.sock");
    for wrong in
        [&["frobnicate"][..], &["list", "--state", "ASLEEP"], &["show", "12"], &["quarantine", "retry"]]
    {
        assert_eq!(run(&mut cli_command(nowhere.clone(), wrong), b"").code, Some(2), "{wrong:?}");
    }
    for verb in [&["status"][..], &["sync"], &["pause"], &["list"], &["telemetry"], &["batches"], &["events"]]
    {
        let ran = run(&mut cli_command(nowhere.clone(), verb), b"");
        assert_eq!(ran.code, Some(3), "{verb:?} {ran:?}");
        assert!(ran.stderr.contains("no daemon answers at /nowhere/fieldsync.sock"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    let ran = run(&mut cli_command(nowhere, &["enqueue"]), b"{\"type\":\"T\",\"payload\":{}}\n");
    assert_eq!(ran.code, Some(3));
}

#[test]
fn a_record_that_is_not_there_is_4() {
    let daemon = Daemon::start(&Settings::default());
    let unknown = Uuid::new_v4().to_string();
    for verb in [&["show", &unknown][..], &["quarantine", "discard", &unknown]] {
        assert_eq!(daemon.cli(verb).code, Some(4), "{verb:?}");
    }
}

#[test]
fn what_the_system_does_not_permit_is_5() {
    // Permissions hold for everybody but root.
    let daemon = Daemon::start(&Settings::default());
    let directory = daemon.home.path("");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = 65_534;
    if run(std::process::Command::new("id").arg("-u"), b"").stdout.trim() != "0" {
        println!("skipped: only root can be somebody else");
        return;
    }
    // The program itself may lie where only its owner may look.
    let copy = daemon.home.path("fieldsync");
    // By a program of its own: a file that this process wrote may still be open in a child of another test.
    let mut copying = std::process::Command::new("cp");
    assert_eq!(run(copying.arg(env!("CARGO_BIN_EXE_fieldsync")).arg(&copy), b"").code, Some(0));
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&copy);
        command.arg("--socket").arg(daemon.home.socket()).args(arguments);
        command.uid(nobody).gid(nobody);
        run(&mut command, b"{\"type\":\"T\",\"payload\":{}}\n")
    };
    let ran = as_nobody(&["status"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("permission denied"), "{}", ran.stderr);
    // Whoever may open the socket may read and enqueue, and no more.
    fs::set_permissions(daemon.home.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(as_nobody(&["status"]).code, Some(0));
    assert_eq!(as_nobody(&["enqueue"]).code, Some(0));
    let mine = daemon.enqueue_many(1).remove(0);
    for verb in [
        &["pause"][..],
        &["resume"],
        &["quarantine", "discard", "--all", "--yes"],
        &["show", &mine, "--payload"],
    ] {
        let ran = as_nobody(verb);
        assert_eq!(ran.code, Some(5), "{verb:?} {ran:?}");
        assert!(ran.stderr.contains("ipc.admin_group"), "{}", ran.stderr);
    }
}

#[test]
fn waiting_for_a_sync_is_0_when_all_is_well_and_6_when_somebody_has_to_look() {
    let server = ScriptedServer::start(Reply::sound);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(30);
    let ran = daemon.cli(&["sync", "--wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("All 30 records synced\n"), "{ran:?}");

    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(2);
    let ran = daemon.cli(&["sync", "--wait", "--json"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("fieldsync quarantine list"), "{ran:?}");
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(status["records"]["quarantined"], 2);
}

#[test]
fn a_full_queue_is_7() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "2"));
    let line = "{\"type\":\"T\",\"payload\":{}}\n";
    let ran = daemon.cli_with(&["enqueue"], line.repeat(3).as_bytes());
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("the queue is full (queue.max_records)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Nothing was stored."), "{}", ran.stderr);
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_mistake_in_the_input_is_8_with_its_line_and_nothing_is_stored() {
    let daemon = Daemon::start(&Settings::default());
    let good = "{\"type\":\"T\",\"payload\":{}}\n";
    let bad = format!("{}{{\"type\":\"T\"}}\n{good}", good.repeat(700));
    let ran = daemon.cli_with(&["enqueue"], bad.as_bytes());
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("standard input:701: missing field `payload`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Nothing was stored."), "{}", ran.stderr);
    let file = daemon.home.path("records.ndjson");
    fs::write(&file, &bad).unwrap();
    let ran = daemon.cli(&["enqueue", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(8));
    assert!(ran.stderr.contains("records.ndjson:701: "), "{}", ran.stderr);
    // What only the daemon can refuse is told with its line, too.
    let large = format!("{good}{{\"type\":\"T\",\"payload\":{{\"text\":\"{}\"}}}}\n", "x".repeat(2 << 20));
    let ran = daemon.cli_with(&["enqueue"], large.as_bytes());
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("queue.max_record_bytes"), "{}", ran.stderr);
    let id = Uuid::new_v4();
    let conflict = [1, 2].map(|n| format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{{\"n\":{n}}}}}\n"));
    let ran = daemon.cli_with(&["enqueue"], conflict.concat().as_bytes());
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("standard input:2: "), "{}", ran.stderr);
}

#[test]
fn bare_payloads_are_enqueued_with_type_and_key() {
    let daemon = Daemon::start(&Settings::default());
    let input = b"{\"account\": \"A-1\", \"n\": 1}\n{\"account\": 17, \"n\": 2}\n{\"account\": null}\n";
    let ran = daemon.cli_with(&["enqueue", "--type", "Visits", "--key-field", "account"], input);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Enqueued 3 records (0 duplicates)\n"));
    let listed = answer(&daemon.cli(&["list", "--json"]));
    let told: Vec<(Option<&str>, Option<&str>)> = listed["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["type"].as_str(), record["key"].as_str()))
        .collect();
    let visits = Some("Visits");
    assert_eq!(told, [(visits, Some("A-1")), (visits, Some("17")), (visits, None)]);
    let ran = daemon.cli_with(&["enqueue", "--type", "Visits", "--key-field", "acount"], input);
    assert_eq!(ran.code, Some(8));
    assert!(ran.stderr.contains("standard input:1: the payload has no field `acount`"), "{}", ran.stderr);
}

#[test]
fn json_answers_have_the_shapes_of_the_api() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let line = b"{\"type\":\"T\",\"payload\":{\"n\": 1.50}}\n";
    let enqueued = answer(&daemon.cli_with(&["--json", "enqueue"], line));
    let id = enqueued["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(enqueued, json!({"accepted": 1, "duplicates": 0, "ids": [id]}));
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    assert_eq!(answer(&daemon.cli(&["status", "--json"])), daemon.status());
    let listed = answer(&daemon.cli(&["list", "--json", "--state", "quarantined"]));
    assert_eq!(listed, json!({"records": [daemon.record(&id)], "next": null}));
    assert_eq!(answer(&daemon.cli(&["quarantine", "list", "--json"])), listed);
    assert_eq!(answer(&daemon.cli(&["show", "--json", &id])), daemon.record_with_lineage(&id));
    let shown = daemon.cli(&["show", "--json", "--payload", &id]);
    assert_eq!(answer(&shown)["payload"], json!({"n": 1.5}));
    assert!(shown.stdout.contains("1.50"), "numbers keep their digits: {}", shown.stdout);
    assert_eq!(answer(&daemon.cli(&["batches", "--json"])), daemon.get("/v1/batches").json());
    assert_eq!(answer(&daemon.cli(&["telemetry", "--json"])), daemon.get("/v1/telemetry").json());
    assert_eq!(answer(&daemon.cli(&["pause", "--json"])), json!({"paused": true}));
    assert_eq!(answer(&daemon.cli(&["quarantine", "retry", "--json", &id])), json!({"changed": 1}));
    assert_eq!(answer(&daemon.cli(&["resume", "--json"])), json!({"paused": false}));
}

#[test]
fn people_get_sentences_and_tables() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.wait_for_phase("idle");
    for (verb, parts) in [
        (&["status"][..], &["0 of 1 record synced (1 needs review)\n", "50 records (standard", "online"][..]),
        (&["list"], &[&id, "QUARANTINED", "BAD_DATE"]),
        (&["show", &id], &["Set aside", "no such day", "1 record (standard: 1), try 1: answered after "]),
        (&["quarantine", "show", &id], &["Set aside"]),
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
fn a_record_under_review_is_mended_in_an_editor_and_synced() {
    let server = ScriptedServer::at_first(1, |request| {
        let bad = json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue(&[json!({"type": "T", "payload": {"day": "30 Feb"}})]).remove(0);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", &id]);
    let ran = run(command.env("EDITOR", "sed -i 's/30 Feb/28 Feb/'"), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(server.batches()[1].records()[0]["payload"], json!({"day": "28 Feb"}));
}
