//! Every message with an id has an explanation, and the explanations are correct.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use fieldsync::journal::MESSAGES;

use crate::support::daemon::cli_command;
use crate::support::process::run;
use crate::support::wait::directory;

const CATALOG: &str = include_str!("../../../systemd/fieldsync.catalog");

/// The explanations, by message id.
fn explanations() -> BTreeMap<&'static str, &'static str> {
    CATALOG.split("\n-- ").skip(1).map(|entry| entry.split_once('\n').unwrap()).collect()
}

fn sources(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_message_has_an_explanation_and_every_explanation_a_message() {
    let explained: BTreeSet<&str> = explanations().into_keys().collect();
    let messages: BTreeSet<&str> = MESSAGES.iter().map(|(_, id)| *id).collect();
    assert_eq!(explained, messages);
    assert_eq!(messages.len(), MESSAGES.len(), "no id is given twice");
    assert_eq!(CATALOG.matches("\n-- ").count(), MESSAGES.len(), "no message is explained twice");
    for id in messages {
        assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
}

#[test]
fn every_message_is_written_somewhere() {
    let mut source = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
    for (name, _) in MESSAGES {
        assert!(source.contains(&format!("journal::{name}")), "no code logs {name}");
    }
}

#[test]
fn every_explanation_has_a_subject_and_says_what_to_do_with_commands_that_exist() {
    for (id, text) in explanations() {
        assert!(text.starts_with("Subject: ") && text.contains("\nDefined-By: fieldsync\n"), "{id}: {text}");
        let explanation = text.split_once("\n\n").unwrap().1;
        assert!(explanation.trim().len() > 40, "{id}: {explanation}");
    }
    let commands: BTreeSet<&str> =
        CATALOG.lines().filter_map(|line| line.strip_prefix("    fieldsync ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        // Placeholders of the entry are not part of the command.
        let verb: Vec<&str> = command.split(' ').filter(|word| !word.starts_with('@')).collect();
        let ran = run(&mut cli_command("nowhere".into(), &[verb.as_slice(), &["--help"]].concat()), b"");
        assert_eq!(ran.code, Some(0), "fieldsync {command}: {}", ran.stderr);
    }
}

#[test]
fn systemd_accepts_the_catalog() {
    let root = directory();
    let (sources, database) =
        (root.path().join("usr/lib/systemd/catalog"), root.path().join("var/lib/systemd/catalog"));
    fs::create_dir_all(&sources).unwrap();
    fs::create_dir_all(database).unwrap();
    fs::write(sources.join("fieldsync.catalog"), CATALOG).unwrap();
    let mut root_option = std::ffi::OsString::from("--root=");
    root_option.push(root.path());
    if Command::new("journalctl").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no journalctl on this machine");
    }
    let journalctl = |action: &str| run(Command::new("journalctl").arg(&root_option).arg(action), b"");
    let updated = journalctl("--update-catalog");
    assert_eq!((updated.code, updated.stderr.as_str()), (Some(0), ""));
    let listed = journalctl("--list-catalog");
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), MESSAGES.len()), "{listed:?}");
}
