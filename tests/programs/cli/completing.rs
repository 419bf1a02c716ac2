//! Ids of records and batches, completed in a real shell.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::rejecting;
use crate::support::daemon::Daemon;
use crate::support::process::run;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// What bash offers for the last of these words.
fn complete(socket: PathBuf, words: &[&str]) -> Vec<String> {
    let script = "source <(fieldsync completions bash)\n\
        COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMP_TYPE=9\n\
        _clap_complete_fieldsync fieldsync \"${@: -1}\" \"${@: -2:1}\"\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let directory = Path::new(env!("CARGO_BIN_EXE_fieldsync")).parent().unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(script).arg("bash").args(words).env("FIELDSYNC_SOCKET", socket);
    let ran = run(bash.env("PATH", format!("{}:/usr/bin:/bin", directory.display())), b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.stdout.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn a_shell_completes_the_ids_that_fit_the_command() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let reviewed = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let waiting = daemon.enqueue_many(1).remove(0);
    let batch = daemon.record(&reviewed)["batch_id"].as_str().unwrap().to_owned();
    let complete = |words: &[&str]| complete(daemon.home.socket(), words);
    // The daemon has half a second to respond, so that a busy machine may offer nothing at first.
    let complete_id = |words: &[&str]| {
        let has_id = |offered: &Vec<String>| offered.iter().any(|word| !word.starts_with('-'));
        wait_for("an id to be offered", || Some(complete(words)).filter(has_id))
    };
    assert_eq!(complete_id(&["fieldsync", "show", &reviewed[..20]]), [reviewed.as_str()]);
    assert_eq!(complete_id(&["fieldsync", "show", &waiting[28..]]), [waiting.as_str()], "by its end");
    assert_eq!(complete_id(&["fieldsync", "quarantine", "retry", ""])[0], reviewed);
    assert!(!complete_id(&["fieldsync", "quarantine", "edit", ""]).contains(&waiting));
    assert!(!complete_id(&["fieldsync", "quarantine", "add", ""]).contains(&reviewed));
    assert_eq!(complete_id(&["fieldsync", "batches", &batch[..8]]), [batch]);
    assert_eq!(complete(&["fieldsync", "list", "--state", "needs"]), ["needs-review"]);
    assert_eq!(complete(&["fieldsync", "quar"]), ["quarantine"]);
}

#[test]
fn without_a_daemon_no_id_is_offered_and_the_shell_does_not_wait() {
    let offered = complete(PathBuf::from("/nowhere/fieldsync.sock"), &["fieldsync", "show", ""]);
    assert!(offered.iter().all(|word| word.starts_with('-')), "{offered:?}");
}
