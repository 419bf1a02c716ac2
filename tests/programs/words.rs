//! One word for each thing, in what people read: the help of the programs, the manual pages, the texts of the command line
//! and the documents. Names of the API, such as QUARANTINED, are for programs and are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::gateway;
use crate::support::process::run;
use crate::support::wait::directory;

/// A word that confused people, and what to write.
type Rule = (&'static str, &'static str);

const EVERYWHERE: [Rule; 13] = [
    ("under review", "needs review"),
    ("set aside", "needs review"),
    ("quarantined", "needs review"),
    ("isolated", "needs review"),
    ("mend", "correct"),
    ("mends", "corrects"),
    ("mended", "corrected"),
    ("goes on", "continues"),
    ("all the same", "anyway"),
    ("for good", "permanently"),
    ("deferred", "waits on purpose"),
    ("interfered", "another site responded"),
    ("throttled", "the server is busy"),
];

/// Also in what the programs print.
const IN_PROGRAMS: [Rule; 3] = [
    ("captive portal", "login page of the Wi-Fi"),
    ("credential", "token or certificate"),
    ("credentials", "tokens and certificates"),
];

/// For people who ask for it with --verbose.
const VERBOSE: [Rule; 3] = [
    ("breaker", "(only with --verbose)"),
    ("pace", "(only with --verbose)"),
    ("settled", "(only with --verbose)"),
];

/// Terms of others, names for programs, and the texts of `status --verbose`.
const ALLOWED: [&str; 9] = [
    "systemd credential",
    "client credentials",
    "credential fieldsync-token",
    "credential, server, clock",
    "circuit breaker holds",
    "the pace, and",
    "breaker open_min",
    "[breaker]",
    "network is deferred",
];

/// Documents of the protocol and of its decisions are for developers of servers.
const FOR_DEVELOPERS: [&str; 1] = ["wire-protocol.md"];

fn contains(text: &str, phrase: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(phrase).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_word)
            && !text[at + phrase.len()..].chars().next().is_some_and(is_word)
    })
}

/// What is wrong with a text, each as a line that names the place.
fn check(place: &str, text: &str, rules: &[&[Rule]]) -> Vec<String> {
    // The names of states in the API have only capitals.
    let words = text
        .split_whitespace()
        .filter(|word| !word.chars().any(char::is_alphabetic) || **word != word.to_uppercase());
    let mut text = words.collect::<Vec<_>>().join(" ").to_lowercase();
    for allowed in ALLOWED {
        text = text.replace(allowed, "");
    }
    let wrong = rules.iter().flat_map(|rules| rules.iter()).filter(|(word, _)| contains(&text, word));
    wrong.map(|(word, better)| format!("{place}: \"{word}\"; write: {better}")).collect()
}

/// Markdown without blocks and spans of code.
fn prose(text: &str) -> String {
    let outside = text.split("```").step_by(2).collect::<Vec<_>>().join(" ");
    outside.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}

/// The texts in quotes of a source, without its tests.
fn quoted_texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut characters = lines.flat_map(|line| line.chars().chain(['\n'])).peekable();
    let mut texts = Vec::new();
    while let Some(character) = characters.next() {
        match character {
            // A quote as a character.
            '\'' if characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => {
                let mut text = String::new();
                while let Some(inside) = characters.next() {
                    match inside {
                        '"' => break,
                        '\\' => {
                            characters.next();
                            text.push(' ');
                        }
                        inside => text.push(inside),
                    }
                }
                texts.push(text);
            }
            _ => {}
        }
    }
    texts
}

/// The manual pages, which have the texts of all help.
fn manual_pages() -> Vec<(String, String)> {
    let directory = directory();
    let mut manuals = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
    assert_eq!(run(manuals.arg("manuals").arg(directory.path()), b"").code, Some(0));
    let mut pages: Vec<(String, String)> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    let gateway = run(Command::new(gateway::program()).arg("--manual"), b"");
    pages.push(("fieldsync-gateway.8".to_owned(), gateway.stdout));
    pages
}

#[test]
fn the_manual_pages_and_the_help_use_one_word_for_each_thing() {
    let mut wrong = Vec::new();
    for (name, text) in manual_pages() {
        let text = text.replace("\\-", "-").replace("\\fB", " ").replace("\\fR", " ").replace("\\fI", " ");
        // Commands in examples and their names.
        let is_command =
            |line: &&str| line.contains("fieldsync quarantine") || line.contains("fieldsync-quarantine");
        let text = text.lines().filter(|line| !is_command(line)).collect::<Vec<_>>().join("\n");
        let rules: &[&[Rule]] = match name.rsplit_once('.') {
            Some((_, "1")) => &[&EVERYWHERE, &IN_PROGRAMS, &VERBOSE],
            _ if name.contains("gateway") => &[&EVERYWHERE],
            _ => &[&EVERYWHERE, &IN_PROGRAMS],
        };
        wrong.extend(check(&name, &text, rules));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_command_line_uses_one_word_for_each_thing() {
    let mut wrong = Vec::new();
    for file in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli"), "rs") {
        let name = file.display().to_string();
        if name.contains("tests") || name.ends_with("testing.rs") {
            continue;
        }
        for text in quoted_texts(&fs::read_to_string(&file).unwrap()) {
            // Names for programs have no spaces.
            if text.contains(' ') {
                let place = format!("{name}: {text}");
                wrong.extend(check(&place, &text, &[&EVERYWHERE, &IN_PROGRAMS, &VERBOSE]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_documents_use_one_word_for_each_thing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut wrong = Vec::new();
    for path in documents.chain([root.join("README.md")]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !FOR_DEVELOPERS.contains(&name.as_str()) {
            wrong.extend(check(&name, &prose(&fs::read_to_string(&path).unwrap()), &[&EVERYWHERE]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_word_is_found_as_a_word_and_names_for_programs_are_not() {
    let found = |text: &str| check("here", text, &[&EVERYWHERE, &IN_PROGRAMS]).len();
    assert_eq!(found("The record is\nunder review, and was Quarantined."), 2);
    assert_eq!(found("It is QUARANTINED; server.proxy_credential_file; amended, not_quarantined"), 0);
    assert_eq!(found(&prose("It is `quarantined`.\n```sh\nunder review\n```\nIt is synced.")), 0);
    assert_eq!(quoted_texts("let a = '\"'; f(\"one\\n two\"); // \"three\"\n// \"four\"\n")[0], "one  two");
}
