//! A record under review, corrected in an editor: in a terminal and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::rejecting;
use crate::support::daemon::{Counts, Daemon, cli_command};
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::terminal::{Terminal, was_interrupted};

/// A daemon with this record under review, and the record's id.
fn under_review(payload: &Value) -> (ScriptedServer, Daemon, String) {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue(&[json!({"type": "T", "payload": payload})]).remove(0);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    daemon.wait_for_phase("idle");
    daemon.post("/v1/pause", "").expect_json(200);
    (server, daemon, id)
}

fn payload(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/v1/records/{id}?payload=true")).expect_json(200)["payload"].clone()
}

#[test]
fn a_record_under_review_is_corrected_in_an_editor_and_synced() {
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

#[test]
fn the_editor_may_have_arguments_and_its_file_is_private() {
    let (_server, daemon, id) = under_review(&json!({"day": "30 Feb"}));
    let seen = daemon.home.path("seen");
    let script = daemon.home.path("an editor");
    let body =
        format!("#!/bin/sh\nstat -c '%a %n' \"$3\" > '{}'\nsed -i \"s/$1/$2/\" \"$3\"\n", seen.display());
    fs::write(&script, body).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", &id]);
    command.env("VISUAL", format!("'{}' '30 Feb' '28 Feb'", script.display())).env("EDITOR", "false");
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let seen = fs::read_to_string(seen).unwrap();
    let (mode, file) = seen.trim().split_once(' ').unwrap();
    assert_eq!(mode, "600");
    assert!(!PathBuf::from(file).exists(), "{file}");
    assert_eq!(
        (payload(&daemon, &id), &daemon.record(&id)["state"]),
        (json!({"day": "28 Feb"}), &json!("PENDING"))
    );
}

#[test]
fn in_a_terminal_a_mistake_can_be_edited_again() {
    for (response, code) in [("y\n", 0), ("n\n", 8)] {
        let (_server, daemon, id) = under_review(&json!({"day": "30 Feb"}));
        // Breaks the text the first time, and repairs it the second time.
        let editor = r#"sh -c 'if grep -q Feb\" "$1"; then sed -i s/Feb\"/Feb/ "$1"; else sed -i "s/30 Feb/28 Feb\"/" "$1"; fi' -"#;
        let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", &id]);
        command.env("EDITOR", editor);
        let mut terminal = Terminal::start(command, 80);
        terminal.wait_for("Edit again? [Y/n]");
        terminal.types(response);
        let (status, text) = terminal.end();
        assert_eq!(status.code(), Some(code), "{text}");
        if code == 0 {
            assert_eq!(payload(&daemon, &id), json!({"day": "28 Feb"}));
        } else {
            assert_eq!(payload(&daemon, &id), json!({"day": "30 Feb"}));
            let file = PathBuf::from(text.trim_end().rsplit(' ').next().unwrap());
            assert!(fs::read_to_string(&file).unwrap().contains("30 Feb"), "{text}");
            fs::remove_dir_all(file.parent().unwrap()).unwrap();
        }
    }
}

#[test]
fn ctrl_c_after_the_editor_cancels_and_keeps_the_text() {
    let (_server, daemon, id) = under_review(&json!({"day": "30 Feb"}));
    let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", &id]);
    command.env("EDITOR", "sed -i 's/Feb\"/Feb/'");
    let terminal = Terminal::start(command, 80);
    terminal.wait_for("Edit again? [Y/n]");
    terminal.signal("INT");
    let (status, text) = terminal.end();
    assert!(was_interrupted(status), "{status} {text}");
    assert!(text.contains("interrupted. The record was not changed; your text is kept in"), "{text}");
    let file = PathBuf::from(text.trim_end().rsplit(' ').next().unwrap());
    assert!(fs::read_to_string(&file).unwrap().contains("30 Feb"), "{text}");
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
}

#[test]
fn a_record_changed_meanwhile_is_not_overwritten_and_the_text_is_kept() {
    let (_server, daemon, id) = under_review(&json!({"day": "30 Feb"}));
    let retry = format!(
        "'{}' --socket '{}' quarantine retry {id} && sed -i 's/30 Feb/28 Feb/'",
        env!("CARGO_BIN_EXE_fieldsync"),
        daemon.home.socket().display()
    );
    let mut command = cli_command(daemon.home.socket(), &["quarantine", "edit", &id]);
    let ran = run(command.env("EDITOR", retry), b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("another user changed record"), "{}", ran.stderr);
    let file = PathBuf::from(ran.stderr.trim_end().rsplit(' ').next().unwrap());
    assert!(fs::read_to_string(&file).unwrap().contains("28 Feb"));
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert_eq!(payload(&daemon, &id), json!({"day": "30 Feb"}));
}
