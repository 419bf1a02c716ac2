//! The promised exit codes, each by the built program, and messages that say what happened, what it
//! means for the data, and what to do.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use uuid::Uuid;

use super::rejecting;
use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::{Guard, run};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

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
        for part in [
            "no daemon responds at /nowhere/fieldsync.sock (no such socket). ",
            " Records that were enqueued before are safe on disk. ",
            " Start it with: systemctl start fieldsync (or name its socket with --socket",
        ] {
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
        }
        assert_eq!(ran.stdout, "");
    }
    let ran = run(&mut cli_command(nowhere, &["enqueue"]), b"{\"type\":\"T\",\"payload\":{}}\n");
    assert_eq!(ran.code, Some(3));
}

#[test]
fn an_unknown_record_is_4() {
    let daemon = Daemon::start(&Settings::default());
    let unknown = Uuid::new_v4().to_string();
    for verb in
        [&["show", &unknown][..], &["quarantine", "discard", &unknown], &["quarantine", "add", &unknown]]
    {
        assert_eq!(daemon.cli(verb).code, Some(4), "{verb:?}");
    }
}

#[test]
fn a_denied_permission_is_5() {
    // Permissions do not apply to root.
    let daemon = Daemon::start(&Settings::default());
    let directory = daemon.home.path("");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = 65_534;
    if run(Command::new("id").arg("-u"), b"").stdout.trim() != "0" {
        println!("skipped: only root can act as another user");
        return;
    }
    // The program itself may be in a directory that only its owner may read.
    let copy = daemon.home.path("fieldsync");
    // Another program copies it: a file that this process wrote may still be open in a child of another test.
    let mut copying = Command::new("cp");
    assert_eq!(run(copying.arg(env!("CARGO_BIN_EXE_fieldsync")).arg(&copy), b"").code, Some(0));
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.arg("--socket").arg(daemon.home.socket()).args(arguments);
        command.uid(nobody).gid(nobody);
        run(&mut command, b"{\"type\":\"T\",\"payload\":{}}\n")
    };
    let ran = as_nobody(&["status"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("permission denied"), "{}", ran.stderr);
    // A user who may open the socket may read and enqueue, and nothing else.
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
fn waiting_for_a_sync_is_0_when_all_is_synced_and_6_when_records_need_review() {
    let server = ScriptedServer::start(Reply::correct);
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
    assert!(ran.stderr.contains("standard input:701: `payload` is missing"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Nothing was stored."), "{}", ran.stderr);
    let file = daemon.home.path("records.ndjson");
    fs::write(&file, &bad).unwrap();
    let ran = daemon.cli(&["enqueue", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(8));
    assert!(ran.stderr.contains("records.ndjson:701: "), "{}", ran.stderr);
    assert_eq!(daemon.counts().pending, 0);
    // A record that only the daemon can refuse is reported with its line, too.
    for (bytes, reported) in [
        (1 << 20, "the payload has 1048587 bytes, more than queue.max_record_bytes (1048576). Nothing was"),
        (
            2 << 20,
            "the record has more than 1114112 bytes, and queue.max_record_bytes allows less. Nothing was",
        ),
    ] {
        let large = format!("{good}{{\"type\":\"T\",\"payload\":{{\"text\":\"{}\"}}}}\n", "x".repeat(bytes));
        let ran = daemon.cli_with(&["enqueue"], large.as_bytes());
        assert_eq!(ran.code, Some(8), "{ran:?}");
        assert!(ran.stderr.contains(&format!("standard input:2: {reported}")), "{}", ran.stderr);
    }
    assert_eq!(daemon.counts().pending, 0);
    let id = Uuid::new_v4();
    let conflict = [1, 2].map(|n| format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{{\"n\":{n}}}}}\n"));
    let ran = daemon.cli_with(&["enqueue"], conflict.concat().as_bytes());
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.stderr.contains("standard input:2: "), "{}", ran.stderr);
}

#[test]
fn a_failure_is_1_and_says_what_it_means_and_what_to_do() {
    let server = ScriptedServer::start(|_| Reply::error(401, "UNAUTHORIZED"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_for_phase("auth_required");
    let ran = daemon.cli(&["sync", "--wait"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in
        ["The server wants a token, and none is set", "All records are safe on disk.", "--token-file FILE"]
    {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let id = daemon.enqueue_many(1).remove(0);
    let ran = daemon.cli(&["quarantine", "edit", &id]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["only records that need review", "Nothing was changed.", "fieldsync quarantine add"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let ran = daemon.cli(&["enqueue", "/nowhere/visits.ndjson"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["cannot read /nowhere/visits.ndjson", "Nothing was stored.", "try again"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn sync_during_a_pause_and_a_wait_that_takes_too_long_are_1() {
    let daemon = Daemon::start(&Settings::for_server("http://127.0.0.1:1"));
    daemon.enqueue_many(1);
    let ran = daemon.cli(&["sync", "--wait", "--timeout", "1s"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["not all records were sent within 1 s.", "by itself"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(daemon.cli(&["sync", "--timeout", "1s"]).code, Some(2), "only a wait has a limit");
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    let ran = daemon.cli(&["sync"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("Paused by ") && ran.stderr.contains("fieldsync resume"), "{}", ran.stderr);
    let ran = daemon.cli(&["sync", "--wait", "--timeout", "1s"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("fieldsync resume") && !ran.stderr.contains("by itself"), "{}", ran.stderr);
    for length in ["0s", "500ms", "999999999d"] {
        let ran = daemon.cli(&["pause", "--for", length]);
        assert!(ran.code == Some(2) && ran.stderr.contains("from 1s to 365d"), "{ran:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_1_and_says_what_was_done() {
    let daemon = Daemon::start(&Settings::default());
    let input = "{\"type\":\"T\",\"payload\":{}}\n".repeat(2);
    let to_a_full_disk = |verb: &[&str]| {
        let mut command = Command::new("sh");
        // The shell's own redirection, as people use it.
        command.args(["-c", "exec \"$0\" \"$@\" > /dev/full", env!("CARGO_BIN_EXE_fieldsync"), "--socket"]);
        run(command.arg(daemon.home.socket()).args(verb), input.as_bytes())
    };
    for (verb, stored) in [(&["enqueue"][..], 2), (&["--json", "enqueue"], 4)] {
        let ran = to_a_full_disk(verb);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let reported =
            "2 records are stored; only this output could not be written. Do not enqueue them again.";
        assert!(ran.stderr.contains(reported), "{ran:?}");
        assert_eq!(daemon.counts().pending, stored);
    }
    let ran = to_a_full_disk(&["--json", "pause"]);
    let document: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((ran.code, &document["error"]["code"]), (Some(1), &"output_failed".into()), "{document}");
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("The daemon executed the command"), "{message}");
    assert_eq!(daemon.status()["sync"]["phase"], "paused");
}

#[test]
fn a_closed_output_pipe_ends_the_command_quietly() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(900);
    for verb in
        [&["manifest", "export"][..], &["list", "--limit", "900"], &["list", "--json", "--limit", "900"]]
    {
        let mut command = cli_command(daemon.home.socket(), verb);
        let mut child = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        drop(child.0.stdout.take());
        assert_eq!(child.wait().code(), Some(0), "{verb:?}");
        let mut said = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{verb:?}");
    }
}
